"""Whether a probability of 0.2 means one in five."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, log_softmax, softmax

from raresight.core.task import Kind
from raresight.evaluate.counts import ratio

FEWEST_POSITIVE_PATIENTS = 20
ECE_BINS = 10
_TINY = 1e-12


def log_odds(prob: np.ndarray, kind: Kind) -> np.ndarray:
    """Logits that give `prob` `(N, K)` back: log p (exclusive), log p/(1-p) (independent); 0 and 1 are kept finite."""
    p = np.clip(prob, _TINY, 1 - _TINY)
    return np.log(p) if kind == "exclusive" else np.log(p) - np.log1p(-p)


def probabilities(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Softmax (exclusive) or logistic (independent) of `(N, K)` logits."""
    return softmax(logits, axis=1) if kind == "exclusive" else expit(logits)


def log_losses(target: np.ndarray, logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Negative log-likelihood of every case `(N,)` (exclusive) or label `(N, K)` (independent), NaN where not known."""
    if kind == "exclusive":
        return np.asarray(-(log_softmax(logits, axis=1) * target).sum(axis=1))
    return np.asarray(np.logaddexp(0.0, logits) - target * logits)


def log_loss(target: np.ndarray, logits: np.ndarray, kind: Kind) -> float:
    """Mean negative log-likelihood of the known labels, in nats; NaN where none is known."""
    losses = log_losses(target, logits, kind)
    known = ~np.isnan(losses)
    return float(losses[known].mean()) if known.any() else math.nan


def expected_observed(target: np.ndarray, prob: np.ndarray) -> float:
    """Expected over observed cases of one class, Σp / Σy over known labels; 1 is right, 3.8 cries wolf, 0 is blind.

    `target` and `prob` `(N,)`. NaN for an absent class.
    """
    known = ~np.isnan(target)
    return float(ratio(prob[known].sum(), target[known].sum()))


def equal_mass_bins(prob: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """Which of `bins` bins of equally many cases each probability falls in, `(N,)`; equal probabilities share one."""
    n = len(prob)
    rising = np.sort(prob)
    middle = (np.searchsorted(rising, prob, "left") + np.searchsorted(rising, prob, "right")) / 2
    return np.minimum((middle * bins / max(n, 1)).astype(int), bins - 1)


def ece(target: np.ndarray, prob: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error of one class over bins of equal mass, Σ_b n_b/n |mean p - mean y|.

    In [0, 1]. It rewards blindness for a rare class, so read `expected_observed` first; a perfectly calibrated model
    has about 0.004 at n = 2,000, not 0. NaN where no label is known or the class is absent.
    """
    known = ~np.isnan(target)
    y, p = target[known], prob[known]
    if not y.sum() > 0:
        return math.nan
    gap = np.bincount(equal_mass_bins(p, bins), weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
