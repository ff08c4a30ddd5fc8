"""What the camera and the room add to a phantom lesion: light, glare, hair, a ruler, the rim of the dermatoscope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from raresight.core.seeds import numpy_rng
from raresight.data.phantom_texture import smooth_step


@dataclass(frozen=True, kw_only=True)
class View:
    """One photograph: camera and room. `shift_mm` moves the lesion off the centre, `gains` is the white balance,
    `vignette` the darkness of the rim (0 = none), `hair` a count, `focus_px` the blur at 96 px."""

    rotation: float
    zoom: float
    shift_mm: tuple[float, float]
    gains: tuple[float, float, float]
    slope: tuple[float, float]
    vignette: float
    aperture: float
    hair: int
    dark_hair: bool
    glare: float
    focus_px: float
    noise: float
    ruler: bool
    seed: int


def photograph(image: np.ndarray, view: View, width: int) -> np.ndarray:
    """Light, glare, hair, ruler and the dark rim of the dermatoscope."""
    rng = numpy_rng(view.seed, "camera")
    axis = (((np.arange(width) + 0.5) / width) * 2 - 1).astype(np.float32)
    across, down = axis[None, :], axis[:, None]
    radius = np.hypot(across, down)
    light = 1 + view.slope[0] * across + view.slope[1] * down - 0.10 * radius**2
    image = image * light[..., None] * np.array(view.gains, dtype=np.float32)
    if view.hair:
        strands = _hairs(view, width, rng)[..., None]
        image = image * (1 - strands) + strands * np.array(
            [0.16, 0.11, 0.09] if view.dark_hair else [0.72, 0.60, 0.48], dtype=np.float32
        )
    for _ in range(int(view.glare * 6)):
        x, y = rng.uniform(-0.8, 0.8, size=2)
        spread = rng.uniform(0.012, 0.045)
        spark = np.exp(-(((across - x) / (spread * rng.uniform(0.6, 1.8))) ** 2 + ((down - y) / spread) ** 2))
        image = image + (0.5 * view.glare * spark)[..., None]
    if view.ruler:
        image = image * (1 - 0.85 * _ruler(width)[..., None])
    if view.vignette:
        image = image * (1 - view.vignette * smooth_step((radius - view.aperture) / 0.10))[..., None]
    return np.clip(image, 0.0, 1.0)


def _hairs(view: View, width: int, rng: np.random.Generator) -> np.ndarray:
    sheet = Image.new("L", (width, width))
    pen = ImageDraw.Draw(sheet)
    growth = rng.uniform(0, np.pi)
    steps = np.linspace(0, 1, 14)[:, None]
    for _ in range(view.hair):
        middle = rng.uniform(0, width, size=2)
        heading = growth + rng.normal(0, 0.45)
        reach = width * rng.uniform(0.15, 0.55) * np.array([np.cos(heading), np.sin(heading)])
        bow = rng.normal(0, 0.12) * np.array([-reach[1], reach[0]])
        curve = middle - reach + 2 * reach * steps + bow * (4 * steps * (1 - steps))
        pen.line([tuple(p) for p in curve], fill=int(rng.uniform(120, 230)), width=max(1, round(width / 110)))
    return np.asarray(sheet, dtype=np.float32) / 255


def _ruler(width: int) -> np.ndarray:
    """A millimetre scale in the lower left corner: the planted shortcut."""
    sheet = Image.new("L", (width, width))
    pen = ImageDraw.Draw(sheet)
    top, thick = round(width * 0.94), max(1, round(width * 0.01))
    pen.line([(0.04 * width, top), (0.40 * width, top)], fill=255, width=thick)
    for tick in range(10):
        place = (0.04 + 0.04 * tick) * width
        pen.line([(place, top - width * (0.07 if tick % 5 == 0 else 0.04)), (place, top)], fill=255, width=thick)
    return np.asarray(sheet, dtype=np.float32) / 255
