"""Calibration intercept and slope: whether probabilities are too high or low as a whole, and too bold or too timid."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from raresight.evaluate.calibration import log_odds
from raresight.evaluate.intervals import Interval
from raresight.evaluate.newton import logistic

LINE = "maximum likelihood, larger of sandwich (patients) and model variance, t quantile"
_FAR = 100.0


def calibration_intercept(
    target: np.ndarray, prob: np.ndarray, patient: np.ndarray, *, level: float = 0.95
) -> tuple[Interval, str]:
    """a in logit P(y) = a + logit p: 0 is right, below 0 probabilities are too high, above 0 too low; in log-odds.

    The interval is a ± t √V, V the larger of the inverse information and the cluster sandwich
    H⁻¹ (Σ_g u_g u_g') H⁻¹ · G/(G-1) · (N-1)/(N-1), u_g the summed scores of patient g; t has min(G₊, G₋) - 1 degrees of
    freedom, since the rarer side bounds what can be known.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)`, where 0 and 1 count as 1e-12 off, `patient` `(N,)`.
    Returns the interval and why there is none: NaN, with the reason, for a class that is absent, that every case has,
    or that only one patient has or lacks. Raises: nothing.
    Source: Cox, Biometrika 45 (1958) 562; Van Calster et al., J. Clin. Epidemiol. 74 (2016) 167; Liang & Zeger 1986.
    """
    y, x, who = _known(target, prob, patient)
    reason = _too_few(y, who)
    if reason:
        return _nothing(y, who), reason
    ones = np.ones((len(y), 1))
    a = logistic(ones, y, [0.0], [-_FAR], [_FAR], offset=x)
    return _interval(ones, y, expit(x + a[0]), who, a, level), ""


def calibration_slope(
    target: np.ndarray, prob: np.ndarray, patient: np.ndarray, *, level: float = 0.95
) -> tuple[Interval, str]:
    """b in logit P(y) = a + b logit p: 1 is right, below 1 probabilities are too extreme, above 1 too timid, 0 blind.

    Interval as in `calibration_intercept`, with (N-1)/(N-2). Returns the interval and why there is none: beside what
    holds there, NaN where all probabilities are equal, and where the scores separate the class perfectly, since then no
    finite b is most likely. Raises: nothing.
    Source: Cox, Biometrika 45 (1958) 562; Albert & Anderson, Biometrika 71 (1984) 1, on separation.
    """
    y, x, who = _known(target, prob, patient)
    reason = _too_few(y, who) or _without_slope(y, x)
    if reason:
        return _nothing(y, who), reason
    # Centred, so that intercept and slope do not trade digits; the slope is the same.
    features = np.stack([np.ones(len(y)), x - x[y == 1].mean()], axis=1)
    found = logistic(features, y, [0.0, 1.0], [-_FAR, -_FAR], [_FAR, _FAR])
    return _interval(features, y, expit(features @ found), who, found, level), ""


def _known(target: np.ndarray, prob: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = ~np.isnan(target)
    _, who = np.unique(patient[known], return_inverse=True)
    return target[known], log_odds(prob[known], "independent"), who


def _too_few(y: np.ndarray, who: np.ndarray) -> str:
    positives, negatives = len(np.unique(who[y == 1])), len(np.unique(who[y == 0]))
    if not positives:
        return "no case has the class"
    if not negatives:
        return "every case has the class"
    if positives == 1:
        return "one positive patient: how patients vary cannot be seen"
    return "one patient without the class: how patients vary cannot be seen" if negatives == 1 else ""


def _without_slope(y: np.ndarray, x: np.ndarray) -> str:
    if x.max() == x.min():
        return "all probabilities are equal"
    with_class, without = x[y == 1], x[y == 0]
    if without.max() <= with_class.min() or with_class.max() <= without.min():
        return "the scores separate the class perfectly: no finite slope is the most likely"
    return ""


def _nothing(y: np.ndarray, who: np.ndarray) -> Interval:
    return Interval(math.nan, math.nan, math.nan, LINE, len(np.unique(who)), len(y))


def _interval(
    features: np.ndarray, y: np.ndarray, fitted: np.ndarray, who: np.ndarray, weights: np.ndarray, level: float
) -> Interval:
    """The last weight with its interval."""
    n, n_weights = features.shape
    bread = np.linalg.inv((features * (fitted * (1 - fitted))[:, None]).T @ features)
    scores = np.stack([np.bincount(who, weights=u) for u in ((y - fitted)[:, None] * features).T], axis=1)
    clusters = len(scores)
    correction = clusters / (clusters - 1) * (n - 1) / (n - n_weights)
    sandwich = correction * bread @ (scores.T @ scores) @ bread
    # With few patients a sandwich comes out too small as often as not, and correlation within patients only adds.
    error = math.sqrt(max(sandwich[-1, -1], bread[-1, -1]))
    smaller = min(len(np.unique(who[y == 1])), len(np.unique(who[y == 0])))
    half = float(student.ppf(0.5 + level / 2, smaller - 1)) * error
    value = float(weights[-1])
    return Interval(value, value - half, value + half, LINE, clusters, n)
