"""The table on synthetic cases: its figures, its advice by severity, and its warning."""

from __future__ import annotations

from dataclasses import replace

from raresight.core.task import Task
from raresight.report.content import ArmResult, Content
from raresight.report.limitations import limitations
from raresight.report.page import render
from raresight.report.sections import sections
from raresight.report.synthetic import synthetic_cases, unsafe, warning


def row(name: str, synthetic: float, error: float = 0.0) -> dict[str, object]:
    return {
        "class": name,
        "n_real": 12,
        "n_synthetic": 1340,
        "unsafe_before": 0.25,
        "unsafe_synthetic": synthetic,
        "unsafe_after": 0.42,
        "k": 5,
        "standard_error": error,
    }


def content(*arms: ArmResult) -> Content:
    classes = [{"name": "common", "prevalence": 0.975}, {"name": "moderate", "prevalence": 0.02}]
    classes += [{"name": "extreme", "prevalence": 0.005}]
    task = Task("exclusive", ("common", "moderate", "extreme"))
    return Content(task, arms=arms, baseline="baseline", audit={"classes": classes})


PLAIN = ArmResult("baseline")
SMOTE = ArmResult("smote", facts={"safety": [row("moderate", 0.5), row("extreme", 0.51)]})


def test_a_row_for_each_arm_and_class_with_advice_by_severity() -> None:
    made = synthetic_cases(content(PLAIN, SMOTE))
    assert made is not None
    extreme, moderate = made.rows
    assert extreme.cells[:7] == ("smote", "extreme", "12", "1,340", "25%", "51%", "42%")
    assert moderate.cells[:7] == ("smote", "moderate", "12", "1,340", "25%", "50%", "42%")
    assert moderate.cells[7].startswith("Low risk, moderate gain")
    assert " High risk" in extreme.cells[7]
    assert "Borderline-SMOTE" in extreme.cells[7]
    assert extreme.cells[7].startswith("Most synthetic cases lie among other classes")
    assert (extreme.mark, moderate.mark) == ("wide", "")
    assert "most of its 5 nearest real cases" in made.note
    assert "standard error" not in made.note
    assert len({len(line.cells) for line in made.rows} | {len(made.head)}) == 1


def test_without_an_audit_there_is_no_advice_by_severity() -> None:
    made = synthetic_cases(replace(content(PLAIN, SMOTE), audit=None))
    assert made is not None
    extreme, moderate = made.rows
    if extreme.cells[1] != "extreme":
        extreme, moderate = moderate, extreme
    assert extreme.cells[7] == "Most synthetic cases lie among other classes: they teach the head wrong labels."
    assert moderate.cells[7] == "–"


def test_more_than_half_is_a_warning_and_half_is_none() -> None:
    page = content(PLAIN, SMOTE)
    assert [(arm, found["class"]) for arm, found in unsafe(page)] == [("smote", "extreme")]
    (said,) = [one for one in limitations(page) if one.key.startswith("unsafe_synthetic")]
    assert said.key == "unsafe_synthetic:smote:extreme"
    assert said.short == "51% of the synthetic cases of extreme in the arm smote lie among other classes."
    assert said.short == warning(*unsafe(page)[0])


def test_a_sample_says_its_error_and_arms_keep_their_order() -> None:
    later = replace(SMOTE, name="adasyn", facts={"safety": [row("extreme", 0.1, 0.011)]})
    made = synthetic_cases(content(SMOTE, later))
    assert made is not None
    assert [line.cells[:2] for line in made.rows] == [
        ("smote", "extreme"),
        ("smote", "moderate"),
        ("adasyn", "extreme"),
    ]
    assert "standard error is at most 1.1%" in made.note


def test_without_synthetic_cases_the_section_says_why(opened: Content) -> None:
    assert synthetic_cases(content(PLAIN)) is None
    (section,) = [s for s in sections(opened) if s.key == "safety"]
    assert "no arm shown here recorded synthetic cases" in section.items[0].absent


def test_the_page_shows_table_and_warning(opened: Content) -> None:
    hybrid = replace(opened.arms[-1], facts={"safety": [row("df", 0.8), row("mel", 0.2)]})
    page = render(replace(opened, arms=(*opened.arms[:-1], hybrid)))
    assert "Are the synthetic cases safe?" in page
    assert "Unsafe synthetic" in page
    assert "80% of the synthetic cases of dermatofibroma in the arm hybrid lie among other classes." in page
