"""A sweep from end to end: thinned cells, a kill, the same result, and a test part that is opened once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from raresight.api import Study
from raresight.core.files import read_json, read_jsonl
from raresight.core.progress import Advance, Silent
from tests.flows.conftest import TINY, Cli, write_study

SWEEP = ("--class", "keratosis", "--prevalence", "0.06")
QUICK = {**TINY["train"], "steps": 3, "head_steps": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """A checked and split study of which nothing is trained."""
    arms = {"baseline": [], "focal": ["focal"], "sampled": ["class_balanced_sampling"],
            "hybrid": ["class_balanced_sampling", "focal"]}  # fmt: skip
    folder = write_study(tmp_path_factory.mktemp("sweep") / "study", phantom, arms=arms, train=QUICK, quick=True)
    study = Study.open(folder)
    study.check()
    study.split()
    return folder


@pytest.fixture(scope="module")
def swept(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, swept without a break. Tests that write copy it."""
    folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("swept") / "study"))
    Study.open(folder).sweep("keratosis", ["0.06"])
    return folder


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "study"))


def result_of(folder: Path) -> dict:
    return read_json(folder / "sweep" / "keratosis" / "sweep.json")


class Killed(Silent):
    """Interrupts at the n-th report from inside a training."""

    def __init__(self, n: int) -> None:
        self.left = n

    @contextmanager
    def bar(self, label: str) -> Iterator[Advance]:
        def advance(done: int, total: int) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        yield advance


def test_only_the_training_part_of_a_cell_is_thinned(swept: Path) -> None:
    whole = pd.read_csv(swept / "data/split.csv", keep_default_na=False).set_index("case")
    cell = swept / "sweep/keratosis/0.06/seed-0"
    thinned = pd.read_csv(cell / "data/split.csv", keep_default_na=False).set_index("case")
    manifest = pd.read_csv(swept / "data/manifest.csv").set_index("case")
    gone = whole.index[(whole["part"] != thinned["part"])]
    assert len(gone) and (manifest.loc[gone, "label"] == "keratosis").all()
    assert (whole.loc[gone, "part"] == "train").all() and (thinned.loc[gone, "part"] == "").all()
    left = manifest.loc[thinned.index[thinned["part"] == "train"], "label"]
    assert 0 < (left == "keratosis").mean() <= 0.06 or (left == "keratosis").sum() <= 4
    assert read_json(cell / "cell.json")["n_positive"] == (left == "keratosis").sum()
    assert not (cell / "cache").exists() and not (cell / "data/manifest.csv").exists()
    assert (cell / "arms/focal/seed-0/DONE").exists() and (swept / "arms/focal/seed-0/DONE").exists()
    assert read_json(cell / "lock.json")["runtime"] == read_json(swept / "lock.json")["runtime"]


def test_the_result_says_what_was_asked(swept: Path) -> None:
    result = result_of(swept)
    assert [column["name"] for column in result["columns"]] == ["0.06", "all"]
    assert result["columns"][1]["prevalence"] == result["natural_prevalence"] > 0.06
    assert result["cost"] == {"missed": 20.0, "assumed": True, "prevalence": None} and result["test"] is None
    part = result["val"]
    assert {row["arm"] for row in part["estimates"]} == {"baseline", "focal", "sampled", "hybrid"}
    assert {row["parts"][1] for row in part["interactions"] if row["arm"] == "hybrid"} == {"focal"}
    assert [row["outcome"] for row in part["verdicts"]] == ["unresolved"] * 2  # 3 validation patients have it
    for entry in part["estimates"]:
        assert entry["value"] is None or entry["low"] <= entry["value"] <= entry["high"]
    text = (swept / "sweep/keratosis/sweep.md").read_text(encoding="utf-8")
    assert "cannot be resolved with so few patients" in text and "## What was trained on" in text
    assert (swept / "sweep/keratosis/sweep.svg").read_text(encoding="utf-8").startswith("<svg xmlns=")


def test_killed_twice_and_resumed_it_ends_the_same(prepared: Path, swept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "study"))
    for reports in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            Study.open(folder, Killed(reports)).sweep("keratosis", ["0.06"])
        assert not (folder / "sweep/keratosis/sweep.json").exists()
    Study.open(folder).sweep("keratosis", ["0.06"])
    assert result_of(folder) == result_of(swept)


def test_done_cells_are_skipped(copied: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.is_file()}
    answer = cli("sweep", copied, *SWEEP, "--json")
    assert answer.code == 0 and answer.json == result_of(copied)
    assert "trained" not in answer.err and "judging" not in answer.err
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.is_file()} == before


