"""Reading anybody's predictions: what is accepted, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prediction_tables import drawn

from raresight.core.errors import ConfigError, DataError, Problem, RaresightError
from raresight.core.task import Task
from raresight.evaluate.asked import read_costs, read_decisions
from raresight.evaluate.read import align, read_predictions

GOOD = """case,patient_id,site,prob_mel,prob_nv,label
007,p1,A,0.7,0.3,mel
7,p2,B,0.1,0.9,nv
8,p2,B,0.2,0.8,
"""


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def refused(path: Path, text: str, **options: object) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        read_predictions(write(path / "p.csv", text), **options)  # type: ignore[arg-type]
    assert all(problem.why and problem.remedy and problem.file for problem in caught.value.problems)
    return list(caught.value.problems)


def test_exclusive_table(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path / "p.csv", GOOD))
    assert found.task == Task("exclusive", ("mel", "nv"))
    assert list(found.cases) == ["007", "7", "8"] and list(found.patient) == ["p1", "p2", "p2"]
    np.testing.assert_array_equal(found.target, [[1, 0], [0, 1], [np.nan, np.nan]])
    assert found.table["site"].tolist() == ["A", "B", "B"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters(tmp_path: Path, encoding: str, delimiter: str) -> None:
    text = GOOD.replace(",", delimiter)
    if delimiter == ";":
        text = text.replace(".", ",")  # as a spreadsheet in much of Europe writes it
    found = read_predictions(write(tmp_path / "p.csv", text, encoding))
    np.testing.assert_array_equal(found.prob[:, 0], [0.7, 0.1, 0.2])


def test_independent_table_and_parquet(tmp_path: Path) -> None:
    text = "case,patient_id,prob_a,prob_b,label_a,label_b\n1,p,0.9,0.8,1,\n2,q,0.2,0.1,0,1.0\n"
    found = read_predictions(write(tmp_path / "p.csv", text))
    assert found.task == Task("independent", ("a", "b"))
    np.testing.assert_array_equal(found.target, [[1, np.nan], [0, 1]])
    ours = drawn("independent")
    ours.save(tmp_path / "p.parquet")
    again = read_predictions(tmp_path / "p.parquet")
    np.testing.assert_array_equal(again.prob, ours.prob)
    np.testing.assert_array_equal(again.target, ours.target)
    assert list(again.patient) == list(ours.patient)


def test_logits_are_said_and_not_guessed(tmp_path: Path) -> None:
    text = "case,patient_id,prob_a,prob_b,label\n1,p,2,0,a\n2,q,0.5,0.5,b\n"
    (problem,) = refused(tmp_path, text)
    assert problem.code == "RS-P41" and problem.row == 2 and "1 (row 2)" in problem.found
    assert "--scores logits" in problem.remedy
    found = read_predictions(tmp_path / "p.csv", scores="logits")
    assert found.prob[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    np.testing.assert_array_equal(found.logits, [[2, 0], [0.5, 0.5]])
    (problem,) = refused(tmp_path, text.replace("2,0,a", "0.5,0.3,a"))
    assert problem.code == "RS-P41" and "do not sum to 1" in problem.found


def test_patients_are_asked_for(tmp_path: Path) -> None:
    text = GOOD.replace("patient_id", "patientid")
    (problem,) = refused(tmp_path, text)
    assert problem.code == "RS-P01" and "did you mean 'patientid'" in problem.remedy
    assert "--one-image-per-patient" in problem.remedy
    waived = read_predictions(tmp_path / "p.csv", one_image_per_patient=True)
    assert list(waived.patient) == ["007", "7", "8"]
    mapped = read_predictions(tmp_path / "p.csv", columns={"patient_id": "patientid"})
    assert list(mapped.patient) == ["p1", "p2", "p2"]
    by_site = read_predictions(write(tmp_path / "q.csv", GOOD), group="site")
    assert list(by_site.patient) == ["A", "B", "B"]


def test_every_problem_at_once(tmp_path: Path) -> None:
    text = (
        "case,patient_id,prob_mel,prob_nv,label\n"
        "1,p,0.7,0.3,Mel\n"  # label in another case: item 9
        "2,,0.7,0.3,nv\n"  # blank patient: item 2
        "3,q,nan,0.3,nv\n"  # missing score: item 42
        "4,q,1.7,-0.7,nv\n"  # outside [0, 1]: item 41
        "4,q,0.5,0.5,nv\n"  # repeated case: item 43
    )
    problems = {problem.code: problem for problem in refused(tmp_path, text)}
    assert set(problems) == {"RS-P09", "RS-P02", "RS-P42", "RS-P41", "RS-P43"}
    assert problems["RS-P09"].remedy == "did you mean 'mel'?" and problems["RS-P09"].row == 2
    assert problems["RS-P02"].row == 3
    assert "3 (row 4)" in problems["RS-P42"].found
    assert problems["RS-P41"].row == 5
    assert "repeat a case: 4" in problems["RS-P43"].found


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "RS-P16", "empty"),
        ("case,prob_a,label\n", "RS-P16", "without rows"),
        ("case,case\n1,2\n", "RS-P16", "named twice: case"),
        ("case,prob_a,label\n1,1,a\n2,1\n", "RS-P16", "rows 3"),
        ("case,patient_id,p_a,label\n1,p,1,a\n", "RS-P09", "no column prob_<class>"),
        ("case,patient_id,prob_a\n1,p,1\n", "RS-P09", "neither label nor label_<class>"),
        ("case,patient_id,prob_a,label,label_a\n1,p,1,a,1\n", "RS-P09", "both label and"),
        ("case,patient_id,prob_a,label_a\n1,p,1,-1\n", "RS-P12", "first: '-1'"),
        ("patient_id,prob_a,label_a\np,1,1\n", "RS-P43", "no column 'case'"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, code: str, words: str) -> None:
    (problem,) = refused(tmp_path, text)
    assert problem.code == code and words in problem.found


def test_a_task_fixes_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", GOOD)
    with pytest.raises(DataError, match="no column 'prob_bcc'"):
        read_predictions(path, task=Task("exclusive", ("mel", "bcc", "nv")))
    swapped = read_predictions(path, task=Task("exclusive", ("nv", "mel")))
    assert swapped.prob[0].tolist() == [0.3, 0.7]
    bare = write(tmp_path / "bare.csv", "case,prob_mel,prob_nv\nx,0.6,0.4\ny,0.5,0.5\n")
    found = read_predictions(bare, task=Task("exclusive", ("mel", "nv")), labels=False)
    assert align(found, ["y", "x"]).prob[:, 0].tolist() == [0.5, 0.6]
    with pytest.raises(DataError, match="1 of 2 cases have no prediction: z") as caught:
        align(found, ["x", "z"], "bare.csv")
    assert len(caught.value.problems) == 2


def test_files_that_are_not_tables(tmp_path: Path) -> None:
    for name, content in (("p.csv", b"\xff\x00\x81"), ("p.csv", b"a\0b"), ("p.parquet", b"PAR1 no")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="RS-P16"):
            read_predictions(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.csv")


def test_mappings_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", GOOD)
    with pytest.raises(ConfigError, match="did you mean 'site'"):
        read_predictions(path, columns={"patient_id": "sitee"})
    with pytest.raises(ConfigError, match="probabilities or logits"):
        read_predictions(path, scores="percent")
    for wrong in (["case"], {"case": 3}, {"prob_a": "prob_mel", "prob_b": "prob_mel"}):
        with pytest.raises(RaresightError):
            read_predictions(path, columns=wrong)  # type: ignore[arg-type]


def test_costs_file(tmp_path: Path) -> None:
    task = Task("exclusive", ("mel", "nv"), ("mel",))
    path = write(tmp_path / "costs.yaml", "missed: {mel: 20}\nprevalence: {mel: 0.02}\n")
    assert read_costs(path, task) == {
        "missed": {"mel": 20.0},
        "prevalence": {"mel": 0.02},
        "matrix": {},
        "referral": None,
    }
    write(path, "matrix: [[0, 20], [1, 0]]\nreferral: 2\nfloors: {mel: {sensitivity: 0.9}}\n")
    found = read_costs(path, task)
    assert found["matrix"] == {"mel": {"mel": 0.0, "nv": 20.0}, "nv": {"mel": 1.0, "nv": 0.0}}
    assert found["referral"] == 2.0 and "floors" not in found
    for text in ("missed: [1", "3", "missed: 3", "missing: {mel: 2}", "missed: {mel: high}", "prevalence: {mel: 5}"):
        with pytest.raises(ConfigError) as caught:
            read_costs(write(path, text), task)
        assert caught.value.problems[0].file == str(path)


def test_floors_stand_alone_or_in_the_file_of_costs(tmp_path: Path) -> None:
    path, classes = tmp_path / "costs.yaml", ("mel", "nv")
    floors = {"mel": {"sensitivity": 0.9}}
    assert read_decisions(write(path, "mel: {sensitivity: 0.9}\n"), classes) == {"floors": floors}
    both = write(path, "missed: {mel: 20}\nfloors: {mel: {sensitivity: 0.9}}\nrefer: 0.1\nmiscoverage: 0.05\n")
    assert read_decisions(both, classes) == {"floors": floors, "refer": 0.1, "miscoverage": 0.05}
    assert read_decisions(write(path, "missed: {mel: 20}\n"), classes) == {}


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("floors: {mle: {sensitivity: 0.9}}", "RS-C33", "floors.mle"),
        ("floors: {mel: {sensitivity: 90}}", "RS-C34", "floors.mel"),
        ("floors: {mel: {sensitivity: 0}}", "RS-C34", "floors.mel"),
        ("floors: {mel: {sensitivity: 0.9, specificity: 0.9}}", "RS-C34", "floors.mel"),
        ("floors: {mel: {recall: 0.9}}", "RS-C34", "floors.mel"),
        ("floors: {mel: 0.9}", "RS-C34", "floors.mel"),
        ("floors: 0.9", "RS-C34", "floors"),
        ("refer: 0.6", "RS-C34", "refer"),
        ("refer: some", "RS-C34", "refer"),
        ("miscoverage: 0", "RS-C34", "miscoverage"),
        ("[mel]", "RS-C37", None),
    ],
)
def test_floors_that_cannot_be(tmp_path: Path, text: str, code: str, place: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        read_decisions(write(tmp_path / "f.yaml", text), ("mel", "nv"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.column) == (code, place) and problem.file and problem.why and problem.remedy


CELL = st.one_of(
    st.sampled_from(["", "nan", "1", "0", "0.5", "inf", "-1", "a", "A ", "é", '"', "1e400", "0,5", "prob_a", "\n"]),
    st.text(max_size=4),
)
HEADER = st.sampled_from(
    ["case", "patient_id", "prob_a", "prob_b", "label", "label_a", "logit_a", "label_b", "", "prob_", "x"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HEADER, max_size=7), st.lists(st.lists(CELL, max_size=7), max_size=5), st.sampled_from(",;\t"))
def test_no_table_ends_in_a_traceback(tmp_path: Path, header: list[str], rows: list[list[str]], mark: str) -> None:
    text = "\n".join(mark.join(row) for row in [header, *rows])
    path = tmp_path / "fuzz.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for options in ({}, {"scores": "logits", "one_image_per_patient": True}):
        try:
            found = read_predictions(path, **options)  # type: ignore[arg-type]
        except RaresightError:
            continue
        assert np.isfinite(found.prob).all() and ((found.prob >= 0) & (found.prob <= 1)).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_good_table_with_one_broken_cell_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    table = pd.read_csv(pd.io.common.StringIO(GOOD), dtype=str, keep_default_na=False)
    row, column = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 5))
    table.iloc[row, column] = data.draw(CELL)
    table.to_csv(tmp_path / "one.csv", index=False, errors="surrogatepass")
    try:
        found = read_predictions(tmp_path / "one.csv")
    except RaresightError:
        return
    assert len(found.table) == 3
