"""What units tell apart, without a threshold and without masks: so the rarest classes are looked into as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from raresight.explain.concepts import Concepts, covering
from raresight.explain.dealt import FIRST, benjamini_hochberg, exchanged, tested
from raresight.explain.dissect import Detectors, assigned
from raresight.explain.firing import unpacked


@dataclass(frozen=True)
class UnitAuroc:
    """How well each of U units tells images of each of K classes from the others.

    `value` `(U, K)` AUROC of the unit's pooled activation; `p` one-sided and `p_adjusted` by Benjamini-Hochberg within
    the class, `(U, K)`; `n_images`, `n_patients` `(K,)` those with the class; `draws` `(K,)`. NaN where the class, or
    its absence, is absent; p also where there is one patient. `top` `(200, K)`: the highest AUROC of all units in each
    dealing of the labels, NaN where there is no p; for the highest of many is high by chance too.
    """

    value: np.ndarray
    p: np.ndarray
    p_adjusted: np.ndarray
    n_images: np.ndarray
    n_patients: np.ndarray
    draws: np.ndarray
    top: np.ndarray
    level: float

    @property
    def detector(self) -> np.ndarray:
        """Units that are higher in images of the class than chance allows, `(U, K)` bool."""
        return self.p_adjusted <= self.level

    @property
    def detectors(self) -> Detectors:
        """Each unit given to the class, among those it detects, that it tells apart best."""
        named = np.ones(self.value.shape[1], dtype=bool)
        return assigned(np.nan_to_num(self.value, nan=-1.0), self.detector, named)


def pooled(activations: np.ndarray, how: str = "mean") -> np.ndarray:
    """Each unit's `mean` or `max` over the image, `(N, U)` float32, of `(N, U, *s)`, an image at a time."""
    if how not in {"mean", "max"}:
        raise ValueError(f"units are pooled by mean or max, not by {how}")
    found = np.empty(activations.shape[:2], dtype=np.float32)
    for i, image in enumerate(activations):
        flat = np.asarray(image, dtype=np.float32).reshape(len(image), -1)
        found[i] = flat.mean(axis=1) if how == "mean" else flat.max(axis=1)
    return found


