"""Detectors beyond chance. Oracles: statsmodels, all permutations by hand, and simulated noise."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from statsmodels.stats.multitest import multipletests

from raresight.explain import dealt, firing
from raresight.explain import unit_null as module
from raresight.explain.dealt import FIRST, benjamini_hochberg, exchanged
from raresight.explain.dissect import detectors, dissect
from raresight.explain.firing import dealt_overlaps, packed
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.unit_null import unit_null


def probe(labels: np.ndarray, regions: Regions | None, patients: np.ndarray | None = None) -> ProbeSet:
    n = len(labels)
    return ProbeSet(
        np.zeros((n, 1, 1), dtype=np.float32), labels, np.arange(n) if patients is None else patients, regions=regions
    )


def boxed(rng: np.random.Generator, n: int, side: int, height: int, width: int, positive: int) -> ProbeSet:
    """`positive` of n images with one box of a size, anywhere."""
    row = np.sort(rng.choice(n, positive, replace=False))
    y, x = rng.integers(0, side - height + 1, positive), rng.integers(0, side - width + 1, positive)
    labels = np.zeros((n, 1))
    labels[row] = 1
    boxes = np.stack([y, x, y + height, x + width], axis=1)
    return probe(labels, Regions.of_boxes(row.tolist(), [0] * positive, boxes, (side, side)))


def smooth(rng: np.random.Generator, n: int, units: int, side: int = 7) -> np.ndarray:
    """Rectified noise without meaning, with images on which a unit is stronger altogether."""
    a = gaussian_filter(rng.normal(size=(n, units, side, side)), (0, 0, 0.8, 0.8))
    return np.maximum(a * rng.gamma(2.0, 1.0, (n, units, 1, 1)), 0).astype(np.float16)


# Dealing


def test_dealing_single_images_is_a_permutation() -> None:
    drawn = exchanged(np.array(list("abcdefgh")), 0, 50, "x")
    assert (np.sort(drawn, axis=1) == np.arange(8)).all()
    assert len(np.unique(drawn, axis=0)) == 50
    assert abs((drawn == np.arange(8)).mean() - 1 / 8) < 0.05


def test_dealing_keeps_patients_together() -> None:
    patients = np.array(["a", "b", "a", "c", "c", "a"])
    images = {"a": [0, 2, 5], "b": [1], "c": [3, 4]}
    for drawn in exchanged(patients, 0, 40, "y"):
        for patient, mine in images.items():
            theirs = images[patients[drawn[mine[0]]]]
            assert drawn[mine].tolist() == [theirs[j % len(theirs)] for j in range(len(mine))], patient
        assert len({patients[drawn[mine[0]]] for mine in images.values()}) == 3


def test_draws_depend_on_their_number_alone() -> None:
    patients = np.arange(9)
    assert (exchanged(patients, 0, 7, "z")[3:] == exchanged(patients, 3, 4, "z")).all()
    assert (exchanged(patients, 0, 7, "z") != exchanged(patients, 0, 7, "other")).any()


def test_sums_of_dealt_masks_compiled_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    inside = rng.random((6, 3, 100)) < 0.3
    inside[2, 1] = False
    masks = rng.random((4, 100)) < 0.2
    image = rng.integers(0, 6, (5, 4))
    expected = [[sum((inside[row[r], u] & masks[r]).sum() for r in range(4)) for u in range(3)] for row in image]
    bits, area = packed(inside.reshape(18, 100)).reshape(6, 3, -1), inside.sum(axis=2).astype(np.int32)
    assert dealt_overlaps(bits, area, image, packed(masks)).tolist() == expected
    monkeypatch.setattr(firing, "kernels", lambda: None)
    assert dealt_overlaps(bits, area, image, packed(masks)).tolist() == expected


# p-values


def test_adjusted_p_is_statsmodels() -> None:
    p = np.random.default_rng(1).random(40) ** 2
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    with_gap = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03]))
    assert with_gap[[0, 2, 3]] == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(with_gap[1])


def test_p_counts_the_observed_and_ties() -> None:
    def sample(units: np.ndarray, first: int, count: int) -> np.ndarray:
        return np.tile(np.arange(first, first + count)[:, None] % 100, (1, len(units))).astype(float)

    found = dealt.tested(np.array([50.0, 0.0, 99.0]), np.array([True, True, False]), sample)
    assert found.p[:2].tolist() == [101 / 201, 1.0]  # 50..99 twice each in 200 draws
    assert np.isnan(found.p[2])
    assert (found.draws, found.null.shape) == (200, (200, 3))


def test_more_draws_only_as_far_as_the_rate_needs_them() -> None:
    asked: list[tuple[int, int, int]] = []

    def sample(units: np.ndarray, first: int, count: int) -> np.ndarray:
        asked.append((len(units), first, count))
        return np.tile(np.where(np.arange(first, first + count) % 50 == 0, 5.0, 0.0)[:, None], (1, len(units)))

    family = np.ones(100, dtype=bool)
    found = dealt.tested(np.append(np.full(99, 1.0), 9.0), family, sample)  # 4 of 200 draws reach 1: still open; none 9
    assert found.p[-1] == 1 / (1 + found.draws)
    assert 1 / (found.draws + 1) <= 0.05 / 100
    assert found.draws == 2001  # at most m / level, and the one that makes it enough
    assert asked[0] == (100, 0, FIRST)
    assert asked[1] == (100, 200, 600)
    assert {units for units, first, _ in asked if first >= 800} == {1}  # 16 of 800 have reached the others
    assert found.p[0] == pytest.approx(17 / 801)
    enough = dealt.tested(np.full(10, 9.0), np.ones(10, dtype=bool), sample)  # ten of ten: 1/201 is small enough
    assert enough.draws == FIRST
    assert benjamini_hochberg(enough.p).max() <= 0.05


# The null of one concept


def test_few_images_against_every_permutation() -> None:
    """Four images, one mask: laid on each of the four with chance 1/4; one unit fires in image 0's mask alone."""
    a = np.zeros((4, 2, 1, 4), dtype=np.float32)
    a[0, 0, 0, :2] = 1.0
    a[1, 1, 0, 2:] = 1.0
    labels = np.array([[1.0], [0.0], [0.0], [0.0]])
    given = probe(labels, Regions.of([0], [0], np.array([[[1, 1, 0, 0]]])))
    found = unit_null(a, given, dissect(a, given, 0.2))
    assert found.iou.ravel().tolist() == [1.0, 0.0]
    assert found.p[0, 0] == pytest.approx(1 / 4, abs=0.1)  # no draw can do better than the mask where it is
    assert found.p[1, 0] == 1.0
    assert found.mean[0, 0] == pytest.approx(1 / 4, abs=0.1)
    assert found.mean[1, 0] == 0.0
    assert found.high[0, 0] == 1.0
    assert not found.detector.any()
    assert found.detectors.count.tolist() == [0]


