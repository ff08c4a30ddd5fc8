"""The severity curve and its tables: what is drawn, named and said."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from fake_sweep import sweep_result

from raresight.core.task import Task
from raresight.report.content import Content
from raresight.report.figures.severity import severity, standalone
from raresight.report.figures.style import CYCLE, Absent, Figure
from raresight.report.page import render, summary
from raresight.report.sweep_tables import column_name, differences, figures, interactions, trained_on
from raresight.report.sweep_text import markdown


@pytest.fixture(scope="module")
def result() -> dict:
    return sweep_result(n=700, n_positive=60, resamples=60)


def test_every_arm_is_named_and_six_are_coloured(result: dict) -> None:
    made = severity(result)
    assert isinstance(made, Figure)
    for arm in result["arms"]:
        assert made.svg.count(f">{arm['name']}<") + made.svg.count(f">{arm['name']}, threshold moved<") == 3, arm
    assert all(colour.lower() in made.svg for colour in CYCLE)
    for words in ("18–20 lesions", "74–77 lesions", "430 lesions", "all cases", "a useless score", "extreme"):
        assert words in made.svg
    assert "hybrid" in made.caption and "a missed melanoma counting as 20" in made.caption


def test_labels_do_not_lie_on_one_another(result: dict) -> None:
    tree = ElementTree.fromstring(standalone(result))
    names = {arm["name"] for arm in result["arms"]}
    places: dict[str, list[float]] = {}
    for text in tree.iter("{http://www.w3.org/2000/svg}text"):
        if (text.text or "") in names:
            found = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", text.get("transform", "")) or [
                (text.get("x", "0"), text.get("y", "0"))
            ]
            places.setdefault(found[0][0], []).append(float(found[0][1]))
    (heights,) = places.values()
    gaps = sorted(b - a for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False))
    assert gaps[0] > 7, "labels of 7.5 points stand at least 7 points apart"


def test_the_file_stands_alone_and_equal_results_give_equal_bytes(result: dict) -> None:
    text = standalone(result)
    assert ElementTree.fromstring(text).tag.endswith("svg") and text == standalone(result)


def test_no_positive_case_is_an_absent_figure(result: dict) -> None:
    empty = {**result, "val": {**result["val"], "estimates": [
        {**e, "value": None, "low": None, "high": None, "status": "not_estimable", "reason": "none"}
        for e in result["val"]["estimates"]]}}  # fmt: skip
    made = severity(empty)
    assert isinstance(made, Absent) and "no case" in made.why
    assert "no case" in standalone(empty)
    assert all(row.mark == "blank" for row in figures(empty, empty["val"]).rows)


def test_tables_hold_what_the_json_holds(result: dict) -> None:
    part = result["val"]
    made = figures(result, part)
    assert len(made.rows) == len(result["columns"]) * len(result["arms"])
    (row,) = (r for r in made.rows if r.cells[:2] == ("8.0%, all cases", "focal"))
    (ap,) = (e for e in part["estimates"] if (e["column"], e["arm"], e["metric"]) == ("all", "focal", "auprc"))
    assert row.cells[2] == f"{ap['value']:.3f} ({ap['low']:.3f}–{ap['high']:.3f})"
    declared = [r for r in part["comparisons"] if r["family"] == "primary"]
    assert len(differences(result, part).rows) == len(declared) == 3 * (8 * 2 + 1)
    strong = [r for r in differences(result, part).rows if r.mark == "strong"]
    assert len(strong) == sum(r["p_adjusted"] < 0.05 for r in declared) > 0
    hybrid = interactions(result, part).rows
    assert hybrid[0].cells[1] == "hybrid = heavy_augment + borderline_smote + focal" and len(hybrid) == 9
    assert trained_on(result, {"n_positive_groups": [1, 1]}) == "1 lesion"


def test_the_text_leads_with_the_verdict_and_ends_with_the_training(result: dict) -> None:
    text = markdown(result)
    order = ["# Which arm for which severity: melanoma", "### Which arm", "### Figures", "### Differences",
             "### More than the sum", "### Does the gain depend", "## What was trained on"]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "nevus 4000 to 3999" in text and "1 lesion_id with 'mel' left; nothing can be concluded" in text
    assert "Each half of the lesions is judged at the threshold that the other half chose" in text
    assert "The whole part also chose each run's best step: what it shows is for the test part to confirm." in text


def test_the_text_says_what_arms_with_lists_were_trained_with(result: dict) -> None:
    settled = {"focal": {"focal": {"gamma": 5}}}
    first, *others = result["columns"]
    text = markdown({**result, "columns": [{**first, "chosen": [{}, settled, {}]}, *others]})
    assert f"{column_name(first)}, seed {result['seeds'][1]}: focal was trained with focal gamma 5" in text
    assert text.count("was trained with") == 1 and "did nothing" not in text
    assert "each run's best step and the values of arms with lists: what" in text


def test_the_text_names_arms_that_did_nothing(result: dict) -> None:
    idle = {"inert": [{"column": "all", "arms": ["baseline", "focal"]}]}
    text = markdown({**result, "val": {**result["val"], **idle}})
    assert "\n\nThe same predictions at 8.0%, all cases: baseline and focal; one of them did nothing.\n" in text


def test_the_page_has_the_section_only_with_a_sweep(result: dict) -> None:
    content = Content(Task("exclusive", ("mel", "nv"), ("mel",)))
    assert "Which arm for which severity" not in render(content) and summary(content)["sweeps"] == []
    swept = replace(content, sweeps=(result,))
    page = render(swept)
    assert "Which arm for which severity" in page and "sensitivity at 90% specificity" in page
    told = summary(swept)["sweeps"][0]
    assert (told["class"], told["part"], len(told["verdicts"])) == ("mel", "val", 3)


def test_an_opened_test_part_takes_the_place_of_validation(result: dict) -> None:
    test = {**result["val"], "part": "test", "opening": 1}
    made = severity({**result, "test": test})
    assert isinstance(made, Figure) and made.caption.startswith("On the test part")
    text = markdown({**result, "test": test})
    assert text.index("## On the test part") < text.index("## On the validation part")
    assert "opening 1 of the test part" in text
