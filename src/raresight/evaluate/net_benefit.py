"""Net benefit: found cases less false alarms, weighed by the probability at which one would want to be alarmed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.evaluate.bootstrap import blocks, percentile
from raresight.evaluate.intervals import Interval, loosened, reach

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
    resamples: int = 1000,
    names: Sequence[object] = (),
) -> list[dict[str, Any]]:
    """Net benefit of alarming at `prob >= t`, for each t, with a band from resampled patients.

    Rows of `threshold, net_benefit, low, high, treat_all, treat_none` (0), `brier_loss, brier_loss_low,
    brier_loss_high` and `recall, specificity`. The band is pointwise 95%: patients are drawn within the strata "has the
    class" and "has not", and below 10 positive patients it is opened by what so few cannot exclude of recall.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)` calibrated, `patient` `(N,)` any labels, `thresholds` in
    (0, 1); `prevalence` (default: that of the data) is taken as known. `names` seed the draws. An absent class, or one
    that every case has, gives no rows; without `resamples` bounds are None.

    Source: Vickers & Elkin 2006; Vickers et al., BMC Med. Inform. Decis. Mak. 8 (2008) 53 (bootstrap).
    """
    at = np.array([float(t) for t in thresholds])
    known = ~np.isnan(target)
    y, p = target[known] == 1, np.asarray(prob, dtype=np.float64)[known]
    if not y.any() or y.all():
        return []
    share = float(y.mean()) if prevalence is None else float(prevalence)
    _, who = np.unique(np.asarray(patient)[known].astype(str), return_inverse=True)
    step = np.searchsorted(np.sort(at), p, side="right")  # alarms at all thresholds below its own step
    rank = np.argsort(np.argsort(at, kind="stable"), kind="stable")
    cells = [_alarms(step[cases], who[cases], len(at), int(who.max()) + 1)[rank] for cases in (y, ~y)]
    counts = [np.bincount(who[cases], minlength=int(who.max()) + 1).astype(np.float64) for cases in (y, ~y)]
    recall, fpr = (cell.sum(axis=1) / n.sum() for cell, n in zip(cells, counts, strict=True))
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    if resamples:
        for times in blocks(counts[0] > 0, resamples, *names):
            weight = np.asarray(times, dtype=np.float64)
            # A resample of the patients with the class alone may lack cases without it: undefined, and left out.
            se, fp = (cell @ weight / _positive(n @ weight) for cell, n in zip(cells, counts, strict=True))
            drawn.append((se, fp))
    positives = int((counts[0] > 0).sum())
    loose = reach(positives) if positives < FEW_POSITIVE_PATIENTS else 0.0
    rows = []
    for j, t in enumerate(at):
        se, sp = float(recall[j]), float(1 - fpr[j])
        benefit, loss = float(net_benefit(se, sp, share, t)), float(brier_loss(se, sp, share, t))
        row: dict[str, Any] = {"threshold": float(t), "net_benefit": benefit, "low": None, "high": None}
        row |= {"treat_all": treat_all(share, t), "treat_none": 0.0, "recall": se, "specificity": sp}
        row |= {"brier_loss": loss, "brier_loss_low": None, "brier_loss_high": None}
        if drawn:
            far = np.concatenate([one[j] for one, _ in drawn]), np.concatenate([1 - other[j] for _, other in drawn])
            low, high, _ = percentile(net_benefit(*far, share, t))
            below, above, _ = percentile(brier_loss(*far, share, t))
            down, up = share * loose * se, share * loose * (1 - se)
            row["low"], row["high"] = loosened(benefit, min(low, benefit), max(high, benefit), down, up)
            factor = 2 * (1 - t)
            row["brier_loss_low"], row["brier_loss_high"] = loosened(
                loss, min(below, loss), max(above, loss), factor * up, factor * down
            )
        rows.append(row)
    return rows


def _alarms(step: np.ndarray, who: np.ndarray, n: int, patients: int) -> np.ndarray:
    """Cases of each patient at or above each threshold, lowest first, `(n, patients)`; `step` thresholds lie below."""
    reached = np.zeros((n + 1, patients))
    np.add.at(reached, (step, who), 1.0)
    return np.asarray(np.cumsum(reached[::-1], axis=0)[::-1][1:])


def _positive(total: np.ndarray) -> np.ndarray:
    return np.where(total > 0, total, np.nan)
