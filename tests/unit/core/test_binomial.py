"""Intervals of a proportion and sample sizes, against SciPy, statsmodels and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

from raresight.core.binomial import clopper_pearson, n_for_gain, wilson

COUNTS = [(0, 1), (1, 1), (0, 11), (11, 11), (4, 5), (9, 11), (32, 40), (80, 100), (3, 20_000)]


@pytest.mark.parametrize(("k", "n"), COUNTS)
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy_and_statsmodels(k: int, n: int, level: float) -> None:
    ours = wilson(k / n, n, level=level)
    theirs = binomtest(k, n).proportion_ci(level, method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours == pytest.approx(proportion_confint(k, n, 1 - level, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), COUNTS)
def test_clopper_pearson_equals_scipy_and_statsmodels(k: int, n: int) -> None:
    theirs = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert clopper_pearson(k, n)[0] == pytest.approx(np.nan_to_num(proportion_confint(k, n, method="beta")[0]))


def test_none_of_eleven_missed() -> None:
    """The research's example: 0 of 11 missed is a recall of at least 71.5% (exact), 74% (Wilson)."""
    assert clopper_pearson(11, 11)[0] == pytest.approx(0.715, abs=5e-4)
    assert wilson(1.0, 11)[0] == pytest.approx(0.741, abs=5e-4)
    assert wilson(9 / 11, 11) == pytest.approx((0.52, 0.95), abs=0.005)


def test_few_clusters_widen_wilson_by_students_quantile() -> None:
    """With q = t(0.975; 3 df) = 3.1824, p = 0.5 and n = 10: half-width q·sqrt(0.025 + q²/400) / (1 + q²/10)."""
    q = 3.182446305284263
    assert student.ppf(0.975, 3) == pytest.approx(q)
    half = q * (0.025 + q * q / 400) ** 0.5 / (1 + q * q / 10)
    low, high = wilson(0.5, 10, degrees=3)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))
    assert wilson(0.5, 10, degrees=0) == wilson(0.5, 10, degrees=1)  # one cluster: as wide as can be, not an error
    assert high - low > np.subtract(*wilson(0.5, 10)[::-1])


@given(st.floats(0, 1), st.floats(0.1, 1e6))
def test_wilson_holds_its_proportion_and_stays_in_bounds(p: float, n: float) -> None:
    low, high = wilson(p, n)
    assert 0 <= low <= p + 1e-9
    assert p - 1e-9 <= high <= 1


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="n = 0"):
        wilson(0.5, 0)
    with pytest.raises(ValueError, match="n = nan"):
        wilson(0.5, float("nan"))
    with pytest.raises(ValueError, match="n = 0"):
        clopper_pearson(0, 0)


@pytest.mark.parametrize(("gain", "discordance", "n"), [(0.10, 0.30, 233), (0.15, 0.35, 120), (0.20, 0.40, 76)])
def test_positives_needed_for_a_gain(gain: float, discordance: float, n: int) -> None:
    """The three sizes printed in the research on evaluation, section 3."""
    assert round(n_for_gain(gain, discordance)) == n


def test_the_size_gives_the_power_it_promises() -> None:
    """20,000 simulated McNemar tests of 233 pairs (20% against 10% discordant): power 0.80 within 0.015."""
    rng = np.random.default_rng(0)
    better, worse, _ = rng.multinomial(233, [0.2, 0.1, 0.7], size=20_000).T
    significant = np.abs(better - worse) > 1.959964 * np.sqrt(better + worse)
    assert significant.mean() == pytest.approx(0.8, abs=0.015)
