"""Figures that are no means of rows: how well logits rank a class and set it apart, and how many units detect it.

Each is laid out once by patient and then follows for all resamples (`explain.draws.Draws`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.evaluate.ranked import Ranked
from raresight.evaluate.ranking import auprc, auroc
from raresight.explain.draws import Draws, Figure

BLOCK = 256
SURE = 6.0  # standard errors from the threshold beyond which a unit's side is taken as settled
THRESHOLD = 0.04  # intersection over union above which a unit is called a detector, as in Network Dissection


def score_figures(
    target: np.ndarray, logit: np.ndarray, patient: Sequence[object] | np.ndarray, draws: Draws
) -> dict[str, Figure]:
    """`auroc`, `auprc` and `d_prime` of one class from its logits.

    d′ = (m₊ - m₋)/√((v₊ + v₋)/2) with mean and variance of the logits with and without the class: how far
    apart in units of their spread, which no shift and no scale of an arm's logits changes. `target` `(N,)` of 0, 1 or
    NaN (unknown: left out), `logit` `(N,)`, `patient` `(N,)`. Patients with the class are drawn among themselves.
    AUROC and AP in [0, 1], d′ any (as `explain.dprime.d_prime`). NaN where the class, or its absence, is absent.

    Source: of d′: Green & Swets, Signal Detection Theory (1966); AUROC, AP: `evaluate.ranked`.
    """
    target, logit = np.asarray(target, dtype=np.float64), np.asarray(logit, dtype=np.float64)
    at = draws.place(patient)
    yes, known = target == 1, ~np.isnan(target)
    has = np.bincount(at[yes], minlength=draws.n_patients) > 0
    n_images, n_patients = int(yes.sum()), int(has.sum())
    nothing = np.full(draws.resamples, np.nan)
    if not n_images:
        return {name: Figure(np.nan, nothing, 0, 0) for name in ("auroc", "auprc", "d_prime")}
    weight = draws.weight(has)
    ranked = Ranked(target, logit, at, draws.n_patients)
    # In blocks of 64, which stay in the processor's cache.
    made = [ranked.metrics(np.ascontiguousarray(weight[:, b : b + 64])) for b in range(0, draws.resamples, 64)]
    areas = [np.concatenate([block[which] for block in made]) for which in (0, 1)]
    z = np.where(known, logit - logit[known].mean(), 0.0)
    sides = [(known & yes), (known & ~yes)]
    moments = np.stack([side * z**power for side in sides for power in (0, 1, 2)], axis=1)
    per_patient = draws.per_patient(moments, at)
    d_value = _d_prime(per_patient.sum(axis=1)[:, None])[0]
    d_resampled = _d_prime(draws.sums(per_patient, has))
    return {
        "auroc": Figure(auroc(target, logit), areas[0], n_images, n_patients, span=(0.0, 1.0)),
        "auprc": Figure(auprc(target, logit), areas[1], n_images, n_patients, span=(0.0, 1.0)),
        "d_prime": Figure(float(d_value), d_resampled, n_images, n_patients),
    }


def detector_figures(
    inter: np.ndarray,
    union: np.ndarray,
    patient: Sequence[object] | np.ndarray,
    draws: Draws,
    *,
    has: np.ndarray,
    threshold: np.ndarray | float = THRESHOLD,
    chance: np.ndarray | None = None,
    ceiling: np.ndarray | None = None,
) -> list[Figure]:
    """How many units detect each of K concepts, from the pixel counts of every image, with T_u held fixed.

    IoU_uc = Σ_i |A_ui ∩ M_ic| / Σ_i |A_ui ∪ M_ic|; of the concepts for which it lies above `threshold` (a number, or
    `(U, K)` such as the 95th percentile of a null) a unit is counted for the one whose IoU is highest. Large regions
    have high IoU by themselves, so with `chance` and `ceiling` `(U, K)`, what masks dealt anew and the areas give, it
    is the one whose (IoU - chance)/(ceiling - chance) is highest, as `UnitNull.detectors` has it. `inter`, `union`
    `(N, U, K)` pixels, NaN or 0 where image i was not annotated for c. `has` `(N, K)` bool: image i has a region of c;
    patients are drawn within strata of their rarest such concept, so that every resample has all of them.

    A unit that lies more than 6 of its standard errors below the threshold for every concept is not resampled. A
    concept that nobody has: NaN.
    """
    at = draws.place(patient)
    n, u, k = inter.shape
    has = np.asarray(has, dtype=bool)
    g = draws.n_patients
    of_patient = np.stack([np.bincount(at[has[:, c]], minlength=g) > 0 for c in range(k)], axis=1)
    by_rarity = np.argsort(of_patient.sum(axis=0), kind="stable")
    held = of_patient[:, by_rarity]
    strata = np.where(held.any(axis=1), by_rarity[held.argmax(axis=1)], k)
    cells = [_by_patient(np.asarray(each).reshape(n, u * k), at, g) for each in (inter, union)]
    limit = np.broadcast_to(np.asarray(threshold, dtype=np.float64), (u, k))
    with np.errstate(invalid="ignore", divide="ignore"):
        point = np.where(cells[1].sum(0) > 0, cells[0].sum(0) / np.maximum(cells[1].sum(0), 1e-300), 0.0)
    residual = cells[0] - point * cells[1]
    error = np.sqrt(np.sum(residual**2, axis=0)) / np.maximum(cells[1].sum(0), 1e-300)
    near = ((point + SURE * error).reshape(u, k) > limit).any(axis=1)
    keep = np.repeat(near, k)
    base = np.zeros((u, k)) if chance is None else np.nan_to_num(chance)
    room = np.ones((u, k)) if ceiling is None else np.asarray(ceiling, dtype=np.float64) - base
    rule = (limit[near], base[near], np.where(room > 1e-12, room, np.nan)[near])
    counted = _counted(point.reshape(1, u, k)[:, near], *rule)[0]
    weight = draws.weight(strata)
    above, below = (np.ascontiguousarray(each[:, keep].T, dtype=np.float32) for each in cells)
    resampled = np.empty((draws.resamples, k))
    for b in range(0, draws.resamples, BLOCK):
        columns = weight[:, b : b + BLOCK].astype(np.float32)
        over, under = above @ columns, below @ columns
        iou = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
        resampled[b : b + BLOCK] = _counted(iou.T.reshape(columns.shape[1], int(near.sum()), k), *rule)
    figures = []
    for c in range(k):
        there = int(of_patient[:, c].sum())
        value = float(counted[c]) if there else np.nan
        values = resampled[:, c] if there else np.full(draws.resamples, np.nan)
        figures.append(Figure(value, values, int(has[:, c].sum()), there, span=(0.0, float(u))))
    return figures


def _counted(iou: np.ndarray, limit: np.ndarray, base: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Units per concept, `(B, K)`, from `(B, U, K)`; the rest `(U, K)`, `room` NaN where there is none."""
    b, u, k = iou.shape
    if not u:
        return np.zeros((b, k))
    passes = iou > limit
    best = np.where(passes, np.nan_to_num((iou - base) / room, nan=-1.0), -np.inf).argmax(axis=2)
    any_passes = passes.any(axis=2)
    return np.stack([(any_passes & (best == c)).sum(axis=1) for c in range(k)], axis=1).astype(np.float64)


def _by_patient(values: np.ndarray, at: np.ndarray, g: int) -> np.ndarray:
    """`(N, M)` summed by patient, `(G, M)` float64; NaN counts as nothing."""
    order = np.argsort(at, kind="stable")
    first = np.flatnonzero(np.diff(at[order], prepend=-1))
    summed = np.zeros((g, values.shape[1]))
    if len(order):
        summed[at[order][first]] = np.add.reduceat(np.nan_to_num(values[order].astype(np.float64)), first, axis=0)
    return summed


def _d_prime(sums: np.ndarray) -> np.ndarray:
    """d′ of every column of `(6, B)`: number, sum and sum of squares with the class, and without."""
    n, s, q = sums[[0, 3]], sums[[1, 4]], sums[[2, 5]]
    mean = s / np.maximum(n, 1)
    variance = np.maximum(q - n * mean**2, 0.0) / np.maximum(n - 1, 1)
    pooled = np.sqrt(variance.mean(axis=0))
    fine = (n > 1).all(axis=0) & (pooled > 1e-12)
    return np.asarray(np.divide(mean[0] - mean[1], pooled, out=np.full(sums.shape[1], np.nan), where=fine))
