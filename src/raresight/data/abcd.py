"""What a dermatologist reads off a lesion, as numbers: the ABCD rule measured with the lesion's mask.

Masks are soft, shares of a pixel in [0, 1], and both mask and picture are smoothed by a 150th of the side (at least a
pixel) before anything is read off them. So a border that was drawn in whole pixels and the same border after an
interpolation measure alike, and grain, JPEG blocks and hairs of a pixel's width do not count as colours.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SHAPE = ("asymmetry", "elongation", "border", "size")
COLOUR = ("sharpness", "variegation", "hue")
FEATURES = (*SHAPE, *COLOUR)
ABOUT = {
    "asymmetry": "share of the lesion without its mirror image, at the two axes that suit it best (A)",
    "elongation": "ratio of the lesion's long axis to its short one (A)",
    "border": "perimeter squared over 4 pi area: 1 for a disc (B)",
    "size": "diameter of the disc of equal area, as a share of the picture's side (D)",
    "sharpness": "fall of lightness at the border, L* per 1% of the side (B)",
    "variegation": "standard deviation of colour within the lesion, in CIELAB units (C)",
    "hue": "hue angle of the mean colour, degrees (C)",
}
SMOOTHING = 1 / 150  # standard deviation of the smoothing, as a share of the side; at least one pixel
N_ANGLES = 256
_CUT = -120.0  # hue angles are told from here to 240 degrees: the jump lies opposite to the colour of skin


def describe(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The `FEATURES` of one lesion, `(7,)`; NaN where one has no meaning.

    `image` `(H, W, C)` float in [0, 1], C = 3 for colour (hue is NaN otherwise); `mask` `(H, W)` shares in [0, 1].
    An empty mask gives NaN everywhere. The side is sqrt(H W).
    """
    return np.concatenate([shape(mask), colour(image, mask)])


def shape(mask: np.ndarray) -> np.ndarray:
    """Asymmetry, elongation, border irregularity and size of a soft mask, `(4,)`: see `FEATURES`.

    Equations, with m the smoothed mask: asymmetry as in `asymmetry`; elongation sqrt(l_1 / l_2) with l the eigenvalues
    of m's covariance; border p^2 / (4 pi a) with a = sum m and, by the co-area formula, p = sum |grad m|, the mean
    length of its level lines; size 2 sqrt(a / pi) / side. A lesion that leaves the picture is measured by the shape of
    what is left of it, the picture's edge being its border there.

    Source: Stolz et al. 1994, ABCD rule of dermatoscopy; Celebi et al. 2007, A methodological approach to the
    classification of dermoscopy images, for aspect ratio, compactness and equivalent diameter.
    """
    area = float(mask.sum())
    if area <= 0:
        return np.full(len(SHAPE), np.nan)
    side = np.sqrt(mask.size)
    sigma = _smoothing(mask)
    smooth = ndimage.gaussian_filter(np.pad(mask.astype(np.float64), int(np.ceil(4 * sigma)) + 1), sigma)
    down, across = np.gradient(smooth)
    perimeter = float(np.hypot(down, across).sum())
    irregular = perimeter**2 / (4 * np.pi * float(smooth.sum()))
    return np.array([asymmetry(smooth), _elongation(smooth), irregular, 2 * np.sqrt(area / np.pi) / side])


def _smoothing(mask: np.ndarray) -> float:
    return max(1.0, SMOOTHING * np.sqrt(mask.size))


