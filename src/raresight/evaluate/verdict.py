"""From a value and its bounds to an estimate that says whether it may be read: ok, wide, or not estimable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.evaluate.deployment import METHOD, deployment
from raresight.evaluate.intervals import Interval, rate

WIDE_HALF_WIDTH = 0.15
FITTED_HERE = "the calibrator was fitted on this same part: optimistic"
CHOSEN_HERE = "the threshold was chosen on this same part: optimistic"


def from_interval(row: Estimate, interval: Interval, reason: str, needs_positives: bool) -> Estimate:
    """The interval as an estimate; `reason` is why there is none, where there is none."""
    if math.isnan(interval.value):
        return not_estimable(replace(row, method=interval.method), reason or "no case to count")
    made = replace(row, value=interval.value, low=interval.low, high=interval.high, method=interval.method)
    return judged(made, needs_positives)


def judged(row: Estimate, needs_positives: bool) -> Estimate:
    """`wide` where the interval or the patients behind it are too few to conclude from, and by which rule."""
    assert row.low is not None and row.high is not None
    reasons = [row.reason] if row.reason else []
    small = few(row) if needs_positives else ""
    half = (row.high - row.low) / 2
    if half > WIDE_HALF_WIDTH:
        reasons.append(f"interval of ±{half:.2f}, wider than ±{WIDE_HALF_WIDTH}")
    wide = bool(small) or half > WIDE_HALF_WIDTH
    return replace(row, status="wide" if wide else "ok", reason="; ".join(filter(None, [small, *reasons])))


def few(row: Estimate) -> str:
    """Why so few positive patients make a figure `wide`, or nothing."""
    n = row.n_positive_patients
    return f"{n} positive patients, fewer than {FEW_POSITIVE_PATIENTS}" if n and n < FEW_POSITIVE_PATIENTS else ""


def not_estimable(row: Estimate, reason: str) -> Estimate:
    """The same row without any number, and why."""
    return replace(row, value=None, low=None, high=None, status="not_estimable", reason=reason)


def frank(row: Estimate) -> Estimate:
    """The row, which says so where its threshold was chosen on the very cases that it judges."""
    if row.operating_point != "tuned" or row.part == "test":
        return row
    return replace(row, reason="; ".join(filter(None, [row.reason, CHOSEN_HERE])))


def over_classes(row: Estimate, over: str, smallest: int) -> Estimate:
    """A macro figure that says over which classes it runs and how many patients its rarest class has."""
    small = f"rarest class: {smallest} positive patients" if over and 0 < smallest < FEW_POSITIVE_PATIENTS else ""
    return replace(row, reason="; ".join(filter(None, [over, small, row.reason])))


def deployed(
    row: Estimate, recall: Interval, specificity: Interval, prevalence: float, alarm: np.ndarray, patient: np.ndarray
) -> list[Estimate]:
    """Alarms per 1,000 cases, and PPV, at a deployment prevalence; without one, the alarms of the part itself."""
    alarms = replace(row, metric="alarms_per_1000")
    if math.isnan(prevalence):
        share = rate(alarm, patient)
        if not share.n_images:
            return [not_estimable(alarms, "no label of the class is known")]
        made = replace(alarms, value=1000 * share.value, low=1000 * share.low, high=1000 * share.high)
        return [replace(made, method=share.method, reason="at the prevalence of this part")]
    alarms = replace(alarms, prevalence=prevalence)
    found = replace(row, metric="ppv_at_prevalence", prevalence=prevalence)
    if math.isnan(recall.value) or math.isnan(specificity.value):
        reason = "recall or specificity cannot be estimated"
        return [not_estimable(alarms, reason), not_estimable(found, reason)]
    note = f"at a deployment prevalence of {prevalence:g}"
    follows = deployment(recall, specificity, prevalence)
    alarms, found = (replace(one, method=METHOD, reason=note) for one in (alarms, found))
    value, low, high = follows["alarms_per_1000"]
    rows = [replace(alarms, value=value, low=low, high=high)]
    value, low, high = follows["ppv"]
    if math.isnan(value):
        return [*rows, not_estimable(found, "no case alarms for the class")]
    return [*rows, judged(replace(found, value=value, low=low, high=high), True)]
