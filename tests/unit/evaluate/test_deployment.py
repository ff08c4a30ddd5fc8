"""Rates at a prevalence, net benefit and cost curves. Numbers worked by hand, from scikit-learn, or from dcurves."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from prediction_tables import drawn
from scipy.integrate import quad
from sklearn.metrics import brier_score_loss

from raresight.evaluate.cost import threshold_for_cost
from raresight.evaluate.cost_curves import brier_curve, cost_curve, lower_envelope, weight_of_misses
from raresight.evaluate.deployment import deployment, over_prevalence
from raresight.evaluate.intervals import Interval
from raresight.evaluate.mean_interval import mean_interval
from raresight.evaluate.net_benefit import benefit_interval, brier_loss, decision_curve, net_benefit, treat_all

RECALL, SPECIFICITY = Interval(0.9, 0.8, 0.95, "", 40, 60), Interval(0.9, 0.88, 0.92, "", 200, 300)
PROB = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1])
TARGET = np.array([1.0, 0, 1, 0, 1, 0, 0])


def test_five_figures_by_hand() -> None:
    # Of 1,000 cases at 2%: 18 of 20 found, 98 of 980 false alarms; low 16 and 117.6, high 19 and 78.4.
    found = deployment(RECALL, SPECIFICITY, 0.02)
    assert found["ppv"] == pytest.approx((18 / 116, 16 / 133.6, 19 / 97.4))
    assert found["number_needed_to_read"] == pytest.approx((116 / 18, 97.4 / 19, 133.6 / 16))
    assert found["npv"] == pytest.approx((882 / 884, 862.4 / 866.4, 901.6 / 902.6))
    assert found["alarms_per_1000"] == pytest.approx((116, 94.4, 136.6))
    assert found["misses_per_100000"] == pytest.approx((200, 100, 400))


def test_rarer_disease_lower_ppv_more_reads_fewer_misses() -> None:
    rows = over_prevalence(RECALL, SPECIFICITY, [0.1, 0.01, 0.001])
    assert [row["prevalence"] for row in rows] == [0.1, 0.01, 0.001]
    for key, sign in (("ppv", 1), ("number_needed_to_read", -1), ("npv", -1), ("misses_per_100000", 1)):
        values = np.array([row[key] for row in rows])
        assert (np.diff(values * sign, axis=0) < 0).all(), key
        assert (values[:, 1] <= values[:, 0]).all() and (values[:, 0] <= values[:, 2]).all(), key


def test_what_is_not_known_stays_unknown() -> None:
    nan = Interval(math.nan, math.nan, math.nan, "", 0, 0)
    assert all(math.isnan(v) for triple in deployment(nan, SPECIFICITY, 0.1).values() for v in triple)
    # No alarm at all: no precision; a precision of 0 that is not excluded: no upper bound of reads.
    silent = deployment(Interval(0, 0, 0.3, "", 9, 9), Interval(1, 0.9, 1, "", 9, 9), 0.1)
    assert math.isnan(silent["ppv"][0]) and silent["misses_per_100000"][0] == 10_000
    some = deployment(Interval(0.5, 0, 0.9, "", 2, 2), SPECIFICITY, 0.1)
    assert some["ppv"][1] == 0 and some["number_needed_to_read"][2] == math.inf


# net benefit


@pytest.mark.parametrize(
    ("threshold", "tp", "fp", "published"),
    [
        (0.05, 98, 454, 0.09880701754385966),
        (0.10, 84, 289, 0.0691851851851852),
        (0.20, 59, 110, 0.04200000000000001),
        (0.50, 14, 7, 0.009333333333333336),
    ],
)
def test_the_published_curve_of_dcurves(threshold: float, tp: int, fp: int, published: float) -> None:
    """dcurves, benchmark results of its R package for `cancer ~ age`: 750 cases, 105 with cancer.

    Its file `r_simple_binary_dca_result_df.csv` gives tp_rate = tp/750, fp_rate = fp/750 and net_benefit.
    """
    assert net_benefit(tp / 105, 1 - fp / 645, 0.14, threshold) == pytest.approx(published, abs=1e-12)


@pytest.mark.parametrize(
    ("threshold", "published"),
    [(0.01, 0.13131313131313133), (0.1, 0.04444444444444445), (0.14, 0.0), (0.3, -0.2285714)],
)
def test_treating_all_as_dcurves_publishes_it(threshold: float, published: float) -> None:
    assert treat_all(0.14, threshold) == pytest.approx(published, abs=1e-7)


def test_a_curve_by_hand() -> None:
    # At .65: 2 found, 1 false alarm, of 7: 2/7 - 1/7 x .65/.35.
    rows = decision_curve(TARGET, PROB, np.arange(7), [0.65, 0.2, 0.95])
    assert rows[0]["net_benefit"] == pytest.approx(2 / 7 - 0.65 / 0.35 / 7)
    assert (rows[0]["recall"], rows[0]["specificity"]) == (pytest.approx(2 / 3), 0.75)
    assert rows[1]["net_benefit"] == pytest.approx(3 / 7 - 3 / 7 * 0.25)  # an alarm at the threshold itself
    assert rows[1]["treat_all"] == pytest.approx(3 / 7 - 4 / 7 * 0.25)
    assert rows[2]["net_benefit"] == 0 and [row["treat_none"] for row in rows] == [0, 0, 0]
    assert all(row["low"] <= row["net_benefit"] <= row["high"] for row in rows)
    assert rows[2]["high"] > 0.3, "three positive patients do not exclude that all are found"
    rare = decision_curve(TARGET, PROB, np.arange(7), [0.65], prevalence=0.1)[0]
    assert rare["net_benefit"] == pytest.approx(0.1 * 2 / 3 - 0.9 / 4 * 0.65 / 0.35)


def test_a_curve_agrees_with_counting_at_every_threshold() -> None:
    given = drawn("independent")
    y, p = given.target[:, 3], given.prob[:, 3]
    at = np.linspace(0.05, 0.9, 30)[::-1]
    rows = decision_curve(y, p, given.patient, at)
    for t, row in zip(at, rows, strict=True):
        tp, fp = np.sum((p >= t) & (y == 1)), np.sum((p >= t) & (y == 0))
        assert row["net_benefit"] == pytest.approx((tp - fp * t / (1 - t)) / len(y))


def test_a_curve_knows_what_a_bootstrap_never_sees() -> None:
    """12 patients with the class, all found, 40 without, none alarmed: every resample of them says the same. At .5 and
    30%: Se from .7354 (Clopper-Pearson, 12 of 12), Sp from .9119 (40 of 40); .3 less hypot(.3 * .2646, .7 * .0881)."""
    y = np.repeat([1.0, 0.0], [12, 40])
    (row,) = decision_curve(y, 0.1 + 0.8 * y, np.arange(52), [0.5], prevalence=0.3)
    assert row["net_benefit"] == pytest.approx(0.3) and row["high"] == pytest.approx(0.3)
    assert row["low"] == pytest.approx(0.3 - 0.1006, abs=2e-4)
    # The loss at t is 2 (1 - t) (pi - NB): 0 here, at most .1006.
    assert (row["brier_loss"], row["brier_loss_low"]) == (pytest.approx(0), pytest.approx(0))
    assert row["brier_loss_high"] == pytest.approx(0.1006, abs=2e-4)


def test_no_curve_without_the_class_or_its_absence() -> None:
    assert decision_curve(TARGET * 0, PROB, np.arange(7), [0.5]) == []
    assert decision_curve(TARGET * 0 + 1, PROB, np.arange(7), [0.5]) == []
    assert decision_curve(TARGET * np.nan, PROB, np.arange(7), [0.5]) == []


def test_the_band_widens_with_the_patients_behind_it() -> None:
    """The same 400 images as 400 patients, or as 20 patients with 20 alike images each."""
    rng = np.random.default_rng(0)
    y, p = np.repeat([1.0, 0.0], 200), np.repeat(rng.random(20), 20)
    apart = decision_curve(y, p, np.arange(400), [0.5])[0]
    together = decision_curve(y, p, np.repeat(np.arange(20), 20), [0.5])[0]
    assert together["high"] - together["low"] > 2.5 * (apart["high"] - apart["low"])


def test_an_interval_recovered_from_those_of_the_rates() -> None:
    # pi = .1, t = .2: weights .1 and .9 x .25 = .225.
    found = benefit_interval(RECALL, SPECIFICITY, 0.1, 0.2)
    assert found.value == pytest.approx(0.09 - 0.0225)
    assert found.low == pytest.approx(found.value - math.hypot(0.1 * 0.1, 0.225 * 0.02))
    assert found.high == pytest.approx(found.value + math.hypot(0.1 * 0.05, 0.225 * 0.02))


def test_loss_and_benefit_rank_alike_at_one_threshold_and_not_across() -> None:
    better, worse = (0.9, 0.8), (0.7, 0.9)
    for t in (0.05, 0.5, 0.9):
        benefit = net_benefit(*better, 0.3, t) - net_benefit(*worse, 0.3, t)
        loss = brier_loss(*better, 0.3, t) - brier_loss(*worse, 0.3, t)
        assert benefit == pytest.approx(-loss / (2 * (1 - t)))


def test_the_mean_loss_over_all_thresholds_is_the_brier_score() -> None:
    given = drawn("independent", n=60)
    y, p = given.target[:, 3], given.prob[:, 3]

    def loss(t: float) -> float:
        return decision_curve(y, p, given.patient, [t])[0]["brier_loss"]

    edges = np.concatenate([[0.0], np.sort(p), [1.0]])
    # Between neighbouring scores the loss is linear in t: its mean there is its value in the middle.
    total = sum((b - a) * loss((a + b) / 2) for a, b in pairwise(edges) if b > a)
    assert total == pytest.approx(brier_score_loss(y, p), abs=1e-12)


# cost curves


def test_one_threshold_is_a_line_from_false_alarms_to_misses() -> None:
    x, y = cost_curve(TARGET, PROB, 0.65)
    np.testing.assert_allclose(x, [0, 1])
    np.testing.assert_allclose(y, [1 / 4, 1 / 3])


def test_the_envelope_by_hand() -> None:
    # ROC corners (0,0) (0,1/3) (1/4,2/3) (1/2,1) (1,1); the three middle ones lie on one line of slope 4/3.
    # Crossings: a vertical step at x = 0; 1/4 against 1/3 twice (one hull edge): x = .5/(.5+2/3) = 3/7; last x = 1.
    x, y = lower_envelope(TARGET, PROB)
    np.testing.assert_allclose(x, [0, 0, 3 / 7, 1, 1])
    np.testing.assert_allclose(y, [0, 0, 2 / 3 * 3 / 7, 0, 0], atol=1e-12)


def test_the_envelope_is_the_least_of_all_lines() -> None:
    given = drawn("independent")
    y, p = given.target[:, 2], given.prob[:, 2]
    x = np.linspace(0, 1, 101)
    lines = [np.interp(x, *cost_curve(y, p, t)) for t in [2.0, *np.unique(p)]]
    np.testing.assert_allclose(np.interp(x, *lower_envelope(y, p)), np.min(lines, axis=0), atol=1e-12)
    assert (np.interp(x, *brier_curve(y, p)) >= np.min(lines, axis=0) - 1e-12).all()


def test_the_brier_curve_follows_the_prices() -> None:
    given = drawn("independent")
    y, p = given.target[:, 2], given.prob[:, 2]
    x, cost = brier_curve(y, p)
    assert (np.diff(x) >= -1e-12).all() and (x[0], x[-1]) == (0, 1)
    for missed in (0.5, 3.0, 30.0):
        at, t = weight_of_misses(y.mean(), missed), threshold_for_cost(missed)
        line = np.interp(at, *cost_curve(y, p, t))
        assert np.interp(at, x, cost) == pytest.approx(line, abs=1e-9)


def test_the_area_under_the_brier_curve_over_thresholds_is_the_brier_score() -> None:
    given = drawn("independent", n=40)
    y, p = given.target[:, 3], given.prob[:, 3]
    share = y.mean()
    x, cost = brier_curve(y, p)
    t = share * (1 - x) / (share * (1 - x) + (1 - share) * x)
    total = 0.0
    for j in range(0, len(x), 2):  # within a step the line in x becomes a line in t, times the dearest possible

        def loss(at: float, j: int = j) -> float:
            here = share * (1 - at) / (share * (1 - at) + (1 - share) * at)
            value = np.interp(here, x[j : j + 2], cost[j : j + 2])
            return 2 * (share * (1 - at) + (1 - share) * at) * value

        total += quad(loss, t[j + 1], t[j])[0] if t[j] > t[j + 1] else 0.0
    assert total == pytest.approx(brier_score_loss(y, p), abs=1e-6)


def test_the_weight_of_misses() -> None:
    assert weight_of_misses(0.02, 49) == pytest.approx(0.5)
    assert weight_of_misses(0.5, 1) == 0.5
    assert weight_of_misses(0.02, 100) > weight_of_misses(0.02, 49) > weight_of_misses(0.01, 49)


def test_curves_of_an_absent_class_are_empty() -> None:
    for curve in (lower_envelope(TARGET * 0, PROB), brier_curve(TARGET * 0, PROB), cost_curve(TARGET * 0, PROB, 0.5)):
        assert len(curve[0]) == len(curve[1]) == 0


# the mean of a count


def test_a_mean_over_patients_by_hand() -> None:
    values = np.array([1.0, 3, 3, 1, *[2] * 9])
    found = mean_interval(values, np.arange(13), (0, 7))
    # Four deviations of 1: v = 13/12 x 4/169, t(12) = 2.178813.
    assert found.value == 2 and found.n_patients == 13
    assert found.high - 2 == pytest.approx(2.178813 * math.sqrt(13 / 12 * 4 / 169), abs=1e-5)
    # Patients 0 (1 and 1) and 1 (3 and 3): two deviations of 2, t(10) = 2.228139.
    paired = mean_interval(values, np.array([0, 1, 1, 0, *range(4, 13)]), (0, 7))
    assert paired.n_patients == 11 and paired.n_images == 13
    assert 2 - paired.low == pytest.approx(2.228139 * math.sqrt(11 / 10 * 8 / 169), abs=1e-5)
    assert mean_interval(values, np.arange(13), (1.9, 2.1)).high == 2.1, "no bound lies where no value can"


def test_a_mean_of_few_patients_excludes_little() -> None:
    few = mean_interval(np.ones(4), np.arange(4), (0, 5))
    assert few.low < 0.5 and few.high > 2.5 and "few patients" in few.method
    one = mean_interval(np.array([1.0]), np.array([0]), (0, 5))
    assert one.low < 0.1 and one.high > 4.8
    assert math.isnan(mean_interval(np.zeros(0), np.zeros(0), (0, 5)).value)


def test_bounds_that_are_not_alike_go_where_they_belong() -> None:
    """Se 0.8 (0.5, 0.9), Sp 0.9 (0.7, 0.96), π 0.1, t 0.2: NB = .08 - .1 * .9/4; below, .1 * .3 and .225 * .2; above,
    .1 * .1 and .225 * .06."""
    found = benefit_interval(Interval(0.8, 0.5, 0.9, "", 0, 0), Interval(0.9, 0.7, 0.96, "", 0, 0), 0.1, 0.2)
    assert found.value == pytest.approx(0.0575)
    assert found.low == pytest.approx(0.0575 - 0.0540833, abs=1e-6)
    assert found.high == pytest.approx(0.0575 + 0.0168003, abs=1e-6)


def test_a_bound_without_any_alarm_excludes_nothing() -> None:
    found = deployment(Interval(0.5, 0.0, 1.0, "", 0, 0), Interval(1.0, 1.0, 1.0, "", 0, 0), 0.1)
    assert found["ppv"] == (1.0, 0.0, 1.0) and found["number_needed_to_read"] == (1.0, 1.0, math.inf)
