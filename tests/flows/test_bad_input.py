"""Wrong configurations, predictions and machines, each met through the command line; numbers are the catalogue's."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from raresight.core.files import read_jsonl
from tests.flows.conftest import TINY, Answer, Cli, write_study
from tests.flows.test_gates import edit


def said(answer: Answer, code: str, *words: str) -> bool:
    """Whether the code, a reason, a remedy and these words were said."""
    return all(word in answer.err for word in (code, "why:", "remedy:", *words))


@pytest.fixture
def table(copied: Path, tmp_path: Path) -> Path:
    """A good table of predictions, to be spoilt."""
    path = tmp_path / "model.csv"
    frame = pd.read_parquet(copied / "arms/baseline/seed-0/val/predictions.parquet")
    frame.drop(columns=[name for name in frame if name.startswith("logit_")]).to_csv(path, index=False)
    return path


def spoil(path: Path, row: int, **values: Any) -> str:
    frame = pd.read_csv(path)
    for name, value in values.items():
        frame.loc[row, name] = value
    frame.to_csv(path, index=False)
    return str(frame.loc[row, "case"])


def own_images(tmp_path: Path, phantom: Path) -> tuple[Path, pd.DataFrame]:
    """A study of a copy of the phantom, whose images may be spoilt."""
    images = Path(shutil.copytree(phantom, tmp_path / "images"))
    folder = write_study(tmp_path / "study", images)
    return folder, pd.read_csv(folder / "data/manifest.csv", dtype=str, keep_default_na=False)


def issues(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["code"]: row for row in read_jsonl(folder / "data/issues.jsonl")}


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "RS-I21"), (b"<!DOCTYPE html><html></html>", "RS-I22")],
    ids=["zero bytes", "a web page"],
)
def test_21_22_what_is_no_image_is_left_out(tmp_path: Path, phantom: Path, cli: Cli, content: bytes, code: str) -> None:
    folder, manifest = own_images(tmp_path, phantom)
    (tmp_path / "images" / manifest["image"][4]).write_bytes(content)
    assert cli("check", folder).code == 0
    row = issues(folder)[code]
    assert (row["level"], row["row"], row["file"]) == ("quarantine", 6, manifest["image"][4])
    assert row["found"] and row["why"] and "fetch the file again" in row["remedy"]
    assert cli("split", folder).code == 0
    split = pd.read_csv(folder / "data/split.csv", dtype=str)
    assert manifest["case"][4] not in set(split["case"]) and len(split) == len(manifest) - 1


def test_13_a_class_without_a_patient(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder, _ = own_images(tmp_path, phantom)
    classes = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))["task"]["classes"]
    edit(folder, task={"classes": [*classes, "angioma"]})
    answer = cli("audit", folder)
    assert answer.code == 3
    assert said(answer, "RS-M13", "'angioma'", "remove 'angioma' from task.classes")


def test_16_a_delimiter_that_may_be_either(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "t.csv").write_text("image;label,patient_id\na.png;nv,1\n", encoding="utf-8")
    answer = cli("init", tmp_path / "study", "--from", "csv", tmp_path / "t.csv")
    assert answer.code == 3
    assert said(answer, "RS-M16", "t.csv, row 1", "comma or semicolon", "one delimiter")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("cost", [0, -3])
def test_37_a_miss_that_is_free_in_the_study(copied: Path, cli: Cli, cost: float) -> None:
    edit(copied, costs={"missed": {"melanoma": cost}})
    answer = cli("tune", copied)
    assert answer.code == 2
    assert said(answer, "RS-C37", "costs.missed.melanoma", f"cost of {cost}", "write a cost above 0")


def test_37_a_miss_that_is_free_in_a_file_of_costs(table: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text("missed: {melanoma: -3}\n", encoding="utf-8")
    answer = cli("score", table, "--costs", tmp_path / "costs.yaml", "--out", tmp_path / "out")
    assert answer.code == 2
    assert said(answer, "RS-C37", "costs.missed.melanoma", "costs.yaml", "write a cost above 0")
    assert not (tmp_path / "out").exists()


def test_38_a_critical_miss_no_dearer_than_an_alarm_in_the_study(copied: Path, cli: Cli) -> None:
    edit(copied, costs={"missed": {"melanoma": 1}})
    answer = cli("tune", copied)
    assert answer.code == 0
    assert said(answer, "RS-C38", "costs.missed.melanoma", "costs 1 false alarms", "confirm")


def test_38_a_critical_miss_no_dearer_than_an_alarm_in_a_file_of_costs(table: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text("missed: {melanoma: 1}\n", encoding="utf-8")
    options = ("--critical", "melanoma", "--costs", tmp_path / "costs.yaml", "--out", tmp_path / "out")
    answer = cli("score", table, *options)
    assert answer.code == 0, answer.err
    assert said(answer, "RS-C38", "costs.missed.melanoma", "costs.yaml", "confirm")


def test_39_a_prevalence_in_percent_in_the_study(copied: Path, cli: Cli) -> None:
    edit(copied, costs={"prevalence": {"melanoma": 5}})
    answer = cli("tune", copied)
    assert answer.code == 2
    assert said(answer, "RS-C39", "costs.prevalence.melanoma", "did you mean 0.05 (5%)?")


def test_39_a_prevalence_in_percent_in_a_file_of_costs(table: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text("missed: {melanoma: 9}\nprevalence: {melanoma: 5}\n", encoding="utf-8")
    answer = cli("score", table, "--costs", tmp_path / "costs.yaml", "--out", tmp_path / "out")
    assert answer.code == 2
    assert said(answer, "RS-C39", "costs.prevalence.melanoma", "did you mean 0.05 (5%)?")


def test_14_a_class_absent_from_validation_gets_no_threshold(copied: Path, cli: Cli) -> None:
    """The rows of one class are taken out of an arm's validation predictions before thresholds are chosen."""
    path = copied / "arms/baseline/seed-0/val/predictions.parquet"
    frame = pd.read_parquet(path)
    frame[frame["label"] != "melanoma"].to_parquet(path, index=False)
    answer = cli("tune", copied)
    assert answer.code == 0, answer.err
    assert said(answer, "RS-P14", "'melanoma'", "folds: 5")
    chosen = json.loads((copied / "arms/baseline/seed-0/thresholds.json").read_text(encoding="utf-8"))["thresholds"]
    assert chosen["melanoma"]["threshold"] is None and chosen["melanoma"]["status"] == "not_estimable"


