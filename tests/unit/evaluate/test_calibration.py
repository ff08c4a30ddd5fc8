"""Calibration figures against statsmodels, by hand, and on data whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from prediction_tables import drawn, predictions
from scipy.special import expit, logit
from scipy.stats import t as student
from sklearn.metrics import log_loss as reference_log_loss
from statsmodels.nonparametric.smoothers_lowess import lowess

from raresight.core.estimate import Estimate
from raresight.core.task import Kind
from raresight.evaluate import calibration
from raresight.evaluate.calibration_curve import Curve, ici, kernel, places
from raresight.evaluate.calibration_estimates import METRICS, calibration_estimates
from raresight.evaluate.calibration_line import calibration_intercept, calibration_slope
from raresight.evaluate.calibration_verdict import calibration_verdicts, poorly_calibrated
from raresight.evaluate.calibrators import fit_temperature
from raresight.evaluate.estimates import estimate
from raresight.evaluate.null_band import drawn_positives, patient_correlation
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.reliability import reliability
from raresight.evaluate.thresholds import tune


def clustered(
    rng_seed: int, patients: int = 300, images: int = 4, shift: float = 0.0, scale: float = 1.0, alike: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels from logistic(z), probabilities logistic(scale z + shift); images of a patient share part of z's noise."""
    rng = np.random.default_rng(rng_seed)
    who = np.repeat(np.arange(patients), images)
    z = -2 + 1.2 * rng.normal(size=len(who))
    hidden = alike * rng.normal(size=patients)[who]  # known to the labels and not to the model
    y = (rng.random(len(who)) < expit(z + hidden - alike**2 * 0.2)).astype(float)
    return y, expit(scale * z + shift), who


# log-loss, expected/observed, ECE


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_log_loss_agrees_with_scikit_learn(kind: Kind) -> None:
    given = drawn(kind)
    ours = calibration.log_loss(given.target, calibration.log_odds(given.prob, kind), kind)
    if kind == "exclusive":
        theirs = reference_log_loss(given.target.argmax(axis=1), given.prob)
    else:
        theirs = np.mean([reference_log_loss(given.target[:, k], given.prob[:, k]) for k in range(4)])
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_temperature_undoes_overconfidence(kind: Kind) -> None:
    """Labels drawn from softmax or logistic of z; logits 3z then need T = 3."""
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=(8000, 3))
    prob = calibration.probabilities(z, kind)
    if kind == "exclusive":
        target = np.eye(3)[(rng.random(8000)[:, None] > np.cumsum(prob, axis=1)[:, :2]).sum(axis=1)]
    else:
        target = (rng.random(prob.shape) < prob).astype(float)
    assert fit_temperature(target, 3 * z, kind) == pytest.approx(3, rel=0.06)
    assert fit_temperature(target * np.nan, z, kind) == 1


def test_prior_correction_has_the_right_sign() -> None:
    """Oversampling a class n-fold adds log n to its logit; taking it out must lower the class's probability."""
    rng = np.random.default_rng(1)
    y = (rng.random(20_000) < 0.02).astype(float)
    x = rng.normal(size=20_000) + 2 * y
    true_z = 2 * x - 2 + math.log(0.02 / 0.98)  # the log-odds of this Gaussian pair
    shift = math.log(10)
    given = predictions("independent", y[:, None], calibration.probabilities((true_z + shift)[:, None], "independent"))
    tuned = tune(given, implied_prior=np.array([shift]))
    after = calibrate(given, tuned.calibrator)
    assert calibration.expected_observed(y, given.prob[:, 0]) > 2
    assert calibration.expected_observed(y, after.prob[:, 0]) == pytest.approx(1, abs=0.15)
    assert tuned.calibrator["temperature"] == pytest.approx(1, abs=0.1)
    assert tuned.calibrator["log_loss_after"] < tuned.calibrator["log_loss_before"]


