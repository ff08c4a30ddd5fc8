"""Cost curves: what a model costs over every mixture of prevalence and prices, against never looking."""

from __future__ import annotations

from typing import Any

import numpy as np

from raresight.evaluate.ranking import roc_points, steps

Points = tuple[np.ndarray, np.ndarray]


def weight_of_misses(prevalence: Any, missed: Any) -> Any:
    """The abscissa of a cost curve: x = π C / (π C + 1 - π), C the price of a miss in false alarms.

    In (0, 1): near 0 only false alarms count, near 1 only misses do.
    Source: Drummond & Holte, Machine Learning 65 (2006) 95, eq. 4.
    """
    return prevalence * missed / (prevalence * missed + 1 - prevalence)


def cost_curve(target: np.ndarray, prob: np.ndarray, threshold: float) -> Points:
    """The cost of one threshold over all weights of misses: the line y = FNR x + FPR (1-x).

    In units of the dearest possible (every case wrong); below min(x, 1-x) it beats "always" and "never".

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)`. Returns x and y, `(2,)`; empty where the class, or its
    absence, is absent.

    Source: Drummond & Holte 2006, section 3.
    """
    yes, no = target == 1, target == 0
    if not yes.any() or not no.any():
        return np.zeros(0), np.zeros(0)
    alarm = np.asarray(prob) >= threshold
    return np.array([0.0, 1.0]), np.array([alarm[no].mean(), 1 - alarm[yes].mean()])


def lower_envelope(target: np.ndarray, prob: np.ndarray) -> Points:
    """The least cost that any threshold could have had, at each weight of misses: rising x from 0 to 1, and y.

    The lower hull of all lines, in its corners; the dual of the convex hull of the ROC curve. It knows the labels, so
    it is a bound and not an achievement. Empty where the class, or its absence, is absent.

    Source: Drummond & Holte 2006, section 4.
    """
    fpr, recall, _ = roc_points(target, prob)
    if not len(fpr):
        return np.zeros(0), np.zeros(0)
    hull: list[tuple[float, float]] = []
    for point in zip(fpr.tolist(), recall.tolist(), strict=True):
        while len(hull) > 1 and _turns_left(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    corner_fpr, fnr = np.array([h[0] for h in hull]), 1 - np.array([h[1] for h in hull])
    more, less = np.diff(corner_fpr), -np.diff(fnr)
    x = more / (more + less)  # where two neighbouring lines cross
    y = fnr[:-1] * x + corner_fpr[:-1] * (1 - x)
    # The first line is "never alarm" (from 0), the last "always" (to 1).
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [0.0]])


def brier_curve(target: np.ndarray, prob: np.ndarray, *, prevalence: float | None = None) -> Points:
    """The cost when the threshold follows the prices, as probabilities allow: t = 1/(1+C) at every weight of misses.

    y = FNR(t) x + FPR(t) (1-x) with x = π(1-t) / (π(1-t) + (1-π)t). Its distance from `lower_envelope` is what
    miscalibration costs. Drawn in the plane of `cost_curve`; over t instead of x, and in units of
    `net_benefit.brier_loss`, the area under it is the Brier score.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)` in [0, 1]; `prevalence` π (default: that of the data).
    Returns rising x and y, two points for each distinct probability (jumps included); empty where the class, or its
    absence, is absent.

    Source: Hernández-Orallo, Flach & Ferri, ICML 2011, section 3, there over cost proportions.
    """
    at = steps(target, prob)
    if not (at.positives > 0 and at.negatives > 0):
        return np.zeros(0), np.zeros(0)
    share = at.positives / (at.positives + at.negatives) if prevalence is None else prevalence
    fnr = 1 - np.append(0.0, at.tp) / at.positives
    fpr = np.append(0.0, at.fp) / at.negatives
    ends = np.stack([np.append(1.0, at.score), np.append(at.score, 0.0)], axis=1)  # of t, for each step
    t = ends.ravel()
    x = share * (1 - t) / (share * (1 - t) + (1 - share) * t)
    return x, np.repeat(fnr, 2) * x + np.repeat(fpr, 2) * (1 - x)


def _turns_left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the chord from a to c: no corner of an upper hull."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0
