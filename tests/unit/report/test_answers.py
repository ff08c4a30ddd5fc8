"""The sentences of page one, held against figures worked by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from raresight.core.estimate import Estimate
from raresight.core.task import Task
from raresight.report.answers import acceptance, class_answers, may_conclude, opening_status
from raresight.report.content import ArmResult, Content
from raresight.report.limitations import limitations
from raresight.report.words import figure, listing, many, percent, points, share

TASK = Task("exclusive", ("rare", "common"), ("rare",))


def made(metric: str, value: float | None, low: float | None, high: float | None, **more: object) -> Estimate:
    status = "ok" if value is not None else "not_estimable"
    return Estimate(
        metric=metric, class_="rare", arm="a", seed=0, operating_point="frozen", value=value, low=low, high=high,
        prevalence=0.02, n_patients=500, n_positive_patients=40, n_images=600, status=status,
        reason="" if value is not None else "no case has it", **more,
    )  # type: ignore[arg-type]  # fmt: skip


def content(*estimates: Estimate, accept: Mapping[str, Mapping[str, float]] | None = None, **more: object) -> Content:
    arm = ArmResult("a", estimates=estimates)
    return Content(task=TASK, part="test", arms=(arm,), accept=accept or {}, **more)  # type: ignore[arg-type]


def test_alarms_per_1000_by_hand() -> None:
    """Se 0.9, Sp 0.95, prevalence 2%: 20 with it, 18 found; 980 without it, 49 false alarms; 67 in all."""
    answer = class_answers(content(made("recall", 0.9, 0.8, 0.96), made("specificity", 0.95, 0.93, 0.97)))[0]
    assert answer.found is not None and answer.found.text() == "90 (80–96)"
    assert answer.missed == 10
    assert answer.alarms is not None and answer.alarms.value == pytest.approx(67.0)
    assert answer.false_alarms is not None
    assert answer.false_alarms.value == pytest.approx(49.0)
    assert answer.false_alarms.low == pytest.approx(980 * 0.03)
    assert answer.false_alarms.high == pytest.approx(980 * 0.07)


def test_a_prevalence_in_use_replaces_that_of_the_data() -> None:
    """At 10% instead of 2%: 900 without it, 5% of them are 45 false alarms."""
    shown = content(made("recall", 0.9, 0.8, 0.96), made("specificity", 0.95, 0.93, 0.97), prevalence={"rare": 0.1})
    answer = class_answers(shown)[0]
    assert answer.assumed
    assert answer.false_alarms is not None and answer.false_alarms.value == pytest.approx(45.0)


def test_an_absent_class_has_no_figures() -> None:
    answer = class_answers(content(made("recall", None, None, None), made("specificity", 0.95, 0.93, 0.97)))[0]
    assert answer.found is None and answer.missed is None and answer.alarms is None
    assert answer.why == "no case has it"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.86, 0.96, "met"), (0.70, 0.84, "not met"), (0.80, 0.96, "cannot be shown with so few patients")],
)
def test_acceptance_asks_the_whole_interval(low: float, high: float, verdict: str) -> None:
    recall = made("recall", (low + high) / 2, low, high)
    (answer,) = acceptance(content(recall, accept={"rare": {"sensitivity_low": 0.85}}))
    assert answer.verdict == verdict


def test_acceptance_of_alarms_and_of_nothing_measured() -> None:
    alarms = made("alarms_per_1000", 67, 50, 90)
    recall, specificity = made("recall", 0.9, 0.8, 0.96), made("specificity", 0.95, 0.93, 0.97)
    wanted = {"rare": {"alarms_per_1000_max": 100.0}}
    assert acceptance(content(recall, specificity, alarms, accept=wanted))[0].verdict == "met"
    wanted = {"rare": {"alarms_per_1000_max": 40.0}}
    assert acceptance(content(recall, specificity, alarms, accept=wanted))[0].verdict == "not met"
    blank = acceptance(content(made("recall", None, None, None), accept={"rare": {"sensitivity_low": 0.8}}))[0]
    assert blank.verdict == "cannot be shown"
    assert blank.evidence == "no case has it"


def test_a_second_opening_is_second_stage_validation() -> None:
    line = {"opening": 1, "time": "2025-01-02T00:00:00+00:00", "reason": "first opening"}
    again = {"opening": 2, "time": "2025-02-03T00:00:00+00:00", "reason": "new arm"}
    shown = content(made("recall", 0.9, 0.8, 0.96), ledger=(line, again))
    status, meaning = opening_status(shown)
    assert status == "Second-stage validation"
    assert "opened 2 times (2025-01-02 and 2025-02-03); reason given: new arm" in meaning
    assert limitations(shown)[0].key == "test_reopened"


def test_limitations_follow_the_flags() -> None:
    keys = {one.key for one in limitations(content(made("recall", 0.9, 0.8, 0.96), group_by="lesion_id"))}
    assert {"external_validation", "clinical_evaluation", "one_seed", "group_for_patient"} <= keys
    assert "quick" not in keys
    inert = limitations(content(made("recall", 0.9, 0.8, 0.96), inert=(("a", "b"),)))
    assert any("a and b gave identical predictions" in one.short for one in inert)


def test_the_frozen_point_goes_before_the_default_one() -> None:
    frozen = made("recall", 0.9, 0.8, 0.96)
    default = Estimate(metric="recall", class_="rare", seed=0, operating_point="argmax", value=0.5, low=0.4, high=0.6)
    arm = ArmResult("a", estimates=(default, frozen))
    assert arm.find("recall", "rare") is frozen
    assert arm.find("recall", "rare", point="argmax") is default
    assert arm.find("recall", "common") is None


def test_numbers_in_words() -> None:
    assert percent(0.001) == "<1%" and percent(0.999) == ">99%" and percent(1.0) == "100%" and percent(0.0) == "0%"
    assert share(0.002) == "0.20%" and share(0.014) == "1.4%" and share(0.67) == "67%"
    assert points(0.123) == "+12" and points(-0.05) == "−5" and points(0.001) == "0"
    assert many(1, "lesion") == "1 lesion" and many(10015, "image") == "10,015 images"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert figure(made("recall", 0.9, 0.8, 0.96)) == "90% (80–96%)"
    assert figure(made("recall", None, None, None)) == "not estimable"
    assert figure(None) == "not computed"


def test_predictions_from_elsewhere_never_claim_that_no_choice_was_made() -> None:
    """`score` calls its files the test part, but without a ledger nobody knows what was chosen on them."""
    said = " ".join(may_conclude(content(made("recall", 0.9, 0.8, 0.96))))
    assert "no choice was made" not in said
    line = {"opening": 1, "time": "2025-01-02T00:00:00+00:00", "reason": "first opening"}
    assert "no choice was made" in " ".join(may_conclude(content(made("recall", 0.9, 0.8, 0.96), ledger=(line,))))