def test_calibration_figures_by_hand() -> None:
    target, prob = np.array([1.0, 0, 0, 0, np.nan]), np.array([0.6, 0.2, 0.2, 0.4, 0.9])
    assert calibration.expected_observed(target, prob) == pytest.approx(1.4)
    # Two bins of two: {0.2, 0.2} off by 0.2, {0.4, 0.6} by 0.
    assert calibration.ece(target, prob, bins=2) == pytest.approx(0.5 * 0.2)
    assert math.isnan(calibration.ece(target * 0, prob))
    assert len(set(calibration.equal_mass_bins(np.full(7, 0.3)))) == 1


def test_ece_rewards_blindness_and_expected_observed_does_not() -> None:
    """Section 1, finding 4: at 0.9% prevalence 'never' has an ECE of 0.009 and an expected/observed of 0."""
    target = np.zeros(1000)
    target[:9] = 1
    assert calibration.ece(target, np.zeros(1000)) == pytest.approx(0.009)
    assert calibration.expected_observed(target, np.zeros(1000)) == 0


def test_reliability_needs_twenty_positive_patients() -> None:
    rng = np.random.default_rng(2)
    prob = rng.random(2000)
    target = (rng.random(2000) < prob).astype(float)
    points, reason = reliability(target, prob, np.arange(2000))
    assert reason == "" and len(points) == 8
    assert all(p["low"] <= p["mean_prob"] <= p["high"] for p in points[1:-1])
    positives = [p["n_positives"] for p in points]
    assert max(positives) - min(positives) <= 2
    assert all(p["null_low"] <= p["mean_prob"] <= p["null_high"] for p in points)
    points, reason = reliability(target, prob, np.arange(2000) % 19)
    assert points == [] and reason.startswith("19 positive patients")


# intercept and slope


def reference(y: np.ndarray, p: np.ndarray, who: np.ndarray, *, slope: bool, cluster: bool) -> tuple[float, float]:
    """The last parameter of statsmodels' binomial GLM and its standard error."""
    x = logit(p)
    exog, offset = (sm.add_constant(x), None) if slope else (np.ones((len(y), 1)), x)
    model = sm.GLM(y, exog, family=sm.families.Binomial(), offset=offset)
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": who}) if cluster else model.fit()
    return float(fitted.params[-1]), float(fitted.bse[-1])


@pytest.mark.parametrize("slope", [False, True])
def test_line_agrees_with_statsmodels_where_patients_are_alike(slope: bool) -> None:
    """Reference: GLM with cov_type="cluster", whose correction is G/(G-1) (N-1)/(N-P); the quantile is ours."""
    y, p, who = clustered(0, alike=1.5 if not slope else 3.0, images=8 if not slope else 12)
    ours = (calibration_slope if slope else calibration_intercept)(y, p, who)[0]
    value, error = reference(y, p, who, slope=slope, cluster=True)
    naive = reference(y, p, who, slope=slope, cluster=False)[1]
    assert ours.value == pytest.approx(value, abs=1e-6)
    smaller = min(len(set(who[y == 1])), len(set(who[y == 0])))
    quantile = student.ppf(0.975, smaller - 1)
    assert ours.high - ours.value == pytest.approx(quantile * max(error, naive), rel=1e-4)
    assert slope or error > 1.3 * naive, "the sandwich counts here"
    assert ours.value - ours.low == pytest.approx(ours.high - ours.value)
    assert (ours.n_patients, ours.n_images) == (300, len(y))


@pytest.mark.parametrize("slope", [False, True])
def test_line_never_trusts_a_sandwich_below_the_models_own_variance(slope: bool) -> None:
    """Three patients of each answer, one image each: the model's own variance is the larger one (statsmodels)."""
    y, p = np.array([1.0, 0, 1, 0, 1, 0]), np.array([0.6, 0.5, 0.4, 0.3, 0.7, 0.35])
    who = np.array([3, 1, 4, 1, 5, 9])  # one patient twice
    ours = (calibration_slope if slope else calibration_intercept)(y, p, who)[0]
    value, naive = reference(y, p, who, slope=slope, cluster=False)
    error = reference(y, p, who, slope=slope, cluster=True)[1]
    assert ours.value == pytest.approx(value, abs=1e-5)
    assert ours.high - ours.value == pytest.approx(student.ppf(0.975, 1) * max(naive, error), rel=1e-4)