def test_the_mean_of_the_null_is_that_of_all_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(5, 3, 2, 2)).astype(np.float32)
    labels = np.array([[1.0], [1.0], [0.0], [np.nan], [0.0]])
    masks = rng.random((2, 8, 8)) < 0.5
    given = probe(labels, Regions.of([0, 1], [0, 0], masks))
    found = dissect(a, given, 0.3)
    known = [0, 1, 2, 4]
    level = found.thresholds.value.reshape(1, 3, 1, 1)
    above = firing.upsampled(a, firing.Lattice((2, 2), (8, 8))) > level
    every = []
    for first, second in itertools.permutations(known, 2):
        shared = (above[first] & masks[0]).sum(axis=(1, 2)) + (above[second] & masks[1]).sum(axis=(1, 2))
        every.append(shared / (above[known].sum(axis=(0, 2, 3)) + masks.sum() - shared))
    monkeypatch.setattr(module, "BITS", 1)  # a unit at a time
    null = unit_null(a, given, found)
    assert null.mean[:, 0] == pytest.approx(np.mean(every, axis=0), abs=0.03)
    assert null.excess[:, 0] == pytest.approx(found.iou[:, 0] - null.mean[:, 0])
    corrected = (found.iou - null.mean) / (found.ceiling - null.mean)
    assert null.corrected == pytest.approx(corrected)
    among = unit_null(a, given, found, among="annotated")
    both = [every[0], every[3]]  # (0, 1) and (1, 0)
    assert among.mean[:, 0] == pytest.approx(np.mean(both, axis=0), abs=0.03)


def test_one_patient_or_no_mask_is_not_tested() -> None:
    a = np.random.default_rng(3).normal(size=(3, 2, 2, 2)).astype(np.float32)
    given = probe(
        np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), Regions.of([0], [0], np.ones((1, 2, 2))), np.array(["p"] * 3)
    )
    found = unit_null(a, given, dissect(a, given, 0.3))
    assert np.isnan(found.p).all()
    assert found.draws.tolist() == [0, 0, 0]
    assert not found.detector.any()
    assert found.detectors.unique == 0


def test_a_unit_that_knows_the_image_but_not_the_place() -> None:
    """It fires all over the images with the finding: told from the others, yes; from elsewhere in them, no."""
    rng = np.random.default_rng(4)
    given = boxed(rng, 60, 7, 3, 3, 20)
    a = rng.normal(scale=0.1, size=(60, 12, 7, 7)).astype(np.float32)
    has = given.labels[:, 0] == 1
    a[has, 0] += 1.0
    assert given.regions is not None
    a[given.regions.row, 1] += given.regions.masks()
    found = dissect(a, given, 0.05)
    known, annotated = (unit_null(a, given, found, among=among) for among in ("known", "annotated"))
    assert known.detector[:2, 0].tolist() == [True, True]
    assert annotated.detector[:2, 0].tolist() == [False, True]
    assert annotated.p[0, 0] > 0.05  # while ten units of noise may be called once in twenty
    assert known.corrected[1, 0] > 0.9
    assert annotated.corrected[1, 0] > known.corrected[0, 0]


