"""Nulls by dealing patients anew: what a unit's figure would be if it had nothing to do with who has the finding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raresight.core.seeds import numpy_rng

FIRST = 200  # draws for every unit; more for those that no draw has reached
GROWTH = 4

Sample = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class Tested:
    """`p` `(U,)` in (0, 1], NaN outside the family; `null` `(FIRST, U)` the first draws; `draws`, how many in all."""

    p: np.ndarray
    null: np.ndarray
    draws: int


def exchanged(patients: np.ndarray, first: int, count: int, *names: object) -> np.ndarray:
    """For each image one of another patient's in its stead, `(count, n)` int64 positions: draws first..first+count-1.

    Patients are permuted: image j of patient g is replaced by image j mod n_h of patient h, its n_h images in their
    order. With one image a patient these are the permutations of the images. Images of a patient stay together, so
    what they have in common is not taken for evidence. Draws depend on `names` and their number alone.
    """
    _, who = np.unique(patients, return_inverse=True)
    order = np.argsort(who, kind="stable")
    size = np.bincount(who)
    start = np.cumsum(size) - size
    place = np.empty(len(who), dtype=np.int64)
    place[order] = np.arange(len(who)) - start[who[order]]
    blocks = range(first // FIRST, -(-(first + count) // FIRST))
    in_order = np.tile(np.arange(len(size)), (FIRST, 1))
    other = np.concatenate([numpy_rng("dealt", *names, block).permuted(in_order, axis=1) for block in blocks])
    skipped = first - blocks.start * FIRST
    mine = other[skipped : skipped + count][:, who]
    drawn: np.ndarray = order[start[mine] + place % size[mine]]
    return drawn


def tested(observed: np.ndarray, family: np.ndarray, sample: Sample, *, level: float = 0.05) -> Tested:
    """One-sided p-values of U units against a common set of draws, as fine as their false-discovery rate needs.

    p_u = (1 + #{draws >= observed}) / (1 + draws). The smallest p of B draws is 1/(B+1); of m units, z that no draw
    reached are told apart from chance if 1/(B+1) <= level z/m. So after `FIRST` draws for all, units that fewer than 5
    draws reached are given four times as many, until that holds, or none is left, or B = m / level.

    `observed` `(U,)`, `family` `(U,)` bool: the units that could be detectors, chosen without a look at the finding.
    `sample(units, first, count)` gives the figures of some units `(count, len(units))` in draws first..first+count-1.
    Source: p with the observed counted in: Phipson & Smyth, SAGMB 9 (2010) 39; stopping early: Besag & Clifford,
    Biometrika 78 (1991) 301.
    """
    n = len(observed)
    hair = 1e-9 * np.maximum(1.0, np.abs(observed))
    null = sample(np.arange(n), 0, FIRST)
    reached = (null >= observed - hair).sum(axis=0)
    p = np.where(family, (1 + reached) / (1 + FIRST), np.nan)
    total, most, m = FIRST, math.ceil(float(family.sum()) / level), int(family.sum())
    while True:
        open_ = np.flatnonzero(family & (reached < 5))
        unreached = int((reached[open_] == 0).sum())
        if not unreached or total >= most or 1 / (total + 1) <= level * unreached / m:
            return Tested(p, null, total)
        count = min(GROWTH * total, most + 1) - total
        for start in range(total, total + count, 1000):
            size = min(1000, total + count - start)
            reached[open_] += (sample(open_, start, size) >= observed[open_] - hair[open_]).sum(axis=0)
        total += count
        p[open_] = (1 + reached[open_]) / (1 + total)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values `(..., m)`: p̃_(i) = min_{j >= i} min(1, m p_(j) / j); NaN stays NaN and is not counted.

    Each row of m is a family of its own. Rejecting p̃ <= level keeps the expected share of false rejections at most at
    the level, for independent or positively dependent tests.
    Source: Benjamini & Hochberg, JRSS B 57 (1995) 289.
    """
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    n_given = np.sum(~np.isnan(p), axis=-1, keepdims=True)
    scaled = np.take_along_axis(p, order, axis=-1) * n_given / np.arange(1, p.shape[-1] + 1)
    least = np.fmin.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty_like(scaled)
    np.put_along_axis(found, order, np.minimum(least, 1.0), axis=-1)
    return found
