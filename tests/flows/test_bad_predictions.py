"""Items 36 to 43 of the catalogue of bad input, each met through the command line.

Every answer has a code, a place, what was found, why it matters and one remedy. More of the same items, on a trained
study, stand in test_bad_input.py and test_gates.py.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.flows.conftest import Answer, Cli, write_study
from tests.flows.test_score import make


def told(answer: Answer, code: str, place: str, found: str, why: str, remedy: str) -> bool:
    """Whether one message of the answer says all five."""
    messages = ["RS-" + text for text in answer.err.split("RS-")[1:]]
    for message in messages:
        head, _, rest = message.partition("\n    why: ")
        reason, _, mend = rest.partition("\n    remedy: ")
        place_and_found = place in head and found in head
        if head.startswith(code) and place_and_found and why in reason and remedy in mend:
            return True
    return False


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return make(tmp_path / "model.csv", n=60)


def refused(cli: Cli, table: Path, *options: object, code: int) -> Answer:
    out = table.parent / "out"
    answer = cli("score", table, *options, "--out", out)
    assert answer.code == code, answer.err
    assert not out.exists(), "nothing is half-written"
    return answer


def test_36_thresholds_chosen_on_the_rows_that_judge_them(table: Path, cli: Cli) -> None:
    answer = refused(cli, table, "--val", table, code=4)
    found = "60 of its 60 rows are rows of the test table"
    assert told(answer, "RS-R36", "model.csv, column 'case'", found, "looks better than it is", "other patients")


def test_36_an_arm_without_validation_predictions_has_nothing_to_choose_on(
    tmp_path: Path, phantom: Path, cli: Cli
) -> None:
    folder = write_study(tmp_path / "study", phantom, arms={"mine": {"predictions": {"test": "t.csv"}}})
    for command in ("check", "split"):
        assert cli(command, folder).code == 0
    answer = cli("train", folder)
    assert answer.code == 2
    place = "study.yaml, column 'arms.mine.predictions'"
    assert told(answer, "RS-C36", place, "no validation predictions", "never on test", "val: FILE.csv")


@pytest.mark.parametrize(
    ("matrix", "place", "found", "remedy"),
    [
        ("[[0, 1], [1, 0]]", "costs.matrix", "not square", "3 rows of 3 numbers"),
        ("[[0, 1, 1], [1, 0, 1]]", "costs.matrix", "not square", "3 rows of 3 numbers"),
        ("{mel: {nv: -2}}", "costs.matrix.mel.nv", "a cost of -2", "0 or more"),
        ("{mel: {mel: 5, nv: 2}}", "costs.matrix.mel", "the error is cheaper", "costs.matrix.mel.mel"),
        ("{mel: {nv: high}}", "costs.matrix.mel.nv", "'high' is not a number", "0 or more"),
        ("3", "costs.matrix", "3 is not a table", "matrix: {TRUE: {SAID: cost}}"),
    ],
)
def test_37_a_cost_matrix_that_cannot_be(
    table: Path, cli: Cli, matrix: str, place: str, found: str, remedy: str
) -> None:
    costs = table.parent / "costs.yaml"
    costs.write_text(f"matrix: {matrix}\n", encoding="utf-8")
    answer = refused(cli, table, "--costs", costs, code=2)
    assert told(answer, "RS-C37", f"costs.yaml, column '{place}'", found, "follow from the costs", remedy)


def test_38_a_critical_class_whose_miss_is_no_dearer_than_an_alarm(table: Path, cli: Cli) -> None:
    costs = table.parent / "costs.yaml"
    for text, place in (("missed: {mel: 1}", "costs.missed.mel"), ("matrix: {mel: {nv: 1}}", "costs.matrix.mel.")):
        costs.write_text(text + "\n", encoding="utf-8")
        options = ("--critical", "mel", "--costs", costs, "--resamples", 100)
        answer = cli("score", table, *options, "--out", table.parent / "out")
        assert answer.code == 0, answer.err
        assert told(answer, "RS-C38", f"costs.yaml, column '{place}", "mel", "follow from the costs", "confirm")


@pytest.mark.parametrize(
    ("text", "place", "found", "remedy"),
    [
        ("prevalence: {mel: 5}", "costs.prevalence.mel", "5 lies outside (0, 1)", "did you mean 0.05 (5%)?"),
        ("prevalence: {mel: 0}", "costs.prevalence.mel", "0 lies outside (0, 1)", "between 0 and 1"),
        ("prevalence: {mel: 0.6, nv: 0.6}", "costs.prevalence", "sum to 1.2", "5% as 0.05"),
    ],
)
def test_39_a_prevalence_that_is_no_share(
    table: Path, cli: Cli, text: str, place: str, found: str, remedy: str
) -> None:
    costs = table.parent / "costs.yaml"
    costs.write_text(text + "\n", encoding="utf-8")
    answer = refused(cli, table, "--costs", costs, code=2)
    assert told(answer, "RS-C39", f"costs.yaml, column '{place}'", found, "follow from the costs", remedy)


ARMS = {"baseline": [], "turned": [{"augment": {"preset": "dermoscopy"}}], "own": ["augment"]}


def test_40_a_chest_film_upside_down_is_a_warning_and_under_strict_a_gate(
    tmp_path: Path, phantom: Path, cli: Cli
) -> None:
    folder = write_study(tmp_path / "study", phantom, image={"size": 32, "preset": "chest"}, arms=ARMS)
    answer = cli("check", folder)
    assert answer.code == 0 and "RS-C40" in answer.out and "arms.own" not in answer.out
    assert cli("split", folder).code == 0
    for command in ("check", "train", "run", "audit"):
        answer = cli(command, folder, "--strict")
        assert answer.code == 4, answer.err
        place = "study.yaml, column 'arms.turned.augment.preset'"
        words = ("the bounds of dermoscopy flip pictures upside down", "no patient hangs upside down")
        assert told(answer, "RS-C40", place, *words, "remove `preset: dermoscopy`")
    assert not (folder / "arms").exists()


def test_40_what_the_modality_allows_is_no_problem(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom, arms={"turned": [{"augment": {"preset": ["histology"]}}]})
    answer = cli("check", folder, "--json")
    assert answer.code == 0 and "RS-C40" not in answer.out


def test_13_too_few_patients_stop_a_strict_study_alone(tmp_path: Path, phantom: Path, cli: Cli) -> None:
    folder = write_study(tmp_path / "study", phantom)
    assert cli("check", folder).code == 0
    answer = cli("check", folder, "--strict")
    assert answer.code == 4
    found = "too few patient_id with 'melanoma'"
    assert told(answer, "RS-M13", "manifest.csv, column 'melanoma'", found, "no figure", "split.folds: 5")
    assert "'nevus'" not in answer.err, "a class that is not critical stops nothing"


@pytest.mark.parametrize(
    ("column", "value", "options", "found", "remedy"),
    [
        ("prob_mel", 0.9999, (), "1 rows do not sum to 1", "--scores logits"),
        ("prob_mel", -3.2, (), "1 rows have a value outside [0, 1]", "--scores logits"),
    ],
)
def test_41_scores_that_are_no_probabilities(
    table: Path, cli: Cli, column: str, value: float, options: tuple[str, ...], found: str, remedy: str
) -> None:
    frame = pd.read_csv(table)
    frame.loc[3, column] = value
    frame.to_csv(table, index=False)
    answer = refused(cli, table, *options, code=3)
    found = found.replace("1 rows do not", "the probabilities of 1 rows do not")
    assert told(answer, "RS-P41", "model.csv, row 5", f"{found}: img3 (row 5)", "as probabilities", remedy)


@pytest.mark.parametrize("value", ["", "nan", "inf", "high"])
def test_42_scores_that_are_no_numbers(table: Path, cli: Cli, value: str) -> None:
    frame = pd.read_csv(table, dtype=str)
    frame.loc[3, "prob_mel"] = value
    frame.to_csv(table, index=False)
    answer = refused(cli, table, code=3)
    found = "1 cases with a score that is missing or no number: img3 (row 5)"
    assert told(answer, "RS-P42", "model.csv, row 5", found, "ranked by accident", "leave them out")


def test_43_missing_and_extra_cases(table: Path, cli: Cli) -> None:
    other = table.parent / "other.csv"
    frame = pd.read_csv(table)
    frame.assign(case=frame["case"].replace({"img58": "x58", "img59": "x59"})).to_csv(other, index=False)
    answer = refused(cli, table, other, code=3)
    found = "2 of 60 cases have no prediction: img58, img59"
    assert told(answer, "RS-P43", "other", found, "different cases cannot be compared", "predict every case")
    found = "2 predictions are for cases outside the part: x58, x59"
    assert told(answer, "RS-P43", "other", found, "different cases cannot be compared", "leave out")


def test_43_repeated_and_nameless_cases(table: Path, cli: Cli) -> None:
    frame = pd.read_csv(table, dtype=str)
    frame.loc[4, "case"], frame.loc[9, "case"] = "img3", " "
    frame.to_csv(table, index=False)
    answer = refused(cli, table, code=3)
    assert told(answer, "RS-P43", "row 6, column 'case'", "1 rows repeat a case: img3", "one case", "one row a case")
    assert told(answer, "RS-P43", "row 11", "1 rows without a case", "one case", "name them")
