"""Neural and minority collapse: a simplex by hand, the definitions as loops, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from raresight.explain.collapse import by_chance, collapse, exclusive_in_fact

K = 5
TAIL = np.array([False, False, False, True, True])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def one_hot(of: np.ndarray, n_classes: int = K) -> np.ndarray:
    return (of[:, None] == np.arange(n_classes)).astype(float)


def simplex(n_classes: int = K) -> np.ndarray:
    """Corners at equal angles: the unit vectors about their centre."""
    return np.eye(n_classes) - 1 / n_classes


def cloud(seed: int = 0, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    of = np.repeat(np.arange(K), [40, 25, 9, 4, 3])
    means = rng(seed + 100).normal(2.0, 1.0, (K, 8))
    return means[of] + spread * rng(seed).normal(size=(len(of), 8)), of


def labelled_cloud() -> tuple[np.ndarray, np.ndarray]:
    features, of = cloud()
    return features, one_hot(of)


def padded(rows: np.ndarray) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, 8 - rows.shape[1])))


def test_a_simplex_has_collapsed() -> None:
    of = np.repeat(np.arange(K), [40, 25, 9, 4, 3])  # classes count alike: the probe's shares move nothing
    features = 3.0 * simplex()[of] + 10.0
    found = collapse(features, one_hot(of), kind="exclusive", rows=0.2 * simplex(), tail=TAIL)
    for figure in (found.nc1, found.nc2_norms, found.nc2_angles, found.nc3):
        assert figure.value == pytest.approx(0, abs=1e-12)
        assert figure.n_images == 81 and figure.status == "ok" and figure.note == ""
    assert found.minority_rows.value == pytest.approx(-1 / (K - 1))
    assert found.minority_means.value == pytest.approx(-1 / (K - 1))
    off = ~np.eye(K, dtype=bool)
    assert np.all(found.variability[off] < 1e-20) and np.all(found.variability_debiased[off] < 1e-20)
    assert np.isnan(np.diag(found.variability)).all()
    assert found.reasons == ("",) * K


def test_merged_tail_rows_have_cosine_1() -> None:
    rows = simplex()
    rows[4] = 0.5 * rows[3]
    found = collapse(*labelled_cloud(), kind="exclusive", rows=padded(rows), tail=TAIL)
    assert found.minority_rows.value == pytest.approx(1)
    rows[4] = -rows[3]
    found = collapse(*labelled_cloud(), kind="exclusive", rows=padded(rows), tail=TAIL)
    assert found.minority_rows.value == pytest.approx(-1)


def test_merged_tail_means_have_cosine_1() -> None:
    of = np.repeat(np.arange(K), 6)
    corners = simplex()
    corners[4] = corners[3]
    found = collapse(corners[of], one_hot(of), kind="exclusive", tail=TAIL)
    assert found.minority_means.value == pytest.approx(1)
    assert np.isnan(found.variability[3, 4])  # means that coincide have no distance to divide by
    assert found.variability[0, 1] == pytest.approx(0, abs=1e-20)


def test_minority_cosine_is_the_mean_over_pairs() -> None:
    rows = np.array([[1.0, 0], [1, 1], [0, 2], [-1, 0], [5, 5]])
    tail = np.array([True, True, True, False, False])
    found = collapse(*labelled_cloud(), kind="exclusive", rows=padded(rows), tail=tail)
    half = np.sqrt(0.5)
    assert found.minority_rows.value == pytest.approx((half + 0 + half) / 3)


def test_figures_are_their_definitions() -> None:
    features, of = cloud()
    rows = rng(7).normal(size=(K, 8))
    found = collapse(features, one_hot(of), kind="exclusive", rows=rows, tail=TAIL)
    mean = np.array([features[of == k].mean(axis=0) for k in range(K)])
    about = mean - mean.mean(axis=0)
    covariance = [np.cov(features[of == k].T) for k in range(K)]
    within, between = sum(covariance) / K, sum(np.outer(m, m) for m in about) / K
    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / K
    assert found.nc1.value == pytest.approx(nc1, rel=1e-8)
    norm = np.linalg.norm(about, axis=1)
    assert found.nc2_norms.value == pytest.approx(np.sqrt(np.mean((norm - norm.mean()) ** 2)) / norm.mean())
    angles = [abs(about[k] @ about[m] / norm[k] / norm[m] + 0.25) for k in range(K) for m in range(K) if k < m]
    assert found.nc2_angles.value == pytest.approx(np.mean(angles))
    nc3 = np.sqrt(np.sum((rows / np.sqrt((rows**2).sum()) - about / np.sqrt((about**2).sum())) ** 2))
    assert found.nc3.value == pytest.approx(nc3)
    assert found.minority_means.value == pytest.approx(about[3] @ about[4] / norm[3] / norm[4])
    for k in range(K):
        for m in range(K):
            if k != m:
                spread = np.trace(covariance[k]) + np.trace(covariance[m])
                apart = np.sum((mean[k] - mean[m]) ** 2)
                noise = np.trace(covariance[k]) / np.sum(of == k) + np.trace(covariance[m]) / np.sum(of == m)
                assert found.variability[k, m] == pytest.approx(spread / (2 * apart))
                assert found.variability_debiased[k, m] == pytest.approx(spread / (2 * (apart - noise)))


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_units_of_features_do_not_matter(scale: float) -> None:
    features, labels = labelled_cloud()
    rows = rng(7).normal(size=(K, 8))
    one = collapse(features, labels, kind="exclusive", rows=rows, tail=TAIL)
    other = collapse(scale * features, labels, kind="exclusive", rows=rows / scale, tail=TAIL)
    for name, figure in one.figures().items():
        assert other.figures()[name].value == pytest.approx(figure.value, rel=1e-6)
    assert np.allclose(one.variability, other.variability, equal_nan=True)
    assert np.allclose(one.variability_debiased, other.variability_debiased, equal_nan=True)


def test_more_spread_is_less_collapsed() -> None:
    values = []
    for spread in (0.01, 0.1, 0.4):
        features, of = cloud(spread=spread)
        found = collapse(features, one_hot(of), kind="exclusive")
        values.append((found.nc1.value, float(np.nansum(found.variability))))
    assert values[0][0] < values[1][0] < values[2][0]
    assert values[0][1] < values[1][1] < values[2][1]


def test_few_noisy_images_look_far_apart_until_debiased() -> None:
    """Two classes at distance 4 in 200 dimensions, 5 images each: variability is 400/(2 x 16) = 12.5."""
    plain, honest = [], []
    for seed in range(60):
        of = np.repeat([0, 1], 5)
        features = rng(seed).normal(size=(10, 200))
        features[of == 1, 0] += 4
        found = collapse(features, one_hot(of, 2), kind="exclusive")
        plain.append(1 / found.variability[0, 1])
        honest.append(1 / found.variability_debiased[0, 1] if found.variability_debiased[0, 1] > 0 else 0.0)
    assert np.mean(plain) > 3 / 12.5  # the means' noise adds 80 to a squared distance of 16
    assert np.mean(honest) == pytest.approx(1 / 12.5, rel=0.4)


def test_labels_that_occur_together_have_no_figure() -> None:
    features, of = cloud()
    labels = one_hot(of)
    labels[3, 4] = 1
    found = collapse(features, labels, kind="independent", rows=padded(simplex()), tail=TAIL)
    for figure in found.figures().values():
        assert figure.value is None and figure.status == "not_estimable" and "does not transfer" in figure.reason
    assert np.isnan(found.variability).all() and np.isnan(found.variability_debiased).all()
    assert collapse(features, labels, kind="exclusive").nc1.reason.startswith("an image has several findings")


def test_independent_outputs_of_exclusive_labels_are_allowed_and_said() -> None:
    features, of = cloud()
    exclusive = collapse(features, one_hot(of), kind="exclusive", rows=rng(1).normal(size=(K, 8)), tail=TAIL)
    independent = collapse(features, one_hot(of), kind="independent", rows=rng(1).normal(size=(K, 8)), tail=TAIL)
    for name, figure in independent.figures().items():
        assert figure.value == exclusive.figures()[name].value
        assert "exclusive in fact" in figure.note


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[1, 0], [0, 1]], True),
        ([[1, 0], [np.nan, np.nan]], True),
        ([[1, 0], [0, 0]], False),
        ([[1, 1], [0, 1]], False),
        ([[1, np.nan], [0, 1]], False),
        ([[1], [1]], False),
        ([[np.nan, np.nan]], False),
    ],
)
def test_exclusive_in_fact(labels: list[list[float]], expected: bool) -> None:
    assert exclusive_in_fact(np.array(labels)) is expected


def test_an_absent_class_is_named_and_never_0() -> None:
    features, of = cloud()
    kept = of != 3
    with_gap = collapse(features[kept], one_hot(of[kept]), kind="exclusive", rows=padded(simplex()), tail=TAIL)
    without = collapse(features[kept], np.delete(one_hot(of[kept]), 3, axis=1), kind="exclusive")
    assert with_gap.reasons == ("", "", "", "no image of this class", "")
    assert np.isnan(with_gap.variability[3]).all() and np.isnan(with_gap.variability[:, 3]).all()
    assert with_gap.nc1.value == without.nc1.value and "class 3" in with_gap.nc1.note
    assert with_gap.nc2_angles.value == without.nc2_angles.value
    assert with_gap.nc3.value is None and "no image" in with_gap.nc3.reason
    assert with_gap.minority_rows.value == pytest.approx(-0.25)
    assert with_gap.minority_means.reason.startswith("1 rare classes have a mean")


def test_a_part_of_a_simplex_is_a_simplex() -> None:
    of = np.repeat([0, 2, 4], 5)
    found = collapse(simplex()[of], one_hot(of), kind="exclusive")
    assert found.nc2_angles.value == pytest.approx(0, abs=1e-12)
    assert found.nc2_norms.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("present", [[0, 1], [1, 4]])
def test_angles_and_lengths_of_two_classes_say_nothing(present: list[int]) -> None:
    """Two means lie opposite each other about their centre: 0 for any features, and so no measure of collapse."""
    of = np.repeat(present, 20)
    features = np.random.default_rng(0).normal(size=(40, 6))
    found = collapse(features, one_hot(of), kind="exclusive", tail=np.zeros(K, dtype=bool), rows=np.eye(K, 6))
    for figure in (found.nc2_norms, found.nc2_angles):
        assert figure.value is None and figure.reason == "two classes: always 0"
    assert found.nc1.value is not None
    assert found.minority_rows.reason == found.minority_means.reason == "no class of this task is in the tail"
    assert not {"nc2_norms", "nc2_angles"} & set(by_chance(features, one_hot(of), kind="exclusive", draws=2))
    three = collapse(features, one_hot(np.append(of[:-1], 2)), kind="exclusive")
    assert three.nc2_norms.value is not None and three.nc2_angles.value is not None


def test_one_image_has_no_spread() -> None:
    features, of = cloud()
    kept = (of != 4) | (np.arange(len(of)) == len(of) - 1)
    features, of = features[kept], of[kept]
    found = collapse(features, one_hot(of), kind="exclusive")
    assert found.reasons[4] == "one image: no spread" and np.isnan(found.variability[4]).all()
    mean = np.array([features[of == k].mean(axis=0) for k in range(K)])
    about = mean - mean.mean(axis=0)
    within = sum(np.cov(features[of == k].T) for k in range(4)) / 4
    between = sum(np.outer(m, m) for m in about) / K
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / K
    assert found.nc1.value == pytest.approx(expected, rel=1e-8)
    alone = collapse(simplex(), np.eye(K), kind="exclusive")
    assert "two images" in alone.nc1.reason and alone.nc2_angles.value == pytest.approx(0, abs=1e-12)


def test_means_that_coincide_have_not_collapsed() -> None:
    of = np.repeat([0, 1], 4)
    features = np.tile(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), (2, 1)) + 0.1
    found = collapse(features, one_hot(of, 2), kind="exclusive", rows=np.eye(2))
    assert found.nc1.value is None and "coincide" in found.nc1.reason
    silent = collapse(0 * features, one_hot(of, 2), kind="exclusive", rows=np.eye(2))
    assert all(figure.value is None for figure in silent.figures().values())
    assert found.nc2_angles.value is None and found.nc3.value is None
    assert np.isnan(found.variability).all()


def test_a_class_in_the_middle_of_the_others_has_no_direction() -> None:
    """On a line, means -1, 0 and 1, each class's variance .5; that between means is 2/3: .5/(2/3)/3."""
    features = np.array([[-1.5], [-0.5], [-0.5], [0.5], [0.5], [1.5]])
    found = collapse(features, one_hot(np.repeat(np.arange(3), 2), 3), kind="exclusive", rows=np.eye(3, 1))
    assert found.nc1.value == pytest.approx(0.25) and found.nc3.value is not None
    assert found.nc2_angles.value is None and "no direction" in found.nc2_angles.reason
    silent = collapse(0 * features, one_hot(np.repeat(np.arange(3), 2), 3), kind="exclusive")
    assert all(figure.value is None for figure in silent.figures().values())


