"""Intervals: formulas against references, coverage by simulation, the bootstrap against materialised resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from confidenceinterval.delong import delong_roc_variance
from prediction_tables import predictions
from scipy.stats import norm, t
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from raresight.core.binomial import wilson
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
    """The DeLong variance from its defining double loop."""
    rng = np.random.default_rng(5)
    x, y = np.round(rng.normal(size=60) + 1, 1), np.round(rng.normal(size=90), 1)
    kernel = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    v10, v01 = intervals.placements(x, y)
    area = kernel.mean()
    np.testing.assert_allclose(v10, kernel.mean(axis=1))
    np.testing.assert_allclose(v01, kernel.mean(axis=0))
    up, down = intervals._Side(v10 - area, np.arange(60), 150), intervals._Side(v01 - area, np.arange(60, 150), 150)
    assert up.variance == pytest.approx(kernel.mean(axis=1).var(ddof=1) / 60)
    assert down.variance == pytest.approx(kernel.mean(axis=0).var(ddof=1) / 90)
    assert (up.effect, up.least, up.patients) == (pytest.approx(1), 60, 60)


def clustered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 positive images of 45 patients and 90 negative ones of 50, 20 of them patients with both."""
    patient = np.concatenate([rng.permutation(np.arange(60) % 45), rng.permutation(np.arange(90) % 50) + 25])
    target = np.repeat([1.0, 0.0], [60, 90])
    return target, target + rng.normal(size=75)[patient] + rng.normal(size=150), patient


def test_clustered_variance_is_obuchowskis() -> None:
    """Her S10, S01 and S11 as loops over patients and pairs, and the interval's equation at its own bounds."""
    target, score, patient = clustered(np.random.default_rng(6))
    x, y, px, py = score[:60], score[60:], patient[:60], patient[60:]
    area = np.mean([[float(a > b) + 0.5 * (a == b) for b in y] for a in x])
    v10 = [np.mean([float(a > b) for b in y]) for a in x]
    v01 = [np.mean([float(a > b) for a in x]) for b in y]
    groups = sorted(set(patient))
    with_positive, with_negative = sorted(set(px)), sorted(set(py))
    over = {g: sum(v - area for v, who in zip(v10, px, strict=True) if who == g) for g in groups}
    under = {g: sum(v - area for v, who in zip(v01, py, strict=True) if who == g) for g in groups}
    positives, negatives, both = len(with_positive), len(with_negative), len(groups)
    s10 = positives / ((positives - 1) * 60) * sum(over[g] ** 2 for g in with_positive)
    s01 = negatives / ((negatives - 1) * 90) * sum(under[g] ** 2 for g in with_negative)
    s11 = both / (both - 1) * sum(over[g] * under[g] for g in groups)
    variance = s10 / 60 + s01 / 90 + 2 * s11 / (60 * 90)
    assert s11 != 0

    def alone(values: list[float]) -> float:
        return float(np.var(values, ddof=1))

    # Design effects, held between 1 and the number of images a patient counts for.
    most = [sum(n * n for n in np.unique(who, return_counts=True)[1]) / len(who) for who in (px, py)]
    m = 60 / min(max(s10 / alone(v10), 1), most[0])
    n = 90 / min(max(s01 / alone(v01), 1), most[1])

    def expected(a: float) -> float:
        return max(intervals.hanley_mcneil(a, m, n), intervals.hanley_mcneil(1 - a, m, n))

    ratio = variance / expected(area)
    ratio = max(ratio, 10 / 55 + 45 / 55 * ratio)
    found = intervals.auroc_interval(target, score, patient)
    assert found.value == pytest.approx(area) and found.low < area < found.high
    for bound in (found.low, found.high):
        assert (area - bound) ** 2 == pytest.approx(t.ppf(0.975, 44) ** 2 * ratio * expected(bound), rel=1e-6)


def test_negated_scores_mirror_the_interval() -> None:
    """Few positives are as uncertain below 0.5 as above it, where Hanley and McNeil's own variance is smaller."""
    target, score, patient = clustered(np.random.default_rng(7))
    one, other = (intervals.auroc_interval(target, sign * score, patient) for sign in (1, -1))
    assert (other.low, other.high) == (pytest.approx(1 - one.high, abs=1e-8), pytest.approx(1 - one.low, abs=1e-8))
    perfect = intervals.auroc_interval(target, 1 - target, patient)
    assert (perfect.value, perfect.low) == (0, 0) and 0 < perfect.high < 0.3


