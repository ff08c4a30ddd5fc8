"""How a network treats classes by their frequency: head and features as straight lines in the logarithm of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from raresight.explain.measured import listed

FEWEST = 4  # two classes are spent on the line, and an interval from one left over spans 25 standard errors
FIGURES = ("log_row_norm", "log_feature_norm", "bias")


@dataclass(frozen=True)
class Slope:
    """A line through one number a class: `value` is the slope on the natural logarithm of the training count.

    `low` and `high` its 95% t interval, `se` its standard error, `intercept` where the line meets one image,
    `n_classes` the classes that it went through; all None, with `reason`, where there is no line. `points` `(K, 2)` are
    log n_k and the number, NaN for classes left out; `note` names these. The interval treats classes as draws around a
    line: it says how well a line fits these K classes, not what other patients would give.
    """

    value: float | None
    se: float | None
    low: float | None
    high: float | None
    intercept: float | None
    n_classes: int
    points: np.ndarray
    reason: str = ""
    note: str = ""

    @property
    def status(self) -> str:
        return "ok" if self.value is not None else "not_estimable"


def slope(y: np.ndarray, counts: np.ndarray) -> Slope:
    """The least-squares slope of `y` on log n.

    β = Σ(x-x̄)(y-ȳ)/Σ(x-x̄)², x_k = ln n_k; SE² = Σ(residual²)/((K-2) Σ(x-x̄)²); β ± t₀.₉₇₅(K-2) SE.
    Shapes: `y` and `counts` `(K,)`; `counts` are training images. Units: those of `y` for each e-fold of the count
    (times 2.3 for each tenfold).
    Absent class: a class without training images, or without a finite `y`, is left out and named. None with a reason
    under 4 classes, and where all counts are equal.
    Source: ordinary least squares.
    """
    y, counts = np.asarray(y, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    used = np.isfinite(y) & (counts > 0)
    x = np.full(len(y), np.nan)
    x[used] = np.log(counts[used])
    points = np.stack([x, np.where(used, y, np.nan)], axis=1)
    note = "" if used.all() else f"without class {listed(int(k) for k in np.flatnonzero(~used))} (counted from 0)"
    x, y, n = x[used], y[used], int(used.sum())
    if n < FEWEST:
        return _none(f"{n} classes: a slope with an interval needs {FEWEST}", n, points, note)
    dx = x - x.mean()
    if np.ptp(x) < 1e-9:
        return _none("all classes have the same number of training images", n, points, note)
    spread = float(dx @ dx)
    value = float(dx @ y) / spread
    intercept = float(y.mean() - value * x.mean())
    residual = y - intercept - value * x
    se = float(np.sqrt(residual @ residual / (n - 2) / spread))
    reach = float(stdtrit(n - 2, 0.975)) * se
    return Slope(value, se, value - reach, value + reach, intercept, n, points, note=note)


def slopes(
    features: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    head: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Slope]:
    """`slope` of three numbers a class: log‖w_k‖, the log of the mean ‖h‖ of images with the finding, and the bias b_k.

    A head that follows frequency (positive slopes of rows and bias) says common classes by default; a slope of 0 is
    what decoupled training aims at. A slope of feature lengths tells that the layers below differ as well. Both lengths
    go by their logarithm: features of two networks can differ in scale, and a factor moves no slope of logarithms.

    Shapes: `features` `(N, F)`, `labels` `(N, K)` of 0, 1 or NaN, `counts` `(K,)` training images, `head` the rows
    `(K, F)` and biases `(K,)`, or None. Keys: `log_row_norm` and `log_feature_norm` are exponents (‖w_k‖ ∝ n_k^β: 0.1
    makes 10.5% longer where images are e times as many), `bias` is in logits for each e-fold of the count.
    Absent class: one without positives in the probe has no feature length and is left out of that line alone; a row of
    zeros, and features that are all 0, have no logarithm. Without a head, the two lines of the head are None with that
    reason.
    Source: Kang et al. 2020 (row norms and frequency); the interval is ours.
    """
    n_classes = labels.shape[1]
    length = np.sqrt(np.square(np.asarray(features, dtype=np.float64)).sum(axis=1))
    positive = labels == 1
    mean_length = np.full(n_classes, np.nan)
    np.divide(positive.T.astype(np.float64) @ length, positive.sum(axis=0), out=mean_length, where=positive.any(axis=0))
    found = {"log_feature_norm": slope(_log(mean_length), counts)}
    if head is None:
        nothing = np.full((n_classes, 2), np.nan)
        none = _none("no linear head was given", 0, nothing, "")
        return {"log_row_norm": none, **found, "bias": none}
    rows, bias = (np.asarray(part, dtype=np.float64) for part in head)
    norm = np.sqrt(np.square(rows).sum(axis=1))
    return {"log_row_norm": slope(_log(norm), counts), **found, "bias": slope(bias, counts)}


def _log(length: np.ndarray) -> np.ndarray:
    """NaN where there is no length, or one of 0."""
    found = np.full(len(length), np.nan)
    np.log(length, out=found, where=length > 0)
    return found


def _none(reason: str, n: int, points: np.ndarray, note: str) -> Slope:
    return Slope(None, None, None, None, None, n, points, reason, note)