def _centroid(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = mask.sum(1), mask.sum(0)
    return float(rows @ np.arange(len(rows)) / rows.sum()), float(columns @ np.arange(len(columns)) / columns.sum())


def _elongation(mask: np.ndarray) -> float:
    centre_y, centre_x = _centroid(mask)
    y, x = np.arange(mask.shape[0]) - centre_y, np.arange(mask.shape[1]) - centre_x
    both = y @ mask @ x
    least, most = np.linalg.eigvalsh([[mask.sum(1) @ y**2, both], [both, mask.sum(0) @ x**2]])
    return float(np.sqrt(most / least)) if least > 0 else np.nan


def asymmetry(mask: np.ndarray) -> float:
    """Share of a lesion that its mirror images do not cover, averaged over two perpendicular axes, 0 to 1.

    Equation: A(phi) = 1 - sum m m_phi / sum m^2, m_phi being the mask mirrored at the axis with angle phi through its
    centroid; the answer is the least of (A(phi) + A(phi + 90 degrees)) / 2 over phi. For a binary mask A(phi) is 1
    minus the overlap. In polar coordinates about the centroid a mirror is theta -> 2 phi - theta, so the overlap at all
    axes is one convolution of the mask with itself along theta.

    Source: Stolz et al. 1994: two perpendicular axes are laid so that asymmetry is lowest. Principal axes, which others
    use (Stoecker et al. 1992), turn at random where a lesion is round.
    """
    height, width = mask.shape
    centre_y, centre_x = _centroid(mask)
    reach = np.hypot(max(centre_y, height - 1 - centre_y), max(centre_x, width - 1 - centre_x))
    radius = np.arange(0.5, reach + 1)[:, None]
    angle = (np.arange(N_ANGLES) + 0.5) * (2 * np.pi / N_ANGLES)
    places = np.stack([centre_y + radius * np.sin(angle), centre_x + radius * np.cos(angle)])
    polar = ndimage.map_coordinates(mask, places, order=1, mode="constant", cval=0.0)
    spectrum = np.fft.rfft(polar, axis=1)
    # sum over theta of m(theta) m(s - theta) for every s, each ring weighted by its radius
    overlap = np.fft.irfft((radius * spectrum**2).sum(0), N_ANGLES)
    lost = 1 - overlap / (radius * polar**2).sum()
    half = N_ANGLES // 2  # an axis 90 degrees on is s + 180 degrees
    return float(max(0.0, ((lost[:half] + lost[half:]) / 2).min()))


def colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Border sharpness, colour variegation and hue of a lesion, `(3,)`: see `FEATURES`.

    Equations, in CIELAB of the smoothed picture, w the mask: variegation sqrt(sum w |c - c_mean|^2 / sum w); hue
    atan2(b_mean, a_mean); sharpness - sum grad L . grad m / sum |grad m| with m the smoothed mask, the fall of
    lightness on the way into the lesion, per 1% of the side.

    Source: Stolz et al. 1994 (variegated colour; an abrupt cut-off at the border); spread of colour within the lesion
    as in Celebi et al. 2007. The hue stands for what telling colours apart needs: blue-grey from brown, red from pink.
    """
    side = np.sqrt(mask.size)
    sigma = _smoothing(mask)
    inside = mask > 0
    if not inside.any():
        return np.full(3, np.nan)
    margin = int(np.ceil(4 * sigma)) + 1
    box = tuple(
        slice(max(0, int(np.argmax(line)) - margin), len(line) - max(0, int(np.argmax(line[::-1])) - margin))
        for line in (np.any(inside, axis=1), np.any(inside, axis=0))
    )
    weight = mask[box].astype(np.float32)
    smooth = ndimage.gaussian_filter(image[box].astype(np.float32), (sigma, sigma, 0), mode="nearest")
    lab = to_lab(smooth)
    mean = np.tensordot(weight, lab, axes=2) / weight.sum()
    spread = np.sqrt(np.tensordot(weight, ((lab - mean) ** 2).sum(2), axes=2) / weight.sum())
    soft = np.gradient(ndimage.gaussian_filter(weight, sigma, mode="nearest"))
    light = np.gradient(lab[..., 0])
    length = np.hypot(*soft).sum()
    fall = -(soft[0] * light[0] + soft[1] * light[1]).sum() / length if length > 0 else np.nan
    hue = (np.degrees(np.arctan2(mean[2], mean[1])) - _CUT) % 360 + _CUT if image.shape[2] == 3 else np.nan
    return np.array([fall * side / 100, spread, hue])


def difference(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """after - before for arrays whose last axis is `FEATURES`; hue goes the shorter way round."""
    change = after - before
    turn = FEATURES.index("hue")
    change[..., turn] = (change[..., turn] + 180) % 360 - 180
    return change


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(1)  # D65


def to_lab(image: np.ndarray) -> np.ndarray:
    """sRGB `(..., 3)` in [0, 1], or grey `(..., 1)`, as CIELAB, L* 0 to 100. Source: IEC 61966-2-1, CIE 15:2004."""
    rgb = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    share = linear @ (_TO_XYZ / _WHITE[:, None]).T.astype(linear.dtype)
    root = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
