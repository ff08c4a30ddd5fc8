"""Intervals: formulas against references, coverage by simulation, the bootstrap against materialised resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prediction_tables import predictions
from scipy.stats import norm, t
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from raresight.evaluate import intervals, ranking
from raresight.evaluate.bootstrap import blocks, percentile
from raresight.evaluate.ranked import Ranked
from raresight.evaluate.resampled import Resampled

REPLICATES = 1000


def test_one_image_a_patient_is_clopper_pearson() -> None:
    # Section 3 of the research note: 0 of 11 missed, recall at least 71.5%.
    found = intervals.rate(np.ones(11, dtype=bool), np.arange(11))
    assert found.method == intervals.EXACT
    assert found.low == pytest.approx(0.715, abs=5e-4) and found.high == 1
    found = intervals.rate(np.arange(20) < 13, np.arange(20))
    low, high = proportion_confint(13, 20, method="beta")
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_cluster_adjusted_wilson_by_hand() -> None:
    # Patients with 2 of 3, 0 of 2 and 4 of 4 hits: N = 9, p = 2/3.
    hit = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
    patient = np.array(["a", "a", "a", "b", "b", "c", "c", "c", "c"])
    p, n = 2 / 3, 9
    v = 3 / 2 * ((2 - 3 * p) ** 2 + (0 - 2 * p) ** 2 + (4 - 4 * p) ** 2) / n**2
    deff = v * n / (p * (1 - p))
    assert deff == pytest.approx(8 / 3)  # v = 3/2 (0 + 16/9 + 16/9)/81 = 16/243
    e, q = n / deff, t.ppf(0.975, 2)
    half = q * math.sqrt(p * (1 - p) / e + q**2 / (4 * e**2)) / (1 + q**2 / e)
    middle = (p + q**2 / (2 * e)) / (1 + q**2 / e)
    found = intervals.rate(hit, patient)
    assert (found.low, found.high) == (pytest.approx(middle - half), pytest.approx(middle + half))
    assert (found.n_patients, found.n_images, found.method) == (3, 9, intervals.WILSON)


def test_design_effect_at_one_counts_unequal_patients() -> None:
    # All hit; Σn²/N = (9 + 1)/4, so 1.6 effective images and one degree of freedom.
    found = intervals.rate(np.ones(4, dtype=bool), np.array(["a", "a", "a", "b"]))
    q2 = t.ppf(0.975, 1) ** 2
    assert found.low == pytest.approx(1 / (1 + q2 / 1.6))
    assert math.isnan(intervals.rate(np.zeros(0, dtype=bool), np.zeros(0)).value)


def test_repeating_every_image_changes_nothing_for_a_patient() -> None:
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 15, 40)
    hit = (rng.random(15) < 0.7)[patient]
    once, twice = intervals.rate(hit, patient), intervals.rate(np.repeat(hit, 2), np.repeat(patient, 2))
    assert twice.low == pytest.approx(once.low, abs=1e-12) and twice.high == pytest.approx(once.high, abs=1e-12)


@pytest.mark.parametrize(("positive_patients", "recall"), [(8, 0.7), (8, 0.95), (15, 0.7), (15, 0.95)])
def test_wilson_covers_with_few_patients(positive_patients: int, recall: float) -> None:
    """At least 93% less three standard errors, with beta-binomial patients of 1 to 4 images."""
    rng = np.random.default_rng(positive_patients)
    covered = 0
    for _ in range(REPLICATES):
        images = rng.integers(1, 5, positive_patients)
        chance = rng.beta(recall * 4, (1 - recall) * 4, positive_patients)
        patient = np.repeat(np.arange(positive_patients), images)
        found = intervals.rate(rng.random(len(patient)) < chance[patient], patient)
        covered += found.low <= recall <= found.high
    assert covered / REPLICATES >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / REPLICATES)


def test_auroc_interval_covers_where_delong_does_not() -> None:
    """11 positives at a true AUROC of 0.97, where DeLong covers about 75%."""
    rng = np.random.default_rng(2)
    shift = norm.ppf(0.97) * math.sqrt(2)
    target = np.repeat([1.0, 0.0], [11, 200])
    covered = 0
    for _ in range(REPLICATES):
        found = intervals.auroc_interval(target, rng.normal(size=211) + shift * target, np.arange(211))
        covered += found.low <= 0.97 <= found.high
    assert covered / REPLICATES >= 0.93


def test_auroc_variance_is_delongs_for_single_images() -> None:
    """The DeLong variance from its defining double loop, with 60 positive patients (no conservative part)."""
    rng = np.random.default_rng(5)
    target = np.repeat([1.0, 0.0], [60, 90])
    score = np.round(rng.normal(size=150) + target, 1)
    x, y = score[:60], score[60:]
    kernel = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    area = kernel.mean()
    variance = kernel.mean(axis=1).var(ddof=1) / 60 + kernel.mean(axis=0).var(ddof=1) / 90
    half = norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    found = intervals.auroc_interval(target, score, np.arange(150))
    # A patient is one image, so summing by patients changes only the factors G/(G-1) of the two sides.
    assert found.value == pytest.approx(area, abs=1e-12)
    assert found.low == pytest.approx(1 / (1 + math.exp(-(math.log(area / (1 - area)) - half))), abs=1e-9)
    assert found.method == intervals.AUROC


def test_perfect_ranking_of_five_is_not_certain() -> None:
    target = np.repeat([1.0, 0.0], [5, 100])
    found = intervals.auroc_interval(target, target + 0.0, np.arange(105))
    assert found.value == 1 and found.low < 0.6 and found.high == 1
    assert math.isnan(intervals.auroc_interval(np.zeros(4), np.arange(4.0), np.arange(4)).value)


def test_bootstrap_equals_the_materialised_resample() -> None:
    rng = np.random.default_rng(4)
    target = (rng.random(300) < 0.1).astype(float)
    target[::37] = np.nan
    score, patient = np.round(rng.random(300) + 0.3 * np.nan_to_num(target), 1), rng.integers(0, 90, 300)
    ranked = Ranked(target, score, patient, 90)
    (weight,) = blocks(np.arange(90) % 2, 40, "test")
    assert (weight.sum(axis=0) == 90).all()
    assert (weight[::2].sum(axis=0) == 45).all()
    areas, aps, (recalls, wider) = ranked.metrics(weight, (0.8, 0.9))
    for b in range(40):
        rows = np.repeat(np.arange(300), weight[patient, b].astype(int))
        y, s = target[rows], score[rows]
        known = ~np.isnan(y)
        assert areas[b] == pytest.approx(metrics.roc_auc_score(y[known], s[known]), abs=1e-12)
        assert aps[b] == pytest.approx(metrics.average_precision_score(y[known], s[known]), abs=1e-12)
        assert recalls[b] == pytest.approx(ranking.sensitivity_at_specificity(y, s, 0.8)[0], abs=1e-12)
        assert wider[b] == pytest.approx(ranking.sensitivity_at_specificity(y, s, 0.9)[0], abs=1e-12)


def test_bootstrap_draws_are_multinomial_and_prefix_stable() -> None:
    many = np.concatenate(list(blocks(np.arange(30) % 3, 600, 7)), axis=1)
    few = np.concatenate(list(blocks(np.arange(30) % 3, 200, 7)), axis=1)
    np.testing.assert_array_equal(many[:, :200], few)
    # In strata of 10, multiplicities have mean 1 and variance 1 - 1/10.
    assert many.mean() == 1
    assert many.var() == pytest.approx(1 - 1 / 10, abs=0.03)


def test_macro_figures_are_drawn_within_the_rarest_class_of_a_patient() -> None:
    target = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    given = predictions("independent", target.astype(float), np.full((8, 3), 0.5), [0, 0, 1, 1, 2, 3, 4, 5])
    # Patients 0 to 5 hold classes {0, 2}, {1, 2}, {1}, {2}, {2} and none; 0 is rarest, then 1, then 2.
    assert Resampled(given).rarest.tolist() == [0, 1, 1, 2, 2, 3]


def test_resamples_without_positives_are_counted_and_not_scored() -> None:
    ranked = Ranked(np.array([1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2]), np.arange(3), 3)
    areas, aps, _ = ranked.metrics(np.array([[0.0, 1], [2, 1], [1, 1]]))
    assert math.isnan(areas[0]) and math.isnan(aps[0]) and areas[1] == aps[1] == 1
    assert percentile(aps) == (1, 1, 1)


def test_no_certainty_from_a_bootstrap_of_few_patients() -> None:
    low, high, wider = intervals.opened(1.0, 1.0, 1.0, 5)
    assert wider and high == 1 and low == pytest.approx(0.025 ** (1 / 5))
    assert intervals.opened(0.5, 0.4, 0.6, 10) == (0.4, 0.6, False)
    # five positive patients: 0.025^(1/5) = 0.478, so 0.5 may be 0.239, or 0.5 + 0.5 (1 - 0.478) = 0.761
    assert intervals.opened(0.5, 0.4, 0.6, 5) == (pytest.approx(0.239, abs=1e-3), pytest.approx(0.761, abs=1e-3), True)
    assert intervals.opened(0.5, 0.1, 0.9, 5) == (0.1, 0.9, True)  # never narrower than the bootstrap


def test_reach_by_hand() -> None:
    assert intervals.reach(1) == pytest.approx(0.975)
    assert intervals.reach(11) == pytest.approx(1 - 0.715, abs=1e-3)  # "0 of 11 missed; recall at least 71.5%"
    with pytest.raises(ValueError, match="no interval"):
        intervals.reach(0)


def test_what_few_patients_leave_open_in_a_mean() -> None:
    assert intervals.unseen(np.array([50, 10, 0])) == 0
    # two classes present, one of them with a single patient: 0.975 / 2
    assert intervals.unseen(np.array([50, 1, 0])) == pytest.approx(0.975 / 2)
    assert intervals.unseen(np.array([1, 1, 30, 30])) == pytest.approx(np.sqrt(2) * 0.975 / 4)
    assert intervals.unseen(np.array([0, 0])) == 0


def test_errors_add_in_squares() -> None:
    assert intervals.loosened(0.5, 0.2, 0.9, 0.4, 0.3) == (pytest.approx(0.0), pytest.approx(1.0))
