"""The patient bootstrap: how often each patient is drawn in each resample.

A resample draws patients with replacement, so it is a column of multiplicities `(G,)`, and a metric of the resampled
images is the same metric with those weights. Nothing is copied: counts are one product, and a ranking is sorted once
and walked down for a whole block of resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import numpy as np

from raresight.core.inner_loops import inner_loops
from raresight.core.seeds import numpy_rng

BLOCK = 64


@cache
def kernels() -> ModuleType:
    """The inner loops: `lanes`, or `lanes_plain` where numba is absent, broken or unwanted; chosen once a process.

    `RARESIGHT_LANES=plain` chooses the plain ones. Where numba is installed and cannot be used, a warning says why.
    """
    from raresight.evaluate import lanes_plain

    return inner_loops(_compiled, "resampling") or lanes_plain


def _compiled() -> ModuleType:
    from raresight.evaluate import lanes

    lanes.totals(np.ones((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.uint8))
    return lanes


class Strata:
    """Groups of patients within which draws are made: `(G,)` of any labels, numbered 0..S-1."""

    def __init__(self, labels: np.ndarray) -> None:
        _, inverse = np.unique(labels, return_inverse=True)
        self.of = inverse.astype(np.int32)
        self.sizes = np.bincount(self.of)
        self.members = np.argsort(self.of, kind="stable")
        self.first = np.cumsum(self.sizes) - self.sizes
        # The largest stratum has what the others leave, and need not be counted.
        self.largest = int(self.sizes.argmax()) if len(self.sizes) else 0
        self.others = np.flatnonzero(np.arange(len(self.sizes)) != self.largest)
        self.cells = (self.of[None, :] == self.others[:, None]).astype(np.int64)


class Block:
    """A block of at most 64 resamples: G patients drawn from all G, once, and settled within any strata afterwards."""

    def __init__(self, n_patients: int, size: int, *names: object) -> None:
        self.names = names
        self.drawn = numpy_rng("bootstrap", *names).integers(
            0, max(n_patients, 1), size=(size, n_patients), dtype=np.int32
        )
        self.plain = kernels().multiplicities(self.drawn, n_patients)

    def within(self, strata: Strata) -> np.ndarray:
        """Multiplicities `(G, B)` uint8 in which each stratum of n patients is drawn exactly n times.

        Of the draws that fell into a stratum the first n count, and what is lacking is drawn anew from the stratum. Of
        independent draws, those in a stratum are independent and uniform there, so this is the multinomial of each
        stratum; and as only some √n of n draws change, every stratification of the same resamples is had for little.
        """
        if not len(strata.of):
            return self.plain
        counted = np.empty((len(strata.sizes), len(self.drawn)), dtype=np.int64)
        counted[strata.others] = kernels().totals(strata.cells, self.plain)
        counted[strata.largest] = len(strata.of) - counted[strata.others].sum(axis=0)
        excess = counted - strata.sizes[:, None]
        # Resample after resample, so that the first ones do not depend on how many there are.
        resample, stratum = np.nonzero(excess.T < 0)
        lacking = -excess[stratum, resample]
        resample, stratum = np.repeat(resample, lacking), np.repeat(stratum, lacking)
        chance = numpy_rng("bootstrap", *self.names, "lacking").random(len(stratum))
        anew = strata.members[strata.first[stratum] + (chance * strata.sizes[stratum]).astype(np.int64)]
        too_many = np.maximum(excess, 0).astype(np.int32)
        weight: np.ndarray = kernels().settled(self.plain, self.drawn, strata.of, too_many, anew, resample)
        return weight


def drawn(n_patients: int, resamples: int, *names: object) -> Iterator[Block]:
    """Resamples of `n_patients` in blocks, each to be settled within any number of strata.

    `names` seed the draws; every block draws from its own stream, so the first resamples are the same however many are
    asked for.
    """
    for b, start in enumerate(range(0, resamples, BLOCK)):
        yield Block(n_patients, min(BLOCK, resamples - start), *names, b)


def blocks(strata: np.ndarray, resamples: int, *names: object) -> Iterator[np.ndarray]:
    """Multiplicities of patients, `(G, B)` float64 in blocks of at most 64 resamples, drawn within strata.

    In each stratum of n patients, n are drawn with replacement (multinomial), so every resample holds as many patients
    of it as the data do: a rare class never vanishes. `strata` is `(G,)`, any labels. `names` seed the draws: equal
    names give the same resamples of the same number of patients, settled within whatever strata (`Block.within`).
    """
    within = Strata(strata)
    for block in drawn(len(strata), resamples, *names):
        yield block.within(within).astype(np.float64)


def as_lanes(weight: np.ndarray) -> np.ndarray:
    """Multiplicities of any type as contiguous uint8. Raises: `ValueError` unless whole numbers from 0 to 255."""
    if weight.dtype == np.uint8:
        return np.ascontiguousarray(weight)
    lanes = weight.astype(np.uint8)
    if not np.array_equal(lanes, weight):
        raise ValueError("multiplicities are whole numbers from 0 to 255")
    return np.ascontiguousarray(lanes)


def percentile(values: np.ndarray, level: float = 0.95) -> tuple[float, float, int]:
    """The percentile interval of the resamples, and how many of them were undefined and left out."""
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return float("nan"), float("nan"), undefined
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), undefined


def over_seeds(each: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean over seeds drawn anew in each resample, `(B,)`: `each` `(S, B)`, `drawn` `(S, B)` says which seeds.

    S seeds drawn with replacement from S vary by (S-1)/S of what they should: a sample's own variance is too small by
    that. Their deviations from the seeds' mean are stretched by sqrt(S/(S-1)): without that, few seeds would look too
    much alike. One seed is left as it is.

    Source: Rao & Wu, JASA 83 (1988) 231, section 2.
    """
    n, resamples = each.shape
    if n == 1:
        return each[0]
    mean = each.mean(axis=0)
    picked = each[drawn, np.arange(resamples)[None, :]].mean(axis=0)
    return mean + math.sqrt(n / (n - 1)) * (picked - mean)
