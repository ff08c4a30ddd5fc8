"""The page says what is the case: why nothing can be told, why there is no map, what was cut, and what is grey."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fake_look
import numpy as np
import pytest

from raresight.api import verdict_lines
from raresight.report.figures import look_cases
from raresight.report.figures.look_differences import look_differences
from raresight.report.figures.look_figures import figures_of
from raresight.report.figures.look_frequency import _lengths, frequency
from raresight.report.figures.look_scatter import score_and_alignment
from raresight.report.figures.look_style import arm_look
from raresight.report.figures.style import FAINT, Absent, Figure
from raresight.report.look_page import write_look_page
from raresight.report.look_reasons import in_short, told_flag
from raresight.report.look_rows import Look, few_seeds, layer_name, signed, signs, sure, told_reason
from raresight.report.look_text import beyond_chance, headline, verdict_grid, what_it_cannot_say

FEW = "too few to tell"


def placeless() -> dict[str, Any]:
    """Two arms of a network of linear layers alone, with drawn regions."""
    rows = [
        {"metric": "verdict", "arm": "m", "class": "a", "verdict": FEW, "reason": "not looked at: alignment; detectors"}
    ]
    tables: dict[str, Any] = {name: [] for name in ("alignment", "dissection", "geometry", "gate", "between")}
    classes = [{"name": "a", "n_train": 9, "n_images": 81, "n_regions": 81}, {"name": "n", "n_train": 99}]
    return {"arms": ["b", "m"], "baseline": "b", "classes": classes, "layers": [], "seeds": [0, 1, 2], "cases": [],
            "tables": tables | {"verdict": rows}}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "regions", "short"),
    [
        ("one seed an arm, fewer than 3: a different look may be a seed's luck", 9, "one seed"),
        ("2 seeds an arm, fewer than 3: a different look may be a seed's luck", 9, "2 seeds"),
        ("6 patients, fewer than 10: no interval", 9, "6 patients"),
        ("1 patient, fewer than 10: no interval", 9, "1 patient"),
        ("not looked at: alignment (7 patients, fewer than 10: no interval); detectors", 9, "7 patients"),
        ("not looked at: alignment (maps of m are not trusted: 62% of the maps of this class are empty: where the "
         "others lie says little); detectors", 9, "maps mostly empty"),
        ("not looked at: alignment (all regions are of one patient: no other's to compare with)", 9,
         "regions of 1 patient"),
        ("not looked at: alignment; detectors", 0, "no regions"),
        ("not looked at: alignment; detectors", 9, "not looked at"),
        ("no score can be compared", 0, "no score can be compared"),
        ("", 0, ""),
    ],
)  # fmt: skip
def test_why_nothing_can_be_told_stands_in_short_beside_it(reason: str, regions: int, short: str) -> None:
    row = {"metric": "verdict", "arm": "m", "class": "x", "verdict": FEW, "reason": reason}
    data = {"arms": ["b", "m"], "baseline": "b", "classes": [{"name": "x", "n_train": 5, "n_regions": regions}],
            "tables": {"verdict": [row]}}  # fmt: skip
    look = Look(data)
    told = f"{FEW} ({short})" if short else FEW
    assert in_short(look, row) == short and told_flag(look, FEW, row) == told
    assert told_flag(look, "consistent", row) == "consistent"
    grid = verdict_grid(look)
    assert grid is not None and grid.rows[0].cells[1] == told
    assert verdict_lines(data) == f"{'m':<24} {'x':<20} {told}"


def test_a_flag_that_is_none_is_told_by_its_reason_on_the_terminal() -> None:
    row = {"metric": "verdict", "arm": "m", "class": "x", "verdict": None, "reason": "maps not trusted: the arm"}
    assert verdict_lines({"tables": {"verdict": [row]}}).endswith(" maps not trusted: the arm")


def test_a_network_without_places_is_no_missing_drawing(tmp_path: Path) -> None:
    data = placeless()
    look = Look(data)
    why = "there are no maps and no units: b does not keep the places of the image apart"
    assert beyond_chance(look) == f"Whether the maps lie on findings at all was not measured, since {why}."
    assert headline(look) == f"T{why[1:]}. Whether any arm looks elsewhere was not measured."
    assert look.why_no("alignment") == look.why_no("dissection") == f"not computed, because {why}"
    drawn = figures_of(look, tmp_path)
    for name in ("F1_score_and_alignment", "F2_cases", "F4_detectors", "F6_units"):
        made = drawn[name]
        assert isinstance(made, Absent) and why in made.why
    assert not any("Nobody drew" in line for line in what_it_cannot_say(look))
    page = write_look_page(data, tmp_path).read_text(encoding="utf-8")
    assert "nobody drew" not in page.lower() and f"{FEW} (no maps)" in page


def test_not_asked_for_is_told_from_not_drawn() -> None:
    data = placeless() | {"layers": ["conv"]}
    assert beyond_chance(Look(data)).endswith("since raresight explain was not asked for it.")
    undrawn = data | {"classes": [{"name": "a", "n_train": 9, "n_regions": 0}]}
    assert beyond_chance(Look(undrawn)).endswith("since nobody drew where they are.")


def test_a_class_that_no_patient_here_has_is_not_called_undrawn() -> None:
    classes = [
        {"name": "hernia", "n_train": 1, "n_images": 0, "n_regions": 0},
        {"name": "nodule", "n_train": 2, "n_images": 4, "n_regions": 0},
        {"name": "mass", "n_train": 3, "n_images": 14, "n_regions": 14},
    ]
    said = what_it_cannot_say(
        Look({"arms": ["b"], "baseline": "b", "part": "val", "seeds": [0, 1], "classes": classes})
    )
    assert said[:2] == [
        "Nobody drew regions of nodule: where models look for them is not measured.",
        "There is no patient with hernia in the validation part: where models look for them is not measured.",
    ]


def cased(folder: Path, chosen_on: str = "val", **said: Any) -> Figure:
    maps = np.ones((1, 1, 3, 3), dtype=np.float32)
    masks = np.zeros((1, 9, 9), bool)
    masks[0, 2:5, 2:5] = True
    np.savez(folder / "cases.npz", images=np.zeros((1, 9, 9, 1), np.uint8), maps=maps, masks=masks)
    case = {"name": "x-1", "class": "x", "seed": 0, "rule": "median", "why": "median -0.05",
            "arms": {"b": {"logit": 3.3, "alignment": None, "found": False} | said}}  # fmt: skip
    data = {"arms": ["b"], "baseline": "b", "classes": [{"name": "x", "n_train": 5}], "cases": [case],
            "choices": {"chosen_on": chosen_on}}  # fmt: skip
    made = look_cases.case_grids(Look(data), folder)["x"]
    assert isinstance(made, Figure)
    return made


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"score": 2.14, "cut": 3.86}, "+2.1 &lt; +3.9: missed"),
        ({"score": -0.5, "cut": -1.0, "found": True}, "−0.5 ≥ −1.0: found"),
        ({"score": 0.7, "cut": -0.04, "found": True}, "+0.7 ≥ +0.0: found"),
        ({"score": 3.91, "cut": 3.94}, "+3.91 &lt; +3.94: missed"),  # one digit would not tell them apart
        ({"score": 2.0, "cut": None, "found": None}, ">logit +3.3<"),
        ({"logit": None, "found": None}, ">–<"),
    ],
)
def test_the_score_that_is_cut_stands_beside_found_and_missed(tmp_path: Path, said: dict[str, Any], line: str) -> None:
    made = cased(tmp_path, **said)
    assert line in made.svg
    assert ("Youden's point" in made.caption) == (said.get("cut") is not None)
    assert "above 0 for likely" not in made.caption


def test_the_caption_says_where_the_cut_was_chosen(tmp_path: Path) -> None:
    said = {"score": 2.0, "cut": 3.0}
    assert "were highest on the validation part (Youden's point)" in cased(tmp_path, **said).caption
    assert "were highest on other patients (Youden's point)" in cased(tmp_path, "the same images", **said).caption
    row = cased(tmp_path, **said).table.rows[0].cells
    assert row[3:] == ("+3.30", "+2.00", "+3.00", "missed", "–")


def test_a_region_that_is_outlined_is_called_drawn_though_it_has_no_alignment(tmp_path: Path) -> None:
    made = cased(tmp_path)
    assert "median: median −0.05<" in made.svg  # the minus that all figures have
    assert "region: drawn" in made.svg and 'stroke="#fff"' in made.svg


def seeded(n: int | None) -> dict[str, Any]:
    explain = fake_look.made_up(("baseline", "focal"))
    for row in explain["tables"]["verdict"]:
        if "difference" in row:
            row.update({"diff_n_seeds": n, "p_adjusted": 0.001} | ({"spread": None} if n == 1 else {}))
    return explain


@pytest.mark.parametrize(("n", "few"), [(1, True), (2, True), (3, False), (None, False)])
def test_with_fewer_than_three_seeds_nothing_is_drawn_as_clear(n: int | None, few: bool) -> None:
    row = {"p_adjusted": 0.001, "diff_status": "ok", "diff_n_seeds": n}
    assert (few_seeds(row), sure(row)) == (few, not few)
    look = Look(seeded(n))
    arrows, forest = score_and_alignment(look), look_differences(look)
    assert isinstance(arrows, Figure) and isinstance(forest, Figure)
    marks = {row.mark for made in (arrows, forest) for row in made.table.rows}
    assert ("strong" not in marks) == few
    told = {1: "With one seed an arm nothing can be told", 2: "With 2 seeds an arm nothing can be told"}.get(n or 0)
    for made in (arrows, forest):
        assert "nothing can be told" not in made.caption if told is None else told in made.caption
    assert ("The grey band is one standard deviation" in forest.caption) == (n != 1)


def test_a_baseline_that_failed_is_grey_too() -> None:
    explain = fake_look.made_up(("baseline", "focal"))
    gate = [row for row in explain["tables"]["gate"] if row["arm"] == "baseline"]
    gate[0] |= {"greyed": True, "reason": "it failed"}
    look = Look(explain)
    assert arm_look(look, "baseline") == (FAINT, "o")
    made = frequency(look)
    assert isinstance(made, Figure) and "Grey: maps that failed the check" in made.caption
    assert [row.mark for row in made.table.rows] == ["wide", ""]


def test_slopes_say_in_which_unit_they_are() -> None:
    made = frequency(Look(fake_look.made_up(("baseline", "focal"))))
    assert isinstance(made, Figure)
    assert made.table.head[1:4] == ("Slope of head length", "Slope of feature length", "Slope of bias (logits)")
    assert "0.1 means 10.5% longer" in made.caption and "0.1 is added to the logit" in made.table.note
    assert "Beside each line of lengths" in made.caption  # the look has no slope


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.68, 1.34, [0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3]),  # 0.7 and 1 alone of the coarse ones
        (0.97, 1.04, [0.98, 1, 1.02, 1.04]),
        (0.1, 4, [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3]),
        (0.85, 1.17, [0.9, 1, 1.1]),
    ],
)
def test_an_axis_of_lengths_has_three_ticks_at_least(low: float, high: float, ticks: list[float]) -> None:
    assert _lengths(low, high) == ticks


def test_a_narrow_page_says_that_it_scrolls(tmp_path: Path) -> None:
    page = write_look_page(fake_look.made_up(("baseline", "focal")), tmp_path).read_text(encoding="utf-8")
    assert "swipe tables and figures sideways" in page and re.search(r"#F2 .drawing svg.*min-width: 52rem", page)


def test_numbers_in_reasons_have_the_minus_that_figures_have() -> None:
    assert signs("AUROC -0.00 (-0.12 to +0.10), -3") == "AUROC −0.00 (−0.12 to +0.10), −3"
    assert signs("run-2, 2026-11-22, (T5)-1, +0.1") == "run-2, 2026-11-22, (T5)-1, +0.1"  # names and dates keep theirs
    assert [signed(value) for value in (-0.004, 0.004, -0.006, 0.25)] == ["+0.00", "+0.00", "−0.01", "+0.25"]
    assert told_reason({"reason": "by -0.2", "diff_reason": "by -0.3"}) == "by −0.2; difference: by −0.3"


def test_a_layer_that_is_a_number_is_called_one() -> None:
    assert (layer_name("2"), layer_name("4.1"), layer_name("f.2"), layer_name("")) == (
        "layer 2",
        "layer 4.1",
        "f.2",
        "",
    )
    explain = fake_look.made_up(("baseline", "focal"))
    explain["choices"] |= {"layer": "2", "last_layer": "4"}
    arrows, forest = score_and_alignment(Look(explain)), look_differences(Look(explain))
    assert isinstance(arrows, Figure) and isinstance(forest, Figure)
    assert "of the maps of layer 2; that of layer 4 stands in the next figure" in arrows.caption
    assert "of layer 2, “last layer” of layer 4, the last" in forest.caption and "those of layer 2 do" in forest.caption
