"""The released code's concept count: by hand, and its area bias with features that mean nothing."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from raresight.explain.legacy import legacy_concept_count, places
from raresight.explain.probe import ProbeSet, Regions


def probe(n: int, k: int, regions: Regions) -> ProbeSet:
    labels = np.zeros((n, k))
    labels[regions.row, regions.label] = 1
    return ProbeSet(np.zeros((n, 1, 1), dtype=np.float32), labels, np.arange(n), regions=regions)


def boxes_of_area(rng: np.random.Generator, n: int, height: int, width: int) -> ProbeSet:
    y, x = rng.integers(0, 57 - height, n), rng.integers(0, 57 - width, n)
    boxes = np.stack([y, x, y + height, x + width], axis=1)
    return probe(n, 1, Regions.of_boxes(range(n), [0] * n, boxes, (56, 56)))


def smooth(rng: np.random.Generator, n: int, units: int) -> np.ndarray:
    return gaussian_filter(rng.normal(size=(n, units, 7, 7)), (0, 0, 0.7, 0.7)).astype(np.float16)


def test_every_place_at_which_a_mask_fits_and_no_other() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 1:3] = [True, False]
    mask[2, 2] = True  # a diagonal of two pixels: 2 x 3 places
    moved = places(mask, 300, np.random.default_rng(0))
    assert (moved.reshape(300, -1).sum(axis=1) == 2).all()
    corners = [tuple(np.argwhere(one)[0].tolist()) for one in moved]
    assert all(one[y + 1, x + 1] for one, (y, x) in zip(moved, corners, strict=True))
    assert sorted(set(corners)) == [(y, x) for y in range(2) for x in range(3)]
    assert min(corners.count(corner) for corner in set(corners)) > 25  # 50 expected
    whole = np.ones((2, 2), dtype=bool)
    assert places(whole, 3, np.random.default_rng(0)).all()


def test_counts_by_hand_and_classes_apart() -> None:
    """Two units on a 1 x 4 grid, image 0: unit 0 fires left, unit 1 right; masks of two classes, one image."""
    a = np.zeros((2, 2, 1, 4), dtype=np.float32)
    a[0, 0, 0, 0] = a[0, 1, 0, 3] = 1.0
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]])
    found = legacy_concept_count(a, probe(2, 2, Regions.of([0, 0, 1], [0, 1, 0], masks)), 0.2, draws=300)
    assert found.row.tolist() == [0, 0, 1]
    assert found.label.tolist() == [0, 1, 0]
    assert found.count.tolist() == [1, 2, 0]
    assert found.area.tolist() == [0.5, 1.0, 1.0]
    # Of three places of two pixels the left and the right hold one unit, the middle none.
    assert found.null == pytest.approx([2 / 3, 2.0, 0.0], abs=0.1)
    assert found.excess == pytest.approx([1 / 3, 0.0, 0.0], abs=0.1)
    assert found.draws == 300


def test_a_ring_is_one_unit_not_two_contours() -> None:
    a = np.zeros((4, 1, 3, 3), dtype=np.float32)
    a[0, 0] = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    found = legacy_concept_count(a, probe(4, 1, Regions.of([0], [0], np.ones((1, 3, 3)))), 8 / 36)
    assert found.count.tolist() == [1]


def test_counts_against_torch_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    given = boxes_of_area(rng, 12, 12, 20)
    a = smooth(rng, 12, 9)
    found = legacy_concept_count(a, given, 0.04)
    level = np.sort(a.astype(np.float32).transpose(1, 0, 2, 3).reshape(9, -1), axis=1)[:, ::-1][:, 23]  # 588 x 0.04
    up = torch.nn.functional.interpolate(torch.from_numpy(a.astype(float)), (56, 56), mode="bilinear").numpy()
    assert given.regions is not None
    inside = (up > level[None, :, None, None]) & given.regions.masks()[:, None]
    assert found.count.tolist() == inside.any(axis=(2, 3)).sum(axis=1).tolist()
    monkeypatch.setattr("raresight.explain.dissect.BITS", 1)
    again = legacy_concept_count(a, given, 0.04)
    assert (again.count == found.count).all()
    assert (again.null == found.null).all()


def test_the_count_grows_with_the_box_and_the_excess_does_not() -> None:
    """Boxes of 0.5, 2, 8 and 20% of the picture at random places, units without meaning."""
    counts, rng = [], np.random.default_rng(2)
    a = smooth(rng, 400, 50)
    for height, width in ((4, 4), (8, 8), (16, 16), (25, 25)):
        found = legacy_concept_count(a, boxes_of_area(rng, 400, height, width), 0.01)
        error = found.excess.std(ddof=1) / np.sqrt(400)
        assert abs(found.excess.mean()) < 3 * error
        counts.append(found.count.mean())
    assert (np.diff(counts) > 0).all()
    assert counts[-1] > 4 * counts[0]


def test_units_that_know_the_finding_are_in_the_excess() -> None:
    rng = np.random.default_rng(3)
    given = boxes_of_area(rng, 60, 8, 8)
    a = smooth(rng, 60, 40)
    assert given.regions is not None
    centre = given.regions.masks().reshape(60, 7, 8, 7, 8).mean(axis=(2, 4))
    a[:, :5] += (3 * centre[:, None]).astype(np.float16)
    found = legacy_concept_count(a, given, 0.02)
    assert found.excess.mean() > 1.5
    assert found.excess.mean() == pytest.approx(found.count.mean() - found.null.mean())


def test_without_masks_there_is_nothing_to_count() -> None:
    given = ProbeSet(np.zeros((2, 1, 1)), np.zeros((2, 1)), np.arange(2))
    found = legacy_concept_count(np.random.default_rng(4).normal(size=(2, 3, 2, 2)), given)
    assert len(found.count) == len(found.null) == len(found.row) == 0
