"""Small copies of cached images: grey ones to tell near-duplicates from look-alikes, JPEGs for a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

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


def jpeg_uri(image: np.ndarray, *, side: int = 120) -> str:
    """A cached image `(S, S, C)` as a JPEG data URI of at most `side` px, without any metadata.

    16-bit grey values are scaled from the image's own smallest and largest to 0..255.
    """
    pixels = image[:, :, 0] if image.shape[2] == 1 else image
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1.0))).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