def test_the_test_part_is_opened_once_through_the_studys_ledger(copied: Path, cli: Cli) -> None:
    shut = cli("sweep", copied, *SWEEP, "--open-test")
    assert shut.code == 4 and not (copied / "test/ledger.jsonl").exists()
    opened = cli("sweep", copied, *SWEEP, "--open-test", "--yes", "--json")
    assert opened.code == 0, opened.err
    test = opened.json["test"]
    assert test["part"] == "test" and test["opening"] == 1
    assert {row["operating_point"] for row in test["estimates"]} == {None, "argmax", "frozen"}
    assert read_json(copied / "test/opening-1/plan.json")["sweep"]["class"] == "keratosis"
    # The same plan is no new look, asked for or not.
    for again in (cli("sweep", copied, *SWEEP, "--json"), cli("sweep", copied, *SWEEP, "--open-test", "--json")):
        assert again.code == 0 and again.json["test"] == test
    assert len(read_jsonl(copied / "test/ledger.jsonl")) == 1
    # Another plan is.
    fewer = (*SWEEP, "--arms", "focal", "--open-test", "--yes")
    refused = cli("sweep", copied, *fewer)
    assert refused.code == 4 and "RS-R36" in refused.err and "--reuse-test" in refused.err
    assert cli("sweep", copied, *fewer, "--reuse-test").code == 4
    second = cli("sweep", copied, *fewer, "--reuse-test", "--reason", "fewer arms", "--json")
    assert second.code == 0 and second.json["test"]["opening"] == 2
    assert [line["reason"] for line in read_jsonl(copied / "test/ledger.jsonl")] == ["first opening", "fewer arms"]


def test_a_cell_of_other_settings_is_refused(copied: Path, cli: Cli) -> None:
    text = (copied / "study.yaml").read_text(encoding="utf-8")
    (copied / "study.yaml").write_text(text.replace("lr: 0.002", "lr: 0.004"), encoding="utf-8")
    answer = cli("sweep", copied, *SWEEP)
    assert answer.code == 2 and "RS-R44" in answer.err
    assert "the section 'train' of study.yaml" in answer.err and "sweep again" in answer.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--class", "keratos", "--prevalence", "0.05"), "RS-C33", "did you mean 'keratosis'?"),
        (("--class", "keratosis", "--prevalence", "5%"), "RS-C39", "did you mean 0.05?"),
        (("--class", "keratosis", "--prevalence", "5"), "RS-C39", "did you mean 0.05?"),
        (("--class", "keratosis", "--prevalence", "0.9"), "RS-C39", "write at most 0.1"),
        (("--class", "keratosis", "--prevalence", "rare"), "RS-C39", "is not a number"),
        ((*SWEEP, "--arms", "focul"), "RS-C33", "did you mean 'focal'?"),
        ((*SWEEP, "--seeds", "0,x"), "RS-C34", "write 0,1,2"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(
    prepared: Path, cli: Cli, options: tuple[str, ...], code: str, words: str
) -> None:
    answer = cli("sweep", prepared, *options)
    assert answer.code == 2 and code in answer.err and words in answer.err
    assert not (prepared / "sweep").exists()


def test_the_report_shows_the_curve(copied: Path, cli: Cli) -> None:
    for command in ("audit", "tune", "evaluate", "compare"):
        assert cli(command, copied).code == 0
    assert cli("report", copied).code == 0
    page = (copied / "report/report.html").read_text(encoding="utf-8")
    assert "Which arm for which severity" in page and "expected cost per 1,000, threshold moved" in page
    assert json.loads((copied / "report/report.json").read_text(encoding="utf-8"))["sweeps"][0]["class"] == "keratosis"


def test_a_sweep_of_other_data_is_neither_shown_nor_counted(copied: Path, cli: Cli) -> None:
    for command in ("audit", "tune", "evaluate", "compare", "report"):
        assert cli(command, copied).code == 0

    def sweeps_in_evidence() -> int:
        rows = read_json(copied / "compare/compare.json")["recommendation"]
        return sum(said["text"].startswith("sweep, ") for row in rows for said in row["evidence"])

    assert sweeps_in_evidence() == 2
    steps = cli("status", copied, "--json").json["steps"]
    assert {step["state"] for step in steps} == {"done"}
    path = copied / "sweep/keratosis/sweep.json"
    path.write_text(json.dumps(result_of(copied) | {"evidence_sha256": "of other labels"}), encoding="utf-8")
    states = {step["name"]: step["state"] for step in cli("status", copied, "--json").json["steps"]}
    assert states["compare"] == states["report"] == "stale"
    assert cli("compare", copied).code == 0
    assert sweeps_in_evidence() == 0
    answer = cli("report", copied)
    assert answer.code == 0 and "sweeps of other data" in answer.err
    assert "Which arm for which severity" not in (copied / "report/report.html").read_text(encoding="utf-8")