def test_published_ratings_of_hanley_and_mcneil() -> None:
    """109 CT images rated 1 to 5 (Hanley & McNeil 1982, table 1): area 0.893, standard error 0.032 by their equation.

    DeLong's standard error of the same table is 0.0307, with a normal interval of 0.83295 to 0.95339 (Stata, roctab).
    """
    ratings = np.arange(1, 6)
    normal, abnormal = np.repeat(ratings, [33, 6, 6, 11, 2]), np.repeat(ratings, [3, 2, 2, 11, 33])
    v10, v01 = intervals.placements(abnormal, normal)
    area = v10.mean()
    assert area == pytest.approx(0.893, abs=5e-4)
    assert math.sqrt(intervals.hanley_mcneil(area, 51, 58)) == pytest.approx(0.032, abs=5e-4)
    who = np.arange(109)
    variance = sum(
        intervals._Side(values - area, rows, 109).variance for values, rows in ((v10, who[:51]), (v01, who[51:]))
    )
    assert math.sqrt(variance) == pytest.approx(0.0307, abs=5e-5)
    assert area - norm.ppf(0.975) * math.sqrt(variance) == pytest.approx(0.83295, abs=1e-5)
    assert area + norm.ppf(0.975) * math.sqrt(variance) == pytest.approx(0.95339, abs=1e-5)


def test_delong_agrees_with_the_package_confidenceinterval() -> None:
    target, score, _ = clustered(np.random.default_rng(8))
    area, variance = delong_roc_variance(target, score)
    v10, v01 = intervals.placements(score[:60], score[60:])
    sides = [intervals._Side(v - area, np.arange(len(v)), 150).variance for v in (v10, v01)]
    assert v10.mean() == pytest.approx(area) and sum(sides) == pytest.approx(float(variance))


def test_perfect_ranking_of_five_is_not_certain() -> None:
    """By hand: at a perfect area the lower bound solves (1 - A)^2 = t^2 H(A), t = t(0.975; 4), 5 and 100 patients."""
    target = np.repeat([1.0, 0.0], [5, 100])
    found = intervals.auroc_interval(target, target + 0.0, np.arange(105))
    assert found.value == 1 and found.low < 0.65 and found.high == 1
    expected = max(intervals.hanley_mcneil(a, 5, 100) for a in (found.low, 1 - found.low))
    assert (1 - found.low) ** 2 == pytest.approx(t.ppf(0.975, 4) ** 2 * expected, rel=1e-6)
    twice = intervals.auroc_interval(np.tile(target, 2), np.tile(target, 2), np.tile(np.arange(105), 2))
    assert twice.low == pytest.approx(found.low, abs=1e-9), "images of the same patients are no further evidence"
    assert math.isnan(intervals.auroc_interval(np.zeros(4), np.arange(4.0), np.arange(4)).value)


def test_one_positive_patient_leaves_nearly_everything_open() -> None:
    target = np.repeat([1.0, 0.0], [3, 50])
    score = np.concatenate([[0.9, 0.5, 0.7], np.linspace(0, 1, 50)])
    found = intervals.auroc_interval(target, score, np.concatenate([[0, 0, 0], np.arange(50) + 1]))
    assert found.low < 0.1 and found.high > 0.95 and "conservative" in found.method
    assert "conservative" not in intervals.auroc_interval(*clustered(np.random.default_rng(9))).method


def test_all_ties_are_a_half() -> None:
    found = intervals.auroc_interval(np.repeat([1.0, 0.0], [20, 80]), np.zeros(100), np.arange(100))
    assert found.value == 0.5 and found.low < 0.4 and found.high > 0.6


def test_few_misses_say_little_about_how_misses_cluster() -> None:
    """One miss among 12 patients of 4 images each: the bound by f, and degrees of freedom from the kurtosis, by hand.

    p = 47/48; z = 4/48 eleven times (k - np = 4 - 188/48) and -44/48 once. Between patients the variance is
    12/11 * (11 * (1/12)^2 + (11/12)^2) / 48^2, which gives a design effect of about 1.02; the bound is 4 / (1 + 1) = 2.
    kurtosis: 12 * (11 + 11^4) / (11 + 11^2)^2 = 10.09; 2.5 * 12 / 9.09 = 3.3 degrees of freedom.
    """
    hit, patient = np.arange(48) > 0, np.repeat(np.arange(12), 4)
    found = intervals.rate(hit, patient)
    kurtosis = 12 * (11 + 11**4) / (11 + 11**2) ** 2
    expected = wilson(47 / 48, 24, degrees=30 / (kurtosis - 1))
    assert (found.low, found.high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    # Five patients with a miss each: the bound is 4 / 26 and no longer binds; no more than 11 degrees of freedom.
    five = intervals.rate(np.arange(48) % 8 > 0, patient)
    assert five.low == pytest.approx(wilson(42 / 48, 48, degrees=11)[0])


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


def test_an_auroc_is_never_less_certain_than_a_share_of_its_patients() -> None:
    """Half of the positives lie above all negatives and half below: the area is a share of positives, as Wilson's is.

    Without the bound of the variance by A(1-A)(1/m + 1/n) the interval would be wider, 0.170 to 0.830.
    """
    target = np.r_[np.ones(10), np.zeros(1000)]
    score = np.r_[np.full(5, 9.0), np.full(5, -9.0), np.linspace(-1, 1, 1000)]
    found = intervals.auroc_interval(target, score, np.arange(1010))
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 1 / (1 / 10 + 1 / 1000), degrees=9), abs=1e-9)