def test_intercept_by_hand() -> None:
    """Equal p = 1/4 and one in two has it: a = logit(1/2) - logit(1/4) = ln 3."""
    y, p = np.array([1.0, 0, 1, 0, np.nan]), np.full(5, 0.25)
    found, reason = calibration_intercept(y, p, np.arange(5))
    assert reason == "" and found.value == pytest.approx(math.log(3))
    # Variance 1/(4 · 1/4) = 1, one degree of freedom: two patients with and two without.
    assert found.high - found.value == pytest.approx(student.ppf(0.975, 1) * math.sqrt(4 / 3))


def test_line_points_where_theory_says() -> None:
    y, p, who = clustered(1, patients=2000, images=1, alike=0.0)
    right = calibration_slope(y, p, who)[0]
    assert right.low < 1 < right.high and right.value == pytest.approx(1, abs=0.15)
    assert calibration_intercept(y, p, who)[0].value == pytest.approx(0, abs=0.15)
    assert calibration_slope(y, expit(2 * logit(p)), who)[0].value == pytest.approx(right.value / 2, abs=1e-4)
    high = calibration_intercept(y, expit(logit(p) + 1), who)[0].value
    assert high == pytest.approx(calibration_intercept(y, p, who)[0].value - 1, abs=1e-6)
    assert calibration_slope(y, 1 - p, who)[0].value == pytest.approx(-right.value, abs=1e-4)


def test_line_is_refused_where_nothing_can_be_known() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    who = np.arange(6)
    cases = [
        ([0, 0, 0, 0, 0, np.nan], who, "no case has the class"),
        ([1, 1, 1, 1, 1, np.nan], who, "every case has the class"),
        ([1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 2, 3], "one positive patient: how patients vary cannot be seen"),
        ([1, 1, 0, 1, 0, 1], [0, 1, 2, 3, 2, 4], "one patient without the class: how patients vary cannot be seen"),
    ]
    for labels, patients, words in cases:
        for judge in (calibration_intercept, calibration_slope):
            found, reason = judge(np.array(labels, float), p, np.array(patients))
            assert math.isnan(found.value) and math.isnan(found.low) and reason == words
    for labels in ([0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]):
        found, reason = calibration_slope(np.array(labels, float), p, who)
        assert math.isnan(found.value) and reason.startswith("the scores separate the class perfectly")
        assert calibration_intercept(np.array(labels, float), p, who)[1] == ""
    # A tie of scores across the gap separates still (Albert & Anderson's quasi-complete separation).
    tied = np.array([0.1, 0.2, 0.4, 0.4, 0.5, 0.6])
    assert "separate" in calibration_slope(np.array([0.0, 0, 0, 1, 1, 1]), tied, who)[1]
    assert calibration_slope(np.array([0.0, 1, 0, 1, 0, 1]), np.full(6, 0.2), who)[1] == "all probabilities are equal"
    assert calibration_slope(np.array([0.0, 0, 1, 0, 1, 1]), p, who)[1] == ""


