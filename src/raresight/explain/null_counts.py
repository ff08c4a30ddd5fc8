"""How many units of a layer chance alone would call detectors: the rule of the real masks, put to masks dealt anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from raresight.explain.dealt import benjamini_hochberg
from raresight.explain.dissect import assigned


@dataclass(frozen=True)
class Band:
    """Mean and ends of 95 of 100 counts (or highest figures), `(C,)`; NaN for a concept that could not be dealt."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def passing(shared: np.ndarray, iou: np.ndarray, high: np.ndarray, family: np.ndarray, *, level: float) -> np.ndarray:
    """The units that would be detectors of one concept if each dealing in turn were the real masks, `(D, U)` bool.

    p_du = #{dealings e: shared_eu >= shared_du}/D, the dealing itself counted in as the observed is; adjusted by
    Benjamini-Hochberg over the `family` `(U,)` bool; and the IoU above `high` `(U,)`, its 95th percentile.

    No p is below 1/D, while the real masks are compared with more draws where that is needed (`dealt.tested`). Of m
    units, chance therefore shows here as m/(level D) of them or more at once, in few dealings, and as none otherwise:
    what units that fire on the same images do together. One unit alone by luck, which the rate itself allows in 5 of
    100 networks, is not in these counts. Of units that are near copies of each other all pass in about 5 of 100
    dealings, so that the band of their count reaches to nearly all of them: it is as wide as their likeness makes it.

    `shared` `(D, U)` whole numbers of pixels, `iou` `(D, U)`: D dealings of U units.
    """
    beaten = rankdata(-shared, method="max", axis=0)
    p = np.where(family, beaten / len(shared), np.nan)
    return (benjamini_hochberg(p) <= level) & (iou > high)


def null_counts(scores: Mapping[int, np.ndarray], named: np.ndarray) -> np.ndarray:
    """Detectors of each of C concepts in each of D dealings, taken for all concepts at once, `(D, C)` float.

    `scores`: concept -> `(D, U)`, `UnitNull.corrected` of a dealing where the unit passes, -inf elsewhere; a unit that
    passes for several classes is given to one as the real ones are (`dissect.assigned`). `named` `(C,)` bool.
    Absent class: NaN for a concept that is not in `scores`.
    """
    if not scores:
        return np.full((0, len(named)), np.nan)
    n_dealings, n_units = next(iter(scores.values())).shape
    counts = np.full((n_dealings, len(named)), np.nan)
    some = np.zeros(n_dealings, dtype=bool)
    for c, score in scores.items():
        counts[:, c] = 0
        some |= (score > -np.inf).any(axis=1)
    for d in np.flatnonzero(some):
        score = np.full((n_units, len(named)), -np.inf)
        for c, of_concept in scores.items():
            score[:, c] = of_concept[d]
        count = assigned(score, score > -np.inf, named).count
        counts[d, list(scores)] = count[list(scores)]
    return counts


def band(counts: Sequence[np.ndarray]) -> Band:
    """What chance gives the mean count of several networks, from the `null_counts` `(D, C)` of each.

    So too for other figures of a dealing, such as the highest of all units (`UnitNull.top_excess`).

    Masks were dealt to the same images in dealing d for all networks of a look, so the mean over networks is taken
    within each dealing, and mean and percentiles over dealings after. (The mean of the networks' own percentiles is no
    safe end: if each of three has a detector in 2 of 100 dealings, their ends are 0, and that of the mean need not be.)
    The ends are counts that occur: at most 2.5 of 100 dealings lie below `low`, at most as many above `high`.
    Absent class: NaN where any network has no dealings.
    """
    n_concepts = counts[0].shape[1]
    if not all(len(one) for one in counts):
        return Band(*(np.full(n_concepts, np.nan) for _ in range(3)))
    together = np.mean(counts, axis=0)
    low, high = np.quantile(together, [0.025, 0.975], axis=0, method="inverted_cdf")
    return Band(together.mean(axis=0), low, high)
