"""How far probabilities lie from what is seen, along their whole range: a smooth curve and its mean distance."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from raresight.evaluate.calibration import log_odds

MOST_PLACES = 160
SPAN = 0.5


class Curve:
    """What is seen beside what was given, by local-linear smoothing of y - p over logit p.

    s(p) = p + local line at logit p through y - p, tricube weights, over the nearest cases that hold half of the
    expected variance Σ p(1-p), so that a rare class is smoothed where its positives stand and not where its negatives
    do. Residuals are smoothed, not labels: for a right model they are 0 everywhere, whatever the bend of the logistic.
    Cases are first gathered into at most 160 places along logit p (each probability its own place if they are fewer),
    half of them cut by cases and half by positives; within a place p is its mean.

    `target` `(N,)` of 0 or 1, without unknown ones, `prob` `(N,)`. `place` `(N,)`; `given` `(B,)` the mean p of places.
    Source: Cleveland, JASA 74 (1979) 829; Austin & Steyerberg, Stat. Med. 38 (2019) 4051, who smooth y over p by loess.
    """

    def __init__(self, target: np.ndarray, prob: np.ndarray, span: float = SPAN) -> None:
        x = log_odds(prob, "independent")
        self.target, self.prob = target, prob
        self.place = places(x, target == 1)
        self.n_places = int(self.place.max()) + 1 if len(x) else 0
        self.cases = np.bincount(self.place, minlength=self.n_places).astype(np.float64)
        self.given = self._sums(prob) / self.cases
        middle = self._sums(x) / self.cases
        self.kernel = kernel(middle, np.maximum(self._sums(prob * (1 - prob)), 1e-12), span)
        self.distance = middle[None, :] - middle[:, None]

    def seen(self) -> np.ndarray:
        """The smoothed share with the class at each place, `(B,)`, in [0, 1]."""
        return self._smooth(self.cases[:, None], self._sums(self.target - self.prob)[:, None])[:, 0]

    def index(self) -> float:
        """The integrated calibration index, mean |s(p) - p| over cases, in [0, 1]; 0 is right."""
        return float(self._index(self.cases[:, None], self._sums(self.target - self.prob)[:, None])[0])

    def index_of(self, who: np.ndarray, n_patients: int) -> Resampling:
        """What turns multiplicities of patients `(G, R)` into the index of each resample `(R,)`, bands kept."""
        shape = (self.n_places, n_patients)
        cases = sparse.csr_matrix((np.ones(len(who)), (self.place, who)), shape=shape)
        residual = sparse.csr_matrix((self.target - self.prob, (self.place, who)), shape=shape)
        return Resampling(self, cases, residual)

    def null_index(self, drawn: np.ndarray) -> np.ndarray:
        """The index `(D,)` where the positives of each place were drawn: `drawn` `(B, D)`."""
        cases = np.broadcast_to(self.cases[:, None], drawn.shape)
        return self._index(cases, drawn - (self.given * self.cases)[:, None])

    def _index(self, cases: np.ndarray, residual: np.ndarray) -> np.ndarray:
        far = np.abs(self._smooth(cases, residual) - self.given[:, None])
        return np.asarray((cases * far).sum(axis=0) / np.maximum(cases.sum(axis=0), 1e-300))

    def _smooth(self, cases: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """s(p) at each place from cases and summed residuals of places, each `(B, R)`."""
        w, wd, wdd = self.kernel, self.kernel * self.distance, self.kernel * self.distance**2
        s0, s1, s2 = w @ cases, wd @ cases, wdd @ cases
        t0, t1 = w @ residual, wd @ residual
        spread = s0 * s2 - s1**2
        flat = spread <= 1e-9 * s0 * s2
        line = (s2 * t0 - s1 * t1) / np.where(flat, 1.0, spread)
        level = t0 / np.where(s0 > 0, s0, 1.0)
        return np.asarray(np.clip(self.given[:, None] + np.where(flat, level, line), 0.0, 1.0))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.place, weights=values, minlength=self.n_places)


class Resampling:
    """Cases and summed residuals of every place and patient, sparse `(B, G)`."""

    def __init__(self, curve: Curve, cases: sparse.csr_matrix, residual: sparse.csr_matrix) -> None:
        self.curve, self.cases, self.residual = curve, cases, residual

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        return self.curve._index(self.cases @ weight, self.residual @ weight)


def ici(target: np.ndarray, prob: np.ndarray) -> float:
    """The integrated calibration index of one class, mean |s(p) - p| over cases with `Curve`'s s; 0 is right.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)` in [0, 1]. A right model has more than 0 by chance, so read
    it beside its null band. NaN for an absent class, or where no label is known. Raises: nothing.
    Source: Austin & Steyerberg, Stat. Med. 38 (2019) 4051.
    """
    known = ~np.isnan(target)
    if not (target[known] == 1).any():
        return math.nan
    return Curve(target[known], prob[known]).index()


def places(x: np.ndarray, positive: np.ndarray, most: int = MOST_PLACES) -> np.ndarray:
    """The place of every case along x, `(N,)` from 0 on without gaps: equal x share one."""
    values, place = np.unique(x, return_inverse=True)
    if len(values) <= most:
        return place
    steps = np.arange(1, most // 2) / (most // 2)
    cuts = np.unique(np.concatenate([np.quantile(x, steps), np.quantile(x[positive], steps)]))
    return np.unique(np.searchsorted(cuts, x, side="right"), return_inverse=True)[1]


def kernel(x: np.ndarray, mass: np.ndarray, span: float) -> np.ndarray:
    """Tricube weights (1 - (d/h)³)³ of places about each place, `(B, B)`; within h lies `span` of all mass.

    With unit masses these are the weights of lowess.
    """
    distance = np.abs(x[None, :] - x[:, None])
    nearest = np.argsort(distance, axis=1, kind="stable")
    held = np.cumsum(mass[nearest], axis=1)
    enough = np.minimum((held < span * mass.sum() * (1 - 1e-12)).sum(axis=1), len(x) - 1)
    h = np.take_along_axis(distance, np.take_along_axis(nearest, enough[:, None], axis=1), axis=1)
    ratio = np.divide(distance, h, out=np.where(distance > 0, 1.0, 0.0), where=h > 0)
    return np.asarray(np.clip(1 - np.minimum(ratio, 1.0) ** 3, 0.0, 1.0) ** 3)
