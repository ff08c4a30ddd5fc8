"""Units against labels. Oracles: scikit-learn's AUROC (weighted, for parts of positions), all dealings by hand."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raresight.explain.concepts import concepts
from raresight.explain.probe import ProbeSet, Regions
from raresight.explain.unit_auroc import auroc_of_units, pixel_auroc, pooled, unit_auroc


def test_pooling_by_hand() -> None:
    a = np.array([[[[1, 2], [3, 6]], [[-1, -5], [0, 2]]]], dtype=np.float16)
    assert pooled(a).tolist() == [[3.0, -1.0]]
    assert pooled(a, "max").tolist() == [[6.0, 2.0]]
    with pytest.raises(ValueError, match="median"):
        pooled(a, "median")


def test_auroc_is_scikit_learns_ties_included() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (40, 6)).astype(float)
    y = rng.random(40) < 0.3
    assert auroc_of_units(values, y) == pytest.approx([roc_auc_score(y, values[:, u]) for u in range(6)])
    assert auroc_of_units(np.array([[0.0], [1.0], [2.0]]), np.array([False, False, True])).tolist() == [1.0]
    assert np.isnan(auroc_of_units(values, np.ones(40, dtype=bool))).all()
    assert np.isnan(auroc_of_units(values, np.zeros(40, dtype=bool))).all()


def test_unknown_labels_are_left_out_of_their_class() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(30, 3))
    labels = (rng.random((30, 2)) < 0.4).astype(float)
    labels[:7, 0] = np.nan
    found = unit_auroc(values, labels, np.arange(30))
    assert found.value[:, 0] == pytest.approx([roc_auc_score(labels[7:, 0], values[7:, u]) for u in range(3)])
    assert found.value[:, 1] == pytest.approx([roc_auc_score(labels[:, 1], values[:, u]) for u in range(3)])
    assert found.n_images.tolist() == np.nansum(labels, axis=0).astype(int).tolist()


def test_p_is_that_of_all_dealings_of_patients() -> None:
    """Patients a, b, c, d with 2, 2, 1, 1 images; a has the class. Each of the 4! dealings is one outcome."""
    patients = np.array(["a", "a", "b", "b", "c", "d"])
    labels = np.array([[1.0], [1.0], [0.0], [0.0], [0.0], [0.0]])
    values = np.array([[9.0], [7.0], [8.0], [1.0], [2.0], [3.0]])
    images = {"a": [0, 1], "b": [2, 3], "c": [4], "d": [5]}
    every = []
    for order in itertools.permutations("abcd"):
        dealt = np.empty(6, dtype=bool)
        for patient, other in zip("abcd", order, strict=True):
            for j, i in enumerate(images[patient]):
                dealt[i] = labels[images[other][j % len(images[other])], 0] == 1
        every.append(roc_auc_score(dealt, values[:, 0]))
    found = unit_auroc(values, labels, patients)
    assert found.value[0, 0] == 7 / 8
    assert found.p[0, 0] == pytest.approx(np.mean(np.array(every) >= 7 / 8), abs=0.08)
    assert found.n_patients.tolist() == [1]
    reversed_ = unit_auroc(-values, labels, patients)
    assert reversed_.p[0, 0] == pytest.approx(np.mean(1 - np.array(every) >= 1 / 8 - 1e-9), abs=0.08)


def test_images_of_one_patient_are_no_evidence_of_their_own() -> None:
    """Twenty patients with ten images each; one has the class, and the unit knows that patient: p is about 1/20."""
    patients = np.repeat(np.arange(20), 10)
    labels = (patients == 3).astype(float)[:, None]
    values = labels + 0.01 * np.random.default_rng(2).normal(size=(200, 1))
    found = unit_auroc(values, labels, patients)
    assert found.value[0, 0] == 1.0
    assert found.p[0, 0] == pytest.approx(1 / 20, abs=0.04)
    alone = unit_auroc(values, labels, np.arange(200))
    assert alone.p[0, 0] == 1 / 201


def test_absent_classes_dead_units_and_one_patient() -> None:
    values = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])
    labels = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, np.nan]], dtype=float)
    found = unit_auroc(values, labels, np.arange(4))
    assert np.isnan(found.value[:, :2]).all()
    assert np.isnan(found.p[:, :2]).all()
    assert found.value[:, 2].tolist() == [0.5, 1.0]
    assert np.isnan(found.p[0, 2])  # a unit that never changes is no candidate
    assert found.p[1, 2] > 0.2
    one = unit_auroc(values, labels, np.zeros(4))
    assert np.isnan(one.p).all()
    assert one.value[1, 2] == 1.0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_planted_units_are_found_without_masks_at_every_prevalence(share: float) -> None:
    rng = np.random.default_rng(3)
    labels = np.zeros((500, 2))
    labels[rng.choice(500, int(share * 500), replace=False), 0] = 1
    labels[rng.choice(500, 200, replace=False), 1] = 1
    values = rng.normal(size=(500, 100))
    values[:, 5] += 3 * labels[:, 0]
    found = unit_auroc(values, labels, np.arange(500))
    assert found.value[5, 0] == pytest.approx(0.983, abs=0.03)  # Φ(3 / √2)
    assert found.detector[5, 0]
    assert found.detector.sum() <= 3
    assert found.detectors.concept[5] == 0
    assert found.detectors.count[0] >= 1


def test_units_without_meaning_are_called_detectors_no_more_often_than_stated() -> None:
    runs, any_, small = 1000, 0, 0
    for run in range(runs):
        rng = np.random.default_rng([4, run])
        patients = np.repeat(np.arange(25), rng.integers(1, 4, 25))
        labels = (np.arange(25) < 6).astype(float)[patients][:, None]
        values = rng.normal(size=(25, 10))[patients] + rng.normal(size=(len(patients), 10))
        found = unit_auroc(values, labels, patients, names=(run,))
        any_ += bool(found.detector.any())
        small += int((found.p <= 0.05).sum())
    assert any_ / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert 0.04 < small / (runs * 10) < 0.06


# Positions


@pytest.mark.parametrize("native", [(4, 5), (2, 3, 2)])
def test_positions_count_by_the_share_that_is_inside(native: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    grid = tuple(4 * s for s in native)
    labels = np.array([[1, 0], [1, 1], [0, np.nan], [1, 0], [0, 1]], dtype=float)
    row, label = [0, 1, 1, 4], [0, 0, 1, 1]  # image 3 has class 0 nobody knows where
    masks = rng.random((4, *grid)) < 0.3
    given = ProbeSet(np.zeros((5, 1, 1)), labels, np.arange(5), regions=Regions.of(row, label, masks))
    a = np.round(rng.normal(size=(5, 3, *native)), 1).astype(np.float16)  # ties
    found = pixel_auroc(a, concepts(given, grid))
    inside = np.zeros((5, 2, *grid), dtype=bool)
    inside[row, label] = masks
    inside = np.concatenate([inside, inside.any(axis=1, keepdims=True)], axis=1)
    known = [[0, 1, 2, 4], [0, 1, 3, 4], [0, 1, 4]]
    fine = a.astype(float)
    for axis in range(2, a.ndim):
        fine = fine.repeat(4, axis=axis)
    for u in range(3):
        for c in range(3):
            expected = roc_auc_score(inside[known[c], c].ravel(), fine[known[c], u].ravel())
            assert found[u, c] == pytest.approx(expected)


def test_positions_of_a_concept_without_a_mask_or_without_an_outside() -> None:
    given = ProbeSet(
        np.zeros((1, 1, 1)), np.array([[1.0, 0.0]]), np.arange(1), regions=Regions.of([0], [0], np.ones((1, 2, 2)))
    )
    assert np.isnan(pixel_auroc(np.ones((1, 2, 2, 2)), concepts(given, (2, 2)))).all()


def test_planted_units_at_every_share_of_positions() -> None:
    rng = np.random.default_rng(6)
    n, side = 200, 7
    for share in (0.0005, 0.005, 0.1):
        inside = np.zeros(n * side * side, dtype=bool)
        inside[rng.choice(len(inside), round(share * len(inside)), replace=False)] = True
        inside = inside.reshape(n, side, side)
        row = np.flatnonzero(inside.any(axis=(1, 2)))
        labels = inside.any(axis=(1, 2)).astype(float)[:, None]
        given = ProbeSet(
            np.zeros((n, 1, 1)), labels, np.arange(n), regions=Regions.of(row, [0] * len(row), inside[row])
        )
        a = rng.normal(size=(n, 2, side, side))
        a[:, 0] += 3 * inside
        found = pixel_auroc(a, concepts(given, (side, side)))
        assert found[0, 0] == pytest.approx(0.983, abs=0.04)
        assert found[1, 0] == pytest.approx(0.5, abs=3 * np.sqrt(1 / (12 * inside.sum())))
