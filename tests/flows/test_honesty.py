"""What was made from other data, costs or names is refused or made anew, never shown as if it were fresh."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from raresight.core.files import read_json, read_jsonl
from tests.flows.conftest import TINY, Cli, write_study
from tests.flows.test_gates import edit


def move_to_test(folder: Path) -> None:
    """Write another split over the old one, as an editor would."""
    split = pd.read_csv(folder / "data/split.csv", dtype=str)
    split.loc[split["part"] == "train", "part"] = "test"
    split.to_csv(folder / "data/split.csv", index=False)


@pytest.mark.parametrize("command", [("train",), ("evaluate", "--part", "test", "--yes"), ("tune",), ("report",)])
def test_08_a_split_changed_by_hand_is_refused(copied: Path, cli: Cli, command: tuple[str, ...]) -> None:
    shutil.rmtree(copied / "test")
    move_to_test(copied)
    answer = cli(command[0], copied, *command[1:])
    assert answer.code in (2, 4) and "remedy:" in answer.err, answer.err
    assert not (copied / "test/ledger.jsonl").exists()


@pytest.mark.parametrize("verb", [("tune",), ("evaluate", "--part", "test", "--yes"), ("compare",), ("report",)])
def test_44_models_are_not_judged_on_another_split(copied: Path, cli: Cli, verb: tuple[str, ...]) -> None:
    """A new seed of the split puts training patients into the new test part."""
    shutil.rmtree(copied / "test")
    edit(copied, split={"seed": 1})
    assert cli("split", copied).code == 0
    answer = cli(verb[0], copied, *verb[1:])
    assert answer.code == 2 and "RS-R44" in answer.err and "split" in answer.err
    assert not (copied / "test/ledger.jsonl").exists()
    states = {step["name"]: step["state"] for step in cli("status", copied, "--json").json["steps"]}
    assert states["train"] == "stale"


def test_a_refused_check_stays_refused(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom)
    path = folder / "data/manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[4, "label"] = "Melanoma "
    table.to_csv(path, index=False)
    for verb in ("check", "split", "audit"):
        answer = cli(verb, folder)
        assert answer.code == 3 and "RS-M09" in answer.err and "row 6" in answer.err
    assert not (folder / "data/split.csv").exists() and not (folder / "audit/audit.json").exists()


def test_a_manifest_edited_after_its_check_is_not_trained_on(copied: Path, cli: Cli) -> None:
    path = copied / "data/manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.iloc[1:].to_csv(path, index=False)
    edit(copied, arms={"new": []})
    answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2 and "raresight check" in answer.err
    assert not (copied / "arms/new").exists()


def test_thresholds_of_other_costs_are_not_carried_to_the_test_part(copied: Path, cli: Cli) -> None:
    shutil.rmtree(copied / "test")
    edit(copied, costs={"missed": {"melanoma": 99}})
    for part in ("val", "test"):
        answer = cli("evaluate", copied, "--part", part, "--yes")
        assert answer.code == 2 and "out of date" in answer.err and "raresight tune" in answer.err
    assert not (copied / "test/ledger.jsonl").exists()


def test_another_decision_unit_makes_thresholds_stale(copied: Path, cli: Cli) -> None:
    edit(copied, decision={"unit": "patient"})
    states = {step["name"]: step["state"] for step in cli("status", copied, "--json").json["steps"]}
    assert states["tune"] == "stale" and states["compare"] == "stale"


def test_a_renamed_arm_is_compared_under_its_new_name(copied: Path, cli: Cli) -> None:
    """The same method and seed give the same bytes; the comparison is made anew all the same."""
    path = copied / "study.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["arms"]["other"] = config["arms"].pop("moved")
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.move(copied / "arms/moved", copied / "arms/other")
    assert cli("compare", copied).code == 0
    rows = read_json(copied / "compare/compare.json")["comparisons"]
    assert {row["arm"] for row in rows if row["part"] == "val"} == {"weighted", "hybrid", "other"}
    assert {row["arm"] for row in rows if row["part"] == "test"} == {"weighted", "hybrid"}


def test_an_arm_that_was_outside_predictions_is_trained_when_it_becomes_a_method(copied: Path, cli: Cli) -> None:
    source = copied / "mine.csv"
    pd.read_parquet(copied / "arms/hybrid/seed-0/val/predictions.parquet").to_csv(source, index=False)
    edit(copied, arms={"mine": {"predictions": {"val": "mine.csv"}}})
    assert cli("train", copied, "--arm", "mine").code == 0
    config = yaml.safe_load((copied / "study.yaml").read_text(encoding="utf-8"))
    config["arms"]["mine"] = []
    (copied / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert cli("train", copied, "--arm", "mine").code == 0
    mine, baseline, hybrid = (
        pd.read_parquet(copied / f"arms/{arm}/seed-0/val/predictions.parquet") for arm in ("mine", "baseline", "hybrid")
    )
    assert mine["prob_melanoma"].equals(baseline["prob_melanoma"])  # trained, as the baseline was
    assert not mine["prob_melanoma"].equals(hybrid["prob_melanoma"])


def test_outside_predictions_do_not_replace_a_trained_arm(copied: Path, cli: Cli) -> None:
    edit(copied, arms={"hybrid": {"predictions": {"val": "mine.csv"}}})
    answer = cli("train", copied, "--arm", "hybrid")
    assert answer.code == 2 and "RS-R44" in answer.err and "hybrid_outside" in answer.err
    assert (copied / "arms/hybrid/seed-0/best.safetensors").exists()


def test_an_arm_without_test_predictions_stops_before_the_opening_is_recorded(copied: Path, cli: Cli) -> None:
    shutil.rmtree(copied / "test")
    pd.read_parquet(copied / "arms/hybrid/seed-0/val/predictions.parquet").to_csv(copied / "mine.csv", index=False)
    edit(copied, arms={"mine": {"predictions": {"val": "mine.csv"}}})
    answer = cli("run", copied, "--open-test")
    assert answer.code == 2 and "RS-C36" in answer.err and "test: FILE.csv" in answer.err
    assert not (copied / "test").exists()


def test_an_interrupted_opening_is_completed_and_breaks_nothing_meanwhile(
    copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raresight.verbs import predicting

    shutil.rmtree(copied / "test")

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "predict_test", interrupted)
        assert cli("evaluate", copied, "--part", "test", "--yes").code == 130
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1
    assert [path.name for path in (copied / "test/opening-1").iterdir()] == ["plan.json"]
    for verb in ("status", "compare", "report"):
        answer = cli(verb, copied)
        assert answer.code == 0, answer.err
    assert {row["part"] for row in read_json(copied / "compare/compare.json")["comparisons"]} == {"val"}
    assert cli("evaluate", copied, "--part", "test", "--yes").code == 0
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1
    cli("compare", copied)
    assert {row["part"] for row in read_json(copied / "compare/compare.json")["comparisons"]} == {"val", "test"}


def test_folds_taken_away_leave_no_pooled_predictions(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    train = {**TINY["train"], "steps": 2, "head_steps": 1}
    split = {**TINY["split"], "folds": 2}
    folder = write_study(tmp_path / "study", phantom, arms={"baseline": []}, train=train, split=split)
    for verb in ("check", "split", "train"):
        assert cli(verb, folder).code == 0
    edit(folder, split={"folds": 0})
    assert cli("split", folder).code == 0
    assert cli("train", folder).code == 0
    table = pd.read_csv(folder / "data/split.csv", dtype=str)
    predicted = pd.read_parquet(folder / "arms/baseline/seed-0/val/predictions.parquet")
    assert sorted(predicted["case"]) == sorted(table.loc[table["part"] == "val", "case"])
