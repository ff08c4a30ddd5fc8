"""Where units fire on a finer grid than their own, as bits: bilinear or trilinear, 64 pixels a word.

A unit's map is upsampled axis by axis, the first axis first, each time as low + w (high - low) in float64 from float32
values, with corners not aligned. In this form a pixel never exceeds the largest value around it: between equal values
the result is exact, and between unlike ones its distance from the larger is far above a rounding error. So a unit
whose largest value in an image is not above its threshold fires nowhere in that image, and leaving such pairs of image
and unit out (`pruned`) changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np

from raresight.core.inner_loops import inner_loops


@dataclass(frozen=True)
class Lattice:
    """How pixels of `grid` lie among positions of `native`; both `(*s)`, of one to three axes.

    `low`, `high`, `weight` hold for each of three axes (those lacking have length 1 and come first) the positions
    beside a pixel and the share of the upper one: torch's interpolation with `align_corners=False`.
    """

    native: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def axes(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [_axis(n, m) for n, m in zip(_three(self.native), _three(self.grid), strict=True)]

    @property
    def n_pixels(self) -> int:
        return int(np.prod(self.grid))

    @property
    def n_words(self) -> int:
        return (self.n_pixels + 63) // 64


def upsampled(values: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Maps `(..., *native)` on the grid, `(..., *grid)` float64; see the head of this file."""
    lead = values.shape[: values.ndim - len(lattice.native)]
    out = np.asarray(values, dtype=np.float64).reshape(-1, *_three(lattice.native))
    for axis, (low, high, weight) in enumerate(lattice.axes, start=1):
        if len(low) == out.shape[axis] == 1:
            continue
        share = weight.reshape([-1 if a == axis else 1 for a in range(4)])
        below = out.take(low, axis)
        out = below + share * (out.take(high, axis) - below)
    return out.reshape(*lead, *lattice.grid)


def fired(
    values: np.ndarray, threshold: np.ndarray, lattice: Lattice, *, pruned: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Where each unit is strictly above its threshold: bits `(n, U, words)` uint64 and their number `(n, U)` int32.

    `values` `(n, U, *native)` float32, `threshold` `(U,)` float32. Pixel p is bit p mod 64 of word p // 64. Not
    `pruned`, every pair of image and unit is upsampled; the bits are the same.
    """
    block = np.ascontiguousarray(values, dtype=np.float32).reshape(*values.shape[:2], *_three(lattice.native))
    limit = np.asarray(threshold, dtype=np.float32)
    if not pruned:
        return plain_fired(block, limit, lattice, pruned=False)
    compiled = kernels()
    if compiled is None:
        return plain_fired(block, limit, lattice, pruned=True)
    bits = np.zeros((*block.shape[:2], lattice.n_words), dtype=np.uint64)
    area = np.zeros(block.shape[:2], dtype=np.int32)
    compiled.fire(block, limit, *(part for axis in lattice.axes for part in axis), bits, area)
    return bits, area


def plain_fired(
    values: np.ndarray, threshold: np.ndarray, lattice: Lattice, *, pruned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`fired` in numpy."""
    bits = np.zeros((*values.shape[:2], lattice.n_words), dtype=np.uint64)
    area = np.zeros(values.shape[:2], dtype=np.int32)
    some = values.reshape(*values.shape[:2], -1).max(axis=2) > threshold if pruned else np.ones(area.shape, dtype=bool)
    image, unit = np.nonzero(some)
    size = max(1, (1 << 20) // lattice.n_pixels)
    for start in range(0, len(image), size):
        i, u = image[start : start + size], unit[start : start + size]
        maps = values[i, u].reshape(-1, *lattice.native)
        above = upsampled(maps, lattice).reshape(len(i), -1) > threshold[u].astype(np.float64)[:, None]
        bits[i, u] = packed(above)
        area[i, u] = above.sum(axis=1)
    return bits, area


def packed(inside: np.ndarray) -> np.ndarray:
    """Pixels `(R, P)` bool as bits `(R, words)` uint64."""
    bytes_ = np.packbits(inside, axis=1, bitorder="little")
    short = -bytes_.shape[1] % 8
    return np.pad(bytes_, [(0, 0), (0, short)]).view(np.dtype("<u8")).astype(np.uint64)


def unpacked(bits: np.ndarray, n_pixels: int) -> np.ndarray:
    """Bits `(R, words)` as pixels `(R, P)` bool."""
    bytes_ = np.ascontiguousarray(bits).astype(np.dtype("<u8")).view(np.uint8)
    return np.unpackbits(bytes_, axis=1, count=n_pixels, bitorder="little").astype(bool)


def overlaps(bits: np.ndarray, area: np.ndarray, row: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pixels that the units of image `row[r]` share with mask r, `(R, U)` int32.

    `bits` `(n, U, words)` and `area` `(n, U)` of `fired`, `row` `(R,)` int64 in 0..n-1, `masks` `(R, words)` uint64.
    """
    shared = np.zeros((len(row), bits.shape[1]), dtype=np.int32)
    compiled = kernels()
    if compiled is not None:
        compiled.overlap(bits, area, np.asarray(row, dtype=np.int64), masks, shared)
        return shared
    for r, i in enumerate(row):
        some = np.flatnonzero(area[i])
        shared[r, some] = np.bitwise_count(bits[i, some] & masks[r]).sum(axis=1)
    return shared


def dealt_overlaps(bits: np.ndarray, area: np.ndarray, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pixels that units share with R masks laid on other images, summed over masks, `(B, U)` float64 of whole numbers.

    `image` `(B, R)` int64 says on which image each mask lies in each of B draws; otherwise as `overlaps`.
    """
    compiled = kernels()
    if compiled is not None:
        found = np.zeros((len(image), bits.shape[1]), dtype=np.int64)
        compiled.dealt_overlap(bits, area, np.asarray(image, dtype=np.int64), masks, found)
        return found.astype(np.float64)
    return np.array([overlaps(bits, area, row, masks).sum(axis=0, dtype=np.int64) for row in image], dtype=np.float64)


@lru_cache(maxsize=1)
def kernels() -> ModuleType | None:
    """The compiled loops, or None where numba is absent, broken or unwanted (`RARESIGHT_LANES=plain`)."""
    return inner_loops(_compiled, "dissection")


def _compiled() -> ModuleType:
    from raresight.explain import firing_compiled

    none = np.zeros((1, 1, 1), dtype=np.uint64)
    area = np.zeros((1, 1), dtype=np.int32)
    firing_compiled.overlap(none, area, np.zeros(1, dtype=np.int64), none[0], area)
    return firing_compiled


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(shape)) + tuple(shape)


def _axis(native: int, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = np.maximum((np.arange(grid) + 0.5) * (native / grid) - 0.5, 0.0)
    low = np.minimum(place.astype(np.int64), native - 1)
    return low, np.minimum(low + 1, native - 1), np.minimum(place - low, 1.0)
