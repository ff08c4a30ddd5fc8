"""Units across networks: a planted permutation, what chance gives, and dead units."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from raresight.core.seeds import numpy_rng
from raresight.explain.matching import match


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_planted_permutation_is_recovered_exactly() -> None:
    a = np.maximum(rng(0).normal(size=(60, 40)), 0)
    shuffle = rng(1).permutation(40)
    b = 3.0 * a[:, shuffle] + 0.2 * rng(2).normal(size=(60, 40)) + 5
    found = match(a, b, shared_initialisation=False)
    assert np.array_equal(shuffle[found.partner], np.arange(40))
    assert found.how == "assignment" and found.mutual == 1.0 and found.dead == (0, 0)
    for u in range(40):
        assert found.correlation[u] == pytest.approx(np.corrcoef(a[:, u], b[:, found.partner[u]])[0, 1])
    assert found.quality.value == pytest.approx(found.correlation.mean()) and found.quality.value > 0.95
    assert found.held_out.value is not None and found.held_out.value > 0.95
    other = [np.corrcoef(a[:, u], b[:, v])[0, 1] for u in range(40) for v in range(40) if v != found.partner[u]]
    assert found.unmatched == pytest.approx(np.mean(other))
    assert found.quality.n_images == 60 and found.quality.n_patients is None


def test_the_assignment_is_the_best_of_all() -> None:
    a, b = rng(3).normal(size=(12, 5)), rng(4).normal(size=(12, 5))
    found = match(a, b, shared_initialisation=False)
    likeness = np.corrcoef(a.T, b.T)[:5, 5:]
    best = max(permutations(range(5)), key=lambda order: sum(likeness[u, v] for u, v in enumerate(order)))
    assert found.partner.tolist() == list(best)
    assert found.mutual == np.mean(likeness.argmax(axis=1) == best)


def test_held_out_is_measured_on_either_half() -> None:
    a = rng(0).normal(size=(21, 4))
    b = a + rng(1).normal(size=(21, 4))
    order = numpy_rng("matching, halves", "s").permutation(21)
    likeness = [np.corrcoef(a[half].T, b[half].T)[:4, 4:] for half in (order[:10], order[10:])]
    expected = []
    for seen, unseen in (likeness, likeness[::-1]):
        best = max(permutations(range(4)), key=lambda to, seen=seen: sum(seen[u, v] for u, v in enumerate(to)))
        expected.append(np.mean([unseen[u, v] for u, v in enumerate(best)]))
    found = match(a, b, shared_initialisation=False, names=("s",))
    assert found.held_out.value == pytest.approx(np.mean(expected))


def test_opposite_units_are_not_alike() -> None:
    a = rng(5).normal(size=(50, 2))
    b = np.stack([-a[:, 0], 0.3 * a[:, 0] + rng(6).normal(size=50)], axis=1)
    found = match(a, b, shared_initialisation=False)
    assert found.partner.tolist() == [1, 0]


def test_shared_initialisation_is_the_identity_with_its_quality() -> None:
    a = rng(0).normal(size=(80, 30))
    b = a + rng(1).normal(size=(80, 30))
    found = match(a, b, shared_initialisation=True)
    expected = [np.corrcoef(a[:, u], b[:, u])[0, 1] for u in range(30)]
    assert found.how == "shared initialisation" and found.partner.tolist() == list(range(30))
    assert np.allclose(found.correlation, expected)
    assert found.quality.value == pytest.approx(np.mean(expected)) and 0.6 < found.quality.value < 0.8
    assert found.chance[0] == pytest.approx(0, abs=0.05) and found.chance[0] <= found.chance[1] < 0.1
    assert found.held_out.value == pytest.approx(found.quality.value, abs=0.05)
    shuffled = match(a, b[:, rng(2).permutation(30)], shared_initialisation=True)
    assert shuffled.quality.value is not None and shuffled.quality.value < 0.2 and shuffled.mutual < 0.2


def test_unrelated_networks_match_no_better_than_chance() -> None:
    found = match(rng(0).normal(size=(40, 64)), rng(1).normal(size=(40, 64)), shared_initialisation=False)
    assert found.quality.value is not None and found.held_out.value is not None
    assert found.quality.value > 0.25  # it looks like a match, and chance says that it is none
    assert found.quality.value == pytest.approx(found.chance[0], abs=0.03)
    assert found.held_out.value == pytest.approx(0, abs=0.06)
    assert found.unmatched == pytest.approx(0, abs=0.05) and found.unmatched < 0


def test_a_real_match_is_above_chance() -> None:
    a = rng(0).normal(size=(40, 64))
    b = (a + rng(1).normal(size=(40, 64)))[:, ::-1]
    found = match(a, b, shared_initialisation=False)
    assert found.quality.value is not None and found.held_out.value is not None
    assert found.quality.value > found.chance[1] + 0.1 and found.held_out.value > 0.3


def test_dead_units_have_no_partner_and_do_not_count() -> None:
    a = rng(0).normal(size=(30, 6))
    b = a[:, ::-1].copy()
    a[:, 2], b[:, 0] = 0.1, 7.3  # a's unit 2 is b's unit 3, b's unit 0 is a's unit 5
    found = match(a, b, shared_initialisation=False)
    assert found.dead == (1, 1) and found.partner[2] == -1 and np.isnan(found.correlation[2])
    assert found.partner[[0, 1, 3, 4]].tolist() == [5, 4, 2, 1]
    assert found.partner[5] == 3  # what is left on both sides
    assert found.mutual == pytest.approx(4 / 5)
    same = match(a, b[:, ::-1], shared_initialisation=True)
    assert np.isnan(same.correlation[[2, 5]]).all() and same.quality.value == pytest.approx(1)
    assert match(0 * a, b, shared_initialisation=True).dead == (6, 1)
    live = [u for u in range(6) if u not in (2,)]
    other = [np.corrcoef(a[:, u], b[:, ::-1][:, v])[0, 1] for u in live for v in range(5) if u != v]
    assert same.unmatched == pytest.approx(np.mean(other))


def test_different_widths() -> None:
    a = rng(0).normal(size=(30, 6))
    found = match(a, a[:, [4, 1]], shared_initialisation=False)
    assert found.partner.tolist() == [-1, 1, -1, -1, 0, -1]
    assert found.quality.value == pytest.approx(1)
    assert match(a[:, [4, 1]], a, shared_initialisation=False).partner.tolist() == [4, 1]


def test_one_image_of_each_patient_counts() -> None:
    patients = np.repeat(np.arange(20), 5)
    a, b = (np.repeat(rng(s).normal(size=(20, 16)), 5, axis=0) for s in (1, 2))
    found = match(a, b, shared_initialisation=False, patients=patients)
    alone = match(a[::5], b[::5], shared_initialisation=False)
    assert found.quality.value == pytest.approx(alone.quality.value)
    assert found.quality.n_patients == 20 and found.quality.n_images == 100


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (rng(0).normal(size=(9, 3)), rng(1).normal(size=(9, 3)), "9 images"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "0 images"),
        (np.ones((12, 3)), rng(1).normal(size=(12, 3)), "no unit"),
        (np.full((12, 3), np.inf), rng(1).normal(size=(12, 3)), "finite"),
    ],
)
def test_what_cannot_be_matched_is_said(a: np.ndarray, b: np.ndarray, word: str) -> None:
    for shared in (True, False):
        found = match(a, b, shared_initialisation=shared)
        assert found.quality.value is None and word in found.quality.reason and found.held_out.value is None
        assert found.partner.tolist() == ([0, 1, 2] if shared else [-1, -1, -1])
    assert match(a[:9], b[:9], shared_initialisation=True, patients=np.arange(len(a[:9]))).quality.reason


def test_ten_images_are_enough() -> None:
    a = rng(0).normal(size=(10, 3))
    assert match(a, a[:, ::-1], shared_initialisation=False).partner.tolist() == [2, 1, 0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="12 images on one side and 11"):
        match(np.ones((12, 2)), np.ones((11, 2)), shared_initialisation=False)
    with pytest.raises(ValueError, match="2 and 3 units"):
        match(np.ones((12, 2)), np.ones((12, 3)), shared_initialisation=True)
