"""All thresholds at once give what `intervals.rate` gives one by one; a hand-worked case says what that is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raresight.evaluate.intervals import rate
from raresight.evaluate.threshold_rates import rates_at


def rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    patient = {
        "one image each": np.arange(60),
        "several images": rng.integers(0, 17, 60),
        "one patient": np.zeros(60, dtype=int),
        "patient of many": np.where(np.arange(60) < 40, 0, np.arange(60)),
    }[kind]
    # Rounded, so that scores tie; higher within some patients, so that images of one patient agree.
    return np.round(rng.normal(size=60) + (patient % 3), 1), patient.astype(str).astype(object)


@pytest.mark.parametrize("kind", ["one image each", "several images", "one patient", "patient of many"])
def test_every_threshold_has_the_interval_of_rate(kind: str) -> None:
    score, patient = rows(kind)
    thresholds = np.r_[np.inf, np.unique(score)[::-1], -9.0, 0.05]
    found = rates_at(score, patient, thresholds)
    for i, threshold in enumerate(thresholds):
        hit = score >= threshold
        one, miss = rate(hit, patient), rate(~hit, patient)
        assert (found.hits[i], found.n_images, found.n_patients) == (hit.sum(), one.n_images, one.n_patients)
        np.testing.assert_allclose(
            [found.value[i], found.low[i], found.high[i]], [one.value, one.low, one.high], atol=1e-11
        )
        # One minus the share of hits is the share of misses, bounds exchanged: how specificity is had.
        np.testing.assert_allclose([1 - found.high[i], 1 - found.low[i]], [miss.low, miss.high], atol=1e-11)


def test_worked_by_hand() -> None:
    """Patients a (2 of 2 hit), b (1 of 3), c (0 of 1): p = 1/2, Σ(k - pn)² = 1 + 1/4 + 1/4 = 3/2, v = 3/2 · 1.5/36.

    deff = v · 6 / (1/4) = 1.5, so 4 effective images; t(2) quantile 4.302653; Wilson about 1/2 with n = 4:
    half = q sqrt(1/16 + q²/64) / (1 + q²/4), which is 0.453411.
    """
    score, patient = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), np.array(["a", "a", "b", "b", "b", "c"], dtype=object)
    found = rates_at(score, patient, np.array([0.7]))
    q = 4.302652729696142
    half = q * math.sqrt(1 / 16 + q * q / 64) / (1 + q * q / 4)
    assert half == pytest.approx(0.453411, abs=1e-6)
    assert (found.value[0], found.low[0], found.high[0]) == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_nearly_all_of_many_rows_lose_no_digits() -> None:
    """100,000 rows of patients with 1 to 8,000 images: all but one hit, or one alone, as exact as in the middle."""
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 2000, 100_000) ** 3 // 2000**2
    score = rng.normal(size=100_000) + 0.3 * rng.normal(size=2000)[patient]
    thresholds = np.sort(score)[[0, 1, 10, 1000, 50_000, -10, -1]]
    found = rates_at(score, patient, thresholds)
    for i, threshold in enumerate(thresholds):
        one = rate(score >= threshold, patient)
        np.testing.assert_allclose([found.low[i], found.high[i]], [one.low, one.high], atol=1e-10)


def test_no_rows_have_no_rate() -> None:
    found = rates_at(np.zeros(0), np.zeros(0, dtype=object), np.array([0.5]))
    assert np.isnan(found.value).all() and np.isnan(found.low).all() and found.n_patients == 0
