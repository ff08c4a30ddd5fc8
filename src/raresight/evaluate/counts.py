"""Decisions, and the rates that are counted from them.

A decision table is `(N, K)` of booleans: alarm for class k, or none. At the default operating point an exclusive case
alarms for exactly one class (the most probable one), an independent label alarms at probability 0.5. With tuned or
frozen thresholds every class is judged one against the rest, `prob >= threshold`, for both kinds of label: an exclusive
case may then alarm for several classes, or for none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raresight.core.task import Kind

RATES = ("recall", "precision", "specificity", "npv", "f1")
DEFAULT_POINT: dict[str, str] = {"exclusive": "argmax", "independent": "0.5"}


def decide(prob: np.ndarray, kind: Kind, thresholds: np.ndarray | None = None) -> np.ndarray:
    """Alarms at the default operating point, or at one threshold a class.

    d_ik = [p_ik >= t_k]; without thresholds d_ik = [k = argmax_j p_ij] (exclusive, the first of equals) or
    [p_ik >= 0.5] (independent).

    `prob` `(N, K)` in [0, 1], `thresholds` `(K,)`, NaN for a class that has none, which then never alarms. Returns
    `(N, K)` bool.
    """
    if thresholds is not None:
        return prob >= np.where(np.isnan(thresholds), np.inf, thresholds)[None, :]
    if kind == "independent":
        return prob >= 0.5
    alarm = np.zeros(prob.shape, dtype=bool)
    if len(prob):
        alarm[np.arange(len(prob)), prob.argmax(axis=1)] = True
    return alarm


def threshold_array(thresholds: Any, classes: Sequence[str]) -> np.ndarray:
    """Thresholds by class name as `(K,)`, NaN for a class without one; a record's `threshold` counts too."""
    values = [thresholds.get(name) for name in classes]
    plain = [value.get("threshold") if isinstance(value, dict) else value for value in values]
    return np.array([np.nan if value is None else float(value) for value in plain], dtype=np.float64)


@dataclass(frozen=True)
class Counts:
    """True and false positives and negatives, `(..., K)`; cases whose label is unknown are in none of the four."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """tp / (tp + fn), NaN for an absent class."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> np.ndarray:
        """tp / (tp + fp), NaN for a class without alarms."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def specificity(self) -> np.ndarray:
        """tn / (tn + fp), NaN where every case has the class."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def npv(self) -> np.ndarray:
        """tn / (tn + fn), NaN where every case alarms."""
        return ratio(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> np.ndarray:
        """2 tp / (2 tp + fp + fn), NaN for an absent class, even one that was predicted."""
        f1 = ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)
        return np.where(self.tp + self.fn > 0, f1, np.nan)


def count(target: np.ndarray, alarm: np.ndarray, weight: np.ndarray | None = None) -> Counts:
    """The four counts of every class, each `(K,)`.

    `target` `(N, K)` of 0, 1 or NaN (unknown: left out of that class), `alarm` `(N, K)` bool, `weight` `(N,)` >= 0.
    An absent class has tp = fn = 0, and its rates are NaN.
    """
    w = np.ones(len(target)) if weight is None else np.asarray(weight, dtype=np.float64)
    yes, no = target == 1, target == 0
    return Counts(w @ (yes & alarm), w @ (no & alarm), w @ (yes & ~alarm), w @ (no & ~alarm))


def confusion_matrix(target: np.ndarray, alarm: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Cases of true class i taken for class j, `(K, K)`, for exclusive labels at argmax; unknown labels are left out.

    `target` and `alarm` `(N, K)`, one-hot. An absent class has a row of zeros.
    """
    w = np.ones(len(target)) if weight is None else np.asarray(weight, dtype=np.float64)
    known = ~np.isnan(target).any(axis=1)
    return (target[known] * w[known, None]).T @ alarm[known].astype(np.float64)


def accuracy(counts: Counts, kind: Kind) -> np.ndarray:
    """The share of right answers, `(...)`: cases (exclusive, at argmax) or known labels (independent).

    Σ_k tp_k / Σ_k (tp_k + fn_k), or Σ_k (tp_k + tn_k) over all four counts. Never to be read without
    `trivial_accuracy` beside it. NaN where no label is known.
    """
    positives = counts.tp + counts.fn
    if kind == "exclusive":
        return ratio(counts.tp.sum(axis=-1), positives.sum(axis=-1))
    known = positives + counts.fp + counts.tn
    return ratio((counts.tp + counts.tn).sum(axis=-1), known.sum(axis=-1))


def trivial_accuracy(target: np.ndarray, kind: Kind, weight: np.ndarray | None = None) -> float:
    """What accuracy is had without looking: the commonest class always (exclusive), or each label's commoner answer."""
    w = np.ones(len(target)) if weight is None else np.asarray(weight, dtype=np.float64)
    yes, no = w @ (target == 1), w @ (target == 0)
    if kind == "exclusive":
        return float(ratio(yes.max(), yes.sum()))
    return float(ratio(np.maximum(yes, no).sum(), (yes + no).sum()))


def balanced_accuracy(counts: Counts, kind: Kind) -> np.ndarray:
    """Mean recall (exclusive) or mean of (recall + specificity) / 2 (independent) over the classes present, `(...)`."""
    if kind == "exclusive":
        return mean_of_known(counts.recall)
    return mean_of_known((counts.recall + counts.specificity) / 2)


def macro_f1(counts: Counts) -> np.ndarray:
    """Mean F1 over the classes present, `(...)`; NaN where none is."""
    return mean_of_known(counts.f1)


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    """numerator / denominator, NaN where the denominator is 0: an absent class never becomes 0 or 1."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    return np.divide(top, bottom, out=np.full(shape, np.nan), where=np.broadcast_to(bottom > 0, shape))


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no class is NaN, on purpose
        return np.asarray(np.nanmean(values, axis=-1))