def test_zero_and_one_are_probabilities_too() -> None:
    y, p, who = clustered(2)
    p = np.where(p < 0.05, 0.0, np.where(p > 0.6, 1.0, p))
    for judge in (calibration_intercept, calibration_slope):
        found, reason = judge(y, p, who)
        assert reason == "" and np.isfinite([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("patients", [60, 200])
def test_line_intervals_cover(patients: int) -> None:
    """50 draws of clustered labels at a prevalence near 15%: intercept and slope are covered at least 86% of the time.

    The truth is that of 160,000 images; 86% is 95% less 2.9 standard errors of 50 draws.
    """
    y, p, who = clustered(99, patients=40_000)
    truth = calibration_intercept(y, p, who)[0].value, calibration_slope(y, p, who)[0].value
    covered = np.zeros(2)
    for draw in range(50):
        y, p, who = clustered(1000 + draw, patients=patients)
        for i, judge in enumerate((calibration_intercept, calibration_slope)):
            found = judge(y, p, who)[0]
            covered[i] += found.low <= truth[i] <= found.high
    assert (covered / 50 >= 0.86).all(), covered


# the smooth curve


def test_smoothing_is_lowess_where_masses_are_equal() -> None:
    """Reference: statsmodels lowess of y - p over logit p, it=0, delta=0, which is local-linear and tricube too."""
    rng = np.random.default_rng(3)
    p = np.sort(rng.uniform(0.02, 0.9, 80))
    y = (rng.random(80) < p**0.7).astype(float)
    x = logit(p)
    curve = Curve(y, p)
    curve.kernel = kernel(x, np.ones(80), 0.5)
    theirs = lowess(y - p, x, frac=0.5, it=0, delta=0.0, return_sorted=False)
    np.testing.assert_allclose(curve.seen(), np.clip(p + theirs, 0, 1), atol=2e-3)


def test_index_by_hand() -> None:
    """One probability for all: the curve is the prevalence. 1 of 4 at p = 0.4: |0.25 - 0.4|."""
    assert ici(np.array([1.0, 0, 0, 0, np.nan]), np.full(5, 0.4)) == pytest.approx(0.15)
    # Two far groups, each holding over half of Σ p(1-p) within itself: 1/2 seen at 0.4, 1/4 at 0.5.
    y, p = np.array([1.0, 0, 1, 0, 0, 0]), np.array([0.4, 0.4, 0.5, 0.5, 0.5, 0.5])
    assert ici(y, p) == pytest.approx((2 * abs(0.5 - 0.4) + 4 * abs(0.25 - 0.5)) / 6, abs=0.05)
    assert math.isnan(ici(y * 0, p)) and math.isnan(ici(y * np.nan, p))


@pytest.mark.parametrize("prevalence", [0.01, 0.1])
def test_index_finds_the_true_distance(prevalence: float) -> None:
    """Truth: mean |q - p| of the probabilities q that made the labels; a smooth estimate of 60,000 is within 10%."""
    rng = np.random.default_rng(4)
    z = logit(prevalence) - 1 + 1.5 * rng.normal(size=60_000)
    p, q = expit(z), expit(z / 1.5)
    y = (rng.random(60_000) < q).astype(float)
    assert ici(y, p) == pytest.approx(np.abs(q - p).mean(), rel=0.1)
    right = (rng.random(60_000) < p).astype(float)
    assert ici(right, p) < 0.06 * ici(y, p)


def test_places_are_cut_by_cases_and_by_positives() -> None:
    """1,000 distinct scores, positives the top 40 of them: a rare class is not one place at the end."""
    x = np.arange(1000.0)
    place = places(x, x >= 960, most=20)
    assert place[0] == 0 and (np.diff(place) >= 0).all() and set(np.diff(place)) == {0, 1}
    assert len(set(place[x >= 960])) >= 9
    assert len(set(place[x < 960])) >= 9
    np.testing.assert_array_equal(places(np.array([3.0, 1, 3, 2]), np.zeros(4, bool)), [2, 0, 2, 1])


def test_kernel_by_hand() -> None:
    """Places 0, 1, 3 of mass 1: 2/3 of it lies within 1 of place 0 and of place 1, within 2 of place 3."""
    found = kernel(np.array([0.0, 1, 3]), np.ones(3), 2 / 3)
    tricube = (1 - 0.5**3) ** 3
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    wider = kernel(np.array([0.0, 1, 2]), np.ones(3), 1.0)
    np.testing.assert_allclose(wider, [[1, tricube, 0], [0, 1, 0], [0, tricube, 1]])


def test_resampled_index_is_that_of_the_repeated_rows() -> None:
    """Multiplicity 2 of a patient is every image of it twice (kernel and places kept)."""
    y, p, who = clustered(5, patients=30)
    curve = Curve(y, p)
    weight = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=3).T.astype(float)
    found = curve.index_of(who, 30)(weight)
    for r in range(3):
        times = weight[who, r]
        cases = np.bincount(curve.place, weights=times, minlength=curve.n_places)
        residual = np.bincount(curve.place, weights=times * (y - p), minlength=curve.n_places)
        seen = curve._smooth(cases[:, None], residual[:, None])[:, 0]
        assert found[r] == pytest.approx(float((cases * np.abs(seen - curve.given)).sum() / times.sum()))
    assert curve.index_of(who, 30)(np.ones((30, 1)))[0] == pytest.approx(curve.index())


# null band


def test_drawn_labels_have_their_probabilities() -> None:
    rng = np.random.default_rng(6)
    p, who = rng.uniform(0, 0.5, 400), np.repeat(np.arange(100), 4)
    place = (p > 0.25).astype(int)
    for correlation in (0.0, 0.4, 1.0):
        (drawn_,) = drawn_positives(p, who, [place], correlation, "a", draws=4000)
        expected = np.bincount(place, weights=p)
        spread = drawn_.std(axis=1) / math.sqrt(4000)
        assert drawn_.shape == (2, 4000) and (np.abs(drawn_.mean(axis=1) - expected) < 4 * spread + 1e-9).all()
    first, again = (drawn_positives(p, who, [place], 0.3, "a", draws=60)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, drawn_positives(p, who, [place], 0.3, "b", draws=60)[0])


def test_drawn_labels_are_as_alike_as_asked() -> None:
    """100 patients of 4 images at p = 1/2: Var of the sum is 400/4 · (1 + 3 ρ)."""
    p, who = np.full(400, 0.5), np.repeat(np.arange(100), 4)
    for correlation in (0.0, 0.25, 1.0):
        (sums,) = drawn_positives(p, who, [np.zeros(400, int)], correlation, "c", draws=6000)
        assert sums.var() == pytest.approx(100 * (1 + 3 * correlation), rel=0.1)


def test_patient_correlation_is_found() -> None:
    rng = np.random.default_rng(7)
    who = np.repeat(np.arange(1500), 4)
    p = np.full(6000, 0.3)
    for correlation in (0.0, 0.36):
        shared = rng.random(6000) < math.sqrt(correlation)
        u = np.where(shared, rng.random(1500)[who], rng.random(6000))
        found = patient_correlation(Curve((u < p).astype(float), p), who)
        assert found == pytest.approx(correlation, abs=0.05)
    one_each = patient_correlation(Curve((u < p).astype(float), p), np.arange(6000))
    assert one_each == 0
    same = (rng.random(1500) < 0.3)[who].astype(float)
    assert patient_correlation(Curve(same, p), who) == pytest.approx(1, abs=0.02)


def judged(y: np.ndarray, p: np.ndarray, who: np.ndarray, **more: object) -> dict[str, Estimate]:
    positives = len(set(who[y == 1]))
    base = Estimate(metric="", class_="c", value=0.0, prevalence=float(np.nanmean(y)), n_positive_patients=positives)
    rows = calibration_estimates(base, y, p, who, resamples=100, names=("t",), **more)  # type: ignore[arg-type]
    return {row.metric: row for row in rows}


def test_null_band_holds_a_right_model_and_not_a_wrong_one() -> None:
    """Of 20 right models about 5% have an ECE above the upper 97.5% bound or below the lower; of wrong ones all."""
    inside = 0
    for draw in range(20):
        rng = np.random.default_rng(draw)
        who = np.repeat(np.arange(250), 4)
        p = expit(-2.5 + rng.normal(size=1000))
        y = (rng.random(1000) < p).astype(float)
        rows = judged(y, p, who)
        null = rows["ece_null"]
        inside += null.low <= rows["ece"].value <= null.high
        assert null.low <= null.value <= null.high
        if draw < 3:
            wrong = judged(y, expit(logit(p) + 1), who)
            assert wrong["ece"].value > wrong["ece_null"].high
    assert inside >= 16, "95% less 3 standard errors"


def test_null_band_is_wider_where_images_of_a_patient_are_alike() -> None:
    """Labels of whole patients: by images alone, ECE of a right model would look like an error."""
    rng = np.random.default_rng(8)
    who = np.repeat(np.arange(150), 8)
    p = expit(-1 + rng.normal(size=150))[who]
    y = (rng.random(150)[who] < p).astype(float)
    alike, apart = judged(y, p, who)["ece_null"], judged(y, p, np.arange(1200))["ece_null"]
    assert alike.high > 2 * apart.high


# estimates


def test_all_figures_of_a_class_before_and_after() -> None:
    y, p, who = clustered(9)
    rows = judged(y, p, who, before=expit(logit(p) + math.log(3)))
    assert list(rows) == [*METRICS, *(f"{name}_uncalibrated" for name in METRICS)]
    assert rows["expected_observed_ratio"].value == pytest.approx(p.sum() / y.sum())
    assert rows["expected_observed_ratio_uncalibrated"].value > 1.8
    change = rows["calibration_intercept"].value - rows["calibration_intercept_uncalibrated"].value
    assert change == pytest.approx(math.log(3), abs=1e-6)
    assert rows["calibration_slope"].value == pytest.approx(rows["calibration_slope_uncalibrated"].value, abs=1e-6)
    assert rows["ece"].value == pytest.approx(calibration.ece(y, p))
    assert rows["ici"].value == pytest.approx(ici(y, p))
    assert "100 resamples" in rows["ici"].method and "biased upwards" in rows["ece"].method
    null = rows["ece_null"]
    assert f"{null.low:.2g} to {null.high:.2g} by chance, were the model right" in rows["ece"].reason
    assert "were the model right" in rows["ici"].reason
    for row in rows.values():
        assert row.low <= row.value <= row.high and row.status == "ok", row


def test_an_absent_class_has_no_figure_and_one_patient_no_line() -> None:
    y, p, who = clustered(10)
    rows = judged(np.where(np.arange(len(y)) % 2, np.nan, 0.0), p, who, before=p)
    assert len(rows) == 12
    assert {row.status for row in rows.values()} == {"not_estimable"}
    assert all(row.reason == "no case has 'c' in this part" for row in rows.values())
    one = np.zeros(len(y))
    one[:3] = 1
    rows = judged(one, p, who)
    assert rows["expected_observed_ratio"].status == rows["ece"].status == "wide"
    assert "1 positive patients, fewer than 10" in rows["ece"].reason
    for name in ("calibration_intercept", "calibration_slope"):
        assert (rows[name].status, rows[name].value) == ("not_estimable", None)
        assert rows[name].reason.startswith("one positive patient")


def test_a_line_too_wide_to_conclude_from_says_so() -> None:
    y, p, who = clustered(11, patients=40, images=1)
    slope = judged(y, p, who)["calibration_slope"]
    assert slope.status == "wide" and "wider than ±0.5" in slope.reason


def test_the_resamples_of_a_curve_are_the_first_four_hundred() -> None:
    y, p, who = clustered(12, patients=40)
    base = Estimate(metric="", class_="c", value=0.0, n_positive_patients=30)
    more, fewer = (
        {r.metric: r for r in calibration_estimates(base, y, p, who, resamples=n, names=("t",))} for n in (500, 400)
    )
    assert "400 resamples" in more["ici"].method and "500 resamples" in more["ece"].method
    assert (more["ici"].low, more["ici"].high) == (fewer["ici"].low, fewer["ici"].high)


def test_a_calibrator_fitted_on_the_part_that_it_is_judged_on_says_so() -> None:
    given = drawn("independent", n=600)
    tuned = tune(given)
    rows = estimate(given, calibrated=calibrate(given, tuned.calibrator), thresholds=tuned.values, resamples=20)
    reasons = {row.metric: row.reason for row in rows if row.class_ == "c3"}
    assert "fitted on this same part: optimistic" in reasons["ece"]
    assert "optimistic" not in reasons["ece_uncalibrated"]


# verdict


def row(metric: str, value: float, low: float, high: float, prevalence: float = 0.02) -> Estimate:
    return Estimate(
        metric=metric, class_="c", value=value, low=low, high=high, prevalence=prevalence, n_positive_patients=30
    )


def test_verdicts_at_their_bounds() -> None:
    fair = [row("calibration_slope", 1, 0.9, 1.1), row("ece", 0.03, 0.02, 0.04), row("ece_null", 0.01, 0.0, 0.02)]
    ratio = "expected_observed_ratio"

    def state(low: float, high: float, more: list[Estimate] = fair) -> str:
        return calibration_verdicts([row(ratio, (low * high) ** 0.5, low, high), *more])["c"].state

    assert (state(1.26, 1.5), state(1.25, 1.5), state(0.5, 0.79), state(0.5, 0.8)) == ("poor", "fair", "poor", "fair")
    assert (state(0.49, 1.0), state(1.0, 2.01), state(0.5, 2.0)) == ("unknown", "unknown", "fair")
    bold, edge = row("calibration_slope", 0.7, 0.6, 0.79), row("calibration_slope", 0.7, 0.6, 0.8)
    assert (state(0.9, 1.1, [bold, *fair[1:]]), state(0.9, 1.1, [edge, *fair[1:]])) == ("poor", "fair")
    assert state(0.9, 1.1, [row("calibration_slope", 1.4, 1.26, 1.6), *fair[1:]]) == "poor"
    by_chance = row("ece", 0.02, 0.01, 0.04)  # not above its null band
    assert state(0.9, 1.1, [bold, by_chance, fair[2]]) == "fair"
    absent = Estimate(metric=ratio, class_="c", status="not_estimable", reason="no case has 'c' in this part")
    assert calibration_verdicts([absent])["c"].state == "unknown"


def test_rare_classes_that_are_poorly_calibrated_are_named_with_the_way() -> None:
    y, p, who = clustered(13, patients=3000, images=1, alike=0.0)
    rare = (np.random.default_rng(0).random(3000) < 0.3 * y).astype(float)
    rows = list(judged(rare, p, who, before=expit(2 * logit(p))).values())
    named = poorly_calibrated(rows)
    assert named["c"].startswith("it expects 3.") and "times as many" in named["c"]
    assert poorly_calibrated(rows, rarer_than=0.01) == {}, "not a rare class by that bound"
    assert "only" in poorly_calibrated([row("expected_observed_ratio", 0.3, 0.2, 0.4)])["c"]
    assert poorly_calibrated([row("expected_observed_ratio", 0.3, 0.2, 0.4, prevalence=0.1)]) == {}
    for slope, word in ((0.5, "extreme"), (2.0, "timid")):
        bold = [
            row("expected_observed_ratio", 1.0, 0.9, 1.1),
            row("calibration_slope", slope, slope - 0.1, slope + 0.1),
        ]
        bold += [row("ece", 0.03, 0.02, 0.04), row("ece_null", 0.01, 0.0, 0.02)]
        assert poorly_calibrated(bold) == {"c": f"its probabilities are too {word} (slope {slope:.2f})"}
    subgroup = replace(row("expected_observed_ratio", 0.3, 0.2, 0.4), subgroup="sex=female")
    assert poorly_calibrated([subgroup]) == {}


def test_the_curve_of_expected_labels_lies_on_the_diagonal() -> None:
    """As many positives drawn in every place as p says: index 0; the nearest cases are weighed by p (1 - p)."""
    prob = np.repeat([0.1, 0.5, 0.9], 10)
    curve = Curve(np.tile([0.0, 1.0], 15), prob)
    assert curve.null_index(np.array([[1.0], [5.0], [9.0]])) == pytest.approx([0], abs=1e-12)
    # Masses .9, 2.5, .9 of 4.3: three quarters about .1 reach to the middle, whose own weight is then 0, as in lowess.
    # Were p (1 + p) the mass, 1.1, 7.5 and 17.1, the third place would be needed too.
    held = Curve(np.tile([0.0, 1.0], 15), prob, span=0.75).kernel
    assert held[0].tolist() == [1, 0, 0]
