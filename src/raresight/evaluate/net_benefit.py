"""Net benefit: found cases less false alarms, weighed by the probability at which one would want to be alarmed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from raresight.evaluate.intervals import Interval
from raresight.evaluate.threshold_rates import rates_at

METHOD = "bounds of recall and specificity, recovered (MOVER)"


def net_benefit(recall: Any, specificity: Any, prevalence: Any, threshold: Any) -> Any:
    """Cases found per case seen, less false alarms at their exchange rate: Se π - (1-Sp)(1-π) t/(1-t).

    t in (0, 1) is the probability at which an alarm is worth it: 1/(1 + C) where a miss costs C false alarms. At most
    π; 0 for "never alarm"; `treat_all` for "always". Not comparable *across* thresholds: see `brier_loss`.

    Source: Vickers & Elkin, Medical Decision Making 26 (2006) 565, p. 567.
    """
    return recall * prevalence - (1 - specificity) * (1 - prevalence) * threshold / (1 - threshold)


def treat_all(prevalence: float, threshold: float) -> float:
    """The net benefit of alarming for every case: π - (1-π) t/(1-t), 0 at t = π."""
    return float(net_benefit(1.0, 0.0, prevalence, threshold))


def brier_loss(recall: Any, specificity: Any, prevalence: Any, threshold: Any) -> Any:
    """The loss at t whose mean over all t is the Brier score: 2 [(1-t) π (1-Se) + t (1-π)(1-Sp)].

    NB = π - loss / (2 (1-t)), so at one t both rank models alike. Over several t only differences of this loss are in
    one unit: 1/(1-t) makes a difference at t = 0.9 nine times as large as the same loss at 0.1.

    In [0, 1].
    Source: Hernández-Orallo, Flach & Ferri, ICML 2011, eq. 4; Millard & Flach 2025 for the comparison over thresholds.
    """
    return 2 * ((1 - threshold) * prevalence * (1 - recall) + threshold * (1 - prevalence) * (1 - specificity))


def benefit_interval(recall: Interval, specificity: Interval, prevalence: float, threshold: float) -> Interval:
    """Net benefit with bounds made of those of recall and specificity, which come from different patients.

    With a = π, b = (1-π) t/(1-t): NB ± sqrt(a² (Se - bound)² + b² (Sp - bound)²), both bounds low for the lower one,
    high for the upper one. Keeps what the two intervals know of few patients and of clusters. NaN for an absent class.

    Source: Zou & Donner, Statistics in Medicine 27 (2008) 1693, eq. 3 (a linear combination).
    """
    value = float(net_benefit(recall.value, specificity.value, prevalence, threshold))
    a, b = prevalence, (1 - prevalence) * threshold / (1 - threshold)
    down = math.hypot(a * (recall.value - recall.low), b * (specificity.value - specificity.low))
    up = math.hypot(a * (recall.high - recall.value), b * (specificity.high - specificity.value))
    return Interval(value, value - down, value + up, METHOD, recall.n_patients, recall.n_images)


def decision_curve(
    target: np.ndarray,
    prob: np.ndarray,
    patient: np.ndarray,
    thresholds: Iterable[float],
    *,
    prevalence: float | None = None,
) -> list[dict[str, Any]]:
    """Net benefit of alarming at `prob >= t`, for each t, with its interval.

    Rows of `threshold, net_benefit, low, high, treat_all, treat_none` (0), `brier_loss, brier_loss_low,
    brier_loss_high` and `recall, specificity`. The band is pointwise 95%, made by `benefit_interval` of the intervals
    that `intervals.rate` gives recall and specificity; the loss is 2 (1-t) (π - NB), bounds and all. A bootstrap of
    patients would be sure of itself wherever all cases are found or nothing alarms.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)` calibrated, `patient` `(N,)` any labels, `thresholds` in
    (0, 1); `prevalence` (default: that of the data) is taken as known. An absent class, or one that every case has,
    gives no rows.

    Source: Vickers & Elkin 2006; Zou & Donner 2008 for the interval.
    """
    at = np.array([float(t) for t in thresholds])
    yes, no = target == 1, target == 0
    if not yes.any() or not no.any():
        return []
    share = float(yes.sum() / (yes.sum() + no.sum())) if prevalence is None else float(prevalence)
    found, alarms = (rates_at(prob[cases], patient[cases], at) for cases in (yes, no))
    rows = []
    for j, t in enumerate(at):
        recall = Interval(found.value[j], found.low[j], found.high[j], "", found.n_patients, found.n_images)
        bounds = 1 - alarms.value[j], 1 - alarms.high[j], 1 - alarms.low[j]
        specificity = Interval(*bounds, "", alarms.n_patients, alarms.n_images)
        benefit = benefit_interval(recall, specificity, share, float(t))
        loss = float(brier_loss(recall.value, specificity.value, share, t))
        ends = [2 * (1 - t) * (share - bound) for bound in (benefit.high, benefit.low)]
        row = {"threshold": t, "net_benefit": benefit.value, "low": benefit.low, "high": benefit.high}
        row |= {"treat_all": treat_all(share, t), "treat_none": 0.0, "recall": recall.value}
        row |= {"specificity": specificity.value, "brier_loss": loss}
        row |= {"brier_loss_low": ends[0], "brier_loss_high": ends[1]}
        rows.append({name: float(value) for name, value in row.items()})
    return rows
