"""How far apart a network's logits put images with and without a finding, in their own spread.

d′ asks nothing of a threshold, a prevalence or a calibration, and, unlike neural collapse, nothing of labels being
exclusive. A finding that occurs with an easier one borrows that one's separation; the stratified d′ compares images
that have the same other findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raresight.explain.collapse import exclusive_in_fact
from raresight.explain.measured import Measured

FEWEST = 2  # images on each side, for a variance


@dataclass(frozen=True)
class Separation:
    """One class's `plain` d′, its `stratified` d′, and the share of its positives that found a stratum, [0, 1]."""

    plain: Measured
    stratified: Measured
    matched: float


def d_prime(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """d′ of one class, for any number of resamples.

    d′ = (m⁺ - m⁻)/√((v⁺ + v⁻)/2), variances over n - 1. A weight is how often an image was drawn, and the result is d′
    of the images so repeated.
    Shapes: `target` `(N,)` of 0, 1 or NaN (left out), `score` `(N,)` logits, `weight` `(N,)` or `(N, B)` whole numbers
    >= 0; gives `()` or `(B,)`. Any sign; 0 for a score that tells nothing; unchanged by shift and positive scale.
    Absent class: NaN with fewer than 2 images on either side, and where no score varies on either side.
    Source: Green and Swets 1966.
    """
    weights = np.ones((len(score), 1)) if weight is None else np.asarray(weight, dtype=np.float64)
    out_shape = () if weight is None or weights.ndim == 1 else (weights.shape[1],)
    weights = weights.reshape(len(score), -1)
    z = np.asarray(score, dtype=np.float64)
    known = np.isfinite(target)
    centre = z[known].mean() if known.any() else 0.0
    mean, variance, count = (np.empty((2, weights.shape[1])) for _ in range(3))
    for side, value in enumerate((0, 1)):
        rows = np.flatnonzero(target == value)
        about = z[rows] - centre
        w = weights[rows]
        count[side] = w.sum(axis=0)
        n = np.maximum(count[side], 1)
        mean[side] = about @ w / n
        variance[side] = np.maximum(np.square(about) @ w - n * mean[side] ** 2, 0.0) / np.maximum(n - 1, 1)
    pooled = variance.mean(axis=0)
    scale = np.square(z[known] - centre).max(initial=0.0)
    fine = (count >= FEWEST).all(axis=0) & (pooled > 1e-12 * scale)
    out = np.full(weights.shape[1], np.nan)
    np.divide(mean[1] - mean[0], np.sqrt(pooled), out=out, where=fine)
    return out.reshape(out_shape)


def separations(logits: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None) -> list[Separation]:
    """d′ of every class, plain and among images with the same other findings.

    Equation: plain as `d_prime`. Stratified: strata are the patterns of the other K - 1 labels (unknown is a pattern of
    its own) that hold a positive and two negatives; with n_s positives, mean difference Σn_s(m⁺_s - m⁻_s)/Σn_s,
    v⁺ pooled within strata over Σ(n_s - 1), v⁻ = Σn_s v⁻_s/Σn_s.

    Shapes: `logits` `(N, K)`, w_k·h + b_k, `labels` `(N, K)` of 0, 1 or NaN, `patients` `(N,)` for the counts alone:
    a value needs no independence; for an interval, resample patients.
    Ranges: any sign, no unit; 1 means one standard deviation. `matched` in [0, 1]: with a low share the stratified
    value speaks of few positives.
    Absent class: None with the reason, under 2 images on either side; stratified, where labels exclude each other in
    fact (nothing occurs together), and where no stratum holds two positives.
    Raises: `ValueError` where logits and labels differ in shape.
    Source: Green and Swets 1966; the strata are ours.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if logits.shape != labels.shape:
        raise ValueError(f"logits of {logits.shape} for labels of {labels.shape}")
    exclusive = exclusive_in_fact(labels)
    return [_of_class(logits[:, k], labels, k, exclusive, patients) for k in range(labels.shape[1])]


def _of_class(z: np.ndarray, labels: np.ndarray, k: int, exclusive: bool, patients: np.ndarray | None) -> Separation:
    y = labels[:, k]
    positive = y == 1
    n_positive = int(positive.sum())
    n_patients = None if patients is None else len(np.unique(np.asarray(patients)[positive]))

    def said(value: float, reason: str) -> Measured:
        if reason or not np.isfinite(value):
            return Measured(
                None, n_positive, n_patients, reason or "the logits do not vary among images of either side"
            )
        return Measured(float(value), n_positive, n_patients)

    few = _few(n_positive, int((y == 0).sum()))
    if not few and not np.isfinite(z[~np.isnan(y)]).all():
        few = "logits are not finite"
    plain = said(float("nan") if few else float(d_prime(y, z)), few)
    if exclusive:
        return Separation(plain, said(np.nan, "labels exclude each other in fact: no two occur together"), 0.0)
    if few:
        return Separation(plain, said(np.nan, few), 0.0)
    value, matched, reason = _stratified(y, z, _patterns(np.delete(labels, k, axis=1)))
    return Separation(plain, said(value, reason), matched)


def _few(n_positive: int, n_negative: int) -> str:
    if n_positive < FEWEST:
        return f"{n_positive} images with the finding: a spread needs {FEWEST}"
    return f"{n_negative} images without the finding: a spread needs {FEWEST}" if n_negative < FEWEST else ""


def _patterns(others: np.ndarray) -> np.ndarray:
    """A number for each pattern of labels, `(N,)`."""
    if others.shape[1] == 0:
        return np.zeros(len(others), dtype=np.int64)
    digits = np.ascontiguousarray(np.where(np.isnan(others), 2, others).astype(np.uint8))
    return np.unique(digits.view(f"V{digits.shape[1]}").ravel(), return_inverse=True)[1]


def _stratified(y: np.ndarray, z: np.ndarray, stratum: np.ndarray) -> tuple[float, float, str]:
    """d′ within strata, the share of positives in strata that count, and why there is no value."""
    z = z - z[~np.isnan(y)].mean()
    size = int(stratum.max()) + 1
    (n0, s0, q0), (n1, s1, q1) = (_sums(z, stratum, y == value, size) for value in (0, 1))
    good = (n1 >= 1) & (n0 >= FEWEST)
    matched = float(n1[good].sum() / n1.sum())
    n0, s0, q0, n1, s1, q1 = (part[good] for part in (n0, s0, q0, n1, s1, q1))
    free = float((n1 - 1).sum())
    if free < 1:
        return (
            float("nan"),
            matched,
            "no two images with the finding have the same other findings, and others without it",
        )
    m0, m1 = s0 / n0, s1 / n1
    v1 = float((q1 - n1 * m1**2).sum()) / free
    v0 = float(n1 @ ((q0 - n0 * m0**2) / (n0 - 1)) / n1.sum())
    pooled = (v0 + v1) / 2
    if not pooled > 1e-12 * np.square(z[~np.isnan(y)]).max():
        return float("nan"), matched, ""
    return float(n1 @ (m1 - m0) / n1.sum() / np.sqrt(pooled)), matched, ""


def _sums(z: np.ndarray, stratum: np.ndarray, side: np.ndarray, size: int) -> Sequence[np.ndarray]:
    at, value = stratum[side], z[side]
    return [np.bincount(at, weights=w, minlength=size) for w in (np.ones_like(value), value, value**2)]
