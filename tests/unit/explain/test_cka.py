"""Debiased CKA: against the sum over quadruples that defines it, at n = 12, and where nothing can be said."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from raresight.explain.cka import _agreement, biased, cka, cka_matrix, debiased, hsic, one_per_patient

N_SEEDS = 200


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_quadruples(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012: the mean of K_ij (L_ij + L_qr - 2 L_iq) over all ordered quadruples of different images."""
    k, m = x @ x.T, y @ y.T
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return float(np.mean(terms))


def by_double_sums(x: np.ndarray, y: np.ndarray) -> float:
    """The formula of the literature with zeroed diagonals, as plain loops over pairs of images."""
    n = len(x)
    k = [[0.0 if i == j else float(x[i] @ x[j]) for j in range(n)] for i in range(n)]
    m = [[0.0 if i == j else float(y[i] @ y[j]) for j in range(n)] for i in range(n)]
    trace = sum(k[i][j] * m[j][i] for i in range(n) for j in range(n))
    total_k, total_m = sum(map(sum, k)), sum(map(sum, m))
    inner = sum(sum(k[i]) * sum(m[i]) for i in range(n))
    return (trace + total_k * total_m / ((n - 1) * (n - 2)) - 2 * inner / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize(("n", "f", "g"), [(4, 3, 2), (6, 2, 5), (7, 9, 1)])
def test_hsic_is_the_sum_over_quadruples_and_over_pairs(n: int, f: int, g: int) -> None:
    x, y = rng(n).normal(1.0, 2.0, (n, f)), rng(n + 1).normal(-3.0, 1.0, (n, g))
    y[:, 0] += x[:, 0]
    assert hsic(x, y) == pytest.approx(by_quadruples(x, y), rel=1e-9, abs=1e-9)
    assert hsic(x, y) == pytest.approx(by_double_sums(x, y), rel=1e-9, abs=1e-9)


def test_cka_is_the_ratio_of_those_sums() -> None:
    x, y = rng(3).normal(size=(9, 4)), rng(4).normal(size=(9, 6))
    y[:, :2] -= 2 * x[:, :2]
    expected = by_double_sums(x, y) / np.sqrt(by_double_sums(x, x) * by_double_sums(y, y))
    assert debiased(x, y) == pytest.approx(expected, rel=1e-9)
    assert debiased(y, x) == pytest.approx(expected, rel=1e-9)


def test_unrelated_networks_score_0_on_12_images_where_the_usual_figure_scores_98() -> None:
    pairs = [(rng(2 * s).normal(size=(12, 512)), rng(2 * s + 1).normal(size=(12, 512))) for s in range(N_SEEDS)]
    ours = np.array([debiased(x, y) for x, y in pairs])
    usual = np.array([biased(x, y) for x, y in pairs])
    assert abs(ours.mean()) < 3 * ours.std(ddof=1) / np.sqrt(N_SEEDS)
    assert ours.std() < 0.2
    assert 0.97 < usual.mean() < 0.99


def test_unrelated_networks_score_0_on_200_images_too() -> None:
    pairs = [(rng(2 * s).normal(size=(200, 512)), rng(2 * s + 1).normal(size=(200, 512))) for s in range(60)]
    ours = np.array([debiased(x, y) for x, y in pairs])
    assert abs(ours.mean()) < 3 * ours.std(ddof=1) / np.sqrt(60)
    assert np.mean([biased(x, y) for x, y in pairs[:5]]) == pytest.approx(0.72, abs=0.02)  # section 3 of the research


@pytest.mark.parametrize("n", [4, 12, 60])
def test_rotated_scaled_and_shifted_features_are_the_same(n: int) -> None:
    x = rng(n).normal(size=(n, 20))
    turn, _ = np.linalg.qr(rng(9).normal(size=(20, 20)))
    assert debiased(x, x) == pytest.approx(1.0, abs=1e-9)
    assert debiased(x, 7.3 * (x @ turn) - 100) == pytest.approx(1.0, abs=1e-9)
    assert debiased(x, -x) == pytest.approx(1.0, abs=1e-9)
    assert debiased(1e60 * x, 1e-60 * x) == pytest.approx(1.0, abs=1e-9)
    assert biased(x, 7.3 * (x @ turn) - 100) == pytest.approx(1.0, abs=1e-9)


def test_more_in_common_scores_higher() -> None:
    x, other = rng(1).normal(size=(80, 30)), rng(2).normal(size=(80, 30))
    scores = [debiased(x, share * x + (1 - share) * other) for share in (0.0, 0.3, 0.5, 0.7, 1.0)]
    assert scores == sorted(scores) and scores[-1] - scores[0] > 0.9


def test_opposite_arrangements_are_below_0() -> None:
    # Four images: one network pairs 0 with 1 and 2 with 3, the other 0 with 2 and 1 with 3.
    x, y = np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert debiased(x, y) == pytest.approx(-0.5)  # by hand: K and L meet at angles of 120 degrees in their plane


def test_both_ways_to_the_agreement_are_one() -> None:
    for n, f, g in ((5, 40, 30), (40, 5, 30), (40, 30, 5), (8, 8, 8)):
        a, b = rng(n).normal(size=(n, f)), rng(g).normal(size=(n, g))
        assert _agreement(a, b) == pytest.approx(np.sum((a @ a.T) * (b @ b.T)))


@pytest.mark.parametrize(
    "flat", [np.zeros((8, 3)), np.full((8, 3), 0.1), np.eye(8)[:, :1] * 1e6 + 3.7], ids=["zero", "constant", "outlier"]
)
def test_no_spread_is_no_number(flat: np.ndarray) -> None:
    # One image apart from seven equal ones: every similarity is a sum of one term an image, and HSIC is exactly 0.
    x = rng(0).normal(size=(8, 3))
    assert np.isnan(debiased(x, flat)) and np.isnan(debiased(flat, x)) and np.isnan(debiased(flat, flat))
    assert np.isnan(biased(x, flat)) == (np.ptp(flat) == 0)
    told = cka(x, flat)
    assert told.value is None and told.status == "not_estimable" and "spread" in told.reason
    matrix = cka_matrix([x, flat, 2 * x])
    assert np.isnan(matrix.values[1]).all() and np.isnan(matrix.values[:, 1]).all()
    assert matrix.values[0, 2] == pytest.approx(1) and matrix.reasons[0] == "" and matrix.reasons[1]


def test_a_spread_that_one_image_of_thousands_dwarfs_is_still_a_spread() -> None:
    x = rng(0).normal(size=(4000, 2))
    x[0] += 30_000
    assert debiased(x, x[:, ::-1]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_three_images_are_too_few(n: int) -> None:
    x = rng(0).normal(size=(n, 5))
    told = cka(x, x)
    assert told.value is None and told.reason.startswith(f"{n} images") and told.n_images == n
    assert np.isnan(debiased(x, x)) and np.isnan(hsic(x, x))


def test_four_images_are_enough() -> None:
    x, y = rng(1).normal(size=(4, 3)), rng(2).normal(size=(4, 3))
    assert cka(x, y).value == pytest.approx(debiased(x, y))
    assert cka(x, y, patients=np.arange(4)).value == pytest.approx(debiased(x, y))


def test_features_that_are_not_finite_are_said() -> None:
    x = rng(0).normal(size=(8, 5))
    broken = x.copy()
    broken[2, 1] = np.inf
    assert "finite" in cka(x, broken).reason


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="9 images on one side and 8"):
        cka(np.zeros((9, 2)), np.zeros((8, 2)))
    with pytest.raises(ValueError, match="same"):
        cka_matrix([np.zeros((9, 2)), np.zeros((8, 2))])


def test_positives_of_one_class() -> None:
    x, y = rng(1).normal(size=(30, 6)), rng(2).normal(size=(30, 6))
    labels = np.zeros((30, 2))
    labels[:7, 1] = 1
    labels[7:9, 1] = np.nan
    y[:7] = 3 * x[:7]
    told = cka(x, y, labels=labels, of=1)
    assert told.value == pytest.approx(1) and told.n_images == 7 and told.n_patients is None
    assert cka(x, y, labels=labels, of=0).reason.startswith("0 images")
    assert cka(x, y).value == pytest.approx(debiased(x, y))
    assert cka(x, y, labels=labels).value == pytest.approx(debiased(x, y))  # of no class: of all images


def test_matrix_is_every_pair() -> None:
    features = [rng(s).normal(size=(600, f)) for s, f in enumerate((5, 40, 11))]
    features[2][:, :5] += features[0]
    matrix = cka_matrix(features)
    for a in range(3):
        for b in range(3):
            expected = 1.0 if a == b else debiased(features[a], features[b])
            assert matrix.values[a, b] == pytest.approx(expected, abs=1e-9)
    assert matrix.n_images == 600 and matrix.n_patients is None


def test_images_of_one_patient_are_counted_once() -> None:
    """Unrelated networks agree on which images are of one patient; with one image of each they no longer do."""
    patients = np.repeat(np.arange(30), 6)
    loose, strict = [], []
    for seed in range(12):
        a, b = (np.repeat(rng(1000 * side + seed).normal(size=(30, 64)), 6, axis=0) for side in (1, 2))
        loose.append(debiased(a, b))
        told = cka(a, b, patients=patients, names=("a study", seed))
        assert told.value is not None and told.n_patients == 30 and told.n_images == 180
        strict.append(told.value)
    assert np.mean(loose) > 0.15
    assert abs(np.mean(strict)) < 3 * np.std(strict, ddof=1) / np.sqrt(12)


def test_one_image_a_patient_is_seeded_and_fair() -> None:
    patients = np.array(["b", "a", "b", "b", "c"])
    rows = [one_per_patient(patients, "draw", i) for i in range(300)]
    assert all(sorted(patients[r]) == ["a", "b", "c"] and (np.diff(r) > 0).all() for r in rows)
    assert np.array_equal(rows[0], one_per_patient(patients, "draw", 0))
    share = np.mean([[row in r for row in range(5)] for r in rows], axis=0)
    assert share[[1, 4]].tolist() == [1, 1] and np.all(np.abs(share[[0, 2, 3]] - 1 / 3) < 0.1)


def test_draws_are_averaged_and_too_few_patients_are_said() -> None:
    patients = np.repeat(np.arange(6), 2)
    x, y = rng(1).normal(size=(12, 4)), rng(2).normal(size=(12, 4))
    rows = [one_per_patient(patients, "s", draw) for draw in range(3)]
    expected = np.mean([debiased(x[r], y[r]) for r in rows])
    assert cka(x, y, patients=patients, draws=3, names=("s",)).value == pytest.approx(expected)
    assert cka(x[:6], y[:6], patients=patients[:6]).reason.startswith("3 patients")
    alone = cka(x, y, patients=np.arange(12), draws=3)
    assert alone.value == pytest.approx(debiased(x, y))