# Must show


AREAS = {0.005: (2, 2), 0.02: (4, 4), 0.08: (8, 8), 0.2: (13, 12)}  # of 28 x 28 = 784 pixels


@pytest.mark.parametrize("area", AREAS)
def test_random_features_have_no_excess_whatever_the_boxes_size(area: float) -> None:
    rng = np.random.default_rng(5)
    given = boxed(rng, 120, 28, *AREAS[area], positive=60)
    assert given.regions is not None
    assert given.regions.area.mean() == pytest.approx(area, rel=0.05)
    a = smooth(rng, 120, 60)
    found = dissect(a, given, 0.01, grid=(28, 28))
    null = unit_null(a, given, found)
    error = null.excess.std(ddof=1) / np.sqrt(60)
    assert abs(null.excess.mean()) < 3 * error
    assert abs(np.nanmean(null.corrected)) < 3 * np.nanstd(null.corrected) / np.sqrt(60)
    assert null.detector.sum() <= 1
    assert found.iou.mean() > 0  # while raw overlap is never nothing


def test_features_without_meaning_are_called_detectors_no_more_often_than_stated() -> None:
    """Under the global null the false-discovery rate is the chance of any detector: at most 5% of the runs."""
    runs, any_, small = 150, 0, 0
    for run in range(runs):
        rng = np.random.default_rng([6, run])
        given = boxed(rng, 30, 8, 3, 3, 10)
        a = smooth(rng, 30, 12, 4)
        null = unit_null(a, given, dissect(a, given, 0.05), names=(run,))
        any_ += bool(null.detector.any())
        small += int((null.p[:, 0] <= 0.05).sum())
    assert any_ / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert 0.03 < small / (runs * 12) < 0.065  # and the p-values are used up, not merely large


@pytest.mark.parametrize("share", [0.0005, 0.005, 0.02, 0.1])
def test_planted_detectors_are_found_at_every_prevalence(share: float) -> None:
    """Below q, too, and among 120 units without meaning; the seed's rule finds neither the common nor no other."""
    rng = np.random.default_rng(7)
    n, side = 200, 7
    cells = n * side * side
    inside = np.zeros(cells, dtype=bool)
    inside[rng.choice(cells, round(share * cells), replace=False)] = True
    inside = inside.reshape(n, side, side)
    row = np.flatnonzero(inside.any(axis=(1, 2)))
    labels = np.zeros((n, 1))
    labels[row] = 1
    given = probe(labels, Regions.of(row, [0] * len(row), inside[row].repeat(4, axis=1).repeat(4, axis=2)))
    a = np.concatenate([0.1 * rng.normal(size=(n, 1, side, side)) + inside[:, None], smooth(rng, n, 120)], axis=1)
    found = dissect(a, given, 0.005, grid=(28, 28))
    null = unit_null(a, given, found)
    assert null.detector[0, 0]
    assert null.detector[1:].sum() <= 2
    assert null.detectors.concept[0] == 0
    assert null.corrected[0, 0] > 0.7
    assert np.nanmax(null.corrected[1:]) < 0.3
    assert (detectors(found).concept[0] == 0) == (share <= 0.005)


def test_without_masks_nothing_is_tested() -> None:
    a = np.random.default_rng(8).normal(size=(6, 3, 2, 2)).astype(np.float32)
    given = probe(np.eye(6)[:, :2], None)
    found = unit_null(a, given, dissect(a, given, 0.2))
    assert found.p.shape == (3, 3)
    assert np.isnan(found.p).all() and np.isnan(found.excess).all()
    assert found.detectors.share == 0.0


def test_dead_units_are_outside_the_family() -> None:
    rng = np.random.default_rng(9)
    given = boxed(rng, 20, 8, 3, 3, 8)
    a = rng.normal(size=(20, 4, 4, 4)).astype(np.float32)
    a[:, 1] = 0.0
    found = unit_null(a, given, dissect(a, given, 0.1))
    assert np.isnan(found.p[:, 0]).tolist() == [False, True, False, False]
    assert found.iou[1, 0] == found.mean[1, 0] == found.excess[1, 0] == 0.0
    three = found.p[[0, 2, 3], 0]
    assert found.p_adjusted[[0, 2, 3], 0] == pytest.approx(benjamini_hochberg(three))
