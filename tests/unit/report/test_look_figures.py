"""The figures of `raresight explain`, drawn from made-up findings (fake_look) and from hand-made rows."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import fake_look
import numpy as np
import pytest

from raresight.report.figures import look_cases, look_detectors, look_differences, look_frequency, look_layers
from raresight.report.figures.look_figures import figures_of, look_figures
from raresight.report.figures.look_pictures import as_rgb, fitted, jpeg, outline, overlaid, stretched
from raresight.report.figures.look_scatter import score_and_alignment
from raresight.report.figures.look_style import apart, arm_look, rarity_colour
from raresight.report.figures.style import FAINT, INK, Absent, Figure
from raresight.report.look_rows import Look, firm, sure, told_difference, told_value

NAMES = ["F1_score_and_alignment", "F7_differences", "F2_cases_df", "F2_cases_mel", "F3_frequency", "F4_detectors",
         "F5_layers", "F6_units"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def explain(folder: Path) -> dict[str, Any]:
    return fake_look.with_pictures(fake_look.made_up(), folder)


@pytest.fixture(scope="module")
def drawn(explain: dict[str, Any], folder: Path) -> dict[str, Figure | Absent]:
    return figures_of(Look(explain), folder)


def test_every_figure_is_drawn_with_words_and_numbers(drawn: dict[str, Figure | Absent]) -> None:
    assert list(drawn) == NAMES
    for name, made in drawn.items():
        assert isinstance(made, Figure), name
        assert made.svg.startswith("<svg") and made.caption in made.alt and len(made.table.rows) > 0
        assert "Grey: maps that failed the check and must not be read, ldam (maps hardly" in made.caption, name
        assert all(len(row.cells) == len(made.table.head) for row in made.table.rows), name
        assert not re.search(r"\bnan\b", re.sub(r'base64,[^"]*', "", made.svg), re.I), name


def test_the_same_findings_give_the_same_bytes(explain: dict[str, Any], folder: Path) -> None:
    first, again = look_figures(explain, folder), look_figures(copy.deepcopy(explain), folder)
    assert first == again
    assert all(svg.startswith("<svg xmlns=") and 'role="img"' in svg for svg in first.values())


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    made = figures_of(Look(fake_look.almost_empty()), tmp_path)
    told = {name: one.why for name, one in made.items() if isinstance(one, Absent)}
    assert told == {
        "F1_score_and_alignment": "not computed, because nobody drew where the findings lie",
        "F7_differences": "not computed, because there is only one arm",
        "F2_cases": "not computed, because no case was kept with its maps",
        "F3_frequency": "not computed, because raresight explain was not asked for it",
        "F4_detectors": "not computed, because nobody drew where the findings lie",
        "F5_layers": "not computed, because raresight explain was not asked for it",
        "F6_units": "not computed, because no unit of the baseline detects a class, or units were not dissected",
    }
    assert "nobody drew where" in look_figures(fake_look.almost_empty(), tmp_path)["F4_detectors"]


def test_rows_are_found_over_all_seeds_or_for_the_only_one() -> None:
    def look(*seeds: int | None) -> Look:
        row = {"metric": "auroc", "arm": "a", "class": "x"}
        rows = [row | {"seed": seed, "value": i} for i, seed in enumerate(seeds)]
        return Look({"arms": ["b", "a"], "baseline": "a", "tables": {"verdict": rows}})

    assert look(0, None).value("verdict", "auroc", "a", "x") == 1
    assert look(7).value("verdict", "auroc", "a", "x") == 0
    assert look(0, 1).value("verdict", "auroc", "a", "x") is None
    assert look(0).value("verdict", "auroc", "a") is None
    assert look(0).arms == ["a", "b"] and look(0).others == ["b"]


def test_figures_in_words_never_stand_bare() -> None:
    assert told_value({"value": 0.412, "low": -0.3, "high": 0.5}) == "0.41 (−0.30 to 0.50)"
    assert told_value({"value": 0.412, "low": 0.3, "high": 0.5}) == "0.41 (0.30–0.50)"
    assert told_value({"value": 0.4, "low": None, "high": None}) == "0.40 (no interval)"
    assert told_value({"value": None}) == "not estimable" and told_value(None) == "not computed"
    assert told_difference({"difference": -0.12, "diff_low": -0.18, "diff_high": 0.05}) == "−0.12 (−0.18 to +0.05)"
    assert told_difference({"difference": None}) == "not estimable"


@pytest.mark.parametrize(
    ("row", "is_firm", "is_sure"),
    [
        ({"status": "ok", "p_adjusted": 0.049}, True, True),
        ({"status": "ok", "p_adjusted": 0.05}, True, False),
        ({"status": "ok", "p_adjusted": None}, True, False),
        ({"status": "few", "p_adjusted": 0.001}, False, True),  # of the value alone: the difference is another thing
        ({"diff_status": "few", "p_adjusted": 0.001}, True, False),
        ({"diff_status": "not_trusted", "p_adjusted": 0.001}, True, False),
        ({"status": "absent"}, False, False),
        (None, False, False),
    ],
)
def test_few_patients_are_never_firm(row: dict[str, Any] | None, is_firm: bool, is_sure: bool) -> None:
    assert (firm(row), sure(row)) == (is_firm, is_sure)


def test_few_patients_are_said_in_the_picture(drawn: dict[str, Figure | Absent]) -> None:
    scatter = drawn["F1_score_and_alignment"]
    assert isinstance(scatter, Figure)
    assert "dermatofibroma (74), 7 patients" in scatter.svg
    rows = [row for row in scatter.table.rows if row.cells[0] == "dermatofibroma"]
    assert {row.mark for row in rows} == {"wide"} and all("7" in row.cells[6] for row in rows)


def test_a_class_that_nobody_drew_is_not_placed() -> None:
    explain = fake_look.made_up(("baseline", "focal"))
    for row in explain["tables"]["verdict"]:
        if row["metric"] == "alignment" and row["class"] == "vasc":
            row |= {"value": None, "difference": None, "status": "absent", "reason": "nobody drew it"}
    made = score_and_alignment(Look(explain))
    assert isinstance(made, Figure) and "vascular lesion (92), not placed" in made.svg
    forest = look_differences.look_differences(Look(explain))
    assert isinstance(forest, Figure) and forest.svg.count("not estimable") == 1


def test_arrows_go_from_the_baseline_to_the_arm() -> None:
    """One class from (.80, .40) to (.90, .10): the table tells +.10 of score and -.30 of look."""
    row = {"class": "x", "status": "ok", "seed": None, "n_patients": 20}
    rows = [
        row | {"arm": "b", "metric": "auroc", "value": 0.8},
        row | {"arm": "b", "metric": "alignment", "value": 0.4},
        row | {"arm": "m", "metric": "auroc", "value": 0.9, "difference": 0.1, "p_adjusted": 0.01},
        row | {"arm": "m", "metric": "alignment", "value": 0.1, "difference": -0.3, "p_adjusted": 0.2},
    ]
    explain = {
        "arms": ["b", "m"],
        "baseline": "b",
        "classes": [{"name": "x", "n_train": 5}],
        "tables": {"verdict": rows},
    }
    made = score_and_alignment(Look(explain))
    assert isinstance(made, Figure)
    arm = next(one for one in made.table.rows if one.cells[1] == "m")
    assert (arm.cells[3], arm.cells[5], arm.mark) == ("+0.10 (no interval)", "−0.30 (no interval)", "strong")


def test_greyed_arms_are_grey_and_the_baseline_is_ink(explain: dict[str, Any]) -> None:
    look = Look(explain)
    assert arm_look(look, "ldam")[0] == FAINT and arm_look(look, "baseline") == (INK, "o")
    assert len({arm_look(look, arm) for arm in look.arms}) == len(look.arms)
    assert look.greyed == {"ldam": fake_look.WHY_GREY}
    many = Look({"arms": [f"arm {i}" for i in range(37)], "baseline": "arm 0"})
    assert len({arm_look(many, arm) for arm in many.arms}) == 37  # as many as the colours times the markers, and ink


def test_an_arm_is_grey_by_the_shown_kind_of_map_at_the_shown_layer() -> None:
    told = {"arm": "kind", "greyed": True, "reason": "it failed", "method": "hires_cam", "layer": "three"}
    here, elsewhere = {"arm": "here", "method": "grad_cam"}, {"arm": "last", "method": "grad_cam", "layer": "four"}
    gate = [told, told | here, told | elsewhere, told | here | {"arm": "sound", "greyed": False}]
    look = Look({"choices": {"layer": "three", "method": "grad_cam"}, "tables": {"gate": gate}})
    assert look.greyed == {"here": "it failed"}


def test_the_rarest_class_is_first_and_darkest(explain: dict[str, Any]) -> None:
    look = Look(explain)
    assert look.classes[0] == "df" and look.classes[-1] == "nv"
    lightness = [sum(int(rarity_colour(look, name)[i : i + 2], 16) for i in (1, 3, 5)) for name in look.classes]
    assert lightness == sorted(lightness)


def test_labels_are_pushed_apart_and_no_further() -> None:
    near = apart([(0.5, 0.5), (0.5, 0.5), (0.51, 0.5)], (0.1, 0.1))
    for i in range(3):
        for j in range(i):
            assert max(abs(near[i][0] - near[j][0]), abs(near[i][1] - near[j][1])) >= 0.1
    assert apart([(0.1, 0.1), (0.9, 0.9)], (0.1, 0.1)) == [(0.1, 0.1), (0.9, 0.9)]


def detector_look(value: float | None, high: float | None, status: str = "ok", metric: str = "detectors") -> Look:
    row = {"arm": "b", "class": "x", "layer": "l4", "seed": None, "status": status}
    rows = [row | {"metric": metric, "value": value}]
    if high is not None:
        rows.append(row | {"metric": "null_detectors", "value": 1, "low": 0, "high": high})
    return Look({"arms": ["b"], "baseline": "b", "classes": [{"name": "x", "n_train": 5}], "layers": ["l1", "l4"],
                 "tables": {"dissection": rows}})  # fmt: skip


@pytest.mark.parametrize(
    ("value", "high", "status", "said"),
    [
        (4, 3, "ok", "beyond chance"),
        (3, 3, "ok", "within chance"),
        (1, 0, "ok", "beyond chance"),
        (0.67, 0, "ok", "within chance"),  # above the band, and less than a unit a network
        (9, 3, "few", "too few to tell"),
        (None, 3, "absent", "too few to tell"),
        (1, None, "ok", "beyond chance"),  # tested unit by unit
        (0.67, None, "ok", "within chance"),  # two units in three seeds
    ],
)
def test_a_count_is_beyond_chance_only_above_the_band(
    value: float | None, high: float | None, status: str, said: str
) -> None:
    look = detector_look(value, high, status)
    assert look_detectors.against_chance(look, "detectors", "b", "x") == said
    made = look_detectors.detectors(look)
    assert isinstance(made, Figure) and made.table.rows[0].cells[5] == said
    assert ("The grey bar" in made.caption) == (high is not None)
    assert ("false-discovery rate" in made.caption) == (high is None)


def test_panels_share_an_axis_that_holds_the_counts_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple[float, float]] = []
    made = look_detectors.to_svg
    monkeypatch.setattr(
        look_detectors, "to_svg", lambda figure: ends.extend(each.get_xlim() for each in figure.axes) or made(figure)
    )
    rows = [{"arm": arm, "class": "x", "layer": "l4", "metric": "detectors", "value": value}
            for arm, value in (("b", 2), ("o", 30))]  # fmt: skip
    look = Look({"arms": ["b", "o"], "classes": [{"name": "x"}], "layers": ["l4"], "tables": {"dissection": rows}})
    assert isinstance(look_detectors.detectors(look), Figure)
    assert len(ends) == 2 and all(left == -0.5 and right >= 30 for left, right in ends)


def test_where_masks_could_not_be_dealt_there_is_no_band() -> None:
    look = detector_look(3, 2)
    empty = {"value": None, "low": None, "high": None}
    rows = [row | (empty if row["metric"] == "null_detectors" else {}) for row in look.rows("dissection")]
    made = look_detectors.detectors(Look({**look.data, "tables": {"dissection": rows}}))
    assert isinstance(made, Figure)
    assert "The grey bar" not in made.caption and "false-discovery rate" in made.caption
    assert made.table.rows[0].cells[3:6] == ("not estimable", "not computed", "beyond chance")


def test_without_regions_units_are_counted_by_labels() -> None:
    made = look_detectors.detectors(detector_look(3, None, metric="units_for_class"))
    assert isinstance(made, Figure)
    assert "By labels of whole images" in made.caption and "tell images with the class" in made.svg


def test_lengths_are_drawn_over_the_arms_own_mean() -> None:
    """Head norms 2 and 8 have the geometric mean 4: drawn at .5 and 2; alignment is drawn as it is."""
    rows = [
        {"metric": "head_norm", "arm": "b", "class": name, "value": v, "seed": None} for name, v in (("r", 2), ("c", 8))
    ]
    look = Look({"arms": ["b"], "classes": [{"name": "c", "n_train": 90}, {"name": "r", "n_train": 10}],
                 "tables": {"geometry": rows, "verdict": [{**rows[0], "metric": "alignment"}]}})  # fmt: skip
    points = look_frequency._points(look, "b", "geometry", "head_norm")
    assert [n for n, _, _ in points] == [10, 90] and [v for _, v, _ in points] == pytest.approx([0.5, 2.0])
    assert look_frequency._points(look, "b", "verdict", "alignment") == [(10, 2.0, True)]


def test_pairs_are_found_whichever_way_round_and_seeds_on_the_diagonal() -> None:
    rows = [
        {"metric": "cka", "arm": "m", "other": "b", "class": None, "value": 0.7, "seed": None},
        {"metric": "cka", "arm": "b", "other": "b", "class": None, "value": 0.9, "seed": None},
        {"metric": "cka", "arm": "m", "other": "m", "class": None, "value": 1.0, "seed": None},
        {"metric": "map_spearman", "arm": "b", "other": "m", "class": "x", "value": 0.2, "seed": None},
        {"metric": "map_spearman", "arm": "b", "other": "m", "class": "y", "value": 0.4, "seed": None},
    ]
    classes = [{"name": "x", "n_train": 5}, {"name": "y", "n_train": 9}]
    look = Look({"arms": ["b", "m"], "baseline": "b", "classes": classes, "tables": {"between": rows}})
    assert look_layers._cka(look, "b", "m") == 0.7 == look_layers._cka(look, "m", "b")
    assert look_layers._cka(look, "b", "b") == 0.9
    assert look_layers._cka(look, "m", "m") is None  # an arm with itself says nothing
    made = look_layers.layers(look)
    assert isinstance(made, Figure)
    assert [row.cells for row in made.table.rows] == [
        ("b", "another seed of it", "0.90 (no interval)", "not computed"),
        ("b", "m", "0.70 (no interval)", "0.30"),
    ]


def test_likeness_by_layer_is_not_that_of_the_features() -> None:
    """Layers of arms among each other, layers of one arm, and features: each is drawn in its own place."""
    cka = {"metric": "cka", "class": None, "seed": None}
    rows = [
        cka | {"arm": "b", "other": "b", "layer": "l2", "other_layer": "l3", "value": 0.31},
        cka | {"arm": "b", "other": "b", "layer": "l1", "other_layer": "l3", "value": 0.21},
        cka | {"arm": "b", "other": "b", "layer": "l1", "other_layer": "l2", "value": 0.99},
        cka | {"arm": "b", "other": "b", "layer": "l3", "other_layer": "l3", "value": 0.83},
        cka | {"arm": "b", "other": "m", "layer": "l3", "other_layer": "l3", "value": 0.73},
        cka | {"arm": "b", "other": "m", "layer": "l1", "other_layer": "l1", "value": 0.71},
        cka | {"arm": "b", "other": "m", "layer": "features", "other_layer": None, "value": 0.55},
    ]
    data: dict[str, Any] = {"arms": ["b", "m"], "baseline": "b", "classes": [], "layers": ["l1", "l2", "l3"],
                            "choices": {"layer": "l3"}, "tables": {"between": rows}}  # fmt: skip
    look = Look(data)
    assert look_layers._cka(look, "b", "m") == look_layers._cka(look, "m", "b") == 0.55
    assert look_layers._cka(look, "b", "b") is None
    assert look_layers._beside_baseline(look, "m") == [(0, 0.71), (2, 0.73)]
    assert look_layers._beside_baseline(look, "b") == [(2, 0.83)]
    assert look_layers._beside_deepest(look, "b") == [(0, 0.21), (1, 0.31)]
    assert look_layers._beside_deepest(look, "m") == []
    made = look_layers.layers(look)
    assert isinstance(made, Figure) and "with the deepest layer of the same network" in made.svg
    assert [row.cells[:3] for row in made.table.rows] == [("b", "m", "0.55 (no interval)")]
    rows[:] = rows[:3]  # one network a study: its own layers alone
    alone = look_layers.layers(Look(data | {"arms": ["b"]}))
    assert isinstance(alone, Figure) and "of the baseline" not in alone.svg and not alone.table.rows


def test_bands_are_means_over_their_classes_unless_given() -> None:
    row = {"metric": "probe_ap", "arm": "b", "layer": "l1", "seed": None}
    rows = [row | {"class": "x", "value": 0.2}, row | {"class": "y", "value": 0.6}]
    classes = [{"name": name, "n_train": 5, "band": "tail"} for name in ("x", "y")]
    data: dict[str, Any] = {"arms": ["b"], "classes": classes, "layers": ["l1"], "tables": {"geometry": rows}}
    assert look_layers._curve(Look(data), "b", "tail") == [(0, pytest.approx(0.4))]
    rows.append(row | {"class": None, "band": "tail", "value": 0.9})
    assert look_layers._curve(Look(data), "b", "tail") == [(0, 0.9)]


def test_maps_are_stretched_between_the_centres_of_their_cells() -> None:
    """Two cells over four pixels with half-pixel centres: 0, .25, .75, 1 (align_corners=False)."""
    assert stretched(np.array([[0.0, 1.0]]), 1, 4)[0] == pytest.approx([0, 0.25, 0.75, 1])


def test_colour_is_strength_on_the_scale_that_all_arms_share() -> None:
    image = np.full((8, 8, 3), 0.5, dtype=np.float32)
    bare = overlaid(image, np.zeros((2, 2)), 1.0)
    assert bare == pytest.approx(np.full((8, 8, 3), 0.625))  # .25 + .75 luminance, no colour
    weak, strong = (overlaid(image, np.full((2, 2), v), 1.0) for v in (0.2, 0.9))
    distance = [float(np.abs(one - bare).mean()) for one in (weak, strong)]
    assert 0 < distance[0] < distance[1]
    assert overlaid(image, np.full((2, 2), 0.9), 4.5) == pytest.approx(
        weak, abs=1e-6
    )  # a stronger arm pales the others
    grey = overlaid(image, np.full((2, 2), 0.9), 1.0, grey=True)
    assert np.ptp(grey, axis=-1).max() < 1e-6 and np.ptp(strong, axis=-1).max() > 0.1


def test_outlines_surround_the_region_and_close_at_the_edge() -> None:
    inside = np.zeros((10, 10))
    inside[2:6, 4:10] = 1
    path = outline(inside, 0.5, 100, 50)
    points = np.array([[float(v) for v in p.split()] for p in re.split("[MLZ]", path) if p.strip()])
    assert points[:, 0].min() == pytest.approx(40, abs=1) and points[:, 0].max() == pytest.approx(100, abs=1)
    assert points[:, 1].min() == pytest.approx(10, abs=1) and points[:, 1].max() == pytest.approx(30, abs=1)
    assert path.endswith("Z") and outline(np.zeros((4, 4)), 0.5, 10, 10) == ""


def test_pictures_keep_their_proportions_and_one_channel_becomes_grey() -> None:
    grey = as_rgb(np.full((20, 40, 1), 51, dtype=np.uint8))
    assert grey.shape == (20, 40, 3) and grey == pytest.approx(0.2)
    assert fitted(grey, 10).shape == (5, 10, 3)
    assert jpeg(grey).startswith("data:image/jpeg;base64,")


def test_cases_tell_rule_logit_and_finding_but_no_name_of_a_case(drawn: dict[str, Figure | Absent]) -> None:
    grid = drawn["F2_cases_mel"]
    assert isinstance(grid, Figure)
    assert "SECRET" not in grid.svg + grid.alt and "mel-1 · median: median of the alignment" in grid.svg
    assert len(re.findall(r"<image ", grid.svg)) == 3 * 9  # three cases, the image and eight arms
    assert grid.svg.count("not to be read") == 3 and "logit" in grid.svg and "peak 100%" in grid.svg
    assert "seed 0" in grid.caption


def test_maps_follow_the_order_of_the_arms_in_the_file(tmp_path: Path) -> None:
    """The baseline is drawn first though it stands second in the file: its map is the strong one."""
    maps = np.zeros((1, 2, 3, 3), dtype=np.float32)
    maps[0, 0, 1, 1], maps[0, 1, 1, 1] = 1.0, 4.0
    np.savez(
        tmp_path / "cases.npz", images=np.zeros((1, 9, 9, 1), np.uint8), maps=maps, masks=np.zeros((1, 9, 9), bool)
    )
    case = {"name": "x-1", "class": "x", "seed": 0, "rule": "median", "why": "w", "slice": 4, "slice_rule": "most map",
            "arms": {"b": {"logit": -0.25, "found": None}, "m": {"logit": 1.0}}}  # fmt: skip
    explain = {
        "arms": ["m", "b"],
        "baseline": "b",
        "dims": 3,
        "classes": [{"name": "x", "n_train": 5}],
        "cases": [case],
    }
    grid = look_cases.case_grids(Look(explain), tmp_path)["x"]
    assert isinstance(grid, Figure)
    assert re.findall(r"peak \d+%", grid.svg) == ["peak 100%", "peak 25%"]
    assert "slice 4, the one with most map" in grid.svg and "one slice is shown" in grid.caption
    assert "region: not drawn" in grid.svg and "no evidence" not in grid.svg
    maps[0, 1] = 0
    np.savez(
        tmp_path / "cases.npz", images=np.zeros((1, 9, 9, 1), np.uint8), maps=maps, masks=np.zeros((1, 9, 9), bool)
    )
    again = look_cases.case_grids(Look(explain), tmp_path)["x"]
    assert isinstance(again, Figure) and "no evidence" in again.svg


def test_many_arms_wrap_into_lines_of_nine(tmp_path: Path) -> None:
    arms = tuple(f"arm{i}" for i in range(12))
    grid = figures_of(Look(fake_look.with_pictures(fake_look.made_up(arms), tmp_path)), tmp_path)["F2_cases_mel"]
    assert isinstance(grid, Figure) and grid.svg.count(">arm11<") == 3  # the head stands above each case's lines
    assert len(re.findall(r"<image ", grid.svg)) == 3 * 13


def test_units_without_a_match_are_pale_and_say_so(drawn: dict[str, Figure | Absent]) -> None:
    made = drawn["F6_units"]
    assert isinstance(made, Figure)
    assert "unit 10, r 0.80" in made.svg and "unit 50, r 0.40: no match" in made.svg
    assert made.svg.count('opacity="0.4"') == 3 * 3  # two arms without a match and the greyed one, for three units


def test_two_arms_are_not_blown_up_to_the_width_of_the_page(tmp_path: Path) -> None:
    grid = figures_of(Look(fake_look.with_pictures(fake_look.made_up(("b", "m")), tmp_path)), tmp_path)["F2_cases_mel"]
    assert isinstance(grid, Figure) and 'viewBox="0 0 832 ' in grid.svg  # seven cells of 120, less the last gap


def test_the_last_layer_is_named_and_grey_where_its_own_maps_failed() -> None:
    said = fake_look.made_up(("baseline", "focal", "ldam"))
    said["choices"] |= {"layer": "layer2", "last_layer": "layer4"}
    for row in said["tables"]["verdict"]:
        row["greyed"] = (row["metric"], row["arm"]) == ("alignment_last", "focal")
    made = look_differences.look_differences(Look(said))
    assert isinstance(made, Figure) and Look(said).last_layer == "layer4"
    assert "“last layer” of layer4, the last maps before the score" in made.caption
    assert "Grey in the column of the last layer alone: maps of focal failed the check there" in made.caption
    grey = {row.cells[2] for row in made.table.rows if row.cells[1] == "focal" and row.mark == "wide"
            and row.cells[0] == "nevus"}  # fmt: skip
    assert grey == {"alignment, last layer"}
    one = look_differences.look_differences(Look({**said, "choices": said["choices"] | {"last_layer": "layer2"}}))
    assert isinstance(one, Figure) and "“last layer”" not in one.caption


def test_a_label_covers_no_mark() -> None:
    ((x, y),) = apart([(0.5, 0.52)], (0.05, 0.08), marks=[(0.5, 0.5)])
    assert abs(x - 0.5) >= 0.05 / 2 or abs(y - 0.5) >= 0.08 / 2
    assert apart([(0.5, 0.9)], (0.05, 0.08), marks=[(0.5, 0.5)]) == [(0.5, 0.9)]


def test_where_the_baselines_own_last_layer_failed_the_whole_column_is_grey() -> None:
    said = fake_look.made_up(("baseline", "focal", "ldam"))
    said["choices"] |= {"layer": "layer2", "last_layer": "layer4"}
    for row in said["tables"]["verdict"]:
        row["greyed"] = (row["metric"], row["arm"]) == ("alignment_last", "baseline")
    made = look_differences.look_differences(Look(said))
    assert isinstance(made, Figure) and "maps of baseline, which all others are compared with" in made.caption
    marked = {(row.cells[1], row.cells[2]) for row in made.table.rows if row.mark == "wide" and row.cells[0] == "nevus"}
    assert {metric for arm, metric in marked if arm == "focal"} == {"alignment, last layer"}
    assert ("ldam", "alignment, last layer") in marked
