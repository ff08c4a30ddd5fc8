"""The whole line on a small phantom: what is written, in which shape, and that nothing is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from raresight.core.files import read_json, read_jsonl, sha256
from tests.flows.conftest import Cli, write_study


def test_every_artefact_of_the_contract_is_there(finished: Path) -> None:
    expected = [
        "study.yaml",
        "lock.json",
        "data/manifest.csv",
        "data/split.csv",
        "data/leaks.json",
        "data/issues.jsonl",
        "audit/audit.json",
        "compare/compare.json",
        "report/report.html",
        "report/report.json",
        "test/ledger.jsonl",
        "test/opening-1/plan.json",
        "test/opening-1/predictions.parquet",
        "test/opening-1/estimates.json",
    ]
    per_run = ["arm.json", "events.jsonl", "best.safetensors", "env.json", "DONE", "calibrator.json", "thresholds.json"]
    per_run += ["val/predictions.parquet", "val/estimates.json"]
    expected += [f"arms/{arm}/seed-0/{name}" for arm in ("baseline", "weighted", "hybrid", "moved") for name in per_run]
    missing = [name for name in expected if not (finished / name).exists()]
    assert not missing
    leftovers = [path for path in finished.rglob("*") if path.name.endswith(".tmp")]
    assert not leftovers


def test_audit_json_has_the_contract_keys(finished: Path) -> None:
    audit = read_json(finished / "audit" / "audit.json")
    assert {"n_images", "n_patients", "group_by", "classes"} <= set(audit)
    wanted = {"name", "n_images", "n_patients", "prevalence", "severity", "recall_interval_halfwidth"}
    assert all(wanted <= set(row) for row in audit["classes"])


def test_estimates_have_the_contract_keys_and_no_bare_figures(finished: Path) -> None:
    wanted = {
        "metric", "class", "arm", "seed", "part", "unit", "operating_point", "threshold", "prevalence", "subgroup",
        "value", "low", "high", "method", "n_patients", "n_positive_patients", "n_images", "status", "reason",
    }  # fmt: skip
    for path in [*finished.glob("arms/*/seed-0/val/estimates.json"), finished / "test/opening-1/estimates.json"]:
        rows = read_json(path)["estimates"]
        assert rows
        for row in rows:
            assert wanted <= set(row)
            if row["status"] == "not_estimable":
                assert row["value"] is None and row["reason"]
            elif row["metric"] != "trivial_accuracy":
                assert row["low"] is not None and row["low"] <= row["value"] <= row["high"], row
                assert row["n_patients"] > 0


def test_comparisons_have_the_contract_keys(finished: Path) -> None:
    result = read_json(finished / "compare" / "compare.json")
    wanted = {
        "arm", "baseline", "part", "metric", "class", "difference", "low", "high", "p", "p_adjusted", "family",
        "n_patients",
    }  # fmt: skip
    assert all(wanted <= set(row) for row in result["comparisons"])
    assert {row["part"] for row in result["comparisons"]} == {"val", "test"}
    assert all({"class", "arm", "reason", "evidence", "dissent"} <= set(row) for row in result["recommendation"])
    assert {"arm", "reason"} <= set(result["deploy"])


def test_nobody_is_in_two_parts(finished: Path) -> None:
    split = pd.read_csv(finished / "data/split.csv", dtype=str)
    manifest = pd.read_csv(finished / "data/manifest.csv", dtype=str)
    joined = manifest.merge(split, on="case")
    assert (joined.groupby("patient_id")["part"].nunique() == 1).all()
    assert (joined.groupby("group")["part"].nunique() == 1).all()


def test_predictions_cover_their_part_exactly(finished: Path) -> None:
    split = pd.read_csv(finished / "data/split.csv", dtype=str)
    for path in finished.glob("arms/*/seed-0/val/predictions.parquet"):
        table = pd.read_parquet(path)
        assert sorted(table["case"]) == sorted(split.loc[split["part"] == "val", "case"])
    test = pd.read_parquet(finished / "test/opening-1/predictions.parquet")
    for _, rows in test.groupby("arm"):
        assert sorted(rows["case"]) == sorted(split.loc[split["part"] == "test", "case"])


def test_the_ledger_is_chained_and_the_plan_hashed(finished: Path) -> None:
    lines = read_jsonl(finished / "test/ledger.jsonl")
    assert [line["opening"] for line in lines] == [1]
    assert set(lines[0]) >= {"opening", "time", "plan_sha256", "data_sha256", "reason", "previous_sha256"}


def test_running_again_changes_nothing(copied: Path, cli: Cli) -> None:
    watched = [path for path in copied.rglob("*") if path.is_file()]
    before = {path: sha256(path) for path in watched}
    answer = cli("run", copied, "--open-test")
    assert answer.code == 0, answer.err
    assert {path: sha256(path) for path in watched} == before
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1


def test_status_says_what_is_done_and_what_became_stale(copied: Path, cli: Cli) -> None:
    states = {step["name"]: step["state"] for step in cli("status", copied, "--json").json["steps"]}
    assert set(states.values()) == {"done"}, states
    text = (copied / "study.yaml").read_text(encoding="utf-8")
    (copied / "study.yaml").write_text(text.replace("melanoma: 20", "melanoma: 40"), encoding="utf-8")
    answer = cli("status", copied, "--json").json
    states = {step["name"]: step["state"] for step in answer["steps"]}
    assert states["train"] == "done" and states["tune"] == "stale"
    assert answer["next"] == f"raresight tune {copied}"


def test_json_goes_to_stdout_and_prose_to_stderr(copied: Path, cli: Cli) -> None:
    for command in (("audit",), ("check",), ("split",), ("tune",), ("compare",), ("evaluate", "--part", "val")):
        answer = cli(command[0], copied, *command[1:], "--json")
        assert answer.code == 0, answer.err
        json.loads(answer.out)


def test_an_arm_does_not_depend_on_the_others(finished: Path, phantom: Path, tmp_path: Path, cli: Cli) -> None:
    """Two of the four arms, in another order, in a study of their own: predictions identical bit for bit."""
    alone = write_study(
        tmp_path / "study",
        phantom,
        arms={"hybrid": ["heavy_augment", "smote", "ema", {"focal": {"gamma": 2}}], "baseline": []},
        costs={"missed": {"melanoma": 20}, "prevalence": {"melanoma": 0.02}},
    )
    for verb in ("check", "split", "train"):
        assert cli(verb, alone).code == 0
    for arm in ("baseline", "hybrid"):
        ours, theirs = (
            pd.read_parquet(study / f"arms/{arm}/seed-0/val/predictions.parquet") for study in (finished, alone)
        )
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_a_changed_image_is_noticed(copied: Path, phantom: Path, tmp_path: Path, cli: Cli) -> None:
    """The manifest is unchanged, one picture is not: the run is refused rather than mixed."""
    images = tmp_path / "images"
    shutil.copytree(phantom, images)
    path = copied / "study.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(str(phantom), str(images)), encoding="utf-8")
    assert cli("run", copied).code == 0  # the same bytes in another place
    first, second = sorted((images / "images").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    answer = cli("run", copied)
    assert answer.code == 2 and "RS-R44" in answer.err and "data" in answer.err


def test_the_api_mirrors_the_verbs(copied: Path) -> None:
    import raresight

    study = raresight.Study.open(copied)
    assert study.audit()["n_images"] > 0
    assert study.status()["steps"][0]["name"] == "init"
