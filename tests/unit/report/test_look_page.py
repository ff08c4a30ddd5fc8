"""look.html and the report's section: the verdict first, in words that follow from the rows, and nobody's name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_look
import pytest

from raresight.core.run import StudyFolder
from raresight.report.content import Content
from raresight.report.figures.style import Figure
from raresight.report.look_page import write_look_page
from raresight.report.look_rows import Look
from raresight.report.look_section import look_lead
from raresight.report.look_tables import look_tables, made_how, metric_told
from raresight.report.look_text import (
    beyond_chance,
    chance_table,
    counted,
    headline,
    in_numbers,
    noteworthy,
    verdict_grid,
    what_it_cannot_say,
)
from raresight.report.sections import sections


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("explain")
    explain = fake_look.with_pictures(fake_look.made_up(("base <b>line", "focal", "ldam")), folder, side=24)
    return write_look_page(explain, folder).read_text(encoding="utf-8")


def judged(*flags: str | None, greyed: tuple[str, ...] = ()) -> Look:
    """One arm `m` against `b`, a class for each flag."""
    classes = [{"name": f"c{i}", "n_train": 10 + i, "n_regions": 20} for i in range(len(flags))]
    rows = [{"metric": "verdict", "arm": "m", "class": f"c{i}", "verdict": flag, "reason": f"why {i}"}
            for i, flag in enumerate(flags)]  # fmt: skip
    gate = [{"metric": "gate", "arm": arm, "greyed": True, "reason": "it failed"} for arm in greyed]
    return Look({"arms": ["b", "m"], "baseline": "b", "seeds": [0, 1], "classes": classes,
                 "tables": {"verdict": rows, "gate": gate}})  # fmt: skip


WORSE, SAME, FINE, FEW = "better score, worse look", "same score, different model", "consistent", "too few to tell"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((SAME, WORSE, FEW, SAME), "In 1 of 4 comparisons a better score came with a worse look. Do not trust it yet."),
        ((SAME, FINE, FEW, SAME), "In 2 of 4 comparisons no difference in score was shown, but one in look."),
        (
            (FINE, FEW),
            "In 1 of 2 comparisons there was enough to judge by, and none of them showed an arm that looks "
            "elsewhere than its score suggests. "
            "That does not make the arms equal.",
        ),
        ((FEW, FEW), "Too few patients, regions or seeds to tell whether any arm looks elsewhere."),
        ((None, None), "The maps did not pass the check, so nothing is said about where the models look."),
        ((), "No arm could be compared with the baseline."),
    ],
)
def test_the_gravest_verdict_makes_the_headline(flags: tuple[str | None, ...], said: str) -> None:
    assert headline(judged(*flags)) == said


def test_every_comparison_is_counted_once_the_gravest_first() -> None:
    look = judged(FINE, SAME, None, WORSE, SAME)
    assert list(counted(look).items()) == [(WORSE, 1), (SAME, 2), (FINE, 1), ("maps not trusted", 1)]
    assert in_numbers(look).startswith(
        "1 arm against b, 5 classes: 1 better score, worse look, 2 same score, different model, 1 consistent and "
        "1 maps not trusted."
    )
    assert noteworthy(look) == [
        f"m, c3: {WORSE}: why 3.", f"m, c1: {SAME}: why 1.", f"m, c4: {SAME}: why 4."
    ]  # fmt: skip
    grid = verdict_grid(look)
    assert grid is not None and [row.cells[1] for row in grid.rows] == [FINE, SAME, "maps not trusted", WORSE, SAME]
    assert len(noteworthy(judged(*[SAME] * 15))) == 13 and noteworthy(judged(*[SAME] * 15))[-1].startswith("and 3 more")


def test_one_arm_is_compared_with_nothing() -> None:
    look = Look(fake_look.almost_empty())
    assert headline(look) == "Only plain was looked into, so nothing is compared."
    assert verdict_grid(look) is None and chance_table(look) is None and look_tables(look) == {}
    assert "nobody drew" in beyond_chance(look)
    assert "One seed: how much of a difference is chance in training is not known." in what_it_cannot_say(look)


def test_whether_the_baseline_looks_at_findings_at_all() -> None:
    rows = [
        {"metric": "beyond_chance", "arm": arm, "class": name, "value": value, "verdict": verdict, "seed": None}
        for arm, name, value, verdict in (
            ("b", "x", 0.4, "beyond chance"), ("b", "y", 0.0, "not shown"), ("b", "z", None, None),
            ("m", "x", 0.5, "not shown"),
        )
    ]  # fmt: skip
    classes = [{"name": name, "n_train": i} for i, name in enumerate("xyz")]
    look = Look({"arms": ["b", "m"], "baseline": "b", "classes": classes, "tables": {"verdict": rows}})
    assert beyond_chance(look).endswith("? Beyond chance for x; not shown for y; too few to tell for z.")
    made = chance_table(look)
    assert made is not None
    assert [(row.cells[0], row.cells[1], row.cells[3], row.mark) for row in made.rows] == [
        ("x", "b", "beyond chance", "strong"),
        ("x", "m", "not shown", ""),
        ("y", "b", "not shown", ""),
        ("z", "b", "too few to tell", "wide"),
    ]


def test_limits_name_what_is_peculiar_to_the_study() -> None:
    look = judged(FINE, FINE, FINE, greyed=("m",))
    classes = [{"name": "c0", "n_regions": 0}, {"name": "c1", "n_regions": 9}, {"name": "c2", "n_regions": 10}]
    said = what_it_cannot_say(Look({**look.data, "classes": classes, "limits": ["One reader."]}))
    assert said[0] == "m: it failed. Nothing that rests on its maps may be read."
    assert said[1] == "Nobody drew regions of c0: where models look for them is not measured."
    assert said[2] == "Fewer than ten regions of c1: shown, but without an interval."
    assert said[3] == "One reader."
    lower = what_it_cannot_say(Look({**look.data, "limits": ["one set of images"]}))
    assert "One set of images." in lower


def test_tables_show_the_pooled_rows_of_the_method_and_say_where_the_rest_is() -> None:
    row = {"metric": "mass_corrected", "arm": "b", "class": "x", "value": 0.2, "layer": "l4", "seed": None}
    shown = row | {"method": "grad_cam"}
    rows = [shown, row | {"method": "hires_cam"}, shown | {"cases": "missed"}, shown | {"seed": 0}]
    choices = {"method": "grad_cam", "q": 0.005, "tau": [{"a": 1}]}
    data = {"arms": ["b"], "classes": [{"name": "x"}], "choices": choices,
            "tables": {"alignment": rows}, "layers": [{"name": "l1"}, {"name": "l4"}], "seeds": [0]}  # fmt: skip
    made = look_tables(Look(data))["T2 Alignment with the drawn regions"]
    assert len(made.rows) == 1 and made.note.endswith(" 1 of 3 rows; all in tables/T2_alignment.csv.")
    assert made.rows[0].cells[:5] == ("share of the map inside, beyond chance", "x", "b", "l4", "0.20 (no interval)")
    assert metric_told("hit_skill") == "hit rate, over the usual place" and metric_told("odd_one") == "odd one"
    assert [row.cells for row in made_how(Look(data)).rows] == [
        ("kind of map", "Grad-CAM"), ("share of places where a unit counts as answering", "0.005"),
        ("where maps are cut for the overlap", "1 values, in explain.json"), ("layers", "l1, l4"), ("seeds", "0"),
    ]  # fmt: skip


def test_the_page_is_one_file_that_fetches_nothing_and_names_nobody(page: str) -> None:
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "SECRET" not in page and "base <b>line" not in page and "base &lt;b&gt;line" in page
    assert page.index("a better score" if "a better score" in page else "no difference in score") < page.index("<nav")
    assert page.index("This page holds pictures of patients") < page.index("<nav")
    assert "ldam: maps hardly change when the weights are random" in page
    for heading in (
        "Score against look",
        "Single cases",
        "What this cannot say",
        "How it was made",
        "Beyond chance or not",
    ):
        assert f"<h2>{heading}</h2>" in page, heading
    assert page.count("How to read it.") == page.count("What it cannot say.") == 7
    assert page.count('role="img" aria-label=') >= 8


def test_the_key_to_the_cases_lies_beside_the_page(tmp_path: Path) -> None:
    explain = fake_look.with_pictures(fake_look.made_up(("b", "m")), tmp_path, side=16)
    path = write_look_page(explain, tmp_path)
    key = (tmp_path / "cases_key.csv").read_text().splitlines()
    assert path == tmp_path / "look.html"
    assert key[:2] == ["pseudonym,case,patient", "mel-1,SECRET_0,P1"] and len(key) == 7


def test_an_almost_empty_page_tells_what_is_not_there(tmp_path: Path) -> None:
    text = write_look_page(fake_look.almost_empty(), tmp_path).read_text(encoding="utf-8")
    assert "What could not be shown" in text and "pictures of patients" not in text
    assert "<b>Score against look</b>: not computed, because nobody drew where the findings lie." in text
    assert not (tmp_path / "cases_key.csv").exists() and 'id="tables"' not in text


def section(content: Content) -> Any:
    return next(one for one in sections(content) if one.key == "saliency")


def test_the_report_says_how_to_look_where_nobody_did(unopened: Content) -> None:
    assert section(unopened).absent == (
        "not computed, because the networks were not looked into; run `raresight explain quick`"
    )
    assert section(unopened).lead == ""


def test_the_report_shows_the_verdict_and_no_picture(unopened: Content) -> None:
    explain = fake_look.made_up(("baseline", "focal", "ldam"))
    shown = section(replace(unopened, explain=explain))
    assert shown.lead == look_lead(explain) and shown.lead.startswith(headline(Look(explain)))
    assert "ldam is drawn in grey" in shown.lead and "explain/look.html" in shown.lead
    assert [item.title for item in shown.items[:3]] == [
        "The verdict, class by class", "Beyond chance or not", "Score against look"
    ]  # fmt: skip
    assert sum(isinstance(item.figure, Figure) for item in shown.items) == 5
    assert all("image/jpeg" not in item.figure.svg for item in shown.items if item.figure)


def test_a_studys_explain_json_is_read_and_hashed(tmp_path: Path) -> None:
    import fake_study

    from raresight.core.files import write_json
    from raresight.report.gather import from_study

    study: StudyFolder = fake_study.make(tmp_path / "s", arms=("baseline",), opened=False, quick=True)
    write_json(study.explained, fake_look.almost_empty())
    content = from_study(study)
    assert content.explain == fake_look.almost_empty() and "explain/explain.json" in content.files


def test_the_check_stands_first_for_each_kind_of_map_and_layer() -> None:
    gate = {"metric": "gate", "arm": "b", "value": 1.0, "verdict": "maps pass", "seed": None}
    gain = {"metric": "deletion_gain", "arm": "b", "value": 0.1, "layer": "l4", "method": "grad_cam", "seed": None}
    kinds = [{"layer": layer, "method": method} for layer in ("l2", "l4") for method in ("grad_cam", "hires_cam")]
    data = {"arms": ["b"], "choices": {"method": "grad_cam"},
            "tables": {"gate": [gain, *(gate | kind for kind in kinds)]}}  # fmt: skip
    made = look_tables(Look(data))["T5 The check of the maps"]
    assert [(row.cells[0], row.cells[3]) for row in made.rows] == [
        ("check with random weights", "l2, Grad-CAM"), ("check with random weights", "l2, HiResCAM"),
        ("check with random weights", "l4, Grad-CAM"), ("check with random weights", "l4, HiResCAM"),
        ("logit lost with what the map shows, beyond a random order", "l4, Grad-CAM"),
    ]  # fmt: skip
