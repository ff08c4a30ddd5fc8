"""Concepts, where units fire, and their overlap. Oracles: torch's interpolation in float64, sets of pixels by hand."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from raresight.explain import dissect as module
from raresight.explain import firing
from raresight.explain.concepts import ANY, concepts, grid_for, on_grid
from raresight.explain.dissect import assigned, detectors, dissect
from raresight.explain.firing import Lattice, fired, overlaps, packed, unpacked, upsampled
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.thresholds import Thresholds, thresholds

LATTICES = [
    ((7, 5), (56, 40)),
    ((7, 7), (50, 33)),
    ((3, 4), (3, 4)),
    ((3, 4, 2), (24, 32, 16)),
    ((9,), (40,)),
    ((1, 4), (3, 8)),
]
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def probe(labels: np.ndarray, regions: Regions | None = None, classes: tuple[str, ...] = ()) -> ProbeSet:
    n = len(labels)
    return ProbeSet(np.zeros((n, 1, 1), dtype=np.float32), labels, np.arange(n), classes, regions=regions)


def marked(seed: int, n: int, k: int, grid: tuple[int, ...], share: float = 0.2) -> ProbeSet:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, k)) < 0.5).astype(float)
    row, label = np.nonzero(labels)
    masks = rng.random((len(row), *grid)) < share
    masks.reshape(len(row), -1)[:, 0] = True
    return probe(labels, Regions.of(row, label, masks))


def by_torch(a: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    given = torch.from_numpy(np.asarray(a, dtype=np.float64))
    return torch.nn.functional.interpolate(given, grid, mode=MODES[len(grid)], align_corners=False).numpy()


# Where units fire


@pytest.mark.parametrize(("native", "grid"), LATTICES)
def test_upsampling_is_torchs(native: tuple[int, ...], grid: tuple[int, ...]) -> None:
    a = np.random.default_rng(0).normal(size=(3, 4, *native))
    assert upsampled(a, Lattice(native, grid)) == pytest.approx(by_torch(a, grid), abs=1e-12)


@pytest.mark.parametrize(("native", "grid"), LATTICES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_pruned_and_compiled_fire_at_the_bits_of_the_dense_computation(
    native: tuple[int, ...], grid: tuple[int, ...], dtype: type
) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(20, 7, *native)).astype(dtype)
    a[:, 1] = np.maximum(a[:, 1] - 1.5, 0)  # rectified, rarely active
    a[:, 2] = np.round(a[:, 2])  # ties at the threshold
    a[:, 3] = -np.abs(a[:, 3])  # negative only
    a[:, 4] = 0  # dead
    a[:, 5] = np.sign(a[:, 5])  # two values only
    level = thresholds(a, 0.1).value
    values, lattice = a.astype(np.float32), Lattice(native, grid)
    dense, area = fired(values, level, lattice, pruned=False)
    above = by_torch(a, grid) > level.astype(np.float64).reshape(1, -1, *([1] * len(grid)))
    # Where weights are no binary fractions, torch's w a + (1 - w) a may be above a: ties are left to the next test.
    binary = all((m / n) % 2 in {0, 1} for n, m in zip(native, grid, strict=True))
    sure = slice(None) if binary else [0, 1, 3, 4, 6]
    pixels = unpacked(dense.reshape(140, -1), lattice.n_pixels).reshape(above.shape)
    assert (pixels[:, sure] == above[:, sure]).all()
    assert (area == pixels.reshape(20, 7, -1).sum(axis=2)).all()
    ways = [fired(values, level, lattice), firing.plain_fired(values, level, lattice, pruned=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firing, "kernels", lambda: None)
        ways.append(fired(values, level, lattice))
    for bits, counted in ways:
        assert (bits == dense).all()
        assert (counted == area).all()
    assert firing.kernels() is not None, "the compiled loops were not tested"
    assert area[:, 4].sum() == 0
    assert (area[:, [0, 1, 2, 3]].sum(axis=0) > 0).all()


def test_a_pixel_never_exceeds_its_neighbours_by_a_rounding() -> None:
    """Weights of 7 -> 50 are no binary fractions: w a + (1 - w) a would often be above a."""
    rng = np.random.default_rng(2)
    a = np.repeat(rng.normal(size=(1, 4000, 1, 1)).astype(np.float32), 7, axis=2).repeat(7, axis=3)
    level = a[0, :, 0, 0].copy()
    assert fired(a, level, Lattice((7, 7), (50, 33)), pruned=False)[1].sum() == 0
    a[0, :, 3, 3] = np.nextafter(level, np.float32(-np.inf))  # a hair below the threshold in the middle
    assert fired(a, level, Lattice((7, 7), (50, 33)), pruned=False)[1].sum() == 0
    a[0, :, 3, 3] = np.nextafter(level, np.float32(np.inf))  # and a hair above
    assert (fired(a, level, Lattice((7, 7), (49, 49)))[1] > 0).all()


def test_packing_pixels_and_counting_what_bits_share() -> None:
    inside = np.zeros((2, 70), dtype=bool)
    inside[0, [0, 63, 64]] = True
    inside[1, [63, 69]] = True
    bits = packed(inside)
    assert bits[0].tolist() == [1 | 1 << 63, 1]
    assert bits[1].tolist() == [1 << 63, 1 << 5]
    assert (unpacked(bits, 70) == inside).all()
    both = overlaps(bits[None], np.array([[3, 2]], dtype=np.int32), np.array([0, 0]), bits)
    assert both.tolist() == [[3, 1], [1, 2]]


def test_plain_and_compiled_overlaps_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    inside = rng.random((5 * 4, 200)) < 0.3
    inside[7] = False
    bits, area = packed(inside).reshape(5, 4, -1), inside.sum(axis=1).astype(np.int32).reshape(5, 4)
    masks = rng.random((9, 200)) < 0.1
    masks[0, :64], masks[1, 64:] = False, False  # words without a bit at either end
    row = rng.integers(0, 5, 9)
    expected = [
        [int((inside.reshape(5, 4, -1)[i, u] & m).sum()) for u in range(4)] for i, m in zip(row, masks, strict=True)
    ]
    assert overlaps(bits, area, row, packed(masks)).tolist() == expected
    monkeypatch.setattr(firing, "kernels", lambda: None)
    assert overlaps(bits, area, row, packed(masks)).tolist() == expected


def test_works_without_numba() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from raresight.explain import firing\n"
        "assert firing.kernels() is None\n"
        "a = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)\n"
        "print(firing.fired(a, np.ones(2, np.float32), firing.Lattice((4, 4), (16, 16)))[1].tolist())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    a = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    assert run.stdout.strip() == str((by_torch(a, (16, 16)) > 1).reshape(3, 2, -1).sum(axis=2).tolist())


# Concepts


def test_which_images_are_known_for_which_concept() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0], [np.nan, 0], [0, 1], [np.nan, 1]], dtype=float)
    masks = np.zeros((3, 2, 2), dtype=bool)
    masks[0, 0, 0] = masks[1, 1] = masks[2] = True
    sets = concepts(probe(labels, Regions.of([0, 4, 5], [0, 1, 1], masks), ("a", "b")), (2, 2))
    assert sets.names == ("a", "b", ANY)
    # a: image 1 has it nobody knows where, images 3 and 5 may have it; b is known everywhere; any where both are
    assert sets.known[:, 0].tolist() == [True, False, True, False, True, False]
    assert sets.known[:, 1].tolist() == [True] * 6
    assert sets.known[:, 2].tolist() == [True, False, True, False, True, False]
    assert sets.n_annotated.tolist() == [1, 2, 2]
    assert sets.prevalence == pytest.approx([1 / 12, 6 / 24, 3 / 12])
    assert list(zip(sets.row.tolist(), sets.concept.tolist(), sets.pixels.tolist(), strict=True)) == [
        (0, 0, 1),
        (0, 2, 1),
        (4, 1, 2),
        (4, 2, 2),
        (5, 1, 4),  # image 5 is not known for `any`
    ]


def test_a_mask_counts_whatever_the_label_says() -> None:
    labels = np.array([[0.0], [np.nan]])
    sets = concepts(probe(labels, Regions.of([0, 1], [0, 0], np.ones((2, 2, 2)))), (2, 2))
    assert sets.known.all()
    assert sets.names == ("class 0",)
    assert sets.prevalence.tolist() == [1.0]


def test_any_is_the_union() -> None:
    masks = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]]])
    sets = concepts(probe(np.ones((1, 2)), Regions.of([0, 0], [0, 1], masks)), (1, 4))
    assert unpacked(sets.bits, 4).astype(int).tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0]]


def test_a_probe_without_masks_has_no_pixels() -> None:
    sets = concepts(probe(np.array([[0.0, 1.0], [0.0, 0.0]])), (2, 2))
    assert len(sets.row) == len(sets.bits) == 0
    assert sets.known.tolist() == [[True, False, False], [True, True, True]]
    found = dissect(np.zeros((2, 3, 2, 2), dtype=np.float32), probe(np.zeros((2, 2))))
    assert found.shared.shape == (0, 3)
    assert np.isnan(found.iou).all()
    assert detectors(found).concept.tolist() == [-1, -1, -1]


def test_masks_by_area_and_small_ones_kept() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[0, :2, :1] = True  # half of a pixel
    masks[1, 0, 0] = True  # a quarter of one pixel: kept all the same
    masks[2, 1:4, 1:4] = True  # 1/4, 1/2, 1/2 and all of the four
    regions = Regions.of([0, 1, 2], [0, 0, 0], masks)
    kept = unpacked(on_grid(regions, (2, 2)), 4).astype(int)
    assert kept.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1]]
    assert (unpacked(on_grid(regions, (4, 4)), 16) == masks.reshape(3, -1)).all()


def test_masks_on_a_grid_that_does_not_divide_theirs() -> None:
    line = np.array([[[1, 1, 0, 0, 0]]])  # of 3 pixels, the first is covered wholly, the second by 1/5 of 5/3
    assert unpacked(on_grid(Regions.of([0], [0], line), (1, 3)), 3).astype(int).tolist() == [[1, 0, 0]]
    line = np.array([[[0, 0, 1, 1, 0]]])  # the second is covered by 1 + 1/3 of 5/3, the third by 2/3 of 5/3
    assert unpacked(on_grid(Regions.of([0], [0], line), (1, 3)), 3).astype(int).tolist() == [[0, 1, 0]]


def test_the_grid_is_eight_times_the_native_and_no_finer_than_the_masks() -> None:
    assert grid_for((7, 7), (224, 224)) == (56, 56)
    assert grid_for((7, 5), (50, 224)) == (50, 40)


# Overlap


def test_counts_by_hand() -> None:
    """One unit on a 2 x 2 grid, nothing upsampled; q = 1/6 of 12 positions: two fire."""
    a = np.zeros((3, 1, 2, 2), dtype=np.float32)
    a[0, 0, 0], a[2, 0, 1, 1] = [3.0, 2.0], 1.0
    masks = np.zeros((2, 2, 2), dtype=bool)
    masks[0, :, 0] = masks[1, 1, 1] = True
    labels = np.array([[1.0], [1.0], [0.0]])
    found = dissect(a, probe(labels, Regions.of([0, 1], [0, 0], masks)), 1 / 6)
    assert found.grid == found.native == (2, 2)
    assert found.area.tolist() == [[2], [0], [0]]
    assert found.shared.tolist() == [[1], [0]]
    assert found.inside.tolist() == [2, 1]
    sums = found.overlaps()
    assert (sums.shared.item(), sums.fired.item(), sums.inside.item()) == (1.0, 2.0, 3.0)
    assert found.iou.item() == 1 / 4
    assert found.ceiling.item() == 2 / 3
    assert found.normalised.item() == pytest.approx(3 / 8)
    assert found.prevalence.item() == 1 / 4
    assert found.nominal_ceiling.item() == pytest.approx((1 / 6) / (1 / 4))
    doubled = found.overlaps(np.array([[2, 0, 5], [0, 3, 0]]))
    assert doubled.shared.ravel().tolist() == [2, 0]
    assert doubled.fired.ravel().tolist() == [4, 0]
    assert doubled.inside.ravel().tolist() == [4, 3]
    assert doubled.iou.ravel().tolist() == [2 / 6, 0.0]


def test_unknown_images_are_left_out_of_their_concept_alone() -> None:
    a = np.zeros((3, 1, 1, 4), dtype=np.float32)
    a[:, 0, 0, :2] = [[5, 4], [3, 2], [0, 0]]
    mask = np.array([[[1, 0, 0, 0]]])
    labels = np.array([[1, 0], [np.nan, 0], [1, 0]], dtype=float)  # image 2 has class 0, nobody knows where
    found = dissect(a, probe(labels, Regions.of([0], [0], mask)), 4 / 12)
    assert found.area.ravel().tolist() == [2, 2, 0]
    assert found.overlaps().fired.tolist() == [[2, 4, 2]]  # image 0; all; image 0
    assert found.iou[0, 0] == 1 / 2
    assert np.isnan(found.iou[0, 1])
    assert np.isnan(found.normalised[0, 1])
    assert found.iou[0, 2] == 1 / 2


@pytest.mark.parametrize(("native", "grid"), [((7, 5), (56, 40)), ((3, 4, 2), (24, 32, 16)), ((4, 4), (30, 21))])
def test_dissection_equals_boolean_sets_of_pixels(
    native: tuple[int, ...], grid: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = marked(4, 12, 3, grid)
    a = np.random.default_rng(5).normal(size=(12, 6, *native)).astype(np.float16)
    a[:, 2] = 0
    found = dissect(a, given, 0.1, grid=grid)
    level = thresholds(a, 0.1).value.astype(np.float64).reshape(1, -1, *([1] * len(grid)))
    above = (by_torch(a, grid) > level).reshape(12, 6, -1)
    assert given.regions is not None
    masks = np.zeros((12, 4, above.shape[2]), dtype=bool)
    for r, (i, k) in enumerate(zip(given.regions.row, given.regions.label, strict=True)):
        masks[i, k] = given.regions.masks([r]).ravel()
    masks[:, 3] = masks[:, :3].any(axis=1)
    for u in range(6):
        for c in range(4):
            both, either = (above[:, u] & masks[:, c]).sum(), (above[:, u] | masks[:, c]).sum()
            assert found.iou[u, c] == both / either
    assert found.dead.tolist() == [False, False, True, False, False, False]
    assert found.iou[2].tolist() == found.normalised[2].tolist() == found.ceiling[2].tolist() == [0.0] * 4
    monkeypatch.setattr(module, "BITS", 1)  # an image at a time
    for other in (dissect(a, given, 0.1, grid=grid), dissect(a, given, 0.1, grid=grid, pruned=False)):
        assert (other.area == found.area).all()
        assert (other.shared == found.shared).all()


def test_a_memory_map_and_given_thresholds(tmp_path: object) -> None:
    given = marked(6, 10, 2, (8, 8))
    a = np.random.default_rng(6).normal(size=(10, 3, 2, 2)).astype(np.float16)
    on_disk = np.lib.format.open_memmap(f"{tmp_path}/a.npy", "w+", np.float16, a.shape)
    on_disk[:] = a
    level = Thresholds(np.array([0.5, 1.0, 99.0], dtype=np.float32), np.array([0.2, 0.1, 0.0]), 0.3, 40)
    found = dissect(on_disk, given, levels=level)
    assert found.grid == (8, 8)
    assert found.thresholds is level
    assert (found.area == (by_torch(a, (8, 8)) > [[[[0.5]], [[1.0]], [[99.0]]]]).sum(axis=(2, 3))).all()
    with pytest.raises(ValueError, match="10 images"):
        dissect(a[:9], given)


def test_weights_are_resampled_images() -> None:
    given = marked(7, 9, 2, (6, 6))
    a = np.random.default_rng(7).normal(size=(9, 4, 3, 3)).astype(np.float32)
    found = dissect(a, given, 0.1)
    drawn = np.array([0, 0, 3, 4, 4, 4, 8, 1, 1])
    regions = given.regions
    assert regions is not None
    pairs = [(new, r) for new, old in enumerate(drawn) for r in np.flatnonzero(regions.row == old)]
    masks = regions.masks([r for _, r in pairs])
    again = probe(given.labels[drawn], Regions.of([i for i, _ in pairs], regions.label[[r for _, r in pairs]], masks))
    copied = dissect(a[drawn], again, levels=found.thresholds).overlaps()
    weight = np.bincount(drawn, minlength=9)
    for whole in (found.overlaps(weight), found.overlaps(np.stack([np.ones(9), weight]))):
        assert (whole.shared.reshape(-1, 4, 3)[-1] == copied.shared).all()
        assert (whole.fired.reshape(-1, 4, 3)[-1] == copied.fired).all()
        assert (whole.inside.reshape(-1, 4, 3)[-1] == copied.inside).all()


def test_a_chunk_of_activations_and_its_bits_fit_into_the_memory_that_is_allowed(monkeypatch: Any) -> None:
    a = np.random.default_rng(3).normal(size=(5, 2, 4, 4)).astype(np.float32)  # 128 bytes an image
    levels = thresholds(a, 0.2)
    for grid, allowed, sizes in (((16, 16), 300, [2, 2, 1]), ((32, 32), 600, [2, 2, 1]), ((4, 4), 1, [1] * 5)):
        monkeypatch.setattr(module, "BITS", allowed)  # on 32 x 32 the bits are larger, 256 bytes
        chunks = list(module.firing(a, levels, grid))
        assert [len(bits) for _, bits, _ in chunks] == sizes
        assert [start for start, _, _ in chunks] == list(np.cumsum([0, *sizes[:-1]]))
    assert len(list(module.firing(a, levels, (16, 16)))) == 5


def test_units_on_a_line() -> None:
    a = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    found = dissect(a, probe(np.ones((3, 1))), 0.25)  # of twelve values three may be above: 17, 18 and 19; 21, 22, 23
    assert found.area.tolist() == [[0, 0], [0, 0], [3, 3]] and found.grid == (4,)
    with pytest.raises(ValueError, match="is asked for"):
        dissect(a[:, :, 0], probe(np.ones((3, 1))))


def test_the_union_of_classes_is_no_class_and_a_class_of_that_name_is_one() -> None:
    a = np.zeros((2, 1, 2, 2), dtype=np.float32)
    for classes, named in (
        (("a", "b"), [1, 1, 0]),
        (("any",), [1]),
        (("any", "b"), [1, 1, 0]),
        (("a", "any"), [1, 1, 0]),
    ):
        found = dissect(a, probe(np.ones((2, len(classes))), classes=classes))
        assert found.named.tolist() == [bool(one) for one in named]


# Detectors


def test_detectors_by_hand() -> None:
    score = np.array([[0.05, 0.06, 0.5], [0.05, 0.05, 0.04], [0.04, 0.01, 0.03], [np.nan, 0.2, 0.0]])
    found = assigned(np.where(np.isnan(score), -np.inf, score), score > 0.04, np.array([True, True, False]))
    assert found.concept.tolist() == [1, 0, -1, 1]
    assert found.count.tolist() == [1, 2, 1]
    assert (found.unique, found.share) == (2, 0.75)


def test_the_seeds_rule_is_raw_iou_above_four_percent() -> None:
    given = marked(8, 12, 2, (8, 8), share=0.05)
    a = np.random.default_rng(8).normal(size=(12, 5, 4, 4)).astype(np.float32)
    found = dissect(a, given, 0.05)
    reached = detectors(found, score=np.full((5, 3), 0.5), least=0.5)
    assert reached.count.tolist() == [0, 0, 0]  # above, not at
    expected = (found.iou[:, :2].max(axis=1) > 0.04).mean()
    assert expected > 0
    assert detectors(found).share == expected
    assert detectors(found, least=2.0).share == 0
    assert detectors(found, score=found.normalised, least=0.0).concept.tolist() == (
        np.where(found.normalised[:, :2].max(axis=1) > 0, found.normalised[:, :2].argmax(axis=1), -1).tolist()
    )


# What the numbers mean


def planted(prevalences: list[float], n: int = 400, side: int = 7, seed: int = 0) -> tuple[np.ndarray, ProbeSet]:
    """A unit for every concept: 1 above the noise of all units, at the very positions that the concept covers."""
    rng = np.random.default_rng(seed)
    k, cells = len(prevalences), n * side * side
    inside = np.zeros((k, n, side * side), dtype=bool)
    order = rng.permutation(cells)
    first = 0
    for c, share in enumerate(prevalences):
        count = round(share * cells)
        inside[c].reshape(-1)[order[first : first + count]] = True
        first += count
    a = rng.normal(scale=0.1, size=(n, k + 20, side * side))
    a[:, :k] += inside.transpose(1, 0, 2)
    labels = inside.any(axis=2).T.astype(float)
    row, label = np.nonzero(labels)
    masks = inside[label, row].reshape(-1, side, side).repeat(8, axis=1).repeat(8, axis=2)
    return a.reshape(n, k + 20, side, side).astype(np.float16), probe(labels, Regions.of(row, label, masks))


def test_planted_detectors_are_recovered_at_every_prevalence_where_raw_iou_ranks_by_prevalence() -> None:
    prevalences = [0.0005, 0.001, 0.0025, 0.005, 0.02, 0.05, 0.1]
    a, given = planted(prevalences)
    found = dissect(a, given, 0.005, grid=(56, 56))
    k = len(prevalences)
    assert found.prevalence[:k] == pytest.approx(prevalences, rel=0.05)
    own = np.arange(k)
    raw, normalised = found.iou[own, own], found.normalised[own, own]
    assert (normalised > 0.8).all(), normalised
    assert (found.normalised[:, :k].argmax(axis=0) == own).all()
    others = np.delete(np.arange(k + 20), own)
    assert found.normalised[others][:, :k].max() < 0.25
    # Raw: the common concept's perfect unit misses the seed's rule by far, though it is as strong as any.
    expected = found.nominal_ceiling[:k]
    assert np.argsort(raw).tolist() == np.argsort(found.ceiling[own, own]).tolist()
    assert (np.diff(raw[3:]) < 0).all()
    assert raw[-1] < 0.06 < raw[3]
    assert expected == pytest.approx(np.minimum(prevalences, 0.005) / np.maximum(prevalences, 0.005), rel=0.05)
    assert (found.iou <= found.ceiling + 1e-12).all()
