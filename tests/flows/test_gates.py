"""Gates that stay shut, and errors that a reader can act on. Each test provokes one wrong input through the CLI."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from raresight.core.files import read_jsonl
from tests.flows.conftest import TINY, Cli, write_study


def edit(folder: Path, **sections: object) -> None:
    path = folder / "study.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in sections.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def test_33_unknown_key_names_the_nearest(copied: Path, cli: Cli) -> None:
    edit(copied, train={"stpes": 4})
    answer = cli("status", copied)
    assert answer.code == 2
    assert "RS-C33" in answer.err and "train.stpes" in answer.err and "did you mean 'steps'?" in answer.err


def test_33_unknown_setting_of_a_method_names_the_nearest(copied: Path, cli: Cli) -> None:
    edit(copied, arms={"new": [{"focal": {"gama": 2}}]})
    answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2
    assert "gama" in answer.err and "did you mean 'gamma'?" in answer.err


@pytest.mark.parametrize(
    ("section", "given", "words"),
    [
        ("split", {"train": 0.9}, "sum to 1"),
        ("train", {"batch": 0}, "greater than or equal to 1"),
        ("train", {"lr": -1.0}, "greater than 0"),
    ],
)
def test_34_out_of_range_says_the_range(copied: Path, cli: Cli, section: str, given: dict, words: str) -> None:
    edit(copied, **{section: given})
    answer = cli("status", copied)
    assert answer.code == 2
    assert "RS-C34" in answer.err and words in answer.err
    assert f"column '{section}" in answer.err and f"remedy: change '{section}" in answer.err


def test_34_negative_gamma_says_the_range(copied: Path, cli: Cli) -> None:
    edit(copied, arms={"new": [{"focal": {"gamma": -2}}]})
    answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2
    assert "RS-C34" in answer.err and "arms.new.focal.gamma" in answer.err and "-2" in answer.err
    assert "remedy:" in answer.err and "[0, 20]" in answer.err


def test_35_compensating_twice_is_said(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    train = {**TINY["train"], "steps": 2}
    arms = {"baseline": [], "twice": ["class_balanced_sampling", "class_weights"]}
    folder = write_study(tmp_path / "study", phantom, arms=arms, train=train)
    for command in ("check", "split"):
        assert cli(command, folder).code == 0
    answer = cli("train", folder, "--arm", "twice")
    assert answer.code == 0, answer.err
    assert "RS-C35" in answer.err and "class_balanced_sampling and class_weights" in answer.err
    assert "double compensation" in answer.err and "implied prior" in answer.err
    arm = json.loads((folder / "arms/twice/seed-0/arm.json").read_text(encoding="utf-8"))
    assert arm["findings"] and max(arm["implied_prior"]) - min(arm["implied_prior"]) > 1


def test_36_a_spent_test_part_stays_shut_after_a_change(copied: Path, cli: Cli) -> None:
    edit(copied, costs={"missed": {"melanoma": 50}})
    assert cli("tune", copied).code == 0
    answer = cli("evaluate", copied, "--part", "test", "--yes")
    assert answer.code == 4
    assert "RS-R36" in answer.err and "--reuse-test" in answer.err
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1
    answer = cli("evaluate", copied, "--part", "test", "--yes", "--reuse-test", "--reason", "new costs")
    assert answer.code == 0, answer.err
    lines = read_jsonl(copied / "test/ledger.jsonl")
    assert [line["reason"] for line in lines][1] == "new costs" and lines[1]["previous_sha256"]
    cli("report", copied)
    assert "second-stage validation" in (copied / "report/report.html").read_text(encoding="utf-8").lower()


def test_36_a_ledger_changed_by_hand_is_noticed(copied: Path, cli: Cli) -> None:
    path = copied / "test/ledger.jsonl"
    line = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(line | {"previous_sha256": "0" * 64}) + "\n", encoding="utf-8")
    answer = cli("evaluate", copied, "--part", "test", "--yes")
    assert answer.code == 4 and "RS-L01" in answer.err


def test_the_test_part_is_not_opened_without_a_yes(tmp_path: Path, copied: Path, cli: Cli) -> None:
    import shutil

    shutil.rmtree(copied / "test")
    answer = cli("evaluate", copied, "--part", "test")
    assert answer.code == 4 and "--yes" in answer.err
    assert not (copied / "test/ledger.jsonl").exists()


def test_44_changed_settings_are_refused_for_a_trained_arm(copied: Path, cli: Cli) -> None:
    edit(copied, train={"lr": 0.01})
    answer = cli("train", copied)
    assert answer.code == 2
    assert "RS-R44" in answer.err and "lr" in answer.err and "0.002" in answer.err and "0.01" in answer.err


def test_08_a_supplied_split_that_leaks_is_refused(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom, split={"column": "split", "group": "patient_id"})
    path = folder / "data/manifest.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["split"] = ["train", "val", "test"] * (len(table) // 3) + ["train"] * (len(table) % 3)
    table.to_csv(path, index=False)
    assert cli("check", folder).code == 0
    answer = cli("split", folder)
    assert answer.code == 4
    assert "patients" in answer.err and table["patient_id"].iloc[0] in answer.err
    assert not (folder / "data/split.csv").exists()


def test_no_study_here(tmp_path: Path, cli: Cli) -> None:
    answer = cli("run", tmp_path)
    assert answer.code == 2 and "raresight init" in answer.err


def test_steps_out_of_order_name_the_command_that_is_missing(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom)
    answer = cli("train", folder)
    assert answer.code == 2 and "raresight" in answer.err


def test_an_unknown_arm_names_the_nearest(copied: Path, cli: Cli) -> None:
    answer = cli("train", copied, "--arm", "hibrid")
    assert answer.code == 2 and "did you mean 'hybrid'?" in answer.err


def test_43_outside_predictions_with_missing_cases_are_refused(copied: Path, cli: Cli, tmp_path: Path) -> None:
    table = pd.read_parquet(copied / "arms/baseline/seed-0/val/predictions.parquet")
    table.iloc[:-3].to_csv(tmp_path / "mine.csv", index=False)
    edit(copied, arms={"mine": {"predictions": {"val": str(tmp_path / "mine.csv")}}})
    answer = cli("train", copied, "--arm", "mine")
    assert answer.code == 3
    assert (
        "RS-P43" in answer.err
        and "mine.csv" in answer.err
        and "remedy:" in answer.err
        and table["case"].iloc[-1] in answer.err
    )
    assert not (copied / "arms/mine/seed-0/DONE").exists()


def test_outside_predictions_enter_like_a_trained_arm(copied: Path, cli: Cli, tmp_path: Path) -> None:
    for part, source in (
        ("val", "arms/hybrid/seed-0/val/predictions.parquet"),
        ("test", "test/opening-1/predictions.parquet"),
    ):
        table = pd.read_parquet(copied / source)
        if part == "test":
            table = table[table["arm"] == "hybrid"].drop(columns=["arm", "seed"])
        table.to_csv(tmp_path / f"{part}.csv", index=False)
    files = {part: str(tmp_path / f"{part}.csv") for part in ("val", "test")}
    edit(copied, arms={"mine": {"predictions": files}})
    answer = cli("run", copied)
    assert answer.code == 0, answer.err
    compared = json.loads((copied / "compare/compare.json").read_text(encoding="utf-8"))
    assert "mine" in {row["arm"] for row in compared["comparisons"]}
    assert ["hybrid", "mine"] in [sorted(pair) for pair in compared["inert"]]  # the same predictions under two names
