"""Painting one photograph of a phantom lesion: skin, lesion, then what the camera and the room add.

Everything is a function of position in millimetres, so that several photographs of one lesion agree with each other
and with the mask at any resolution. Colour follows the Beer-Lambert law: pigment takes away light, `skin * exp(-D)`,
with one optical density D per colour channel, which is why a lesion looks right on every skin tone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from raresight.core.seeds import numpy_rng
from raresight.data.phantom_lesion import Lesion

FIELD_MM = 17.0
"""Width of the skin seen by the camera at zoom 1."""
_OVERSAMPLE = 2
_TILE = 1024
_CELLS = 64

_DENSITY: dict[str, tuple[float, float, float]] = {
    "light brown": (0.26, 0.50, 0.66),
    "dark brown": (0.80, 1.20, 1.28),
    "black": (1.75, 1.75, 1.60),
    "blue-grey": (0.80, 0.66, 0.48),
    "red": (0.10, 0.78, 0.60),
    "pink": (0.03, 0.32, 0.20),
    "white": (-0.04, -0.12, -0.14),
    "tan": (0.22, 0.36, 0.62),
}
"""Optical density (red, green, blue) that a colour adds to the skin."""

_SKIN = np.array([[0.91, 0.72, 0.70], [0.87, 0.66, 0.60], [0.80, 0.58, 0.47], [0.62, 0.42, 0.32], [0.42, 0.27, 0.20]])
"""Skin from very light to dark."""


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


def paint(lesion: Lesion, tone: float, view: View, size: int, texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """Paint one photograph and its exact lesion mask.

    Returns image `(size, size, 3)` uint8 and mask `(size, size)` bool. `tone` is the skin, 0 very light to 1 dark.
    The mask holds the pixels of which at least half lies inside the lesion's border.
    """
    width = size * _OVERSAMPLE
    half_mm = FIELD_MM / 2 / view.zoom
    axis = (((np.arange(width) + 0.5) / width) * 2 - 1).astype(np.float32) * np.float32(half_mm)
    x, y = axis[None, :] - np.float32(view.shift_mm[0]), axis[:, None] - np.float32(view.shift_mm[1])
    cos, sin = np.float32(np.cos(view.rotation)), np.float32(np.sin(view.rotation))
    u, v = cos * x + sin * y, cos * y - sin * x

    image = _skin(u, v, tone, lesion.seed, texture)
    rho = _border(lesion, u, v, texture)
    image = _lesion(image, lesion, rho, u, v, texture)
    if lesion.strength("vessels"):
        image *= np.exp(-_vessels(lesion, view, half_mm, width, rho)[..., None] * np.float32([0.15, 0.85, 0.65]))
    image = _camera(image, view, width)
    image = image.reshape(size, _OVERSAMPLE, size, _OVERSAMPLE, 3).mean(axis=(1, 3))
    image = ndimage.gaussian_filter(image, (view.focus_px * size / 96,) * 2 + (0,), mode="nearest")
    image += numpy_rng(view.seed, "sensor").normal(0.0, view.noise, image.shape).astype(np.float32)
    inside = (rho < 1.0).reshape(size, _OVERSAMPLE, size, _OVERSAMPLE).mean(axis=(1, 3))
    return (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8), inside >= 0.5


def _skin(u: np.ndarray, v: np.ndarray, tone: float, seed: int, texture: Texture) -> np.ndarray:
    rng = numpy_rng(seed, "skin")
    place = np.clip(tone, 0, 1) * (len(_SKIN) - 1)
    base = np.array([np.interp(place, np.arange(len(_SKIN)), _SKIN[:, channel]) for channel in range(3)])
    blotches = texture.field(u, v, 6.0, rng) * 0.03 + texture.field(u, v, 0.45, rng) * 0.025
    flush = texture.field(u, v, 2.5, rng) * rng.uniform(0.005, 0.045)
    furrows = np.abs(texture.field(u, v, 0.9, rng))
    density = (blotches + 0.05 * np.exp(-6 * furrows))[..., None] * np.float32([0.6, 1.0, 1.1])
    density += flush[..., None] * np.float32([0.15, 1.0, 0.75])
    if rng.random() < 0.25:  # sun-damaged skin: freckles around the lesion
        freckles = texture.spots(u, v, 2.2, 0.35, 0.22, rng) * rng.uniform(0.15, 0.5)
        density += freckles[..., None] * np.float32([0.4, 0.7, 0.9])
    return base.astype(np.float32) * np.exp(-density)


def _border(lesion: Lesion, u: np.ndarray, v: np.ndarray, texture: Texture) -> np.ndarray:
    """Distance from the lesion's centre in units of the border's own distance: inside is below 1."""
    rng = numpy_rng(lesion.seed, "border")
    angles = np.linspace(0, 2 * np.pi, 1024, endpoint=False)
    outline = 1 + rng.uniform(0.03, 0.14) * np.cos(2 * (angles - rng.uniform(0, np.pi)))
    for k in range(1, 4):
        outline += lesion.asymmetry * rng.normal(0, 0.16) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
    for k in range(4, 15):
        outline += lesion.border_irregularity * rng.normal(0, 0.17 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
    outline = np.maximum(outline, 0.4)
    outline *= lesion.diameter_mm / 2 / np.sqrt(np.mean(outline**2))  # the area stays that of the diameter
    turn = (np.arctan2(v, u) * np.float32(1024 / (2 * np.pi))).astype(np.int32) & 1023
    rough = texture.field(u, v, 1.6, rng) * np.float32(0.02 + 0.10 * lesion.border_irregularity)
    return np.hypot(u, v) / outline.astype(np.float32)[turn] * (1 + rough)


def _lesion(
    image: np.ndarray, lesion: Lesion, rho: np.ndarray, u: np.ndarray, v: np.ndarray, texture: Texture
) -> np.ndarray:
    rng = numpy_rng(lesion.seed, "pigment")
    body = _smooth((1 + lesion.edge / 2 - rho) / lesion.edge)
    density = _colours(lesion, u, v, texture, rng)
    melanin = 1 + 0.22 * texture.field(u, v, 0.8, rng) + 0.15 * texture.field(u, v, 2.0, rng)
    melanin *= 1 - 0.25 * np.clip(rho, 0, 1) ** 2
    # every structure draws from its own stream, so that one more of them leaves the others where they are
    own = {name: numpy_rng(lesion.seed, name) for name in lesion.structures}
    if "network" in own:
        lines = _honeycomb(u, v, lesion.border_irregularity, texture, own["network"])
        patchy = _smooth(0.7 + 0.4 * texture.field(u, v, 2.5, own["network"]))
        melanin += lesion.strength("network") * 0.9 * patchy * (lines - 0.45)
    if "ridges" in own:
        melanin += (
            lesion.strength("ridges") * 0.7 * (np.exp(-3.5 * np.abs(texture.field(u, v, 1.1, own["ridges"]))) - 0.35)
        )
    if "globules" in own:
        melanin += lesion.strength("globules") * 1.1 * texture.spots(u, v, 0.75, 0.75, 0.27, own["globules"])
    density = density * np.maximum(melanin, 0.08)[..., None]
    for name, spacing, share, radius, colour in (
        ("dots", 0.7, 0.25, 0.26, "black"),
        ("openings", 1.3, 0.30, 0.24, "dark brown"),
        ("nests", 1.7, 0.45, 0.28, "blue-grey"),
    ):
        if name in own:
            spots = texture.spots(u, v, spacing, share, radius, own[name]) * lesion.strength(name)
            density = density + spots[..., None] * np.float32(_DENSITY[colour]) * 1.1
    image = image * np.exp(-(body * lesion.pigment)[..., None] * density)
    return _overlays(image, lesion, body, rho, u, v, texture, own)


def _overlays(
    image: np.ndarray,
    lesion: Lesion,
    body: np.ndarray,
    rho: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    texture: Texture,
    own: dict[str, np.random.Generator],
) -> np.ndarray:
    """What scatters light or lies on top, rather than taking light away."""

    def cover(amount: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
        amount = np.clip(amount * body, 0, 1)[..., None]
        return image * (1 - amount) + np.float32(colour) * amount

    if "veil" in own:
        patch = _smooth(0.1 + 0.8 * texture.field(u, v, lesion.diameter_mm * 0.6, own["veil"]))
        image = cover(0.65 * lesion.strength("veil") * patch, (0.47, 0.47, 0.54))
    if "regression" in own:
        patch = _smooth(-0.1 + 0.8 * texture.field(u, v, lesion.diameter_mm * 0.5, own["regression"]))
        image = cover(0.75 * lesion.strength("regression") * patch, (0.86, 0.74, 0.73))
    if "scar" in own:
        wobble = 0.12 * texture.field(u, v, 1.2, own["scar"])
        patch = _smooth((own["scar"].uniform(0.35, 0.6) - rho + wobble) / 0.3)
        image = cover(0.75 * lesion.strength("scar") * patch, (0.90, 0.78, 0.75))
    if "ulcer" in own:
        patch = _smooth(-0.7 + 1.4 * texture.field(u, v, lesion.diameter_mm * 0.35, own["ulcer"]))
        image = cover(0.8 * lesion.strength("ulcer") * patch, (0.60, 0.22, 0.14))
    if "cysts" in own:
        spots = texture.spots(u, v, 1.05, 0.25, 0.27, own["cysts"])
        image = cover(0.85 * lesion.strength("cysts") * spots, (0.93, 0.85, 0.72))
    return image


def _colours(lesion: Lesion, u: np.ndarray, v: np.ndarray, texture: Texture, rng: np.random.Generator) -> np.ndarray:
    """Soft regions, one for each colour; the more asymmetric the lesion, the more they lie to one side."""
    radius = lesion.diameter_mm / 2
    total = np.zeros_like(u)
    mixed = np.zeros((*u.shape, 3), dtype=np.float32)
    for place, name in enumerate(lesion.colours):
        side = rng.uniform(0, 2 * np.pi)
        lean = lesion.asymmetry * 2.5 * (u * np.cos(side) + v * np.sin(side)) / radius
        grown = texture.field(u, v, max(1.2, lesion.diameter_mm * 0.35), rng) + lean + (0.6 if place == 0 else 0.0)
        share = np.exp(np.clip(2.2 * grown, -20, 20)).astype(np.float32)
        total += share
        mixed += share[..., None] * np.float32(_DENSITY[name])
    return mixed / total[..., None]


def _honeycomb(
    u: np.ndarray, v: np.ndarray, irregularity: float, texture: Texture, rng: np.random.Generator
) -> np.ndarray:
    """The pigment network in [0, 1]: dark lines around light holes, three waves at 60 degrees, bent by noise."""
    wave = np.float32(2 * np.pi / rng.uniform(0.65, 1.0))
    bend = 0.6 + 1.6 * irregularity
    bent_u = wave * u + bend * texture.field(u, v, 1.8, rng)
    bent_v = wave * v + bend * texture.field(u, v, 1.8, rng)
    turn = rng.uniform(0, np.pi / 3)
    holes = sum(np.cos(np.cos(a) * bent_u + np.sin(a) * bent_v) for a in turn + np.arange(3) * np.pi / 3)
    return np.clip((2.2 - holes) / 3.2, 0.0, 1.0).astype(np.float32)


def _vessels(lesion: Lesion, view: View, half_mm: float, width: int, rho: np.ndarray) -> np.ndarray:
    """Arborising vessels: trunks that enter from the border and branch, `(width, width)` optical density."""
    rng = numpy_rng(lesion.seed, "vessels")
    radius = lesion.diameter_mm / 2
    sheet = Image.new("L", (width, width))
    pen = ImageDraw.Draw(sheet)
    branches = []
    for _ in range(int(2 + 4 * lesion.strength("vessels"))):
        angle = rng.uniform(0, 2 * np.pi)
        start = radius * rng.uniform(0.6, 1.0) * np.array([np.cos(angle), np.sin(angle)])
        branches.append((start, angle + np.pi + rng.normal(0, 0.5), 2))
    cos, sin = np.cos(view.rotation), np.sin(view.rotation)
    while branches:
        point, heading, order = branches.pop()
        path = [point]
        for _ in range(7):
            heading += rng.normal(0, 0.38)
            point = point + radius * 0.11 * np.array([np.cos(heading), np.sin(heading)])
            path.append(point)
            if order and rng.random() < 0.3:
                branches.append((point, heading + rng.choice([-0.8, 0.8]), order - 1))
        along = np.array(path)
        turned = np.stack([cos * along[:, 0] - sin * along[:, 1], sin * along[:, 0] + cos * along[:, 1]], axis=1)
        pixels = (turned + view.shift_mm + half_mm) / (2 * half_mm) * width
        pen.line(
            [tuple(p) for p in pixels], fill=110 + 60 * order, width=max(1, round(width * 0.006 * (order + 1) / 2))
        )
    strength = 0.5 + 0.9 * lesion.strength("vessels")
    return np.asarray(sheet, dtype=np.float32) / 255 * np.float32(strength) * _smooth((1.15 - rho) / 0.3)


def _camera(image: np.ndarray, view: View, width: int) -> np.ndarray:
    """Light, glare, hair, ruler and the dark rim of the dermatoscope."""
    rng = numpy_rng(view.seed, "camera")
    axis = (((np.arange(width) + 0.5) / width) * 2 - 1).astype(np.float32)
    across, down = axis[None, :], axis[:, None]
    radius = np.hypot(across, down)
    light = 1 + view.slope[0] * across + view.slope[1] * down - 0.10 * radius**2
    image = image * light[..., None] * np.float32(view.gains)
    if view.hair:
        strands = _hairs(view, width, rng)[..., None]
        image = image * (1 - strands) + strands * np.float32(
            [0.16, 0.11, 0.09] if view.dark_hair else [0.72, 0.60, 0.48]
        )
    for _ in range(int(view.glare * 6)):
        x, y = rng.uniform(-0.8, 0.8, size=2)
        spread = rng.uniform(0.012, 0.045)
        spark = np.exp(-(((across - x) / (spread * rng.uniform(0.6, 1.8))) ** 2 + ((down - y) / spread) ** 2))
        image = image + (0.5 * view.glare * spark)[..., None]
    if view.ruler:
        image = image * (1 - 0.85 * _ruler(width)[..., None])
    if view.vignette:
        image = image * (1 - view.vignette * _smooth((radius - view.aperture) / 0.10))[..., None]
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


def _smooth(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1."""
    value = np.clip(value, 0.0, 1.0)
    return value * value * (3 - 2 * value)
