"""Chance: exact means over other patients, random maps at every finding size, maps that only know the place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from raresight.explain.alignment import METRICS, measure
from raresight.explain.chance import against_others, against_prior, corrected, prior_of


def squares(rng: np.random.Generator, n: int, side: int, share: float) -> np.ndarray:
    """`(n, side, side)` masks, each one square of about `share` of the area, anywhere."""
    edge = max(1, round(side * share**0.5))
    masks = np.zeros((n, side, side), dtype=bool)
    for mask, (y, x) in zip(masks, rng.integers(0, side - edge + 1, size=(n, 2)), strict=True):
        mask[y : y + edge, x : x + edge] = True
    return masks


def test_corrected_by_hand():
    assert corrected(0.6, 0.2) == pytest.approx(0.5)
    assert corrected(0.1, 0.2) == pytest.approx(-0.125)
    assert corrected(np.array([1.0, 0.2]), 0.2).tolist() == pytest.approx([1.0, 0.0])
    assert np.isnan(corrected(1.0, 1.0)) and np.isnan(corrected(0.5, np.nan)) and np.isnan(corrected(np.nan, 0.5))


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 4)])
def test_exact_means_over_other_patients(shape):
    """All pairs in a slow loop; with 20 draws or fewer others, even the scores that are not linear are exact."""
    rng = np.random.default_rng(2)
    maps = np.round(np.maximum(rng.normal(size=(9, *shape)), 0) * 3).astype(np.float32)
    maps[6] = 0
    masks = rng.random((9, *shape)) < rng.uniform(0.1, 0.5, size=(9,) + (1,) * len(shape))
    patients = np.array(["a", "a", "b", "c", "c", "c", "d", "e", "f"])
    got = against_others(maps, masks, patients, tau=0.45)
    assert got["n_others"].tolist() == [5] * 9
    for i in range(9):
        others = np.flatnonzero(patients != patients[i])
        pairs = measure(np.repeat(maps[i : i + 1], len(others), axis=0), masks[others], tau=0.45)
        for name in METRICS:
            assert got.loc[i, f"{name}_0"] == pytest.approx(pairs[name].mean(), abs=1e-9), name
    assert got.loc[6, "mass_0"] == 0 and got.loc[6, "pixel_ap_0"] == pytest.approx(
        np.mean([m.mean() for m in masks[patients != "d"]])
    )


def test_draws_are_seeded_and_near_the_mean_of_all():
    rng = np.random.default_rng(4)
    maps, masks = rng.random((40, 8, 8), dtype=np.float32), squares(rng, 40, 8, 0.1)
    patients = np.arange(40)
    few, again = (against_others(maps, masks, patients, draws=10, names=("x",)) for _ in range(2))
    other, every = (
        against_others(maps, masks, patients, draws=10, names=("y",)),
        against_others(maps, masks, patients, draws=39),
    )
    assert few.equals(again) and not few.equals(other)
    assert few["mass_0"].equals(every["mass_0"])  # exact whatever the draws
    assert few["pixel_ap_0"].mean() == pytest.approx(every["pixel_ap_0"].mean(), abs=0.01)
    turned = against_others(maps[:, ::-1].copy(), masks[:, ::-1].copy(), patients, draws=10, names=("x",))
    np.testing.assert_allclose(turned, few, atol=1e-6)  # the draw does not depend on the map


def test_no_other_patient_is_nan_and_never_zero():
    maps, masks = np.ones((3, 4, 4), dtype=np.float32), np.zeros((3, 4, 4), dtype=bool)
    masks[:, 0, 0] = True
    alone = against_others(maps, masks, np.array(["p", "p", "p"]))
    assert alone.drop(columns="n_others").isna().all().all() and alone["n_others"].tolist() == [0, 0, 0]
    assert len(against_others(maps[:0], masks[:0], np.array([]))) == 0
    masks[2] = False  # no finding: nothing to score, and no mask for the others
    two = against_others(maps, masks, np.array(["p", "q", "r"]))
    assert two["mass_0"].tolist()[:2] == pytest.approx([1 / 16] * 2) and np.isnan(two["mass_0"][2])
    assert two["n_others"].tolist()[:2] == [1, 1]
    assert np.isnan(against_others(maps, masks, np.arange(3), tau=np.nan)["iou_0"][0])
    maps[0, 0, 0] = np.inf
    assert np.isnan(against_others(maps, masks, np.arange(3))["hit_0"][0])


@pytest.mark.parametrize("share", [0.005, 0.02, 0.08, 0.20])
def test_random_maps_score_nothing_at_any_finding_size(share):
    rng = np.random.default_rng(7)
    masks = squares(rng, 250, 28, share)
    maps = np.maximum(gaussian_filter(rng.normal(size=(250, 28, 28)), (0, 3, 3)), 0).astype(np.float32)
    got, chance = measure(maps, masks), against_others(maps, masks, np.arange(250))
    raw = {name: got[name].mean() for name in METRICS}
    for name in METRICS:
        kept = corrected(got[name], chance[f"{name}_0"])
        assert abs(kept.mean()) < 4 * kept.std() / 250**0.5 + 1e-3, name
        assert abs(kept.mean()) < 0.08, name
    assert raw["pixel_ap"] > share  # what the area alone gives


def test_maps_that_look_score_high_beside_them():
    rng = np.random.default_rng(8)
    masks = squares(rng, 60, 28, 0.02)
    maps = gaussian_filter(masks.astype(np.float32), (0, 2, 2)) + 0.01 * rng.random((60, 28, 28), dtype=np.float32)
    got, chance = measure(maps, masks), against_others(maps, masks, np.arange(60))
    assert corrected(got["hit"], chance["hit_0"]).mean() > 0.9
    assert corrected(got["pixel_ap"], chance["pixel_ap_0"]).mean() > 0.8


def test_a_map_that_only_knows_the_place_is_explained_by_the_prior():
    rng = np.random.default_rng(9)
    middle = np.zeros((80, 20, 20), dtype=bool)
    for mask, (y, x) in zip(middle, rng.integers(6, 9, size=(80, 2)), strict=True):
        mask[y : y + 5, x : x + 5] = True
    prior = prior_of(middle[:40])
    assert prior.shape == (20, 20) and prior.max() == 1.0 and prior[0, 0] == 0.0
    maps = np.repeat(prior[None], 40, axis=0)
    got, expected = measure(maps, middle[40:]), against_prior(prior, middle[40:])
    assert list(expected.columns) == [f"{name}_prior" for name in METRICS]
    skill = corrected(got["pixel_ap"], expected["pixel_ap_prior"])
    assert np.abs(skill).max() == 0 and got["pixel_ap"].mean() > 0.7  # high, and nothing learned
    assert np.nanmax(corrected(got["hit"], expected["hit_prior"]), initial=0) <= 0
    chance = against_others(maps, middle[40:], np.arange(40))
    assert abs(corrected(got["mass"], chance["mass_0"]).mean()) < 0.02
    sharp = gaussian_filter(middle[40:].astype(np.float32), (0, 1, 1))  # a map that looks at each image has skill
    assert corrected(measure(sharp, middle[40:])["pixel_ap"], expected["pixel_ap_prior"]).mean() > 0.5
    assert against_prior(prior_of(middle[:0]), middle[40:]).isna().all().all()


def test_grids_must_agree():
    with pytest.raises(ValueError, match="resize"):
        against_others(np.zeros((2, 3, 3)), np.zeros((2, 4, 4), bool), np.arange(2))
    with pytest.raises(ValueError, match="prior is"):
        against_prior(np.zeros((3, 3)), np.zeros((2, 4, 4), bool))
