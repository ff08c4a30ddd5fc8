"""Small grey copies of cached images, for telling near-duplicates from look-alikes."""

from __future__ import annotations

import numpy as np

SIDE = 16
_AT_ONCE = 1024


def thumbnails(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Block means of the cached images, `(len(rows), 16, 16)` float32.

    `pixels` `(M, S, S, C)`, `rows` row numbers; where S is no multiple of 16, the margin left over is cut off
    evenly. Images smaller than 16 px come back as they are, in grey.
    """
    side = pixels.shape[1]
    block = max(1, side // SIDE)
    keep = min(SIDE, side) * block
    start = (side - keep) // 2
    out = np.empty((len(rows), keep // block, keep // block), dtype=np.float32)
    for first in range(0, len(rows), _AT_ONCE):
        part = pixels[rows[first : first + _AT_ONCE], start : start + keep, start : start + keep].astype(np.float32)
        n = len(part)
        out[first : first + n] = part.reshape(n, keep // block, block, keep // block, block, -1).mean(axis=(2, 4, 5))
    return out
