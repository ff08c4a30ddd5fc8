"""Pictures inside the figures of `raresight explain`: maps laid over images, outlines of regions, small JPEGs."""

from __future__ import annotations

import base64
import io

import matplotlib as mpl
import numpy as np

SIDE = 112  # pixels of a picture on the page
HEAT, GREY_HEAT = "inferno", "gray"
OPAQUE = 0.72  # of the strongest part of a map
QUALITY = 82


def as_rgb(image: np.ndarray) -> np.ndarray:
    """`(H, W, C)` of 1 or 3 channels, uint8 -> `(H, W, 3)` float in [0, 1]."""
    image = np.asarray(image, dtype=np.float32) / 255
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]


def fitted(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """`(H, W, 3)` in [0, 1] -> at most `side` pixels along its longer edge, its proportions kept."""
    from PIL import Image

    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(pixels.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255


def stretched(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map `(h, w)` on the picture's grid, bilinear between the centres of its cells (`align_corners=False`)."""
    from PIL import Image

    cells = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(cells.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def overlaid(image: np.ndarray, values: np.ndarray, top: float, *, grey: bool = False) -> np.ndarray:
    """The image in grey under the map in colour: opacity and colour both rise with value / `top`, which all arms share.

    `image` `(H, W, 3)` in [0, 1], `values` `(h, w)` raw and not negative; a map of zeros leaves the image alone.
    """
    height, width = image.shape[:2]
    strength = np.clip(stretched(values, height, width) / top, 0, 1) if top > 0 else np.zeros((height, width))
    luminance = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    under = np.repeat((0.25 + 0.75 * luminance)[..., None], 3, axis=-1)
    heat = mpl.colormaps[GREY_HEAT if grey else HEAT](0.15 + 0.85 * strength)[..., :3]
    opacity = OPAQUE * np.sqrt(strength)[..., None] * (0.6 if grey else 1.0)
    return under * (1 - opacity) + heat * opacity


def outline(inside: np.ndarray, level: float, width: float, height: float) -> str:
    """The contour of `(h, w)` at `level` as an SVG path on a picture of `width` x `height`; empty if there is none."""
    from contourpy import contour_generator

    values = np.pad(np.asarray(inside, dtype=float), 1)  # with nothing around, regions close at the picture's edge
    h, w = np.shape(inside)
    lines = contour_generator(z=values).lines(level)
    parts = []
    for line in lines:
        points = np.asarray(line)[:: max(1, len(line) // 120)]
        x = np.clip((points[:, 0] - 0.5) * width / w, 0, width)
        y = np.clip((points[:, 1] - 0.5) * height / h, 0, height)
        parts.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z")
    return "".join(parts)


def jpeg(image: np.ndarray) -> str:
    """`(H, W, 3)` in [0, 1] as a data URI; equal pixels give equal text."""
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
