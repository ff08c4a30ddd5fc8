"""The line with lesions as the decision unit, with folds, and with several seeds: each through the test part."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from raresight.core.files import read_json
from tests.flows.conftest import TINY, Cli, write_study

SHORT = {**TINY["train"], "steps": 4, "head_steps": 2}
ARMS = {"baseline": [], "hybrid": ["smote", "ema", "focal"]}


def finish(folder: Path, cli: Cli) -> list[dict]:
    """Run to the report with the test part opened, twice; return the test estimates."""
    answer = cli("run", folder, "--open-test")
    assert answer.code == 0, answer.err
    states = {step["name"]: step["state"] for step in cli("status", folder, "--json").json["steps"]}
    assert set(states.values()) == {"done"}, states
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    answer = cli("run", folder, "--open-test")
    assert answer.code == 0, answer.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return read_json(folder / "test/opening-1/estimates.json")["estimates"]


@pytest.mark.parametrize(("unit", "column"), [("lesion", "lesion_id"), ("patient", "patient_id")])
def test_decisions_are_counted_by_unit(tmp_path: Path, phantom: Path, cli: Cli, unit: str, column: str) -> None:
    decision = {"unit": unit, "column": column, "aggregate": "max"}
    folder = write_study(tmp_path / "study", phantom, arms=ARMS, train=SHORT, decision=decision)
    manifest = pd.read_csv(folder / "data/manifest.csv", dtype=str, keep_default_na=False)
    counts = manifest["label"].value_counts()  # each unit has the rarest diagnosis among its images
    manifest["label"] = manifest.groupby(column)["label"].transform(lambda labels: min(labels, key=counts.get))
    manifest.to_csv(folder / "data/manifest.csv", index=False)
    rows = finish(folder, cli)
    test = pd.read_parquet(folder / "test/opening-1/predictions.parquet")
    n_units = test.loc[test["arm"] == "baseline", column].nunique()
    assert n_units < len(test) / 2
    rates = [row for row in rows if row["metric"] == "recall" and row["subgroup"] is None]
    assert rates and all(row["unit"] == unit for row in rates)
    assert max(row["n_images"] for row in rates) <= n_units
    thresholds = read_json(folder / "arms/baseline/seed-0/thresholds.json")["thresholds"]
    val = pd.read_parquet(folder / "arms/baseline/seed-0/val/predictions.parquet")
    assert all(row["n_patients"] <= val["patient_id"].nunique() for row in thresholds.values())
    assert unit in (folder / "report/report.html").read_text(encoding="utf-8")


def test_units_of_two_diagnoses_are_refused_before_training(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom, arms=ARMS, train=SHORT, decision={"unit": "patient"})
    answer = cli("run", folder, "--open-test")
    assert answer.code == 3
    assert "RS-P05" in answer.err and "patient_id" in answer.err and "decision.unit: image" in answer.err
    assert not (folder / "arms").exists() and not (folder / "test").exists()


def test_folds_end_in_one_opening(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom, arms=ARMS, train=SHORT, split={**TINY["split"], "folds": 3})
    finish(folder, cli)
    split = pd.read_csv(folder / "data/split.csv", dtype=str)
    for arm in ARMS:
        parts = [pd.read_parquet(folder / f"arms/{arm}/seed-0/fold-{k}/val/predictions.parquet") for k in range(3)]
        pooled = pd.read_parquet(folder / f"arms/{arm}/seed-0/val/predictions.parquet")
        assert sorted(pooled["case"]) == sorted(split.loc[split["part"] != "test", "case"])
        assert pooled["case"].is_unique and len(pooled) == sum(map(len, parts))
        for k, part in enumerate(parts):  # nobody is judged by a model that saw them
            assert set(split.loc[split["fold"] == str(k), "case"]) == set(part["case"])
        assert read_json(folder / f"arms/{arm}/seed-0/arm.json")["folds"] == 3
    plan = read_json(folder / "test/opening-1/plan.json")
    assert len(plan["arms"]["hybrid"]["weights"]) == 3
    test = pd.read_parquet(folder / "test/opening-1/predictions.parquet")
    assert sorted(test.loc[test["arm"] == "hybrid", "case"]) == sorted(split.loc[split["part"] == "test", "case"])


def test_seeds_are_runs_of_their_own_and_one_more_may_come(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom, arms=ARMS, train=SHORT, seeds=[0, 1])
    rows = finish(folder, cli)
    assert {row["seed"] for row in rows if row["arm"] == "hybrid"} >= {0, 1}
    both = [pd.read_parquet(folder / f"arms/hybrid/seed-{seed}/val/predictions.parquet") for seed in (0, 1)]
    assert not both[0]["prob_melanoma"].equals(both[1]["prob_melanoma"])
    compared = read_json(folder / "compare/compare.json")["comparisons"]
    assert {row["n_seeds"] for row in compared} == {2}
    path = folder / "study.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("- 1\n", "- 1\n- 2\n"), encoding="utf-8")
    assert cli("run", folder).code == 0
    compared = read_json(folder / "compare/compare.json")["comparisons"]
    assert {row["part"]: row["n_seeds"] for row in compared} == {"val": 3, "test": 2}
    answer = cli("evaluate", folder, "--part", "test", "--yes")
    assert answer.code == 4 and "hybrid" in answer.err  # another seed is another plan
    assert json.loads((folder / "report/report.json").read_text(encoding="utf-8"))
