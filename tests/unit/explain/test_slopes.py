"""Slopes on frequency: a line by hand, scipy's regression, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress, t

from raresight.explain.slopes import FIGURES, slope, slopes

COUNTS = np.array([5000, 900, 850, 400, 250, 110, 90])


def test_by_hand() -> None:
    # x = 0, 1, 2, 3 and y = 1, 2, 2, 5: slope 6/5, intercept 0.7, residuals .3 .1 -1.1 .7 with sum of squares 1.8.
    found = slope(np.array([1.0, 2, 2, 5]), np.exp([0, 1, 2, 3]))
    assert found.value == pytest.approx(1.2) and found.intercept == pytest.approx(0.7)
    assert found.se == pytest.approx(np.sqrt(1.8 / 2 / 5))
    reach = 4.302653 * np.sqrt(0.18)  # Student's t with 2 degrees of freedom, 97.5%
    assert found.low == pytest.approx(1.2 - reach, abs=1e-5) and found.high == pytest.approx(1.2 + reach, abs=1e-5)
    assert found.n_classes == 4 and found.status == "ok" and found.note == ""


def test_as_scipy_does() -> None:
    y = np.random.default_rng(0).normal(size=7)
    found, theirs = slope(y, COUNTS), linregress(np.log(COUNTS), y)
    assert found.value == pytest.approx(theirs.slope) and found.se == pytest.approx(theirs.stderr)
    assert found.intercept == pytest.approx(theirs.intercept)
    assert found.low == pytest.approx(theirs.slope - t.ppf(0.975, 5) * theirs.stderr)
    assert found.high == pytest.approx(theirs.slope + t.ppf(0.975, 5) * theirs.stderr)
    assert np.allclose(found.points, np.stack([np.log(COUNTS), y], axis=1))


def test_the_interval_covers() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        found = slope(0.3 * np.log(COUNTS) + rng.normal(size=7), COUNTS)
        assert found.low is not None and found.high is not None
        hits += found.low < 0.3 < found.high
    assert 0.92 < hits / 400 < 0.98


def test_rows_features_and_bias_that_follow_frequency() -> None:
    norm = COUNTS**0.4
    rows = norm[:, None] * np.array([[0.6, 0.8]])
    of = np.repeat(np.arange(7), 4)
    labels = (of[:, None] == np.arange(7)).astype(float)
    labels[0, 3] = np.nan
    length = 5 * COUNTS[of] ** -0.5 * np.tile([0.9, 1.1, 1.2, 0.8], 7)
    features = length[:, None] * np.array([[-0.8, 0.6]])
    found = slopes(features, labels, COUNTS, (rows, 2 - 0.7 * np.log(COUNTS)))
    assert tuple(found) == FIGURES
    assert found["log_row_norm"].value == pytest.approx(0.4)
    assert found["log_feature_norm"].value == pytest.approx(-0.5)
    assert found["log_feature_norm"].intercept == pytest.approx(np.log(5))
    assert found["bias"].value == pytest.approx(-0.7) and found["bias"].intercept == pytest.approx(2)
    assert found["bias"].se == pytest.approx(0, abs=1e-9)


def test_an_image_with_two_findings_counts_for_both() -> None:
    labels = np.array([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    features = np.array([[3.0, 4], [0, 1], [2, 0], [0, 3]])
    points = slopes(features, labels, COUNTS[:4], None)["log_feature_norm"].points
    assert np.exp(points[:, 1]) == pytest.approx([3.0, 1.0, 2.0, 3.0])


def test_a_tenth_is_10_and_a_half_percent_longer_where_images_are_e_times_as_many() -> None:
    """Lengths 1.105^0, ^1, ^2, ^3 over counts 1, e, e², e³, by hand; a common factor, or a head, changes nothing."""
    counts, labels = np.exp([0.0, 1, 2, 3]), np.eye(4)
    features = np.array([[1.0, 0], [0, 1.10517], [-1.22140, 0], [0, 1.34986]])
    for factor in (1.0, 1000.0):
        found = slopes(factor * features, labels, counts, (features, np.zeros(4)))
        for name in ("log_feature_norm", "log_row_norm"):
            assert found[name].value == pytest.approx(0.1, abs=1e-5)
    shrinking = slopes(features[::-1], labels, counts, None)["log_feature_norm"]
    assert shrinking.value == pytest.approx(-0.1, abs=1e-5)


def test_features_that_are_all_0_have_no_logarithm() -> None:
    features = np.eye(7)
    features[3] = 0
    found = slopes(features, np.eye(7), COUNTS, None)["log_feature_norm"]
    assert found.n_classes == 6 and "class 3" in found.note and found.value == pytest.approx(0)


def test_absent_classes_are_left_out_of_their_line_alone() -> None:
    of = np.repeat(np.arange(6), 3)  # class 6 has no image in the probe
    labels = (of[:, None] == np.arange(7)).astype(float)
    rows = np.ones((7, 2))
    rows[2] = 0
    found = slopes(np.ones((18, 2)), labels, COUNTS, (rows, np.zeros(7)))
    assert found["log_feature_norm"].n_classes == 6 and "class 6" in found["log_feature_norm"].note
    assert np.isnan(found["log_feature_norm"].points[6]).all()
    assert found["log_row_norm"].n_classes == 6 and "class 2" in found["log_row_norm"].note
    assert found["bias"].n_classes == 7 and found["bias"].note == ""
    untrained = slope(np.arange(7.0), np.append(COUNTS[:6], 0))
    assert untrained.n_classes == 6 and "class 6" in untrained.note


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_under_4_classes_there_is_no_slope(n: int) -> None:
    found = slope(np.arange(float(n)), COUNTS[:n])
    assert found.value is None and found.low is None and found.high is None and found.se is None
    assert found.reason.startswith(f"{n} classes") and found.status == "not_estimable"


def test_equal_counts_and_no_head_are_said() -> None:
    assert "same number" in slope(np.arange(5.0), np.full(5, 70)).reason
    found = slopes(np.ones((7, 2)), np.eye(7), COUNTS, None)
    assert "no linear head" in found["bias"].reason and "no linear head" in found["log_row_norm"].reason
    assert found["log_feature_norm"].value == pytest.approx(0)
