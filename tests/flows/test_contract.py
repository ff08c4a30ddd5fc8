"""The command line against its contract: which commands and options there are, exit codes, and what goes where."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.flows.conftest import Cli, write_study

# The commands of this version, the first five in the order that help leads with.
COMMANDS = (
    *("demo", "init", "run", "score", "report"),
    *("status", "check", "audit", "advise", "split", "train", "tune", "evaluate", "compare", "sweep"),
    *("explain", "freeze", "predict", "validate", "monitor", "list", "doctor"),
)
OPTIONS = {
    "demo": ["--out"],
    "init": [
        *("--from", "--quick", "--image-col", "--label-col", "--label-sep", "--patient-col", "--group-col"),
        *("--mask-col", "--no-images", "--one-image-per-patient"),
    ],
    "run": ["--open-test"],
    "status": ["--json"],
    "check": ["--fix-plan", "--json"],
    "audit": ["--augment", "--json"],
    "advise": ["--label-noise", "--write", "--no-write", "--force", "--json"],
    "split": ["--json"],
    "train": ["--arm", "--seed", "--dry-run", "--on", "--json"],
    "tune": ["--json"],
    "evaluate": ["--part", "--yes", "--reuse-test", "--reason", "--json"],
    "compare": ["--json"],
    "sweep": [
        *("--class", "--prevalence", "--arms", "--seeds", "--open-test", "--yes", "--reuse-test", "--reason", "--json"),
    ],
    "explain": ["--arm", "--seed", "--part", "--tasks", "--method", "--layers", "--no-pictures", "--json"],
    "score": [
        *("--val", "--thresholds", "--baseline", "--map", "--train-prior", "--group", "--costs", "--out", "--json"),
        *("--scores", "--one-image-per-patient"),
    ],
    "freeze": ["--arm", "--seed", "--out", "--force", "--json"],
    "predict": ["--out", "--root", "--json"],
    "validate": ["--site", "--root", "--one-image-per-patient", "--out", "--json"],
    "monitor": ["--time", "--out", "--json"],
    "list": ["--json"],
    "doctor": ["--json"],
}
LATER = ("export",)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty cases of forty patients: a third ill, the score right in most."""
    ill = [int(i % 3 == 0) for i in range(80)]
    prob = [0.8 if (y == 1) != (i % 7 == 0) else 0.3 for i, y in enumerate(ill)]
    rows = {"case": [f"c{i}" for i in range(80)], "patient_id": [f"p{i // 2}" for i in range(80)]}
    table = pd.DataFrame(rows | {"prob_ill": prob, "prob_well": [1 - p for p in prob]})
    table["label"] = ["ill" if y else "well" for y in ill]
    path = tmp_path_factory.mktemp("predictions") / "model.csv"
    table.to_csv(path, index=False)
    return path


def test_help_leads_with_what_a_newcomer_needs(cli: Cli) -> None:
    answer = cli("--help")
    listed = re.findall(r"^  ([a-z]+) {2,}\S", answer.out.split("Commands:")[1], flags=re.MULTILINE)
    assert answer.code == 0 and tuple(listed) == COMMANDS


@pytest.mark.parametrize("command", OPTIONS)
def test_options_of_the_contract(cli: Cli, command: str) -> None:
    shown = cli(command, "--help").out
    assert [option for option in OPTIONS[command] if not re.search(rf"{option}\b", shown)] == []


@pytest.mark.parametrize("command", LATER)
def test_what_is_not_built_is_absent(cli: Cli, command: str) -> None:
    answer = cli(command, "study")
    assert answer.code == 2 and "No such command" in answer.err


@pytest.mark.parametrize("words", [["train", "s", "--on", "dask"], ["init", "s", "d", "--from", "dicom"]])
def test_what_an_option_cannot_be_is_a_usage_error(cli: Cli, words: list[str]) -> None:
    answer = cli(*words)
    assert answer.code == 2 and answer.out == ""


