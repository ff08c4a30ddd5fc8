"""What a map would score by chance: against other patients' findings, and against the place where such findings lie.

A finding that covers a fifth of the image is hit by a fifth of all random maps, and one that is always in the middle is
hit by every map that is bright in the middle. Two yardsticks tell such scores from looking: the same map against the
masks of other patients with the same finding, and the mean mask of the training patients taken as a map.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from raresight.core.seeds import numpy_rng
from raresight.explain.alignment import LEAST_HEAT, METRICS, QUANTILES, flat, loops, measure_one, positive

DRAWS = 20
SCORES = ("hit", "mass", "iobb", "ehr", "iou", "rank", "pixel_ap")  # as the inner loops give them


def corrected(score: np.ndarray | float, chance: np.ndarray | float) -> np.ndarray:
    """How much of what chance leaves open was reached.

    Equation: (m - m_0) / (1 - m_0). Shapes: any two that broadcast. Ranges: 1 is perfect, 0 is chance, below 0 is worse
    than chance (down to -m_0 / (1 - m_0)).
    Absent class: NaN where either is NaN, or where m_0 is 1: nothing is above it.
    Source: as Cohen's kappa corrects agreement.
    """
    score, chance = np.asarray(score, dtype=np.float64), np.asarray(chance, dtype=np.float64)
    room = 1.0 - chance
    return np.where(room > 0, (score - chance) / np.where(room > 0, room, 1.0), np.nan)


def against_others(
    maps: np.ndarray,
    masks: np.ndarray,
    patients: np.ndarray,
    *,
    tau: np.ndarray | float = 0.5,
    draws: int = DRAWS,
    names: tuple[object, ...] = (),
) -> pd.DataFrame:
    """What each map scores against the masks of other patients with the same finding, on average; one row per map.

    Equation: m_0(i) = mean over rows j of other patients of m(S_i, M_j). Exact over all j for the scores that are
    linear in the mask (`hit_0`, `mass_0`, `ehr_0`, and `iobb_0`, linear in M / |M|): the mean of the masks is scored
    once. For `iou_0`, `rank_0` and `pixel_ap_0` the mean is over `draws` rows j drawn without replacement, or all where
    there are no more. The draw depends on `names`, the patients and the row alone, so arms meet the same masks.
    Shapes: maps `(R, *S)` and masks `(R, *S)` of one class, patients `(R,)`, tau as in `measure`. `n_others` is the
    number of other patients. Ranges: [0, 1].
    Absent class: NaN, never 0, where no other patient has the finding, and where `measure` gives NaN for the row. Masks
    without a pixel are no finding: they are left out of the others.
    Raises: `ValueError` where maps and masks are not on one grid.
    Source: permutation of masks within a class; ours.
    """
    if maps.shape != masks.shape:
        raise ValueError(f"maps are {maps.shape} and masks {masks.shape}; resize the maps to the masks first")
    maps, masks, patients = flat(maps), flat(masks) != 0, np.asarray(patients)
    taus = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(maps),))
    scores, n_others = np.full((len(maps), len(SCORES)), np.nan), np.zeros(len(maps))
    _, patient = np.unique(patients, return_inverse=True)
    marked = np.asarray(masks.any(axis=1))
    places, offsets = _places(masks)
    everyone = _Pooled(masks, marked)
    for who in range(patient.max(initial=-1) + 1):
        own = np.flatnonzero(patient == who)
        others = np.flatnonzero((patient != who) & marked)
        n_others[own] = len(np.unique(patient[others]))
        if not len(others):
            continue
        shares, of_area = everyone.without(masks[own], marked[own])
        for row in own[marked[own] & np.isfinite(maps[own]).all(axis=1)]:
            drawn = others
            if len(others) > draws:
                rng = numpy_rng("other patients' masks", *names, int(row))
                drawn = np.sort(rng.choice(others, draws, replace=False))
            values, order = loops().descending(positive(maps[row]))
            loops().shares(values, order, shares, of_area, LEAST_HEAT, QUANTILES, scores[row, :4])
            loops().drawn(values, order, places, offsets, drawn, taus[row], scores[row, 4:])
    table = pd.DataFrame(scores, columns=[f"{name}_0" for name in SCORES])
    table.loc[np.isnan(taus), "iou_0"] = np.nan
    return table[[f"{name}_0" for name in METRICS]].assign(n_others=n_others)


def prior_of(masks: np.ndarray) -> np.ndarray:
    """Where a class's findings lie: the mean of its training masks, `(R, *S)` -> `(*S)` in [0, 1]; NaN of none."""
    return masks.mean(axis=0, dtype=np.float32) if len(masks) else np.full(masks.shape[1:], np.nan, dtype=np.float32)


def against_prior(prior: np.ndarray, masks: np.ndarray, *, tau: np.ndarray | float = 0.5) -> pd.DataFrame:
    """What the class's mean training mask would score if it were every image's map; one row per mask.

    Equation: m_prior(i) = m(prior, M_i), all scores of `measure`, named `hit_prior`, `mass_prior`, ... The skill of a
    map is `corrected(m, m_prior)`: a network that knows no more than where such findings usually lie has skill 0.
    Shapes: prior `(*S)`, from `prior_of` on images of the training part; masks `(R, *S)` of the part that is looked at.
    Ranges: as `measure`. Absent class: NaN where the prior is NaN. Raises: `ValueError` where the grids differ.
    Source: ours; the centre-bias baseline of the saliency benchmarks, by class.
    """
    if prior.shape != masks.shape[1:]:
        raise ValueError(f"the prior is {prior.shape} and a mask {masks.shape[1:]}")
    return measure_one(prior, masks, tau=tau)[[*METRICS]].add_suffix("_prior")


class _Pooled:
    """Sums of masks over all rows, from which a patient's own are taken away."""

    def __init__(self, masks: np.ndarray, marked: np.ndarray) -> None:
        self._count = int(marked.sum())
        self._mask = masks.sum(axis=0, dtype=np.float64)
        self._of_area = np.zeros(masks.shape[1])
        for mask in masks[marked]:
            self._of_area += mask / mask.sum()

    def without(self, own: np.ndarray, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The means of M and of M / |M| over the other patients' rows, each `(P,)`."""
        own = own[marked]
        left = self._count - len(own)
        of_area = (own / own.sum(axis=1, keepdims=True)).sum(axis=0) if len(own) else 0.0
        return (self._mask - own.sum(axis=0)) / left, (self._of_area - of_area) / left


def _places(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of every mask, one mask after another, and where each begins and the last one ends."""
    places = [np.flatnonzero(mask).astype(np.int32) for mask in masks]
    offsets = np.cumsum([0, *(len(some) for some in places)], dtype=np.int64)
    return np.concatenate([np.empty(0, dtype=np.int32), *places]), offsets
