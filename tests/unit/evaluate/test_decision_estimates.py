"""Estimates of decisions: from recall and specificity, from a cost matrix, from sets and referral. By hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate.estimates import estimate
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune

COSTS = {
    "missed": {"c0": 20.0},
    "prevalence": {"c0": 0.01},
    "matrix": {"c0": {"c3": 20, "c1": 5}},
    "referral": 0.5,
}


def at(rows: list[Estimate], metric: str, class_: str | None = None, point: str | None = None) -> Estimate:
    (row,) = (e for e in rows if (e.metric, e.class_) == (metric, class_) and point in (None, e.operating_point))
    return row


def tuned_on(val: Predictions, test: Predictions, **more: object) -> list[Estimate]:
    tuned = tune(val, costs=COSTS, decision={"refer": 0.1})
    calibrated = calibrate(test, tuned.calibrator)
    return estimate(
        test,
        calibrated=calibrated,
        thresholds=tuned.values,
        operating="frozen",
        costs=COSTS,
        decisions=tuned.decisions,
        resamples=100,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def rows() -> list[Estimate]:
    val, test = drawn("exclusive", n=900, n_patients=400), drawn("exclusive", n=900, n_patients=400, rng_seed=1)
    return tuned_on(val, replace(test, part="test"), unit="lesion")


def test_all_figures_stand_there_with_bounds_and_patients(rows: list[Estimate]) -> None:
    metrics = {row.metric for row in rows}
    assert metrics >= {
        *("number_needed_to_read", "npv_at_prevalence", "misses_per_100000", "net_benefit"),
        *("expected_cost_matrix", "relative_cost_matrix", "conformal_coverage", "conformal_set_size"),
        *("share_referred", "recall_decided", "specificity_decided", "misses_avoided_per_100_referrals"),
        "referral_net_saving",
    }
    for row in rows:
        if row.value is not None:
            assert row.low is not None and row.high is not None and row.low <= row.value <= row.high, row
        assert row.unit == "lesion" and row.part == "test" and row.n_patients > 0 and row.method


@pytest.mark.parametrize("point", ["argmax", "frozen"])
def test_deployment_follows_from_recall_and_specificity(rows: list[Estimate], point: str) -> None:
    recall, specificity = at(rows, "recall", "c0", point), at(rows, "specificity", "c0", point)
    assert recall.value is not None and specificity.value is not None and recall.high is not None
    reads, npv = at(rows, "number_needed_to_read", "c0", point), at(rows, "npv_at_prevalence", "c0", point)
    hit, alarm = recall.value * 0.01, (1 - specificity.value) * 0.99
    assert reads.value == pytest.approx((hit + alarm) / hit)
    assert 1 / reads.value == pytest.approx(at(rows, "ppv_at_prevalence", "c0", point).value)
    silent = specificity.value * 0.99
    assert npv.value == pytest.approx(silent / (silent + (1 - recall.value) * 0.01))
    missed = at(rows, "misses_per_100000", "c0", point)
    assert missed.value == pytest.approx(1000 * (1 - recall.value))
    assert missed.low == pytest.approx(1000 * (1 - recall.high))
    benefit = at(rows, "net_benefit", "c0", point)
    assert benefit.value == pytest.approx(hit - alarm / 20) and benefit.prevalence == 0.01
    assert "20 false alarms" in benefit.reason and "gives 0" in benefit.reason
    assert {row.threshold for row in (reads, npv, missed, benefit)} == {recall.threshold}


def test_only_what_was_asked_for(rows: list[Estimate]) -> None:
    assert {r.class_ for r in rows if r.metric in ("net_benefit", "number_needed_to_read")} == {"c0"}
    plain = {row.metric for row in estimate(drawn("exclusive"), resamples=20)}
    assert not plain & {"net_benefit", "expected_cost_matrix", "conformal_coverage", "share_referred"}
    some = estimate(drawn("exclusive"), costs={"missed": {"c0": 5.0}}, resamples=20)
    benefit = at(some, "net_benefit", "c0")
    assert benefit.prevalence == pytest.approx(float(np.mean(drawn("exclusive").target[:, 0])))
    assert "number_needed_to_read" not in {row.metric for row in some}


def matrix_case(part: str = "test") -> Predictions:
    # Eight of class a, two of them called b; eight of b, all right. Two-class probabilities.
    truth = np.repeat([0, 1], 8)
    p = np.array([0.9] * 6 + [0.4] * 2 + [0.2] * 6 + [0.04] * 2)
    return predictions("exclusive", np.eye(2)[truth], np.stack([p, 1 - p], axis=1), part=part)


def test_a_cost_matrix_by_hand() -> None:
    costs = {"matrix": {"c0": {"c1": 10}}}
    found = estimate(matrix_case(), costs=costs, resamples=200)
    # Argmax: a quarter of class a called b: .5 x .25 x 10 = 1.25. Always a: .5.
    plain = at(found, "expected_cost_matrix", None, "argmax")
    assert plain.value == pytest.approx(1.25) and plain.status == "wide" and "8 patients" in plain.reason
    assert at(found, "relative_cost_matrix", None, "argmax").value == pytest.approx(2.5)
    # Least cost says a from 1/11: also of six of class b: .5 x .75 x 1.
    least = at(found, "expected_cost_matrix", None, "least_cost")
    assert least.value == pytest.approx(0.375) and least.low < 0.375 < least.high
    assert at(found, "relative_cost_matrix", None, "least_cost").value == pytest.approx(0.75)
    assert "never looks costs 0.5" in least.reason


def test_least_cost_decisions_know_where_the_model_is_used() -> None:
    """At 1% class a, .2 of a validation half and half becomes .2/(.2 + .8 x 99) = .0025 and no longer pays."""
    costs = {"matrix": {"c0": {"c1": 10}}, "prevalence": {"c0": 0.01}}
    records = {name: {"threshold": 0.5, "prevalence": 0.5} for name in ("c0", "c1")}
    found = estimate(matrix_case(), costs=costs, decisions={"thresholds": records}, resamples=50)
    least = at(found, "expected_cost_matrix", None, "least_cost")
    # .9 becomes .9/(.9 + .1 x 99) = .083 < 1/11: nothing pays, and all of class a is missed.
    assert least.value == pytest.approx(0.01 * 10) and "at the deployment prevalence" in least.reason
    assert at(found, "relative_cost_matrix", None, "least_cost").value == pytest.approx(1)
    blind = at(estimate(matrix_case(), costs=costs, resamples=50), "expected_cost_matrix", None, "least_cost")
    assert blind.value == pytest.approx(0.99 * 0.75) and "is not known" in blind.reason


def test_a_class_that_the_part_lacks_leaves_no_expected_cost() -> None:
    given = matrix_case()
    only = replace(given, table=given.table.assign(label="c1"))
    costs = {"matrix": {"c0": {"c1": 10}}, "prevalence": {"c0": 0.1}}
    found = estimate(only, costs=costs, resamples=20)
    assert at(found, "expected_cost_matrix", None, "argmax").status == "not_estimable"
    unknown = estimate(replace(given, table=given.table.assign(label="")), costs=costs, resamples=20)
    assert [r.reason for r in unknown if r.metric == "expected_cost_matrix"] == ["no label is known"]


def test_an_absent_class_says_why() -> None:
    given = matrix_case()
    only = replace(given, table=given.table.assign(label="c1"))
    costs = {"missed": {"c0": 5.0}, "prevalence": {"c0": 0.1}}
    for metric in ("net_benefit", "number_needed_to_read", "npv_at_prevalence", "misses_per_100000"):
        row = at(estimate(only, costs=costs, resamples=20), metric, "c0")
        assert row.status == "not_estimable" and "no case has 'c0'" in row.reason


def test_without_a_right_alarm_there_is_no_number_of_reads() -> None:
    """c0 is never said: no alarm. It is said of others alone: a precision of 0, so no number is large enough."""
    given, costs = matrix_case(), {"prevalence": {"c0": 0.1}}
    for p, words in ((np.full(16, 0.1), "no case alarms"), (1 - given.target[:, 0], "precision of 0")):
        said = replace(given, table=given.table.assign(prob_c0=p, prob_c1=1 - p))
        row = at(estimate(said, costs=costs, resamples=20), "number_needed_to_read", "c0")
        assert row.status == "not_estimable" and words in row.reason


def test_what_was_chosen_on_the_judged_part_is_called_optimistic() -> None:
    val = drawn("exclusive")
    tuned = tune(val, costs=COSTS, decision={"refer": 0.1})
    calibrated = calibrate(val, tuned.calibrator)
    told = estimate(
        val, calibrated=calibrated, thresholds=tuned.values, costs=COSTS, decisions=tuned.decisions, resamples=20
    )
    least = [row for row in told if row.operating_point == "least_cost"]
    assert least and all("the calibrator was fitted on this same part: optimistic" in row.reason for row in least)
    for metric in ("conformal_coverage", "share_referred", "net_benefit"):
        assert all("optimistic" in r.reason for r in told if r.metric == metric and r.operating_point == "tuned")
    test = tuned_on(val, replace(val, part="test"))
    assert not any("optimistic" in row.reason for row in test)


def test_what_is_all_wrong_cannot_be_worse() -> None:
    """Five cases of c0, all called c1 at 10 each, twenty of c1 all right: .2 x 10 and no more; five patients leave open
    that 1 - .025^(1/5) = .5218 of c0 are found."""
    truth = np.repeat([0, 1], [5, 20])
    given = predictions("exclusive", np.eye(2)[truth], np.tile([0.05, 0.95], (25, 1)), part="test")
    found = estimate(given, costs={"matrix": {"c0": {"c1": 10}}}, resamples=50)
    row = at(found, "expected_cost_matrix", None, "argmax")
    assert row.value == pytest.approx(2) and row.high == pytest.approx(2)
    assert row.low == pytest.approx(2 - 0.2 * 10 * 0.5218, abs=1e-3)


def test_the_rule_that_never_looks_stands_beside_net_benefit() -> None:
    """A miss worth 20 alarms, one case in ten: alarming for all gives .1 - .9/20; at one in a thousand, silence: 0."""
    for share, told in ((0.1, "gives 0.055"), (0.001, "gives 0")):
        costs = {"missed": {"c0": 20.0}, "prevalence": {"c0": share}}
        row = at(estimate(matrix_case(), costs=costs, resamples=20), "net_benefit", "c0", "argmax")
        assert row.reason.endswith(told)