def test_an_interruption_leaves_with_130(copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raresight.api.Study.tune", interrupted)
    answer = cli("tune", copied)
    assert answer.code == 130 and answer.out == ""


def test_a_bug_of_ours_leaves_with_1(copied: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.delenv("RARESIGHT_DEBUG", raising=False)
    monkeypatch.setattr("raresight.api.Study.tune", broken)
    answer = cli("tune", copied)
    assert answer.code == 1 and "a bug of ours" in answer.err and "planted" in answer.err


@pytest.mark.parametrize("command", ["status", "check", "audit", "split", "train", "tune", "evaluate", "compare"])
def test_json_alone_on_stdout_and_no_colour(copied: Path, cli: Cli, command: str) -> None:
    answer = cli(command, copied, "--json")
    assert answer.code == 0
    json.loads(answer.out)
    assert "\x1b" not in answer.out + answer.err and "\r" not in answer.err


def test_audit_plans_a_split_where_there_is_none(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    study = write_study(tmp_path / "study", phantom)
    audit = cli("audit", study, "--json").json
    assert {row["name"] for row in audit["classes"]} == set(
        yaml.safe_load((study / "study.yaml").read_text())["task"]["classes"]
    )
    assert not (study / "data" / "split.csv").exists()
    assert any(row["recall_interval_halfwidth"] is not None for row in audit["classes"])


def test_a_fix_plan_holds_every_problem(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    study = write_study(tmp_path / "study", phantom)
    manifest = pd.read_csv(study / "data" / "manifest.csv", dtype=str)
    manifest.loc[3, "label"] = "melanom"
    manifest.loc[5, "patient_id"] = ""
    manifest.to_csv(study / "data" / "manifest.csv", index=False)
    answer = cli("check", study, "--fix-plan")
    assert answer.code == 3  # refused, and the plan is there all the same
    issues = [json.loads(line) for line in (study / "data" / "issues.jsonl").read_text().splitlines()]
    with (study / "data" / "fix_plan.csv").open(newline="", encoding="utf-8") as handle:
        plan = list(csv.DictReader(handle))
    assert list(plan[0]) == ["code", "row", "column", "found", "remedy"]
    assert [row["code"] for row in plan] == [issue["code"] for issue in issues]
    assert "5" in {row["row"] for row in plan}  # the fourth case, below a header


def test_score_without_validation_fits_nothing_and_says_why(predictions: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("score", predictions, "--out", tmp_path / "out", "--resamples", 100, "--json")
    assert answer.code == 0
    estimates = answer.json["estimates"]
    assert {row["operating_point"] for row in estimates} <= {None, "argmax"}
    assert "no threshold" in answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"estimates.json", "report.html", "report.json"}
    assert json.loads((tmp_path / "out" / "estimates.json").read_text())["estimates"] == estimates


def test_predictions_without_patients_are_refused_unless_waived(predictions: Path, tmp_path: Path, cli: Cli) -> None:
    anonymous = tmp_path / "anonymous.csv"
    pd.read_csv(predictions).drop(columns="patient_id").to_csv(anonymous, index=False)
    options = ("--out", tmp_path / "out", "--resamples", 100)
    refused = cli("score", anonymous, *options)
    assert refused.code == 3 and "--one-image-per-patient" in refused.err
    assert cli("score", anonymous, *options, "--one-image-per-patient").code == 0


def test_tabs_in_a_study_are_a_config_error(tmp_path: Path, copied: Path, cli: Cli) -> None:
    (copied / "study.yaml").write_text("data:\n\tmanifest: data/manifest.csv\n", encoding="utf-8")
    answer = cli("status", copied)
    assert answer.code == 2 and "row 2" in answer.err and "spaces, not tabs" in answer.err
    shutil.rmtree(copied)
    assert cli("status", copied).code == 2


def test_init_never_proposes_health_as_what_must_not_be_missed(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    images = sorted((phantom / "images").iterdir())
    for folder, some in (("normal", images[:4]), ("pneumonia", images[4:12])):
        (tmp_path / "images" / folder).mkdir(parents=True)
        for image in some:
            shutil.copy(image, tmp_path / "images" / folder)
    options = ("--from", "folder", "--one-image-per-patient")
    assert cli("init", tmp_path / "study", tmp_path / "images", *options).code == 0
    text = (tmp_path / "study" / "study.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["task"]["critical"] == [] and "e.g. [pneumonia]" in text
    uncommented = re.sub(r"^# (costs|accept)", r"\1", text, flags=re.MULTILINE)
    assert yaml.safe_load(uncommented)["costs"]["missed"] == {"pneumonia": 20}
    (tmp_path / "study" / "study.yaml").write_text(uncommented, encoding="utf-8")
    assert cli("status", tmp_path / "study").code == 0
