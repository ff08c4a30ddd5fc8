"""How common is each class in data without labels? Answered from calibrated probabilities, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np

SINGULAR = 0.1  # below, the mean scores of two classes are so alike that their shares cannot be told apart
STEPS, CLOSE = 1000, 1e-7
DRAWS = 200


def shares(prob: np.ndarray, prior: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Class shares of the cases by expectation-maximisation, starting from `prior`.

    π_k <- mean_i w_ik, w_ik = (π_k / π0_k) p_ik / Σ_j (π_j / π0_j) p_ij, until no share moves by 1e-7.

    `prob` `(N, K)` probabilities calibrated at the class shares `prior` `(K,)`; `weight` `(B, N)` how often a case
    counts in each of B resamples. Returns `(K,)`, or `(B, K)` with weights. A class of prior 0 keeps a share of 0.
    Assumes that cases of one class look as they did (label shift): only how many there are has changed.
    Source: Saerens, Latinne & Decaestecker, Neural Computation 14 (2002) 21, eq. 2.9.
    """
    weights = np.ones((1, len(prob))) if weight is None else np.asarray(weight, dtype=np.float64)
    weights = weights / weights.sum(axis=1, keepdims=True)
    usable = prior > 0
    ratio_of = np.where(usable, prob / np.where(usable, prior, 1.0), 0.0)
    now = np.tile(np.where(usable, prior, 0.0) / prior[usable].sum(), (len(weights), 1))
    for _ in range(STEPS):
        density = np.maximum(now @ ratio_of.T, 1e-300)
        then, now = now, now * ((weights / density) @ ratio_of)
        if np.abs(now - then).max() < CLOSE:
            break
    return now[0] if weight is None else now


def prevalence(
    prob: np.ndarray, prior: np.ndarray, means: np.ndarray, patient: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """`shares` with a 95% patient bootstrap interval, or `reason` why they cannot be had.

    `means` `(K, K)`: mean probabilities of all classes (columns) over the validation cases of each (rows); rows of NaN
    are classes without such cases, which are left out. Refused where the smallest singular value of the rest is under
    `SINGULAR`: the scores then fit several mixtures alike.
    """
    present = ~np.isnan(means).any(axis=1) & (prior > 0)
    separation = float(np.linalg.svd(means[np.ix_(present, present)], compute_uv=False).min()) if present.any() else 0.0
    if separation < SINGULAR or present.sum() < 2 or not len(prob):
        why = "there are no cases" if not len(prob) else "fewer than two classes were seen at validation"
        if present.sum() >= 2 and len(prob):
            why = f"the scores of some classes are too alike at validation (singular value {separation:.2f})"
        return {"value": None, "low": None, "high": None, "separation": separation, "reason": why}
    groups, who = np.unique(patient, return_inverse=True)
    kept = np.where(present, prior, 0.0)
    drawn = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), DRAWS)
    low, high = np.quantile(shares(prob, kept, drawn[:, who]), [0.025, 0.975], axis=0)
    value = shares(prob, kept)
    found = {"value": value, "low": np.minimum(low, value), "high": np.maximum(high, value)}
    told = {
        key: [float(x) if there else None for x, there in zip(row, present, strict=True)] for key, row in found.items()
    }
    return {**told, "separation": separation, "reason": ""}
