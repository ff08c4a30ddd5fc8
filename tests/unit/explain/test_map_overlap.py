"""Likeness of maps: scipy for rank correlation, a slow loop for structural similarity, hand counts for overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from raresight.explain.overlap import overlap, spearman, ssim


def slow_ssim(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """The formula, window by window, with numpy's sample variances."""
    a, b = a / a.max(), b / b.max()
    found = []
    for corner in itertools.product(*(range(n - window + 1) for n in a.shape)):
        at = tuple(slice(c, c + window) for c in corner)
        x, y = a[at].ravel(), b[at].ravel()
        (vx, c), (_, vy) = np.cov(x, y) if len(x) > 1 else np.zeros((2, 2))
        mx, my = x.mean(), y.mean()
        found.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4)))
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "window"), [((9, 8), 7), ((4, 6), 3), ((7, 7), 7), ((5, 4, 6), 3), ((2, 3), 1)])
def test_against_slow_definitions(shape, window):
    rng = np.random.default_rng(1)
    a = np.maximum(rng.normal(size=(4, *shape)), 0.0)
    b = np.round(np.maximum(a + rng.normal(size=(4, *shape)), 0) * 4)
    for i in range(4):
        assert ssim(a, b)[i] == pytest.approx(slow_ssim(a[i], b[i], window), abs=1e-5)
        assert spearman(a, b)[i] == pytest.approx(spearmanr(a[i].ravel(), b[i].ravel()).statistic)
    np.testing.assert_allclose(ssim(a, 5 * a), 1.0, atol=1e-6)
    np.testing.assert_allclose(spearman(a, -a), -1.0)
    np.testing.assert_allclose(overlap(a, b)["ssim"], overlap(b, a)["ssim"])


def test_brightest_pixels_by_hand():
    a = np.array([[9, 8, 7, 0, 0, 0, 0, 0, 0, 0.0]])
    b = np.array([[9, 0, 7, 8, 0, 0, 0, 0, 0, 0.0]])
    assert overlap(a, b)["top_iou"][0] == 1.0  # the brightest tenth is the same pixel
    assert overlap(a, b, share=0.2)["top_iou"][0] == pytest.approx(1 / 3)
    assert overlap(a, b, share=0.3)["top_iou"][0] == pytest.approx(2 / 4)
    assert overlap(a, b, share=0.9)["top_iou"][0] == pytest.approx(2 / 4)  # pixels of 0 are not among the brightest
    tied = np.array([[5, 5, 1, 1, 1, 1, 1, 1, 1, 1.0]])
    assert overlap(a, tied)["top_iou"][0] == pytest.approx(1 / 2)  # both of the tied ones


def test_empty_maps():
    some, none = np.arange(12.0).reshape(1, 3, 4), np.zeros((1, 3, 4))
    assert overlap(none, none).isna().all(axis=None)
    one = overlap(some, none).iloc[0]
    assert np.isnan(one["spearman"]) and one["top_iou"] == 0 and one["ssim"] < 0.2
    assert len(overlap(some[:0], some[:0])) == 0
