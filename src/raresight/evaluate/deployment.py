"""What recall and specificity mean where the model is used: alarms, misses, predictive values at a prevalence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from raresight.evaluate.cost import alarms_per_1000, npv, ppv
from raresight.evaluate.intervals import Interval

METHOD = "bounds of recall and specificity together (conservative)"
MISSES = "bounds of recall"
Triple = tuple[float, float, float]


def deployment(recall: Interval, specificity: Interval, prevalence: float) -> dict[str, Triple]:
    """Five figures at the prevalence π of a place, each as `(value, low, high)`.

    `ppv` Se π / (Se π + (1-Sp)(1-π)); `npv` Sp(1-π) / (Sp(1-π) + (1-Se)π); `number_needed_to_read` 1/PPV, the alarms
    that a reader opens for each one that is right; `alarms_per_1000` 1000 (Se π + (1-Sp)(1-π)); `misses_per_100000`
    100,000 π (1-Se).

    All five are monotone in Se and in Sp, so each bound is taken at the bounds of both, in the worse direction for
    `low` of a predictive value. Where both intervals hold, the figure's does: at least 90% of the time by Bonferroni,
    and about 95% or more in practice: where one of the two hardly matters, the other's 95% is left. Misses rest on
    recall alone and keep its 95%. π itself is taken as known.

    `prevalence` in (0, 1). NaN for what is undefined: no recall or specificity (an absent class), no alarm at all. A
    bound may be infinite: where a PPV of 0 is not excluded, no number of reads is.

    Source: Vickers & Elkin 2006 for the use of rates at another prevalence; Bayes' theorem.
    """
    se, sp = recall, specificity
    return {
        "ppv": _between(ppv, (se.value, sp.value), (se.low, sp.low), (se.high, sp.high), prevalence),
        "npv": _between(npv, (se.value, sp.value), (se.low, sp.low), (se.high, sp.high), prevalence),
        "number_needed_to_read": _reads(
            _between(ppv, (se.value, sp.value), (se.low, sp.low), (se.high, sp.high), prevalence)
        ),
        "alarms_per_1000": _between(
            alarms_per_1000, (se.value, sp.value), (se.low, sp.high), (se.high, sp.low), prevalence
        ),
        "misses_per_100000": (
            misses_per_100000(se.value, prevalence),
            misses_per_100000(se.high, prevalence),
            misses_per_100000(se.low, prevalence),
        ),
    }


def over_prevalence(recall: Interval, specificity: Interval, prevalences: Iterable[float]) -> list[dict[str, Any]]:
    """`deployment` at each of several prevalences: rows with `prevalence` and the five figures."""
    return [{"prevalence": float(at), **deployment(recall, specificity, float(at))} for at in prevalences]


def misses_per_100000(recall: float, prevalence: float) -> float:
    """Cases that are missed among 100,000 examinations: 100,000 π (1 - Se)."""
    return 100_000 * prevalence * (1 - recall)


def _between(
    figure: Callable[[float, float, float], float],
    value: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
    prevalence: float,
) -> Triple:
    found = figure(*value, prevalence)
    if math.isnan(found):
        return math.nan, math.nan, math.nan
    ends = figure(*low, prevalence), figure(*high, prevalence)
    # Without any alarm (Se 0, Sp 1) at a bound, a predictive value is undefined there: nothing is excluded.
    return found, 0.0 if math.isnan(ends[0]) else ends[0], 1.0 if math.isnan(ends[1]) else ends[1]


def _reads(values: Triple) -> Triple:
    value, low, high = values
    if math.isnan(value):
        return values
    return _inverse(value), _inverse(high), _inverse(low)


def _inverse(share: float) -> float:
    return 1 / share if share > 0 else math.inf
