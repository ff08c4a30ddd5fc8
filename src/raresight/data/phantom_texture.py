"""Smooth random fields and spots as functions of position in millimetres."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from raresight.core.seeds import numpy_rng

_TILE = 1024
_CELLS = 64


class Texture:
    """Smooth random fields, cheap to look up: one tile of noise, read at a random place for every field."""

    def __init__(self, seed: int) -> None:
        rng = numpy_rng(seed, "phantom texture")
        white = rng.standard_normal((_TILE, _TILE)).astype(np.float32)
        smooth = ndimage.gaussian_filter(white, 6.0, mode="wrap")
        self._tile = smooth / smooth.std()
        self._jitter = rng.uniform(0.25, 0.75, (_CELLS, _CELLS, 2)).astype(np.float32)
        self._chance = rng.random((_CELLS, _CELLS)).astype(np.float32)

    def field(self, u: np.ndarray, v: np.ndarray, grain_mm: float, rng: np.random.Generator) -> np.ndarray:
        """Noise of mean 0 and standard deviation 1 whose blobs are about `grain_mm` wide, at `(u, v)` in mm."""
        scale = 20.0 / grain_mm
        column, row = rng.integers(_TILE, size=2)
        columns = (u * scale + column).astype(np.int32) & (_TILE - 1)
        rows = (v * scale + row).astype(np.int32) & (_TILE - 1)
        return self._tile[rows, columns]

    def spots(
        self, u: np.ndarray, v: np.ndarray, spacing_mm: float, share: float, radius: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Round spots in [0, 1]: one in `share` of the cells of a jittered grid, `radius` in cell widths (< 0.3)."""
        column, row = rng.uniform(0, _CELLS, size=2)
        x, y = u / spacing_mm + column, v / spacing_mm + row
        columns, rows = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        cell = (rows & (_CELLS - 1), columns & (_CELLS - 1))
        jitter, chance = self._jitter[cell], self._chance[cell]
        grown = (radius * (0.55 + 0.45 * chance / share)) ** 2  # small and large ones side by side
        distance = (x - columns - jitter[..., 0]) ** 2 + (y - rows - jitter[..., 1]) ** 2
        spot = np.clip(1.5 * (1.0 - distance / grown), 0.0, 1.0)
        return spot * (chance < share)


def smooth_step(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1."""
    value = np.clip(value, 0.0, 1.0)
    return value * value * (3 - 2 * value)
