"""d′: by hand, as repeated images, and within strata against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from raresight.explain.dprime import d_prime, separations


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_definition(y: np.ndarray, z: np.ndarray) -> float:
    p, n = z[y == 1], z[y == 0]
    return float((p.mean() - n.mean()) / np.sqrt((p.var(ddof=1) + n.var(ddof=1)) / 2))


def test_by_hand() -> None:
    # Positives 4, 6 (mean 5, variance 2), negatives 0, 1, 2 (mean 1, variance 1): 4/sqrt(1.5).
    y, z = np.array([1.0, 1, 0, 0, 0, np.nan]), np.array([4.0, 6, 0, 1, 2, 500])
    assert float(d_prime(y, z)) == pytest.approx(4 / np.sqrt(1.5))
    assert float(d_prime(y, -z)) == pytest.approx(-4 / np.sqrt(1.5))
    assert float(d_prime(1 - y, z)) == pytest.approx(-4 / np.sqrt(1.5))
    assert float(d_prime(y, 3 * z - 1e4)) == pytest.approx(4 / np.sqrt(1.5))
    far = np.array([4.0, 6, 0, 1, 2, np.inf]) + 1e9  # what is unknown is left out, and no digits are lost far from 0
    assert float(d_prime(y, far)) == pytest.approx(4 / np.sqrt(1.5), rel=1e-6)
    assert d_prime(y, z).shape == () and d_prime(y, z, np.ones(6)).shape == ()


def test_two_normal_distributions() -> None:
    y = np.repeat([0.0, 1.0], 20000)
    assert float(d_prime(y, rng().normal(size=40000) + 1.5 * y)) == pytest.approx(1.5, abs=0.05)
    assert float(d_prime(y, rng().normal(size=40000))) == pytest.approx(0, abs=0.05)


def test_weights_are_repetitions() -> None:
    y = np.array([1.0, 1, 1, 0, 0, 0, 0, np.nan])
    z = rng(1).normal(100.0, 1.0, 8)
    weight = rng(2).integers(0, 4, (8, 30))
    found = d_prime(y, z, weight)
    for b in range(30):
        yy, zz = np.repeat(y, weight[:, b]), np.repeat(z, weight[:, b])
        if min((yy == 1).sum(), (yy == 0).sum()) < 2:
            assert np.isnan(found[b])
        elif np.ptp(zz[yy == 1]) + np.ptp(zz[yy == 0]) > 0:
            assert found[b] == pytest.approx(by_definition(yy, zz), rel=1e-6)
    assert np.isfinite(found).any()
    assert found[3] == pytest.approx(float(d_prime(y, z, weight[:, 3])), nan_ok=True)


@pytest.mark.parametrize("y", [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, np.nan, np.nan]])
def test_one_image_has_no_spread(y: list[float]) -> None:
    assert np.isnan(d_prime(np.array(y, dtype=float), np.arange(4.0)))
    assert np.isfinite(d_prime(np.array([1.0, 1, 0, 0]), np.array([1.0, 4, 2, 3])))


def test_scores_that_do_not_vary_have_no_d_prime() -> None:
    y = np.array([1.0, 1, 0, 0])
    assert np.isnan(d_prime(y, np.full(4, 0.1))) and np.isnan(d_prime(y, y))
    told = separations(np.stack([y, y], 1), np.stack([y, y], 1))[0]
    assert told.plain.value is None and "do not vary" in told.plain.reason
    assert "do not vary" in told.stratified.reason or told.matched == 0


def test_a_spread_of_rounding_alone_is_none() -> None:
    """Sides at .3 and -.9 seem to vary by 1e-16; so do sides at 1.1 and 4.1 where one image lies at the mean of all."""
    y = np.array([1.0, 1, 1, 0, 0, 0, 0])
    assert np.isnan(d_prime(y, np.where(y == 1, 0.3, -0.9)))
    labels = np.array([[1.0, 0]] * 3 + [[0, 0]] * 5 + [[1, 1]])
    z = np.where(labels[:, 0] == 1, 1.1, 4.1)
    z[8] = z[:8].mean()
    assert separations(np.stack([z, z], axis=1), labels)[0].stratified.value is None


def correlated() -> tuple[np.ndarray, np.ndarray]:
    """Class 1 occurs mostly with class 0; its logit answers to class 0 alone."""
    draw = rng(3)
    first = (draw.random(4000) < 0.3).astype(float)
    second = (draw.random(4000) < np.where(first == 1, 0.4, 0.02)).astype(float)
    labels = np.stack([first, second], axis=1)
    logits = draw.normal(size=(4000, 2)) + np.stack([2 * first + 1.0 * second, 2 * first], axis=1)
    return logits, labels


def test_strata_take_away_what_another_finding_lends() -> None:
    logits, labels = correlated()
    first, second = separations(logits, labels)
    assert second.plain.value is not None and second.plain.value > 1.0
    assert second.stratified.value == pytest.approx(0, abs=0.12) and second.matched == 1.0
    assert first.stratified.value == pytest.approx(2, abs=0.15)
    assert first.plain.value is not None and first.plain.value > first.stratified.value + 0.1


def test_stratified_as_loops_say() -> None:
    draw = rng(4)
    labels = (draw.random((60, 3)) < 0.4).astype(float)
    labels[draw.random((60, 3)) < 0.05] = np.nan
    labels[0] = 1, np.nan, np.nan  # a pattern of its own
    logits = draw.normal(3.0, 2.0, (60, 3)) + np.nan_to_num(labels)
    for k, found in enumerate(separations(logits, labels, np.arange(60) // 2)):
        others = np.nan_to_num(np.delete(labels, k, axis=1), nan=9)
        top = n_matched = free = v1 = v0 = 0.0
        for pattern in {tuple(row) for row in others}:
            here = (others == pattern).all(axis=1)
            p, n = logits[here & (labels[:, k] == 1), k], logits[here & (labels[:, k] == 0), k]
            if len(p) >= 1 and len(n) >= 2:
                top += len(p) * (p.mean() - n.mean())
                v1 += ((p - p.mean()) ** 2).sum()
                v0 += len(p) * n.var(ddof=1)
                n_matched, free = n_matched + len(p), free + len(p) - 1
        expected = top / n_matched / np.sqrt((v1 / free + v0 / n_matched) / 2)
        n_positive = int((labels[:, k] == 1).sum())
        assert found.stratified.value == pytest.approx(expected)
        assert found.matched == pytest.approx(n_matched / n_positive) and (k > 0 or found.matched < 1)
        assert found.plain.value == pytest.approx(by_definition(labels[:, k], logits[:, k]))
        assert found.plain.n_images == n_positive
        assert found.plain.n_patients == len(set(np.flatnonzero(labels[:, k] == 1) // 2))


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_stratified_by_hand(offset: float) -> None:
    # Without the other finding, as in the first test; the two images with it have no one to be compared with.
    labels = np.array([[1.0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [1, 1], [0, 1]])
    z = np.array([4.0, 6, 0, 1, 2, 50, -70]) + offset
    found = separations(np.stack([z, z], axis=1), labels)[0]
    assert found.stratified.value == pytest.approx(4 / np.sqrt(1.5), rel=1e-6)
    assert found.matched == pytest.approx(2 / 3)
    assert found.plain.value == pytest.approx(by_definition(labels[:, 0], z), rel=1e-6)
    flat = separations(np.full((7, 2), offset), labels)[0]
    assert "do not vary" in flat.stratified.reason and "do not vary" in flat.plain.reason


def test_exclusive_labels_have_nothing_to_stratify_by() -> None:
    labels = np.eye(3)[rng(0).integers(0, 3, 30)]
    found = separations(rng(1).normal(size=(30, 3)), labels)[0]
    assert found.plain.value is not None and found.stratified.value is None
    assert "exclude each other" in found.stratified.reason and found.matched == 0.0


def test_positives_that_all_differ_in_other_findings() -> None:
    labels = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0.0]])
    found = separations(rng(0).normal(size=(7, 3)), labels)[0]
    assert found.plain.value is not None and found.stratified.value is None
    assert "same other findings" in found.stratified.reason and found.matched == 1.0


def test_absent_and_broken_classes_are_said() -> None:
    labels = np.zeros((6, 3))
    labels[0, 0] = labels[:5, 1] = labels[:2, 2] = 1
    logits = rng(0).normal(size=(6, 3))
    logits[3, 2] = np.inf
    one, most, broken = separations(logits, labels)
    assert one.plain.reason.startswith("1 images with the finding") and one.stratified.reason == one.plain.reason
    assert most.plain.reason.startswith("1 images without the finding")
    assert "finite" in broken.plain.reason
    with pytest.raises(ValueError, match="for labels of"):
        separations(logits[:, :2], labels)


def test_one_class_alone() -> None:
    y = (rng(0).random(50) < 0.5).astype(float)[:, None]
    found = separations(rng(1).normal(size=(50, 1)) + y, y)[0]
    assert found.stratified.value == pytest.approx(found.plain.value) and found.matched == 1.0  # one stratum: all
