"""The ABCD descriptors against figures whose values are known, and against resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from raresight.data.abcd import FEATURES, asymmetry, colour, describe, difference, shape, to_lab

SIZE = 160


def inside(condition, oversample: int = 8) -> np.ndarray:
    """A soft mask of `condition(x, y)`, coordinates in pixels from the middle, antialiased."""
    at = (np.arange(SIZE * oversample) + 0.5) / oversample - SIZE / 2
    fine = condition(at[None, :], at[:, None]).astype(float)
    return fine.reshape(SIZE, oversample, SIZE, oversample).mean(axis=(1, 3))


def disc(radius: float = 40.0, x0: float = 0.0) -> np.ndarray:
    return inside(lambda x, y: np.hypot(x - x0, y) < radius)


def turned(degrees: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return cos * x + sin * y, cos * y - sin * x


def value(name: str, features: np.ndarray) -> float:
    return float(features[FEATURES.index(name)])


def test_a_disc_is_symmetric_round_and_smooth() -> None:
    asymmetric, elongation, border, size = shape(disc(40))
    assert asymmetric == pytest.approx(0, abs=1e-3)
    assert elongation == pytest.approx(1, abs=1e-3)
    assert border == pytest.approx(1, abs=0.01)
    assert size == pytest.approx(80 / SIZE, rel=1e-3)


@pytest.mark.parametrize("degrees", [0, 17, 45, 80])
def test_an_ellipse_is_symmetric_at_any_angle(degrees: float) -> None:
    def ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = turned(degrees, x, y)
        return (u / 60) ** 2 + (v / 30) ** 2 < 1

    asymmetric, elongation, border, size = shape(inside(ellipse))
    assert asymmetric == pytest.approx(0, abs=2e-3)
    assert elongation == pytest.approx(2, rel=0.01)
    # Ramanujan's perimeter of the ellipse 60, 30 is 290.65; squared over 4 pi (pi 60 30)
    assert border == pytest.approx(290.65**2 / (4 * np.pi * np.pi * 1800), rel=0.01)
    assert size == pytest.approx(2 * np.sqrt(1800) / SIZE, rel=1e-3)


@pytest.mark.parametrize("degrees", [0, 20, 50])
def test_a_square_has_four_over_pi(degrees: float) -> None:
    def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = turned(degrees, x, y)
        return (np.abs(u) < 45) & (np.abs(v) < 45)

    asymmetric, elongation, border, _ = shape(inside(square))
    assert asymmetric == pytest.approx(0, abs=3e-3)
    assert elongation == pytest.approx(1, abs=2e-3)
    assert border == pytest.approx(4 / np.pi, rel=0.03)  # the smoothing rounds its corners a little


def mirrored(mask: np.ndarray, degrees: float) -> np.ndarray:
    """The mask mirrored at the axis of that angle through its centroid, by an ordinary image warp."""
    centre = np.array(ndimage.center_of_mass(mask))
    cos, sin = np.cos(2 * np.radians(degrees)), np.sin(2 * np.radians(degrees))
    flip = np.array([[-cos, sin], [sin, cos]])  # rows first: y' = sin x - cos y
    return ndimage.affine_transform(mask, flip, centre - flip @ centre, order=3)


@pytest.mark.parametrize("seed", range(4))
def test_asymmetry_against_mirror_images_made_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 0.12, (4, 2))

    def blob(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angle = np.arctan2(y, x)
        outline = 45 * (1 + sum(a * np.cos(k * angle) + b * np.sin(k * angle) for k, (a, b) in enumerate(waves, 1)))
        return np.hypot(x, y) < outline

    mask = ndimage.gaussian_filter(inside(blob, oversample=3), 1.5)  # smooth, so that a warp by splines is exact
    norm = (mask**2).sum()
    lost = {phi: 1 - (mask * mirrored(mask, phi)).sum() / norm for phi in np.arange(0, 180, 2.0)}
    expected = min((lost[phi] + lost[(phi + 90) % 180]) / 2 for phi in lost)
    assert expected > 0.01
    assert asymmetry(mask) == pytest.approx(expected, abs=0.002)


def test_a_triangle_loses_a_third_at_its_worse_axis() -> None:
    """Equilateral: nothing is lost at a symmetry axis, 1/3 at the axis across it (the overlap is a hexagon)."""

    def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (y > -30) & (y + np.sqrt(3) * np.abs(x) < 60)

    mask = inside(triangle)
    assert 1 - (mask * mirrored(mask, 90)).sum() / (mask**2).sum() == pytest.approx(0, abs=0.01)
    assert 1 - (mask * mirrored(mask, 0)).sum() / (mask**2).sum() == pytest.approx(1 / 3, abs=0.01)
    assert 0.12 < asymmetry(mask) <= 1 / 6 + 0.003  # no pair of axes is worse than that one


def test_a_notched_border_is_more_irregular_and_no_larger() -> None:
    smooth = shape(disc(40))
    frayed = shape(inside(lambda x, y: np.hypot(x, y) < 40 * (1 + 0.12 * np.cos(12 * np.arctan2(y, x)))))
    assert frayed[2] > 1.2 * smooth[2]
    assert frayed[0] == pytest.approx(0, abs=0.01)


def test_a_lesion_cut_by_the_edge_is_what_is_left_of_it() -> None:
    whole, half = shape(disc(40)), shape(disc(40, x0=SIZE / 2))
    assert half[3] == pytest.approx(whole[3] / np.sqrt(2), rel=0.01)
    # a half disc: perimeter (pi + 2) r, area pi r^2 / 2; smoothing rounds its two corners
    assert half[2] == pytest.approx((np.pi + 2) ** 2 / (2 * np.pi**2), rel=0.03)


def test_turning_by_pixels_changes_nothing_and_interpolation_little() -> None:
    rng = np.random.default_rng(0)
    mask = inside(lambda x, y: (x / 50) ** 2 + ((y - 8 * np.sin(x / 12)) / 30) ** 2 < 1)
    blurred = ndimage.gaussian_filter(mask, 1.5)[..., None] * np.array([0.3, 0.4, 0.45])
    image = 0.8 - blurred + rng.normal(0, 0.01, (SIZE, SIZE, 3))
    before = describe(image, mask)
    for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], np.rot90):
        np.testing.assert_allclose(describe(turn(image), turn(mask)), before, atol=2e-4, rtol=2e-4)
    shifted_mask = ndimage.shift(mask, (0.5, 0.5), order=1, mode="nearest")
    shifted = ndimage.shift(image, (0.5, 0.5, 0), order=1, mode="nearest")
    np.testing.assert_allclose(describe(shifted, shifted_mask)[:4], before[:4], rtol=0.01, atol=0.003)
    np.testing.assert_allclose(describe(shifted, shifted_mask)[4:], before[4:], rtol=0.08)


def test_lab_by_the_book() -> None:
    """Reference values of D65 sRGB primaries (IEC 61966-2-1): white 100, 0, 0; red 53.24, 80.09, 67.20; grey 53.59."""
    found = to_lab(np.array([[1.0, 1, 1], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0, 0, 0]]))
    expected = [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=0.03)
    np.testing.assert_allclose(to_lab(np.array([[0.5]]))[0], to_lab(np.array([[0.5, 0.5, 0.5]]))[0])


def test_variegation_is_the_distance_between_two_colours() -> None:
    """Half of the lesion in one colour, half in another: the deviation is half their distance in CIELAB."""
    mask = disc(40)
    one, other = np.array([0.45, 0.30, 0.20]), np.array([0.25, 0.22, 0.28])
    left = np.arange(SIZE)[None, :, None] < SIZE / 2
    image = np.where(left, one, other) * np.ones((SIZE, SIZE, 1))
    distance = np.linalg.norm(to_lab(one) - to_lab(other))
    assert value("variegation", describe(image, mask)) == pytest.approx(distance / 2, rel=0.03)
    plain = np.broadcast_to(one, (SIZE, SIZE, 3))
    assert value("variegation", describe(plain, mask)) == pytest.approx(0, abs=1e-3)


def test_hue_is_the_angle_of_the_mean_colour_and_turns_the_shorter_way() -> None:
    red = np.broadcast_to(np.array([1.0, 0, 0]), (SIZE, SIZE, 3))
    assert colour(red, disc())[2] == pytest.approx(np.degrees(np.arctan2(67.20, 80.09)), abs=0.1)
    blue = np.broadcast_to(np.array([0, 0, 1.0]), (SIZE, SIZE, 3))
    assert colour(blue, disc())[2] == pytest.approx(np.degrees(np.arctan2(-107.86, 79.19)), abs=0.1)
    grey = describe(np.full((SIZE, SIZE, 1), 0.4), disc())
    assert np.isnan(value("hue", grey))
    assert np.isfinite(grey[:-1]).all()
    after, before = np.zeros(len(FEATURES)), np.zeros(len(FEATURES))
    after[-1], before[-1] = 170.0, -175.0
    after[0] = 0.2
    np.testing.assert_allclose(difference(after, before), [0.2, 0, 0, 0, 0, 0, -15])


def test_sharpness_is_the_fall_of_lightness_at_the_border() -> None:
    """A ramp of lightness towards the middle: its slope everywhere, in L* per percent of the side."""
    at = np.arange(SIZE) - (SIZE - 1) / 2
    light = np.clip(30 + 0.5 * np.hypot(at[None, :], at[:, None]), 0, 90)  # L* rises by 0.5 a pixel
    linear = ((light + 16) / 116) ** 3
    grey = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert colour(grey[..., None], disc(40))[0] == pytest.approx(0.5 * SIZE / 100, rel=0.03)
    assert colour(1 - grey[..., None], disc(40))[0] < 0  # a lesion lighter than its skin


def test_an_empty_mask_has_no_features() -> None:
    assert np.isnan(describe(np.zeros((20, 20, 3)), np.zeros((20, 20)))).all()
