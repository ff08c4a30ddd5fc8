"""From which activation on a unit counts as firing: its own upper quantile over all positions of a probe.

The convention is recorded because it matters: quantiles are taken on the unit's native grid, over every position of
every image, so no image's threshold depends on its batch-mates. Quantiles of upsampled maps would be lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from raresight.core.errors import ConfigError, Problem

CHUNK = 1 << 23  # values of one chunk, 32 MiB as float32
BINS = 4096


@dataclass(frozen=True)
class Thresholds:
    """From where on each of U units fires: at positions with a value strictly above `value`.

    `value` `(U,)` float32; `share` `(U,)` the share of the `n_positions` positions that are above, at most `q` and less
    where values tie; `at_zero` `(U,)` units with a threshold of exactly 0, which fire wherever they are active at all
    (a rectified unit active in less than `q` of the positions); `dead` `(U,)` units that fire nowhere: constant ones,
    and those whose largest value is tied beyond `q`.
    """

    value: np.ndarray
    share: np.ndarray
    q: float
    n_positions: int

    @property
    def dead(self) -> np.ndarray:
        return self.share == 0

    @property
    def at_zero(self) -> np.ndarray:
        return self.value == 0


def thresholds(activations: np.ndarray, q: float = 0.005) -> Thresholds:
    """The exact threshold of every unit, from a running list of its largest values.

    T_u is the (m+1)-th largest of the n = N Π s values of unit u, m = floor(q n), but at least 1: so at most m values
    are strictly above T_u.

    `activations` `(N, U, *s)` of any float type, a memory map too: read a chunk at a time, as float32. Memory: a few
    chunks of 32 MiB, and U (m+1) floats. Units whose values are all negative have negative thresholds.
    Raises: `ConfigError` RS-C47 for a `q` outside (0, 1); RS-R49 where an activation is not finite.
    Source: Bau et al., CVPR 2017, section 2.2 (there q = 0.005).
    """
    _checked(q)
    n_units = activations.shape[1]
    n = int(np.prod(activations.shape)) // max(n_units, 1)
    kept = min(_above(q, n) + 1, n)
    largest = np.full((n_units, 0), -np.inf, dtype=np.float32)
    for chunk in chunks(activations):
        flat = np.ascontiguousarray(np.moveaxis(chunk.reshape(len(chunk), n_units, -1), 1, 0)).reshape(n_units, -1)
        if not np.isfinite(flat).all():
            raise _not_finite()
        joined = np.concatenate([largest, flat], axis=1)
        surplus = joined.shape[1] - kept
        if surplus > 0:
            joined.partition(surplus, axis=1)
        largest = joined[:, max(surplus, 0) :].copy()
    value = largest.min(axis=1)
    return Thresholds(value, (largest > value[:, None]).sum(axis=1) / n, q, n)


def histogram_thresholds(batches: Callable[[], Iterable[np.ndarray]], q: float = 0.005, bins: int = BINS) -> Thresholds:
    """The same for activations that are not kept and whose number is not known: two passes, and a histogram per unit.

    The first pass finds each unit's range, the second counts its values in `bins` bins of equal width. The threshold is
    the lowest edge with at most m values at or above it: at least the exact one, and by less than a bin above it. It is
    exact where no more than m values exceed the unit's least (rectified units that are rarely active).

    `batches` is called twice and must give the same `(n, U, *s)` arrays. Memory: U x `bins` counts.
    Raises: `ConfigError` RS-C47 for a `q` outside (0, 1); RS-R49 where an activation is not finite, or without any.
    """
    _checked(q)
    low = high = np.zeros(0)
    n = 0
    for flat in _by_unit(batches()):
        if not np.isfinite(flat).all():
            raise _not_finite()
        least, most = flat.min(axis=1), flat.max(axis=1)
        low, high = (np.minimum(low, least), np.maximum(high, most)) if n else (least, most)
        n += flat.shape[1]
    if not n:
        raise _not_finite()
    n_units = len(low)
    counted = np.zeros((n_units, bins), dtype=np.int64)
    over_least = np.zeros(n_units, dtype=np.int64)
    width = np.where(high > low, (high - low) / bins, 1.0)
    for flat in _by_unit(batches()):
        cell = np.minimum(((flat - low[:, None]) / width[:, None]).astype(np.int64), bins - 1)
        cell += np.arange(n_units)[:, None] * bins
        counted += np.bincount(cell.ravel(), minlength=n_units * bins).reshape(n_units, bins)
        over_least += (flat > low[:, None]).sum(axis=1)
    m = min(_above(q, n), n - 1)
    at_or_above = np.cumsum(counted[:, ::-1], axis=1)[:, ::-1]
    first = (at_or_above > m).sum(axis=1)  # the counts fall, so these come first; `first` may be past the last bin
    reached = np.append(at_or_above, np.zeros((n_units, 1), dtype=np.int64), axis=1)[np.arange(n_units), first]
    rare = over_least <= m
    value = np.where(rare, low, np.where(first < bins, low + first * width, high)).astype(np.float32)
    return Thresholds(value, np.where(rare, over_least, reached) / n, q, n)


def chunks(activations: np.ndarray, values: int = CHUNK) -> Iterator[np.ndarray]:
    """Consecutive images as float32 `(n, U, *s)`, about `values` values at a time."""
    size = max(1, values // max(1, int(np.prod(activations.shape[1:]))))
    for start in range(0, len(activations), size):
        yield np.asarray(activations[start : start + size], dtype=np.float32)


def _by_unit(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for batch in batches:
        yield np.moveaxis(np.asarray(batch, dtype=np.float32), 1, 0).reshape(batch.shape[1], -1).astype(np.float64)


def _above(q: float, n: int) -> int:
    """How many of n values may lie above the threshold; the hair keeps 0.29 x 100 from being 28.999."""
    return max(1, math.floor(q * n + 1e-9))


def _checked(q: float) -> None:
    if not 0 < q < 1:
        raise ConfigError(
            Problem(
                code="RS-C47",
                level="error",
                found=f"q = {q:g}",
                why="q is the share of all positions at which a unit fires",
                remedy="give a share between 0 and 1, such as 0.005",
            )
        )


def _not_finite() -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R49",
            level="error",
            found="activations that are not finite numbers, or none at all",
            why="a unit's largest values cannot be told, so nothing can be said of where it fires",
            remedy="look at another layer, or at weights from before the training diverged",
        )
    )
