"""Estimates: every figure with its interval, status and reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions

from raresight.core.errors import DataError
from raresight.core.estimate import Estimate
from raresight.evaluate import intervals
from raresight.evaluate.estimates import estimate, from_arrays
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune

COSTS = {"missed": {"c0": 20.0}, "prevalence": {"c1": 0.02}}


def at(rows: list[Estimate], metric: str, name: str | None = None, point: str | None = None) -> Estimate:
    found = [e for e in rows if (e.metric, e.class_, e.operating_point) == (metric, name, point)]
    assert len(found) == 1, f"{metric} {name} {point}: {len(found)} rows"
    return found[0]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_every_figure_holds_together(kind: str) -> None:
    given = drawn(kind, critical=("c0",))
    tuned = tune(given, costs=COSTS)
    calibrated = calibrate(given, tuned.calibrator)
    rows = estimate(given, calibrated=calibrated, thresholds=tuned.values, costs=COSTS, resamples=100)
    for e in rows:
        assert (e.arm, e.seed, e.part, e.unit) == ("a", 0, "val", "image")
        assert e.value is not None and e.low is not None and e.high is not None and e.method, e
        assert e.low - 1e-9 <= e.value <= e.high + 1e-9, e
        assert math.isfinite(e.low) and math.isfinite(e.high)
        assert e.n_patients == len(set(given.patient)) and e.n_images == 400
    point = "argmax" if kind == "exclusive" else "0.5"
    recall = at(rows, "recall", "c0", point)
    y = given.target[:, 0] == 1
    hit = given.prob[y].argmax(axis=1) == 0 if kind == "exclusive" else given.prob[y][:, 0] >= 0.5
    by_hand = intervals.rate(hit, given.patient[y].astype(str))
    assert (recall.value, recall.low, recall.high) == (by_hand.value, by_hand.low, by_hand.high)
    assert recall.prevalence == pytest.approx(y.mean())
    assert recall.n_positive_patients == len(set(given.patient[y]))
    assert at(rows, "recall", "c0", "tuned").threshold == tuned.values["c0"]
    assert "optimistic" in at(rows, "recall", "c0", "tuned").reason
    assert at(rows, "trivial_accuracy").value >= 0.5
    assert at(rows, "macro_f1", None, "tuned").reason.startswith("macro over 4 of 4")
    assert at(rows, "ppv_at_prevalence", "c1", "tuned").prevalence == 0.02
    assert ("accuracy" in {e.metric for e in rows if e.operating_point == "tuned"}) == (kind == "independent")
    saved = [Estimate.from_dict(e.as_dict()) for e in rows]
    assert saved == rows


def test_recall_at_nine_of_ten_silent_by_hand() -> None:
    # 20 negatives at 0.01..0.20: two may alarm, so the threshold is 0.19, and 4 of the 6 positives lie at or above it.
    score = np.r_[np.arange(1, 21) / 100, [0.9, 0.5, 0.3, 0.19, 0.18, 0.02]]
    target = np.r_[np.zeros(20), np.ones(6)]
    given = predictions("independent", target[:, None], score[:, None], np.arange(26))
    (row,) = (e for e in estimate(given, resamples=200) if e.metric == "recall_at_specificity_90")
    assert row.value == pytest.approx(4 / 6) and row.operating_point is None and row.threshold is None
    assert row.low is not None and row.high is not None and row.low < 4 / 6 < row.high
    assert row.status == "wide" and row.reason.startswith("6 positive patients")
    everyone = predictions("independent", np.ones((3, 1)), score[:3, None], np.arange(3))
    (row,) = (e for e in estimate(everyone, resamples=20) if e.metric == "recall_at_specificity_90")
    assert row.value is None and row.reason == "every case has the class"


def test_frozen_thresholds_on_test_are_not_called_optimistic() -> None:
    given = drawn("exclusive", part="test")
    rows = estimate(given, thresholds={"c0": 0.1}, operating="frozen", resamples=20)
    assert "optimistic" not in at(rows, "recall", "c0", "frozen").reason
    lacking = at(rows, "recall", "c1", "frozen")
    assert lacking.status == "not_estimable" and "no threshold" in lacking.reason and lacking.threshold is None


def test_absent_class_is_not_estimable_and_leaves_the_macro_mean_openly() -> None:
    given = drawn("independent")
    given = replace(given, table=given.table.assign(label_c0=0.0))
    rows = estimate(given, costs=COSTS, resamples=50)
    for metric, point in (("recall", "0.5"), ("precision", "0.5"), ("f1", "0.5"), ("auroc", None), ("auprc", None)):
        e = at(rows, metric, "c0", point)
        assert (e.status, e.value) == ("not_estimable", None) and "no case has 'c0'" in e.reason
    assert at(rows, "specificity", "c0", "0.5").value is not None
    macro = at(rows, "macro_auprc")
    assert macro.reason.startswith("macro over 3 of 4 (absent: c0)")
    others = [at(rows, "auprc", name).value for name in ("c1", "c2", "c3")]
    assert macro.value == pytest.approx(np.mean(others))
    assert at(rows, "expected_cost", None, "0.5").status == "not_estimable"


def test_few_positive_patients_and_wide_intervals_say_so() -> None:
    rng = np.random.default_rng(0)
    target = np.zeros((300, 2))
    target[:7, 0], target[:, 1] = 1, rng.random(300) < 0.5
    rows = estimate(predictions("independent", target, rng.random((300, 2))), resamples=50)
    e = at(rows, "auroc", "c0")
    assert e.status == "wide" and e.reason.startswith("7 positive patients, fewer than 10")
    assert at(rows, "specificity", "c0", "0.5").status == "ok"
    assert at(rows, "recall", "c1", "0.5").status == "ok"
    assert "rarest class: 7 positive patients" in at(rows, "macro_f1", None, "0.5").reason


def test_a_perfect_rare_class_is_not_certain() -> None:
    target = np.zeros((200, 2))
    target[:5, 0], target[5:, 1] = 1, 1
    rows = estimate(predictions("exclusive", target, 0.98 * target + 0.01), resamples=50)
    for metric, point in (("recall", "argmax"), ("f1", "argmax"), ("auroc", None), ("auprc", None)):
        e = at(rows, metric, "c0", point)
        assert e.value == 1 and e.low is not None and e.low < 0.75, e
        assert e.status == "wide"


def test_unknown_labels_are_not_negatives() -> None:
    given = drawn("independent", n=200)
    hidden = given.table["label_c1"].where(np.arange(200) % 2 == 0)
    rows = estimate(replace(given, table=given.table.assign(label_c1=hidden)), resamples=20)
    half = replace(given, table=given.table.iloc[::2].reset_index(drop=True))
    assert at(rows, "auroc", "c1").value == at(estimate(half, resamples=20), "auroc", "c1").value
    assert at(rows, "auroc", "c1").n_images == 100


def test_expected_cost_by_hand() -> None:
    # Ten cases, two with c0, one of them missed, and one false alarm: (1 x 20 + 1) / 10; always alarming costs 0.8.
    target = np.eye(2)[[0, 0, 1, 1, 1, 1, 1, 1, 1, 1]]
    said = np.eye(2)[[0, 1, 0, 1, 1, 1, 1, 1, 1, 1]]
    rows = estimate(predictions("exclusive", target, 0.8 * said + 0.1), costs={"missed": {"c0": 20}}, resamples=50)
    assert at(rows, "expected_cost", None, "argmax").value == pytest.approx(2.1)
    assert at(rows, "trivial_expected_cost").value == pytest.approx(0.8)
    assert at(rows, "accuracy", None, "argmax").value == at(rows, "trivial_accuracy").value == 0.8


def test_arrays_give_the_same_estimates_as_a_table() -> None:
    given = drawn("exclusive", part="", arm="", seed=None)
    names = list(given.task.classes)
    expected = estimate(given)
    assert from_arrays(given.target, given.prob, groups=given.patient, classes=names) == expected
    assert from_arrays(given.table["label"], given.prob, groups=given.patient, classes=names) == expected
    assert from_arrays(given.target.argmax(axis=1), given.prob, groups=given.patient, classes=names) == expected


@pytest.mark.parametrize(
    ("y", "p", "code"),
    [
        (["c0", "C1"], [[0.5, 0.5]] * 2, "did you mean 'c1'"),
        ([0, 2], [[0.5, 0.5]] * 2, "RS-P09"),
        ([0, 1], [[0.5, 0.6]] * 2, "RS-P41"),
        ([0, 1], [[0.5, np.nan]] * 2, "RS-P42"),
        ([0, 1], [["a", "b"]] * 2, "RS-P42"),
        ([0], [[0.5, 0.5]] * 2, "RS-P43"),
        ([[0, 1], [0, 0]], [[0.5, 0.5]] * 2, "RS-P12"),
        ([0, 1], [0.5, 0.5], "RS-P43"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(y: list, p: list, code: str) -> None:
    with pytest.raises(DataError, match=code):
        from_arrays(y, p, groups=None, classes=["c0", "c1"])


def test_blank_patients_are_refused_and_not_merged() -> None:
    given = drawn("exclusive")
    with pytest.raises(DataError, match="RS-P02"):
        estimate(replace(given, table=given.table.assign(patient_id="")), resamples=10)


def test_estimates_depend_on_the_seed_only() -> None:
    given = drawn("exclusive")
    again = replace(given, arm="another name")
    ours, theirs = (estimate(p, resamples=50) for p in (given, again))
    assert [(e.low, e.high) for e in ours] == [(e.low, e.high) for e in theirs]
