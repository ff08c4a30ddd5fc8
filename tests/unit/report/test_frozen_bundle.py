"""Acceptance is asked of the frozen bundle where there is one, and page one says when it was frozen."""

from __future__ import annotations

from dataclasses import replace

from raresight.core.estimate import Estimate
from raresight.report.answers import acceptance, acceptance_note, may_conclude, may_not_conclude, opening_status
from raresight.report.content import ArmResult, Content, FrozenResult
from raresight.report.limitations import limitations
from tests.unit.report.test_answers import TASK, made

LINE = {"opening": 1, "time": "2026-01-02T00:00:00+00:00", "reason": "first opening"}
BUNDLE = FrozenResult("b", "f" * 64, (0,), "2026-01-01T00:00:00+00:00", 0, (made("recall", 0.9, 0.86, 0.96),))


def content(**more: object) -> Content:
    """An arm that misses its criterion (0.5 to 0.7), beside a bundle that meets it (0.86 to 0.96)."""
    arm = ArmResult("a", estimates=(made("recall", 0.6, 0.5, 0.7),))
    accept = {"rare": {"sensitivity_low": 0.85}}
    return Content(task=TASK, part="test", arms=(arm,), accept=accept, ledger=(LINE,), **more)  # type: ignore[arg-type]


def verdict(shown: Content) -> str:
    return acceptance(shown)[0].verdict


def test_the_bundle_is_judged_and_not_the_arm() -> None:
    assert verdict(content()) == "not met" and verdict(content(frozen=BUNDLE)) == "met"
    wide = replace(BUNDLE, estimates=(made("recall", 0.9, 0.6, 0.98),))
    assert verdict(content(frozen=wide)) == "cannot be shown with so few patients"
    assert verdict(content(frozen=replace(BUNDLE, estimates=(), reason="late"))) == "cannot be shown"


def test_page_one_says_when_it_was_frozen() -> None:
    assert "may still change" in acceptance_note(content())
    before = acceptance_note(content(frozen=BUNDLE))
    assert "seed 0" in before and "2026-01-01" in before and "before the test part was opened" in before
    late = acceptance_note(content(frozen=replace(BUNDLE, openings_before=2, reason="it was not judged there")))
    assert "2 times: second-stage validation; it was not judged there." in late
    several = acceptance_note(content(frozen=replace(BUNDLE, seeds=(0, 1))))
    assert "mean of seeds 0, 1" in several
    assert acceptance_note(replace(content(), ledger=None)) == ""  # `score` knows no bundle


def test_an_external_page_speaks_of_its_site() -> None:
    recall = Estimate(metric="recall", class_="rare", value=0.9, low=0.86, high=0.95, operating_point="frozen")
    arm = ArmResult("b", estimates=(recall,))
    shown = Content(task=TASK, part="external", arms=(arm,), site="Vienna", accept={"rare": {"sensitivity_low": 0.85}})
    assert opening_status(shown)[0] == "External validation" and verdict(shown) == "met"
    assert "unchanged, at Vienna" in acceptance_note(shown)
    assert "Vienna" in " ".join(may_conclude(shown)) and "any site but Vienna" in " ".join(may_not_conclude(shown))
    external = next(one for one in limitations(shown) if one.key == "external_validation")
    assert external.short == "External data of one site alone, Vienna."
