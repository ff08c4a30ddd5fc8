"""The rate of alarms at many thresholds at once: one walk down the scores, each threshold with its honest interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit


@dataclass(frozen=True)
class Rates:
    """For every threshold the alarms `hits` and their share `value` with bounds, each `(T,)`; of how many, of whom."""

    hits: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_images: int
    n_patients: int


def rates_at(score: np.ndarray, patient: np.ndarray, thresholds: np.ndarray, *, level: float = 0.95) -> Rates:
    """The share of rows with `score >= t`, for every t, with the interval that `intervals.rate` gives it.

    When one more row of patient g alarms, of whom k alarmed before, Σk_g² grows by 2k + 1, Σk_g n_g by n_g, and so on:
    running sums down the sorted scores give all that the interval needs at every threshold in O(N log N), where a call
    of `rate` for each costs O(TN).

    `score` `(N,)`, `patient` `(N,)` any labels, `thresholds` `(T,)`, infinite for "never alarm". Given the rows with a
    class this is recall; given those without, one minus specificity (the interval is symmetric under exchange of hit
    and miss). Of no row every value and bound is NaN.

    Source: as `intervals.rate`.
    """
    n = len(score)
    if n == 0:
        nothing = np.full(len(thresholds), np.nan)
        return Rates(np.zeros(len(thresholds)), nothing, nothing, nothing, 0, 0)
    order = np.argsort(-score, kind="stable")
    hits = np.searchsorted(-score[order], -thresholds, side="right")
    _, who = np.unique(patient, return_inverse=True)
    images = np.bincount(who).astype(np.float64)
    p = hits / n
    if len(images) == n:
        low, high = _clopper_pearson(hits, n, level)
        return Rates(hits, p, low, high, n, n)
    low, high = _clustered(_Walk(who[order], images), np.minimum(hits, n // 2), level)
    # Where most rows alarm, those that do not are summed up from below: differences of large sums lose digits.
    below, above = _clustered(_Walk(who[order][::-1], images), np.minimum(n - hits, n // 2), level)
    most = hits > n // 2
    return Rates(hits, p, np.where(most, 1 - above, low), np.where(most, 1 - below, high), n, len(images))


class _Walk:
    """Sums over patients after the first 0, 1, ..., N rows: each `(N + 1,)`."""

    def __init__(self, who: np.ndarray, images: np.ndarray) -> None:
        order = np.argsort(who, kind="stable")
        first = np.cumsum(images) - images
        k = np.empty(len(who))  # rows of the same patient already passed
        k[order] = np.arange(len(who)) - np.repeat(first, images.astype(int))
        n = images[who]
        self.images = images
        self.begun = _running(k == 0)
        self.ended = _running(k + 1 == n)
        self.k2, self.kn = _running(2 * k + 1), _running(n)
        self.k4, self.k3n = _running((k + 1) ** 4 - k**4), _running(((k + 1) ** 3 - k**3) * n)
        self.k2n2, self.kn3 = _running((2 * k + 1) * n**2), _running(n**3)

    def deviations(self, hits: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Σ(k_g - p n_g)² and Σ(k_g - p n_g)⁴ after so many rows, multiplied out."""
        n2, n4 = float(np.sum(self.images**2)), float(np.sum(self.images**4))
        second = self.k2[hits] - 2 * p * self.kn[hits] + p**2 * n2
        fourth = self.k4[hits] - 4 * p * self.k3n[hits] + 6 * p**2 * self.k2n2[hits] - 4 * p**3 * self.kn3[hits]
        return np.maximum(second, 0), np.maximum(fourth + p**4 * n4, 0)


def _running(steps: np.ndarray) -> np.ndarray:
    return np.append(0.0, np.cumsum(steps, dtype=np.float64))


def _clustered(walk: _Walk, hits: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Design effect and degrees of freedom as `intervals.rate` defines them, then Wilson."""
    n, patients = len(walk.begun) - 1, len(walk.images)
    p = hits / n
    second, fourth = walk.deviations(hits, p)
    rarer = np.minimum(walk.begun[hits], patients - walk.ended[hits])
    effect = np.maximum(1.0, float(np.sum(walk.images**2)) / n / (1 + rarer**2))
    some = (rarer > 0) & (patients > 1)
    shown = patients / max(patients - 1, 1) * second[some] / (n * p[some] * (1 - p[some]))
    effect[some] = np.maximum(effect[some], shown)
    degrees = np.full(len(hits), patients - 1.0)
    varied = second > 1e-9
    excess = fourth[varied] * patients / second[varied] ** 2 - 1
    degrees[varied] = np.minimum(patients - 1, 2.5 * patients / np.maximum(excess, 1e-9))
    return _wilson(p, n / effect, stdtrit(np.maximum(degrees, 1), 0.5 + level / 2))


def _wilson(p: np.ndarray, n: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`core.binomial.wilson` for arrays, with the quantiles q."""
    centre, scale = p + q * q / (2 * n), 1 + q * q / n
    half = q * np.sqrt(p * (1 - p) / n + q * q / (4 * n * n))
    return np.minimum(p, np.clip((centre - half) / scale, 0, 1)), np.maximum(p, np.clip((centre + half) / scale, 0, 1))


def _clopper_pearson(k: np.ndarray, n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """`core.binomial.clopper_pearson` for arrays: quantiles of Beta distributions."""
    tail, low, high = (1 - level) / 2, np.zeros(len(k)), np.ones(len(k))
    some, open_ = k > 0, k < n
    low[some] = betaincinv(k[some], n - k[some] + 1, tail)
    high[open_] = betaincinv(k[open_] + 1, n - k[open_], 1 - tail)
    return low, high