@pytest.mark.parametrize(
    ("given", "name", "word"),
    [
        ({"tail": TAIL}, "nc3", "head"),
        ({"tail": TAIL}, "minority_rows", "head"),
        ({"rows": simplex()}, "minority_rows", "rare"),
        ({"rows": simplex(), "tail": np.eye(K)[0] == 1}, "minority_rows", "1 rare classes have a row"),
        ({"rows": np.zeros((K, 5)), "tail": TAIL}, "minority_rows", "0 rare classes"),
        ({"rows": np.zeros((K, 5)), "tail": TAIL}, "nc3", "same point"),
    ],
)
def test_what_is_missing_is_said(given: dict[str, np.ndarray], name: str, word: str) -> None:
    of = np.repeat(np.arange(K), 3)
    figure = collapse(simplex()[of], one_hot(of), kind="exclusive", **given).figures()[name]  # type: ignore[arg-type]
    assert figure.value is None and word in figure.reason


def test_features_that_are_not_finite_one_class_and_another_kind() -> None:
    features, of = cloud()
    features[0, 0] = np.nan
    assert "finite" in collapse(features, one_hot(of), kind="exclusive").nc1.reason
    assert collapse(np.ones((4, 2)), one_hot(np.zeros(4)), kind="exclusive").nc1.reason.startswith("1 of the classes")
    with pytest.raises(ValueError, match="exclusive or independent"):
        collapse(features, one_hot(of), kind="both")
    with pytest.raises(ValueError, match=r"a head of \(5, 5\) for 5 classes and 8 features"):
        collapse(features, one_hot(of), kind="exclusive", rows=simplex())


