"""What figures and pages say of an arm's own value, and of its difference from the baseline, each by its own rests."""

from __future__ import annotations

from typing import Any

import pytest

from raresight.report.figures.look_differences import look_differences
from raresight.report.figures.look_scatter import score_and_alignment
from raresight.report.figures.style import Figure
from raresight.report.look_rows import Look, firm, firm_difference, sure, told_patients, told_reason
from raresight.report.look_tables import look_tables

WHY = "maps of b are not trusted: it failed"


def look(**seen: Any) -> Look:
    """An arm `m` against `b` in one class; `seen` is said of its alignment."""
    row = {"class": "x", "status": "ok", "reason": "", "seed": None, "n_patients": 20, "cases": "all", "greyed": False}
    ours = {
        "arm": "m",
        "diff_status": "ok",
        "diff_reason": "",
        "diff_n_patients": 20,
        "diff_low": -0.4,
        "diff_high": -0.2,
    }
    rows = [
        row | {"arm": "b", "metric": "auroc", "value": 0.8},
        row | {"arm": "b", "metric": "alignment", "value": 0.4},
        row | ours | {"metric": "auroc", "value": 0.9, "difference": 0.1, "p_adjusted": 0.2},
        row | ours | {"metric": "alignment", "value": 0.1, "difference": -0.3, "p_adjusted": 0.2} | seen,
    ]
    tables = {"verdict": rows, "alignment": [one for one in rows if one["metric"] == "alignment"]}
    classes = [{"name": "x", "n_train": 5}]
    return Look({"arms": ["b", "m"], "baseline": "b", "classes": classes, "tables": tables})


def cells(made: Any, arm: str = "m") -> Any:
    assert isinstance(made, Figure)
    return next(row for row in made.table.rows if row.cells[1] == arm and "average" not in row.cells[2])


def test_a_value_may_be_firm_where_its_difference_is_not_and_the_other_way_round() -> None:
    few = {"status": "ok", "diff_status": "few", "p_adjusted": 0.001}
    assert (firm(few), firm_difference(few), sure(few)) == (True, False, False)
    own = {"status": "few", "diff_status": "ok", "p_adjusted": 0.001}
    assert (firm(own), firm_difference(own), sure(own)) == (False, True, True)


@pytest.mark.parametrize(
    ("row", "patients", "reason"),
    [
        (None, "–", ""),
        ({"n_patients": None, "reason": "why"}, "–", "why"),
        ({"n_patients": 22, "diff_n_patients": None}, "22", ""),
        ({"n_patients": 22, "diff_n_patients": 22, "reason": "one", "diff_reason": "one"}, "22", "one"),
        ({"n_patients": 22, "diff_n_patients": 9, "reason": "", "diff_reason": "few"}, "22 (9 in the difference)",
         "difference: few"),
        ({"n_patients": 22, "diff_n_patients": 9, "reason": "own", "diff_reason": "few"}, "22 (9 in the difference)",
         "own; difference: few"),
    ],
)  # fmt: skip
def test_patients_and_reasons_are_told_of_both(row: dict[str, Any] | None, patients: str, reason: str) -> None:
    assert (told_patients(row), told_reason(row)) == (patients, reason)


def test_differences_are_drawn_and_told_by_what_they_rest_on_themselves() -> None:
    few = {"diff_status": "few", "diff_reason": "9 patients", "diff_n_patients": 9, "diff_low": None, "diff_high": None}
    made = look_differences(look(**few))
    assert isinstance(made, Figure)
    score, seen = made.table.rows
    assert (seen.cells[6], seen.cells[7], seen.mark) == ("9", "9 patients", "wide")
    assert (score.cells[6], score.cells[7], score.mark) == ("20", "", "")
    own = look_differences(look(status="few", reason="of the value", n_patients=4))
    assert isinstance(own, Figure)
    assert (own.table.rows[1].cells[6], own.table.rows[1].cells[7], own.table.rows[1].mark) == ("20", "", "")


def test_an_arm_that_may_be_read_is_a_dot_without_an_arrow_where_the_baseline_may_not() -> None:
    free, alone = score_and_alignment(look()), score_and_alignment(look(diff_status="not_trusted", diff_reason=WHY))
    assert isinstance(free, Figure) and isinstance(alone, Figure)
    said = "A dot without an arrow: maps of b that failed the check"
    assert said in alone.caption and said not in free.caption
    row = cells(alone)
    assert (row.cells[3], row.cells[4], row.cells[5]) == (
        "+0.10 (−0.40 to −0.20)",
        "0.10 (no interval)",
        "not to be read",
    )
    assert row.cells[7] == f"difference: {WHY}" and row.mark == ""
    assert cells(free).cells[5] == "−0.30 (−0.40 to −0.20)"
    forest = look_differences(look(diff_status="not_trusted", diff_reason=WHY))
    assert isinstance(forest, Figure) and [one.mark for one in forest.table.rows] == ["", "wide"]


def test_a_class_whose_maps_are_mostly_empty_is_grey_alone_and_named() -> None:
    grey = look(greyed=True, reason="maps of m are not trusted: empty", diff_status="not_trusted", diff_reason="empty")
    made = score_and_alignment(grey)
    assert isinstance(made, Figure) and "most maps of the class are empty: m: x." in made.caption
    assert "A dot without an arrow" not in made.caption and cells(made).mark == "wide"
    assert grey.greyed == {}
    of_class = {"metric": "gate", "arm": "m", "class": "x", "greyed": True, "reason": "empty"}
    assert Look({"tables": {"gate": [of_class]}}).greyed == {}  # the arm's other maps may be read


def test_the_page_tells_the_value_and_takes_back_the_difference() -> None:
    def row_of(**seen: Any) -> Any:
        (made,) = look_tables(look(**seen)).values()
        return next(row for row in made.rows if row.cells[2] == "m")

    taken = row_of(diff_status="not_trusted", diff_reason=WHY)
    assert taken.cells[4:6] == ("0.10 (no interval)", "not to be read") and taken.cells[8] == f"difference: {WHY}"
    assert taken.mark == ""
    whole = row_of(diff_n_patients=9, reason="own")
    assert whole.cells[5:9] == ("−0.30 (−0.40 to −0.20)", "0.200", "20 (9 in the difference)", "own")
