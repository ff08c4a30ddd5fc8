"""How well scores rank cases with a class above those without: areas, curves and points on them.

Every function takes one class: `target` `(N,)` of 0, 1 or NaN (unknown: left out), `score` `(N,)`, higher = more
likely, and optionally `weight` `(N,)` >= 0. Without a positive or without a negative there is nothing to rank: NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Recall where nine of ten cases without the class stay silent: a point of the ROC, so that no threshold is chosen.
RECALL_AT_90 = "recall_at_specificity_90"
NINE_OF_TEN = 0.90


@dataclass(frozen=True)
class Steps:
    """Counts at or above each distinct score, highest first: `score`, `tp`, `fp`, each `(T,)`."""

    score: np.ndarray
    tp: np.ndarray
    fp: np.ndarray

    @property
    def positives(self) -> float:
        return float(self.tp[-1]) if len(self.tp) else 0.0

    @property
    def negatives(self) -> float:
        return float(self.fp[-1]) if len(self.fp) else 0.0


def steps(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> Steps:
    """Walk down the scores, one step a distinct value, so that equal scores are never ranked by accident."""
    known = ~np.isnan(target)
    y, s = target[known], np.asarray(score, dtype=np.float64)[known]
    w = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)[known]
    order = np.argsort(-s, kind="stable")
    y, s, w = y[order], s[order], w[order]
    last = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.zeros(0, dtype=int)
    return Steps(s[last], np.cumsum(w * y)[last], np.cumsum(w * (1 - y))[last])


def auroc(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The chance that a case with the class scores above one without it; a tie counts half.

    P(s₊ > s₋) + P(s₊ = s₋)/2. In [0, 1], 0.5 for a useless score; NaN where the class, or its absence, is absent.
    """
    return auroc_of(steps(target, score, weight))


def auroc_of(at: Steps) -> float:
    """`auroc` of counted steps."""
    if not (at.positives > 0 and at.negatives > 0):
        return float("nan")
    d_tp, before = np.diff(at.tp, prepend=0.0), np.concatenate([[0.0], at.fp[:-1]])
    below_or_half_tied = at.negatives - (before + at.fp) / 2
    return float(d_tp @ below_or_half_tied / (at.positives * at.negatives))


def auprc(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Average precision: the step-wise area under precision against recall, without interpolation.

    AP = Σ_j (R_j - R_{j-1}) P_j over distinct scores. In (0, 1]; a useless score has the prevalence. NaN for an absent
    class. Read it beside the prevalence only.
    """
    return auprc_of(steps(target, score, weight))


def auprc_of(at: Steps) -> float:
    """`auprc` of counted steps."""
    if not at.positives > 0:
        return float("nan")
    d_tp = np.diff(at.tp, prepend=0.0)
    gained = d_tp > 0
    precision = at.tp[gained] / (at.tp[gained] + at.fp[gained])
    return float(d_tp[gained] @ precision / at.positives)


def roc_points(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, recall and threshold of every distinct score, each `(T + 1,)`, from (0, 0, inf) to (1, 1).

    Three empty arrays where the class, or its absence, is absent.
    """
    at = steps(target, score)
    if not (at.positives > 0 and at.negatives > 0):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    fpr, recall = at.fp / at.negatives, at.tp / at.positives
    return np.append(0.0, fpr), np.append(0.0, recall), np.append(np.inf, at.score)


def pr_points(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and threshold of every distinct score, each `(T,)`, recall rising; draw them as steps.

    Three empty arrays for an absent class.
    """
    at = steps(target, score)
    if not at.positives > 0:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return at.tp / at.positives, at.tp / (at.tp + at.fp), at.score


def threshold_at_specificity(target: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """The lowest observed score `t` at which alarms `score >= t` keep at least `specificity` on the negatives.

    A conservative order statistic: tied scores alarm together or not at all. Infinite where no observed score does;
    NaN without negatives.
    """
    at = steps(target, score)
    if not at.negatives > 0:
        return float("nan")
    allowed = (1 - specificity) * at.negatives
    keeps = at.fp <= allowed + 1e-9 * at.negatives
    return float(at.score[keeps][-1]) if keeps.any() else float("inf")


def sensitivity_at_specificity(target: np.ndarray, score: np.ndarray, specificity: float) -> tuple[float, float, float]:
    """Recall, the specificity achieved, and the threshold, at the lowest score that keeps `specificity`.

    NaN, NaN, NaN where the class, or its absence, is absent.
    """
    at = steps(target, score)
    if not (at.positives > 0 and at.negatives > 0):
        return float("nan"), float("nan"), float("nan")
    threshold = threshold_at_specificity(target, score, specificity)
    alarm = np.asarray(score) >= threshold
    recall = np.sum(alarm & (target == 1)) / at.positives
    return float(recall), float(1 - np.sum(alarm & (target == 0)) / at.negatives), threshold