def test_images_of_one_patient_count_once() -> None:
    of = np.repeat(np.arange(3), 20)
    features, own = rng(1).normal(size=(60, 6)) + 3 * simplex(6)[of], np.arange(60)
    once = collapse(features, one_hot(of, 3), kind="exclusive", patients=own)
    # Every image eight times looks more certain, until patients are told apart.
    many = collapse(np.repeat(features, 8, axis=0), one_hot(np.repeat(of, 8), 3), kind="exclusive")
    told = collapse(
        np.repeat(features, 8, axis=0), one_hot(np.repeat(of, 8), 3), kind="exclusive", patients=np.repeat(own, 8)
    )
    assert told.nc1.value == pytest.approx(once.nc1.value) and told.nc1.n_patients == 60 and told.nc1.n_images == 60
    assert many.nc1.value is not None and once.nc1.value is not None and many.nc1.value < once.nc1.value
    # A patient with two findings keeps an image of each.
    both = collapse(features, one_hot(of, 3), kind="exclusive", patients=own % 20)
    assert both.nc1.n_images == 60 and both.nc1.n_patients == 20


def test_unknown_images_are_left_out() -> None:
    features, of = cloud()
    labels = one_hot(of)
    labels[0] = np.nan
    found = collapse(features, labels, kind="exclusive")
    assert found.nc1.value == collapse(features[1:], labels[1:], kind="exclusive").nc1.value
    assert found.nc1.n_images == len(of) - 1


def test_noise_is_nearly_a_simplex_and_by_chance_says_so() -> None:
    of = np.repeat(np.arange(K), 6)
    noise = rng(5).normal(size=(30, 512))
    found = collapse(noise, one_hot(of), kind="exclusive", tail=TAIL)
    chance = by_chance(noise, one_hot(of), kind="exclusive", tail=TAIL)
    assert found.nc2_angles.value is not None and found.nc2_angles.value < 0.1  # it looks collapsed
    low, _, high = chance["nc2_angles"]
    assert low * 0.5 < found.nc2_angles.value < high * 1.5
    assert "nc3" not in chance and chance["minority_means"][1] == pytest.approx(-0.25, abs=0.05)
    planted = noise + 20 * rng(6).normal(size=(K, 512))[of]
    apart = collapse(planted, one_hot(of), kind="exclusive")
    assert apart.nc1.value is not None and found.nc1.value is not None
    assert apart.nc1.value < 0.1 * by_chance(planted, one_hot(of), kind="exclusive")["nc1"][0]
    assert found.nc1.value > 0.9 * chance["nc1"][0]  # noise is no more collapsed than chance, though nearly at 0
    assert chance == by_chance(noise, one_hot(of), kind="exclusive", tail=TAIL)
