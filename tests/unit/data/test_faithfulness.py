"""The faithfulness audit on figures whose answer is known: what is moved, what is named, and against which spread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from raresight.data.abcd import FEATURES, SHAPE
from raresight.data.elastic import elastic
from raresight.data.faithfulness import CONTROL_MARGIN, FEWEST, Candidate, Photograph, _weighted_median, audit

SIZE = 64
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def ellipse(width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    at = (np.arange(SIZE * 4) + 0.5) / 4 - SIZE / 2
    fine = (at[None, :] / width) ** 2 + (at[:, None] / height) ** 2 < 1
    mask = fine.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))
    image = 0.8 - mask[..., None] * np.array([0.3, 0.4, 0.5])
    return image, mask


def lesions(n: int = 30, shots: int = 2, sway: float = 0.02) -> list[Photograph]:
    """Ellipses of many shapes, each photographed `shots` times from distances that differ by `sway`."""
    rng = np.random.default_rng(0)
    found = []
    for lesion in range(n):
        width, height = rng.uniform(12, 24), rng.uniform(8, 14)
        for _ in range(shots):
            zoom = 1 + rng.normal(0, sway)
            squeeze = 1 + rng.normal(0, sway)
            found.append(
                Photograph(
                    lesion=f"L{lesion}",
                    patient=f"P{lesion // 2}",
                    load=lambda w=width * zoom * squeeze, h=height * zoom: ellipse(w, h),
                )
            )
    return found


def candidate(name: str, *ways: Change, allowed: bool = True) -> Candidate:
    return Candidate(name=name, bound="", allowed=allowed, reason="", ways=ways)


def same(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return image, mask


def flip(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return image[:, ::-1], mask[:, ::-1]


def stretched(factor: float) -> Change:
    """Longer from left to right by repeating columns about the middle."""

    def change(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = (np.arange(SIZE) - SIZE / 2 + 0.5) / factor + SIZE / 2 - 0.5
        low = np.clip(np.floor(at).astype(int), 0, SIZE - 2)
        part = at - low
        moved = mask[:, low] * (1 - part) + mask[:, low + 1] * part
        picture = image[:, low] * (1 - part)[:, None] + image[:, low + 1] * part[:, None]
        return picture, moved

    return change


def dimmed(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return image * 0.5, mask


def feature(row: dict, name: str) -> dict:
    return row["features"][FEATURES.index(name)]


def test_a_flip_is_not_named_and_a_stretch_is_by_name() -> None:
    result = audit(
        lesions(),
        [candidate("flip", flip), candidate("stretch", stretched(1.3), allowed=False), candidate("dim", dimmed)],
        candidate("control", same),
        resamples=100,
    )
    still, stretch, dim = result["transforms"]
    assert still["destroys"] == []
    assert stretch["destroys"][:2] == ["elongation", "border"]
    assert "size" in stretch["destroys"]
    assert not stretch["allowed"]
    assert set(dim["destroys"]).isdisjoint(SHAPE)
    assert {"sharpness", "variegation"} <= set(dim["destroys"])
    assert result["n_lesions"] == result["n_lesions_repeated"] == 30
    assert result["n_patients"] == 15
    assert result["n_images"] == 60


def test_figures_by_hand() -> None:
    """Four lesions: diameters known, one transform that removes a known share of the mask."""
    discs = {"a": (10.0, 12.0), "b": (14.0, 14.0), "c": (20.0, 18.0), "d": (8.0,)}
    photographs = [
        Photograph(lesion=name, patient=name, load=lambda r=radius: ellipse(r, r))
        for name, radii in discs.items()
        for radius in radii
    ]

    def halved(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return image, mask / 4  # a quarter of the area: half of the diameter

    def kept(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return image, mask.copy()

    result = audit(photographs, [candidate("half", halved, kept)], candidate("control", same), resamples=50)
    size = feature(result["transforms"][0], "size")
    side = SIZE
    # first photographs have diameters 20, 28, 40, 16 px; half is lost one way, nothing the other: 5, 7, 10, 4 px
    assert size["median_change"] == pytest.approx(6 / side, rel=0.01)
    # lesions' means 22, 28, 38, 16: standard deviation about 26
    between = np.std([22, 28, 38, 16], ddof=1)
    assert size["to_between"]["value"] == pytest.approx(6 / between, rel=0.01)
    # photographs about their means: (2, 2), (0, 0), (2, 2): 16 over 3 degrees of freedom
    known = next(row for row in result["features"] if row["feature"] == "size")
    assert known["within_sd"] * side == pytest.approx(np.sqrt(16 / 3), rel=0.01)
    assert known["between_sd"] * side == pytest.approx(between, rel=0.01)
    assert size["to_within"] is None  # three lesions with two photographs are too few to judge by
    assert result["transforms"][0]["destroys"] == []
    assert str(FEWEST) in result["not_judged"]


def test_without_repeated_photographs_nothing_is_named() -> None:
    result = audit(lesions(shots=1), [candidate("stretch", stretched(1.5))], candidate("control", same), resamples=20)
    (row,) = result["transforms"]
    assert row["destroys"] == []
    assert all(entry["to_within"] is None for entry in row["features"])
    assert feature(row, "elongation")["to_between"]["low"] > 0
    assert "0 lesions" in result["not_judged"]


def test_what_resampling_does_itself_is_not_destruction() -> None:
    """A change no larger than twice that of the control is not named, however steady the photographs are."""
    steady = lesions(sway=0.003)
    blurred = stretched(1.03)
    named = audit(steady, [candidate("a", blurred)], candidate("control", same), resamples=50)["transforms"][0]
    spared = audit(steady, [candidate("a", blurred)], candidate("control", blurred), resamples=50)["transforms"][0]
    assert "elongation" in named["destroys"]
    assert spared["destroys"] == []
    assert CONTROL_MARGIN > 1


def test_a_wide_spread_of_photographs_excuses_a_change() -> None:
    steady, swaying = (
        audit(lesions(sway=sway), [candidate("a", stretched(1.1))], candidate("control", same), resamples=100)
        for sway in (0.01, 0.2)
    )
    assert "elongation" in steady["transforms"][0]["destroys"]
    assert set(swaying["transforms"][0]["destroys"]).isdisjoint(SHAPE)


def test_lesions_cut_by_the_edge_are_counted() -> None:
    def pushed(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.roll(image, 24, axis=1), np.roll(mask, 24, axis=1)

    result = audit(lesions(), [candidate("push", pushed), candidate("flip", flip)], candidate("c", same), resamples=20)
    assert result["transforms"][0]["share_cut"] > 0.9
    assert result["transforms"][1]["share_cut"] == 0


def test_intervals_are_those_of_patients_and_repeat_with_the_seed() -> None:
    once = audit(lesions(), [candidate("a", stretched(1.1))], candidate("c", same), resamples=200, seed=1)
    again = audit(lesions(), [candidate("a", stretched(1.1))], candidate("c", same), resamples=200, seed=1)
    other = audit(lesions(), [candidate("a", stretched(1.1))], candidate("c", same), resamples=200, seed=2)
    assert once == again
    one, two = (feature(r["transforms"][0], "elongation")["to_within"] for r in (once, other))
    assert one["value"] == two["value"]
    assert one["low"] < one["value"] < one["high"]
    assert one["low"] != two["low"]


def test_empty_masks_are_left_out() -> None:
    nothing = Photograph(lesion="X", patient="X", load=lambda: (np.zeros((9, 9, 3)), np.zeros((9, 9))))
    result = audit([*lesions(), nothing], [candidate("flip", flip)], candidate("c", same), resamples=20)
    assert result["n_lesions"] == 30
    assert audit([nothing], [candidate("flip", flip)], candidate("c", same), resamples=5)["n_lesions"] == 0


def test_weighted_median_is_the_median_of_repeated_values() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=9)
    values[4] = np.nan
    weights = rng.integers(0, 4, size=(9, 50)).astype(float)
    weights[0] += 1
    found = _weighted_median(values, weights)
    for column in range(50):
        repeated = np.repeat(values, weights[:, column].astype(int))
        assert found[column] == pytest.approx(np.nanmedian(repeated))


def test_an_elastic_warp_bends_picture_and_mask_alike() -> None:
    image, mask = ellipse(20, 12)
    bent_image, bent_mask = elastic(image, mask)
    assert bent_image.shape == image.shape
    # the picture is a function of the mask: so it must still be
    np.testing.assert_allclose(bent_image, 0.8 - bent_mask[..., None] * np.array([0.3, 0.4, 0.5]), atol=1e-9)
    assert np.abs(bent_mask - mask).mean() > 0.01
    again = elastic(image, mask)
    assert np.array_equal(again[1], bent_mask)
    small = np.abs(elastic(image, mask, strength=0.003)[1] - mask).mean()
    assert small < 0.3 * np.abs(bent_mask - mask).mean()
