"""Painting one photograph of a phantom lesion: skin, lesion, then what the camera and the room add.

Everything is a function of position in millimetres, so that several photographs of one lesion agree with each other
and with the mask at any resolution. Colour follows the Beer-Lambert law: pigment takes away light, `skin * exp(-D)`,
with one optical density D per colour channel, which is why a lesion looks right on every skin tone.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from raresight.core.seeds import numpy_rng
from raresight.data.phantom_camera import View, photograph
from raresight.data.phantom_lesion import Lesion
from raresight.data.phantom_texture import Texture, smooth_step

FIELD_MM = 15.0
"""Width of the skin seen by the camera at zoom 1."""
_OVERSAMPLE = 2

_DENSITY: dict[str, tuple[float, float, float]] = {
    "light brown": (0.26, 0.50, 0.66),
    "dark brown": (0.80, 1.20, 1.28),
    "black": (1.75, 1.75, 1.60),
    "blue-grey": (0.80, 0.66, 0.48),
    "red": (0.10, 0.78, 0.60),
    "pink": (0.03, 0.32, 0.20),
    "white": (-0.04, -0.12, -0.14),
    "tan": (0.22, 0.38, 0.70),
}
"""Optical density (red, green, blue) that a colour adds to the skin."""

_SKIN = np.array([[0.91, 0.72, 0.70], [0.87, 0.66, 0.60], [0.80, 0.58, 0.47], [0.62, 0.42, 0.32], [0.42, 0.27, 0.20]])
"""Skin from very light to dark."""


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
        image *= np.exp(
            -_vessels(lesion, view, half_mm, width, rho)[..., None] * np.array([0.15, 0.85, 0.65], dtype=np.float32)
        )
    image = photograph(image, view, width)
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
    density = (blotches + 0.05 * np.exp(-6 * furrows))[..., None] * np.array([0.6, 1.0, 1.1], dtype=np.float32)
    density += flush[..., None] * np.array([0.15, 1.0, 0.75], dtype=np.float32)
    if rng.random() < 0.25:  # sun-damaged skin: freckles around the lesion
        freckles = texture.spots(u, v, 2.2, 0.35, 0.22, rng) * rng.uniform(0.15, 0.5)
        density += freckles[..., None] * np.array([0.4, 0.7, 0.9], dtype=np.float32)
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
    body = smooth_step((1 + lesion.edge / 2 - rho) / lesion.edge)
    density = _colours(lesion, u, v, texture, rng)
    melanin = 1 + 0.22 * texture.field(u, v, 0.8, rng) + 0.15 * texture.field(u, v, 2.0, rng)
    melanin *= 1 - 0.25 * np.clip(rho, 0, 1) ** 2
    # every structure draws from its own stream, so that one more of them leaves the others where they are
    own = {name: numpy_rng(lesion.seed, name) for name in lesion.structures}
    if "network" in own:
        lines = _honeycomb(u, v, lesion.border_irregularity, texture, own["network"])
        patchy = smooth_step(0.7 + 0.4 * texture.field(u, v, 2.5, own["network"]))
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
            density = density + spots[..., None] * np.array(_DENSITY[colour], dtype=np.float32) * 1.1
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
        return image * (1 - amount) + np.array(colour, dtype=np.float32) * amount

    if "veil" in own:
        patch = smooth_step(0.1 + 0.8 * texture.field(u, v, lesion.diameter_mm * 0.6, own["veil"]))
        image = cover(0.65 * lesion.strength("veil") * patch, (0.47, 0.47, 0.54))
    if "regression" in own:
        patch = smooth_step(-0.1 + 0.8 * texture.field(u, v, lesion.diameter_mm * 0.5, own["regression"]))
        image = cover(0.75 * lesion.strength("regression") * patch, (0.86, 0.74, 0.73))
    if "scar" in own:
        wobble = 0.12 * texture.field(u, v, 1.2, own["scar"])
        patch = smooth_step((own["scar"].uniform(0.35, 0.6) - rho + wobble) / 0.3)
        image = cover(0.75 * lesion.strength("scar") * patch, (0.90, 0.78, 0.75))
    if "ulcer" in own:
        patch = smooth_step(-0.7 + 1.4 * texture.field(u, v, lesion.diameter_mm * 0.35, own["ulcer"]))
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
        mixed += share[..., None] * np.array(_DENSITY[name], dtype=np.float32)
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
    return np.asarray(sheet, dtype=np.float32) / 255 * np.float32(strength) * smooth_step((1.15 - rho) / 0.3)