def test_36_thresholds_are_not_chosen_on_the_rows_that_judge_them(table: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "val.csv"
    pd.read_csv(table).iloc[:5].to_csv(other, index=False)
    answer = cli("score", table, "--val", other, "--out", tmp_path / "out")
    assert answer.code == 4
    assert said(answer, "RS-R36", "val.csv", "5 of its 5 rows", "other patients")
    assert not (tmp_path / "out").exists()


def test_a_comparison_of_an_earlier_call_does_not_stay(table: Path, cli: Cli, tmp_path: Path) -> None:
    other = Path(shutil.copy(table, tmp_path / "other.csv"))
    assert cli("score", table, other, "--out", tmp_path / "out").code == 0
    assert (tmp_path / "out/compare.json").exists()
    assert cli("score", table, "--out", tmp_path / "out").code == 0
    assert not (tmp_path / "out/compare.json").exists()


def test_41_rows_that_do_not_sum_to_one(table: Path, cli: Cli, tmp_path: Path) -> None:
    case = spoil(table, 3, prob_melanoma=0.999)
    answer = cli("score", table, "--out", tmp_path / "out")
    assert answer.code == 3
    assert said(answer, "RS-P41", "row 5", case, "--scores logits")


def test_42_predictions_that_are_not_numbers(table: Path, cli: Cli, tmp_path: Path) -> None:
    case = spoil(table, 3, prob_melanoma=float("nan"))
    answer = cli("score", table, "--out", tmp_path / "out")
    assert answer.code == 3
    assert said(answer, "RS-P42", "row 5", case)
    assert not (tmp_path / "out").exists()


def test_43_two_models_of_different_cases(table: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    frame = pd.read_csv(table)
    frame.iloc[:-2].to_csv(other, index=False)
    answer = cli("score", table, other, "--out", tmp_path / "out")
    assert answer.code == 3
    assert said(answer, "RS-P43", str(frame["case"].iloc[-1]))


@pytest.mark.parametrize("command", [("tune",), ("evaluate", "--part", "val"), ("compare",), ("report",)])
def test_45_a_full_disk_leaves_what_was_there(
    copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    if command[0] == "tune":
        edit(copied, costs={"missed": {"melanoma": 7}})
    (copied / "compare/compare.json").unlink()
    for path in copied.glob("arms/*/seed-0/val/estimates.json"):
        path.unlink()
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        answer = cli(command[0], copied, *command[1:])
    assert answer.code == 2
    assert said(answer, "RS-R45", "the disk is full", "free some space")
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    assert cli("run", copied).code == 0


def test_45_a_full_disk_in_training(copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(copied, arms={"new": ["focal"]})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2 and said(answer, "RS-R45", "the disk is full", "free some space")
    assert not [path for path in (copied / "arms/new").rglob("*") if path.is_file()]


def test_45_no_gpu_where_one_is_asked_for(
    tmp_path: Path, phantom: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = write_study(tmp_path / "study", phantom, train={**TINY["train"], "device": "cuda"})
    for command in ("check", "split"):
        assert cli(command, folder).code == 0
    answer = cli("train", folder)
    assert answer.code == 2 and said(answer, "RS-R45", "cuda", "device")
    assert not (folder / "lock.json").exists() and not (folder / "arms").exists()


def test_45_a_gpu_out_of_memory(copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from raresight.train import loop

    def out(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    edit(copied, arms={"new": ["focal"]})
    with monkeypatch.context() as patch:
        patch.setattr(loop.Stepper, "__call__", out)
        answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2 and said(answer, "RS-R45", "train.batch", "`batch: 8`")
    assert not (copied / "arms/new/seed-0/DONE").exists()
    assert cli("train", copied, "--arm", "new").code == 0  # with room again it goes on


def test_46_a_loss_that_is_not_a_number(copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from raresight.strategies.losses.focal import Focal

    honest = Focal.loss
    steps: list[list[int]] = []

    def spoilt(self: Focal, logits: Any, target: Any, mask: Any, weight: Any, ids: Any) -> Any:
        total, per_case = honest(self, logits, target, mask, weight, ids)
        steps.append(ids.tolist())
        return (total * float("nan") if len(steps) == 5 else total), per_case

    monkeypatch.setattr(Focal, "loss", spoilt)
    edit(copied, arms={"new": ["focal"]})
    answer = cli("train", copied, "--arm", "new")
    assert answer.code == 2
    assert said(answer, "RS-R46", "train.lr", "step 5", "lower `lr`")
    split = pd.read_csv(copied / "data/split.csv", dtype=str).set_index("case")
    manifest = pd.read_csv(copied / "data/manifest.csv", dtype=str)
    training = [case for case in manifest["case"] if split.loc[case, "part"] == "train"]
    assert training[steps[4][0]] in answer.err
    assert not (copied / "arms/new/seed-0/DONE").exists()
