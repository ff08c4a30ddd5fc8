"""Maximum likelihood of small convex models: Newton steps within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit

Curve = tuple[float, np.ndarray, np.ndarray]  # a loss, its gradient and its Hessian


def least(loss: Callable[[np.ndarray], Curve], start: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a convex loss is least within bounds: Newton steps on what no bound holds back, halved until they descend.

    Source: Bertsekas, SIAM J. Control Optim. 20 (1982) 221.
    """
    at = np.clip(start, low, high)
    value, slope, bend = loss(at)
    for _ in range(100):
        held = ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))
        free = np.flatnonzero(~held)
        if not len(free) or np.abs(slope[free]).max() < 1e-10:
            break
        # The ridge keeps a flat direction (all biases of a softmax) where it started.
        step = np.zeros_like(at)
        step[free] = np.linalg.solve(bend[np.ix_(free, free)] + 1e-10 * np.eye(len(free)), slope[free])
        for halving in range(40):
            there = np.clip(at - step / 2**halving, low, high)
            lower, slope_there, bend_there = loss(there)
            if lower < value:
                break
        else:
            break
        at, value, slope, bend = there, lower, slope_there, bend_there
    return at


def logistic(
    features: np.ndarray,
    y: np.ndarray,
    start: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    offset: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Weights `(P,)` within bounds of logit P(y) = offset + features @ weights, features `(N, P)`, y `(N,)` 0 or 1."""

    def loss(weights: np.ndarray) -> Curve:
        z = offset + features @ weights
        p = expit(z)
        value = float((np.logaddexp(0.0, z) - y * z).mean())
        bend = (features * (p * (1 - p))[:, None]).T @ features
        return value, features.T @ (p - y) / len(y), bend / len(y)

    return least(loss, np.array(start, dtype=np.float64), np.array(low), np.array(high))
