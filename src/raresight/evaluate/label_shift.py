"""How common is each class in data without labels? Answered from calibrated probabilities, or refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import stdtrit

SINGULAR = 0.1  # below, the mean scores of two classes are so alike that their shares cannot be told apart
STEPS, CLOSE = 1000, 1e-7
HALVINGS = 18  # of an interval that holds a bound: a share to four millionths


def shares(prob: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Class shares of the cases by expectation-maximisation, starting from `prior`.

    π_k <- mean_i w_ik, w_ik = (π_k / π0_k) p_ik / Σ_j (π_j / π0_j) p_ij, until no share moves by 1e-7.

    `prob` `(N, K)` probabilities calibrated at the class shares `prior` `(K,)`. Returns `(K,)`; a class of prior 0
    keeps a share of 0. Assumes that cases of one class look as they did (label shift): only how many there are has
    changed.
    Source: Saerens, Latinne & Decaestecker, Neural Computation 14 (2002) 21, eq. 2.9.
    """
    start = np.where(prior > 0, prior, 0.0) / prior[prior > 0].sum()
    return _climbed(_ratios(prob, prior), start[None, :], np.full(1, -1), CLOSE)[0]


def prevalence(
    prob: np.ndarray, prior: np.ndarray, means: np.ndarray, patient: np.ndarray, *, level: float = 0.95
) -> dict[str, Any]:
    """`shares` with an interval each, or `reason` why they cannot be had.

    With l(π) = Σ_i ln Σ_j π_j p_ij / π0_j, the interval of π_k holds every v for which the most likely shares with
    π_k = v have 2 (l_max - l) <= d_k t², t Student's quantile with G - 1 degrees of freedom for G patients, and
    d_k = max(1, Σ_g (Σ_i u_i)² / Σ_i u_i²) how alike the cases of a patient are in u_i = p_ik / π0_k / Σ_j π_j p_ij /
    π0_j, less its mean. A bootstrap would not do: where the most likely share of a rare class is 0 it stays there.
    That validation saw only so many of a class is not in it; d_k is our own choice.

    `means` `(K, K)`: mean probabilities of all classes (columns) over the validation cases of each (rows); rows of NaN
    are classes without such cases, which are left out. `patient` `(N,)` any labels. Refused where the smallest singular
    value of the rest is under `SINGULAR`: the scores then fit several mixtures alike.
    Source: Owen, Empirical Likelihood (2001), section 2.4, for profiles of a likelihood; Rao & Scott 1984 for d.
    """
    present = ~np.isnan(means).any(axis=1) & (prior > 0)
    separation = float(np.linalg.svd(means[np.ix_(present, present)], compute_uv=False).min()) if present.any() else 0.0
    if separation < SINGULAR or present.sum() < 2 or not len(prob):
        why = "there are no cases" if not len(prob) else "fewer than two classes were seen at validation"
        if present.sum() >= 2 and len(prob):
            why = f"the scores of some classes are too alike at validation (singular value {separation:.2f})"
        return {"value": None, "low": None, "high": None, "separation": separation, "reason": why}
    _, who = np.unique(patient, return_inverse=True)
    value = shares(prob, np.where(present, prior, 0.0))
    low, high = _profiled(_ratios(prob, prior)[:, present], value[present], who, level)
    found = {name: np.full(len(prior), np.nan) for name in ("value", "low", "high")}
    for name, row in (("value", value[present]), ("low", low), ("high", high)):
        found[name][present] = row
    told = {key: [None if math.isnan(x) else float(x) for x in row] for key, row in found.items()}
    return {**told, "separation": separation, "reason": ""}


def _ratios(prob: np.ndarray, prior: np.ndarray) -> np.ndarray:
    return np.where(prior > 0, prob / np.where(prior > 0, prior, 1.0), 0.0)


def _climbed(ratio: np.ndarray, start: np.ndarray, fixed: np.ndarray, close: float) -> np.ndarray:
    """The most likely shares `(B, K)` from `start` on, of which row b keeps that of class `fixed[b]` (-1: none)."""
    now, rows = start, np.flatnonzero(fixed >= 0)
    kept = start[rows, fixed[rows]]
    for _ in range(STEPS):
        then, now = now, now * ((1 / np.maximum(now @ ratio.T, 1e-300)) @ ratio) / len(ratio)
        now[rows, fixed[rows]] = 0.0
        now[rows] *= ((1 - kept) / np.maximum(now[rows].sum(axis=1), 1e-300))[:, None]
        now[rows, fixed[rows]] = kept
        if np.abs(now - then).max() < close:
            break
    return now


def _profiled(ratio: np.ndarray, value: np.ndarray, who: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of every share, `(K,)` each: halfway again and again between what is inside and what is not."""
    k, groups = len(value), int(who.max()) + 1
    density = np.maximum(ratio @ value, 1e-300)
    u = ratio / density[:, None]
    u = u - u.mean(axis=0)
    own = np.stack([np.bincount(who, weights=column) for column in u.T], axis=1)
    alike = np.maximum(1.0, (own**2).sum(axis=0) / np.maximum((u**2).sum(axis=0), 1e-300))
    room = np.tile(alike * float(stdtrit(max(groups - 1, 1), 0.5 + level / 2)) ** 2, 2)
    most = np.log(density).sum()
    fixed, inside = np.tile(np.arange(k), 2), np.tile(value, 2)
    outside = np.repeat([0.0, 1.0], k)
    at, others = outside, np.tile(np.maximum(value, 1e-6), (2 * k, 1))
    for _ in range(HALVINGS + 1):  # the ends of [0, 1] first
        others[np.arange(2 * k), fixed] = 0.0
        others *= ((1 - at) / others.sum(axis=1))[:, None]
        others[np.arange(2 * k), fixed] = at
        others = _climbed(ratio, others, fixed, 1e-5)
        lost = 2 * (most - np.log(np.maximum(others @ ratio.T, 1e-300)).sum(axis=1))
        inside = np.where(lost <= room, at, inside)
        outside = np.where(lost > room, at, outside)
        at, others = (inside + outside) / 2, np.maximum(others, 1e-6)
    return np.minimum(inside[:k], value), np.maximum(inside[k:], value)
