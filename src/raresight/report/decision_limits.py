"""What limits decisions: probabilities that mislead, sets that hold less than was promised, prices nobody stated."""

from __future__ import annotations

from raresight.evaluate.calibration_verdict import poorly_calibrated
from raresight.report.content import ArmResult, Content
from raresight.report.limitation import Limitation
from raresight.report.words import class_name, listing


def decision_limits(content: Content, arm: ArmResult) -> list[Limitation]:
    """All of them for the arm that is shown; none where nothing is known of probabilities, sets or prices."""
    return [*_probabilities(content, arm), *_sets(content, arm), *_unstated(content)]


def _probabilities(content: Content, arm: ArmResult) -> list[Limitation]:
    """Watched classes whose probabilities mislead, by the rule of the section on reliability."""
    shown = [row for row in arm.estimates if row.seed == arm.shown_seed]
    poor = poorly_calibrated(shown, rarer_than=1)
    told = [f"{class_name(name)}: {poor[name]}" for name in content.watched if name in poor]
    if not told:
        return []
    return [
        Limitation(
            "poorly_calibrated",
            38,
            f"Probabilities of {listing([class_name(name) for name in content.watched if name in poor])} mislead.",
            f"{'; '.join(told)}. Trust ranks and alarms rather than probabilities.",
        )
    ]


def _sets(content: Content, arm: ArmResult) -> list[Limitation]:
    """Classes that conformal sets hold less often than promised, with certainty."""
    promised = 1 - float((arm.operating.get("conformal") or {}).get("miscoverage", 0.1))
    found = {name: arm.find("conformal_coverage", name) for name in content.task.classes}
    short = [class_name(n) for n, e in found.items() if e is not None and e.high is not None and e.high < promised]
    if not short:
        return []
    return [
        Limitation(
            "sets_fall_short",
            30,
            f"The sets of classes hold {listing(short)} less often than promised.",
            "New patients differ from those that the sets were fitted on.",
        )
    ]


def _unstated(content: Content) -> list[Limitation]:
    """Critical classes without a price of being missed, watched ones without a prevalence in use."""
    found = []
    unpriced = [class_name(name) for name in content.task.critical if name not in content.missed]
    if unpriced:
        found.append(
            Limitation(
                "no_price",
                14,
                f"Nobody stated what missing {listing(unpriced, 'or')} costs.",
                "Thresholds then follow a rule of thumb (Youden) or a floor, and costs shown are examples.",
            )
        )
    unknown = [class_name(name) for name in content.watched if name not in content.prevalence]
    if unknown:
        found.append(
            Limitation(
                "no_prevalence",
                13,
                f"The prevalence of {listing(unknown)} where the model will be used was not stated.",
                "Alarms and predictive values hold at that of these data; collections are seldom like practice.",
            )
        )
    return found
