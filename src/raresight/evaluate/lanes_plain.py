"""The bootstrap's inner loops in plain numpy and scipy, for where numba is absent: the same functions as `lanes`."""

from __future__ import annotations

import numpy as np
from scipy import sparse

NAME = "plain numpy"


def multiplicities(drawn: np.ndarray, n: int) -> np.ndarray:
    """See `lanes.multiplicities`."""
    lanes = len(drawn)
    cells = np.arange(lanes, dtype=np.int64)[:, None] * n + drawn
    counted = np.bincount(cells.ravel(), minlength=lanes * n)
    if counted.max(initial=0) > 255:
        raise OverflowError("a patient was drawn more than 255 times")
    return np.ascontiguousarray(counted.reshape(lanes, n).T.astype(np.uint8))


def settled(
    weight: np.ndarray,
    drawn: np.ndarray,
    stratum: np.ndarray,
    excess: np.ndarray,
    anew: np.ndarray,
    resample: np.ndarray,
) -> np.ndarray:
    """See `lanes.settled`."""
    changed = weight.copy()
    of_draw = stratum[drawn]
    for s, b in np.argwhere(excess > 0):
        last = np.flatnonzero(of_draw[b] == s)[-excess[s, b] :]
        np.subtract.at(changed[:, b], drawn[b, last], np.uint8(1))
    np.add.at(changed, (anew, resample), np.uint8(1))
    return changed


def totals(cells: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """See `lanes.totals`; float64 is exact up to 2^53."""
    return np.rint(cells.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)


def walk(
    hit_at: np.ndarray,
    hit: np.ndarray,
    tied_at: np.ndarray,
    tied: np.ndarray,
    passed_at: np.ndarray,
    passed: np.ndarray,
    weight: np.ndarray,
    allowed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `lanes.walk`: which stop an image belongs to is a sparse matrix, and one product sums all resamples."""

    def summed(at: np.ndarray, who: np.ndarray) -> np.ndarray:
        each = (np.ones(len(who), dtype=np.int64), who, at)
        return np.asarray(sparse.csr_matrix(each, shape=(len(at) - 1, len(weight))) @ wide)

    wide = weight.astype(np.int64)
    here, level = summed(hit_at, hit), summed(tied_at, tied)
    tp = np.cumsum(here, axis=0)
    fp = np.cumsum(summed(passed_at, passed) + level, axis=0)
    lost = (here * (2 * fp - level)).sum(axis=0)
    # Added one stop after the other, as the compiled loop does, so that the last bit agrees too.
    gained = (here.astype(np.float64) * tp / np.maximum(tp + fp, 1)).cumsum(axis=0)
    found = [(here * (fp <= most)).sum(axis=0) for most in allowed]
    none = np.zeros((0, weight.shape[1]), dtype=np.int64)
    return tp[-1], lost, gained[-1], np.stack(found) if found else none