def auroc_of_units(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUROC `(U,)` of each column of `values` `(n, U)`, `positive` `(n,)` bool; ties count half; NaN of one kind."""
    m, n = int(positive.sum()), len(positive)
    if not 0 < m < n:
        return np.full(values.shape[1], np.nan)
    above: np.ndarray = _centred(values)[positive].sum(axis=0)
    return 0.5 + above / (2 * m * (n - m))


def unit_auroc(
    values: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    level: float = 0.05,
    names: tuple[object, ...] = (),
) -> UnitAuroc:
    """AUROC of every unit for every class on whole images, with p-values that know patients.

    AUROC_uk = P(v_u of an image with k > v_u of one without) + half of ties. p: the labels of whole patients are dealt
    anew among patients (`dealt.exchanged`), 200 times, and for promising units as often as the false-discovery rate
    asks for; one-sided, for units that are higher where the class is. A family is one class and the units that vary at
    all. Rests on the order alone: scale, and so arms of other scale, do not matter.

    `values` `(N, U)` pooled activations, `labels` `(N, K)` of 0, 1, NaN (left out of that class), `patients` `(N,)`.
    With g positive patients of G there are few ways of dealing for small g: one positive patient of 100 cannot have a
    p below 0.01, and so never a detector among many units. Absent class: NaN.
    Source: Bykov et al., INVERT, NeurIPS 2023 (AUROC of units against labels); the dealing of patients is our own.
    """
    n_units, n_classes = values.shape[1], labels.shape[1]
    value, p, adjusted = (np.full((n_units, n_classes), np.nan) for _ in range(3))
    draws = np.zeros(n_classes, dtype=np.int64)
    top = np.full((FIRST, n_classes), np.nan)
    for k in range(n_classes):
        known = ~np.isnan(labels[:, k])
        y, who = labels[known, k] == 1, patients[known]
        value[:, k] = auroc_of_units(values[known], y)
        if not 0 < y.sum() < len(y) or len(np.unique(who)) < 2:
            continue
        ranks = _centred(values[known])

        def sample(
            units: np.ndarray,
            first: int,
            count: int,
            ranks: np.ndarray = ranks,
            y: np.ndarray = y,
            who: np.ndarray = who,
            k: int = k,
        ) -> np.ndarray:
            dealt = y[exchanged(who, first, count, "unit auroc", k, *names)].astype(np.float64)
            m = dealt.sum(axis=1, keepdims=True)
            pairs = 2 * m * (len(y) - m)
            none = np.zeros((count, len(units)))  # all or no image positive: nothing is told apart
            return 0.5 + np.divide(dealt @ ranks[:, units], pairs, out=none, where=pairs > 0)

        family = np.ptp(values[known], axis=0) > 0
        result = tested(value[:, k], family, sample, level=level)
        p[:, k], adjusted[:, k], draws[k] = result.p, benjamini_hochberg(result.p), result.draws
        top[:, k] = result.null.max(axis=1)
    images = (labels == 1).sum(axis=0)
    persons = np.array([len(np.unique(patients[labels[:, k] == 1])) for k in range(n_classes)])
    return UnitAuroc(value, p, adjusted, images, persons, draws, top, level)


def pixel_auroc(activations: np.ndarray, sets: Concepts) -> np.ndarray:
    """AUROC of every unit for every concept over positions on the unit's own grid, `(U, C)`.

    A position counts as inside by the share f of it that the concept covers, and as outside by 1 - f; images in which
    the concept is not known are left out. As a rank sum: (Σ f r - W²/2) / (W (n - W)), W = Σ f, r the mid-rank less 1/2
    among the n known positions. Needs no threshold, and its chance level is 0.5 whatever the concept's share.

    `activations` `(N, U, *s)`, `sets` the concepts of the same images. A unit at a time. NaN for a concept without a
    mask, or one that covers all.
    """
    n, n_units = activations.shape[:2]
    native = tuple(activations.shape[2:])
    share = unpacked(sets.bits, sets.n_pixels).reshape(-1, *sets.grid).astype(np.float32)
    for axis, (fine, coarse) in enumerate(zip(sets.grid, native, strict=True), start=1):
        share = np.moveaxis(np.moveaxis(share, axis, -1) @ covering(fine, coarse), -1, axis)
    cells = int(np.prod(native))
    inside = share.reshape(len(share), cells).astype(np.float64)
    patterns, pattern = np.unique(sets.known, axis=1, return_inverse=True)  # concepts known in the same images
    pattern = pattern.ravel()
    found = np.full((n_units, len(sets.names)), np.nan)
    masks = [np.flatnonzero(sets.concept == c) for c in range(len(sets.names))]
    within = [inside[of].sum() for of in masks]
    for u in range(n_units):
        flat = np.asarray(activations[:, u], dtype=np.float32).reshape(n, cells)
        for d in range(patterns.shape[1]):
            images = np.flatnonzero(patterns[:, d])
            mine = [c for c in np.flatnonzero(pattern == d) if 0 < within[c] < len(images) * cells]
            if not mine:
                continue
            rank = np.zeros((n, cells))
            rank[images] = rankdata(flat[images].ravel()).reshape(-1, cells) - 0.5
            for c in mine:
                total, w = float((inside[masks[c]] * rank[sets.row[masks[c]]]).sum()), within[c]
                found[u, c] = (total - w * w / 2) / (w * (len(images) * cells - w))
    return found


def _centred(values: np.ndarray) -> np.ndarray:
    """Twice the mid-rank less the mean rank, of each column: whole numbers, so that sums are exact."""
    return 2 * rankdata(values, axis=0) - (len(values) + 1)
