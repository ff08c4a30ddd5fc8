"""Calibration, cost, thresholds, decision units and confusions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions

from raresight.core.errors import ConfigError, DataError, GateError
from raresight.evaluate import cost
from raresight.evaluate.confusions import confusions
from raresight.evaluate.counts import count, decide
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune
from raresight.evaluate.units import aggregate

# cost


def test_ppv_by_hand() -> None:
    # 1,000 cases at 2%: 18 of 20 found, 98 of 980 false alarms.
    assert cost.ppv(0.9, 0.9, 0.02) == pytest.approx(18 / 116)
    assert cost.npv(0.9, 0.9, 0.02) == pytest.approx(882 / 884)
    assert cost.alarms_per_1000(0.9, 0.9, 0.02) == pytest.approx(116)
    assert cost.threshold_for_cost(19) == pytest.approx(0.05)


def test_costs_are_checked_at_once() -> None:
    classes = ("mel", "nv")
    with pytest.raises(ConfigError) as caught:
        cost.check_costs({"missed": {"mell": 3, "nv": -1}, "prevalence": {"mel": 5, "nv": 0}}, classes)
    problems = {p.column: p for p in caught.value.problems}
    assert "did you mean 'mel'?" in problems["costs.missed.mell"].remedy
    assert problems["costs.missed.nv"].code == "RS-C37"
    assert problems["costs.prevalence.mel"].code == "RS-C39"
    assert "did you mean 0.05" in problems["costs.prevalence.mel"].remedy
    assert "between 0 and 1" in problems["costs.prevalence.nv"].remedy
    (warning,) = cost.check_costs({"missed": {"mel": 1, "nv": 1}}, classes, critical=("mel",))
    assert (warning.code, warning.level) == ("RS-C38", "warning")


# thresholds


def test_threshold_of_youden_and_of_cost_by_hand() -> None:
    # Scores falling 0.9+ 0.8- 0.7+ 0.3- 0.2-: J is 1/2, 1/6, 2/3, ... so the best lies between 0.7 and 0.3.
    target = np.array([[1.0], [0], [1], [0], [0]])
    prob = np.array([[0.9], [0.8], [0.7], [0.3], [0.2]])
    given = predictions("independent", target, prob)
    row = tune(replace(given, part="val")).thresholds["c0"]
    calibrated = calibrate(given, tune(given).calibrator).prob[:, 0]
    assert calibrated[3] < row["threshold"] < calibrated[2]
    assert (row["recall"], row["specificity"]) == (1, pytest.approx(2 / 3))
    assert "Youden" in row["rule"] and row["status"] == "wide"
    # A miss at half an alarm: one alarm (0.9) costs 0.5, none 1, two 1.5, three 1. So between 0.9 and 0.8.
    row = tune(given, costs={"missed": {"c0": 0.5}}).thresholds["c0"]
    assert calibrated[1] < row["threshold"] < calibrated[0] and row["recall"] == 0.5
    # With a negative on top a cheap miss is not worth its false alarm: the threshold lies above every score.
    given_up = predictions("independent", target[[1, 0, 2, 3, 4]], prob)
    tuned = tune(given_up, costs={"missed": {"c0": 0.4}})
    assert tuned.values["c0"] > calibrate(given_up, tuned.calibrator).prob.max()
    assert tuned.thresholds["c0"]["recall"] == 0
    # Rare in practice: at a prevalence of 0.1% the same miss at 20 alarms no longer pays for the false alarm at 0.8.
    costs = {"missed": {"c0": 20.0}, "prevalence": {"c0": 0.001}}
    assert tune(given, costs=costs).thresholds["c0"]["recall"] == 0.5


def test_of_equally_good_thresholds_the_one_with_more_recall() -> None:
    # Falling + - + -: J is 1/2 after the first and again after the third.
    given = predictions("independent", np.array([[1.0], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.3]]))
    assert tune(given).thresholds["c0"]["recall"] == 1


def test_dearer_misses_lower_the_threshold() -> None:
    given = drawn("exclusive")
    chosen = [tune(given, costs={"missed": {"c0": c}}).values["c0"] for c in (2.0, 20.0, 200.0)]
    assert chosen[0] > chosen[1] > chosen[2] > 0


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_recorded_rates_are_those_of_the_threshold(kind: str) -> None:
    given = drawn(kind)
    tuned = tune(given, costs={"missed": {"c0": 20.0}})
    prob = calibrate(given, tuned.calibrator).prob
    found = count(given.target, decide(prob, kind, np.array([tuned.values[f"c{k}"] for k in range(4)])))
    np.testing.assert_allclose(found.recall, [row["recall"] for row in tuned.thresholds.values()])
    np.testing.assert_allclose(found.specificity, [row["specificity"] for row in tuned.thresholds.values()])


def test_class_absent_from_validation_has_no_threshold() -> None:
    given = drawn("independent")
    given = replace(given, table=given.table.assign(label_c0=0.0, label_c1=1.0))
    tuned = tune(given)
    for name, words in (("c0", "no case has the class"), ("c1", "no case is without the class")):
        row = tuned.thresholds[name]
        assert (row["threshold"], row["status"]) == (None, "not_estimable") and words in row["reason"]
    assert [p.code for p in tuned.problems] == ["RS-P14", "RS-P14"]
    assert "folds: 5" in tuned.problems[0].remedy
    assert set(tuned.values) == {"c2", "c3"}


def test_thresholds_are_never_chosen_on_test() -> None:
    with pytest.raises(GateError, match="RS-R36"):
        tune(drawn("exclusive", part="test"))


def test_a_prior_shift_that_is_not_finite_corrects_nothing() -> None:
    given = drawn("exclusive")
    tuned = tune(given, implied_prior=np.array([np.nan, -np.inf, 0.5, 0.0]))
    assert tuned.calibrator["shift"] == [0.0, 0.0, 0.5, 0.0]


# decision units


def test_lesions_from_images() -> None:
    target = np.array([[0, 1], [0, 1], [1, 0], [np.nan, np.nan]])
    prob = np.array([[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    given = predictions("exclusive", target, prob, ["p1", "p1", "p2", "p2"])
    given = replace(given, table=given.table.assign(lesion_id=["x", "x", "y", "y"], view=["l", "r", "l", "l"]))
    most = aggregate(given, "lesion_id", "max")
    assert list(most.cases) == ["x", "y"] and list(most.patient) == ["p1", "p2"]
    # Maxima 0.4 and 0.9, 0.7 and 0.8, rescaled to sum to 1.
    np.testing.assert_allclose(most.prob, [[0.4 / 1.3, 0.9 / 1.3], [0.7 / 1.5, 0.8 / 1.5]])
    assert most.table["label"].tolist() == ["c1", "c0"]
    assert most.table["view"].tolist() == ["", "l"]
    np.testing.assert_allclose(aggregate(given, "lesion_id", "mean").prob, [[0.25, 0.75], [0.45, 0.55]])
    assert (most.part, most.arm, most.task) == (given.part, given.arm, given.task)


def test_any_positive_image_makes_a_positive_patient() -> None:
    nan = np.nan
    target = np.array([[1, nan, nan], [0, 0, 0], [0, nan, 0], [0, nan, nan]])
    given = predictions("independent", target, np.full((4, 3), 0.5), ["p", "p", "q", "q"])
    np.testing.assert_array_equal(aggregate(given, "patient_id", "max").target, [[1, nan, nan], [0, nan, nan]])


def test_units_that_contradict_themselves_are_refused() -> None:
    target = np.array([[0, 1], [1, 0], [1, 0]])
    given = predictions("exclusive", target, np.full((3, 2), 0.5), ["p", "p", "q"])
    with pytest.raises(DataError, match=r"RS-P05.*\n?.*1 units of patient_id hold several values of label: p"):
        aggregate(given, "patient_id", "max")
    shared = replace(given, table=given.table.assign(exam=["e", "f", "f"]))
    with pytest.raises(DataError, match="several values of patient_id: f"):
        aggregate(shared, "exam", "max")
    with pytest.raises(ConfigError, match="did you mean 'exam'"):
        aggregate(shared, "exams", "max")
    blank = replace(given, table=given.table.assign(exam=["e", "", None]))
    with pytest.raises(DataError, match="2 images without a exam: case1, case2"):
        aggregate(blank, "exam", "max")


# confusions


def test_confusions_are_ranked_by_harm() -> None:
    truth = [0] * 4 + [1] * 6 + [2] * 20
    said = [2, 2, 0, 1] + [2] * 5 + [1] + [2] * 19 + [0]
    given = predictions("exclusive", np.eye(3)[truth], 0.8 * np.eye(3)[said] + 0.2 / 3, [0, 0, *range(2, 30)])
    rows = confusions(given, costs={"missed": {"c0": 20}})
    assert [(r["true"], r["predicted"]) for r in rows] == [("c0", "c2"), ("c0", "c1"), ("c1", "c2")]
    first = rows[0]
    assert (first["n_images"], first["n_patients"], first["rate"], first["harm"]) == (2, 1, 0.5, 10)
    assert first["low"] < 0.5 < first["high"] and first["n_true_patients"] == 3
    assert confusions(given)[0]["true"] == "c1", "without costs the highest rate comes first"
    critical = replace(given, task=replace(given.task, critical=("c2",)))
    assert ("c2", "c0") in [(r["true"], r["predicted"]) for r in confusions(critical)]


def test_confusions_of_independent_labels_count_only_known_absences() -> None:
    target = np.array([[1, 0, 0], [1, np.nan, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 0, 0]])
    prob = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 0]]) * 0.9
    rows = {(r["true"], r["predicted"]): r["n_images"] for r in confusions(predictions("independent", target, prob))}
    assert rows == {("c0", "c1"): 1, ("c0", None): 1}
