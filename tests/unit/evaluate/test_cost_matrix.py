"""A cost matrix: what is said instead decides how bad an error is. Numbers are worked by hand unless said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prediction_tables import drawn
from sklearn.metrics import accuracy_score, confusion_matrix

from raresight.core.errors import ConfigError
from raresight.evaluate.cost import check_costs, referral_cost
from raresight.evaluate.cost_matrix import (
    as_mapping,
    at_prior,
    cost_matrix,
    deployed_prior,
    least_cost,
    matrix_cost,
    trivial_matrix_cost,
)

CLASSES = ("mel", "nv", "bkl")
COSTS = {"missed": {"bkl": 3.0}, "matrix": {"mel": {"nv": 20, "bkl": 10}}}
MATRIX = np.array([[0.0, 20, 10], [1, 0, 1], [3, 3, 0]])
PRIOR = np.array([0.02, 0.90, 0.08])


def test_a_row_a_missed_price_and_ones() -> None:
    made = cost_matrix(COSTS, CLASSES)
    np.testing.assert_array_equal(made, MATRIX)
    # A row of its own goes before the price of being missed; what the row does not name costs 1.
    row = cost_matrix({"missed": {"mel": 5.0}, "matrix": {"mel": {"nv": 20}}}, CLASSES)
    np.testing.assert_array_equal(row, [[0, 20, 1], [1, 0, 1], [1, 1, 0]])
    assert cost_matrix({"missed": {"mel": 5.0}, "matrix": {}}, CLASSES) is None and cost_matrix(None, CLASSES) is None


def test_rows_of_numbers_are_the_same_matrix() -> None:
    np.testing.assert_array_equal(cost_matrix({"matrix": MATRIX.tolist()}, CLASSES), MATRIX)
    assert as_mapping({"matrix": MATRIX.tolist()}, CLASSES)["mel"] == {"mel": 0, "nv": 20, "bkl": 10}
    assert as_mapping({}, CLASSES) == {}


def test_the_answer_of_least_cost() -> None:
    # mel: .8 x 1 + .1 x 3 = 1.1; nv: .1 x 20 + .1 x 3 = 2.3; bkl: .1 x 10 + .8 x 1 = 1.8. Argmax would say nv.
    # At .03, .9, .07: 1.11, .81, 1.2.
    prob = np.array([[0.1, 0.8, 0.1], [0.03, 0.9, 0.07]])
    assert least_cost(prob, MATRIX).tolist() == [0, 1]


def test_errors_of_one_price_give_the_most_probable_class() -> None:
    prob = drawn("exclusive").prob
    np.testing.assert_array_equal(least_cost(prob, 1 - np.eye(4)), prob.argmax(axis=1))
    assert least_cost(np.full((1, 4), 0.25), 1 - np.eye(4)).tolist() == [0]


def test_two_classes_alarm_from_one_over_one_plus_the_price() -> None:
    matrix = np.array([[0.0, 19], [1, 0]])  # t = 1/20
    p = np.array([0.049, 0.051, 0.5])
    assert least_cost(np.stack([p, 1 - p], axis=1), matrix).tolist() == [1, 0, 0]


def test_a_dearer_miss_says_the_class_more_often() -> None:
    prob = drawn("exclusive").prob
    often = [int((least_cost(prob, np.vstack([[0, c, c, c], (1 - np.eye(4))[1:]])) == 0).sum()) for c in (1, 5, 50)]
    assert often[0] < often[1] < often[2]


def test_expected_cost_by_hand() -> None:
    # .02 (.2 x 20) + .9 (.1 + .05) + .08 (.1 x 3) = .08 + .135 + .024
    counts = np.array([[8, 2, 0], [10, 85, 5], [0, 1, 9]])
    assert matrix_cost(counts, PRIOR, MATRIX) == pytest.approx(0.239)
    # mel always: .9 + .24 = 1.14; nv always: .4 + .24 = .64; bkl always: .2 + .9 = 1.1
    assert trivial_matrix_cost(PRIOR, MATRIX) == pytest.approx(0.64)
    np.testing.assert_allclose(matrix_cost(np.stack([counts, 2 * counts]), PRIOR, MATRIX), [0.239, 0.239])


def test_expected_cost_of_equal_prices_is_the_error_of_scikit_learn() -> None:
    given = drawn("exclusive")
    truth, said = given.target.argmax(axis=1), given.prob.argmax(axis=1)
    counts = confusion_matrix(truth, said, labels=range(4))
    ours = matrix_cost(counts, np.bincount(truth, minlength=4) / len(truth), 1 - np.eye(4))
    assert ours == pytest.approx(1 - accuracy_score(truth, said))


def test_an_absent_class_with_a_price_leaves_no_cost() -> None:
    counts = np.array([[0, 0, 0], [10, 85, 5], [0, 1, 9]])
    assert math.isnan(matrix_cost(counts, PRIOR, MATRIX))
    free = MATRIX * [[0], [1], [1]]
    assert matrix_cost(counts, PRIOR, free) == pytest.approx(0.159)
    assert matrix_cost(counts, np.array([0, 0.9, 0.1]), MATRIX) == pytest.approx(0.135 + 0.03)


def test_named_prevalences_leave_the_rest_to_the_others() -> None:
    observed = np.array([0.1, 0.6, 0.3])
    np.testing.assert_allclose(deployed_prior(observed, np.array([0.01, np.nan, np.nan])), [0.01, 0.66, 0.33])
    np.testing.assert_allclose(deployed_prior(observed, np.full(3, np.nan)), observed)
    np.testing.assert_allclose(deployed_prior(observed, np.array([0.1, 0.2, 0.1])), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(
        deployed_prior(np.array([0.5, 0.0, 0.5]), np.array([np.nan, 0.2, np.nan])), [0.4, 0.2, 0.4]
    )


def test_probabilities_move_with_the_prior() -> None:
    # .5/.1 x .01 = .05 against .5/.9 x .99 = .55: 1/12.
    np.testing.assert_allclose(
        at_prior(np.array([[0.5, 0.5]]), np.array([0.1, 0.9]), np.array([0.01, 0.99])), [[1 / 12, 11 / 12]]
    )
    np.testing.assert_allclose(at_prior(np.array([[0.2, 0.8]]), np.array([0.0, 1.0]), np.array([0.3, 0.7])).sum(), 1)


# catalogue 37, 38, 39


@pytest.mark.parametrize(
    ("matrix", "place", "found", "remedy"),
    [
        ([[0, 1], [20, 0]], "costs.matrix", "2 rows of 2 numbers: not square", "3 rows of 3 numbers"),
        ([[0, 1, 1], [20, 0]], "costs.matrix", "rows of 2, 3 numbers", "in the order mel, nv, bkl"),
        ({"mel": {"nv": -2}}, "costs.matrix.mel.nv", "a cost of -2", "0 or more"),
        ([[0, -1, 1], [1, 0, 1], [1, 1, 0]], "costs.matrix.mel.nv", "would be a gain", "0 or more"),
        ({"mel": {"mel": 5, "nv": 20}}, "costs.matrix.mel", "the error is cheaper", "a cost of 0"),
        ({"mel": {"nv": "dear"}}, "costs.matrix.mel.nv", "'dear' is not a number", "0 or more"),
        ({"mel": 20}, "costs.matrix.mel", "20 is not a row", "{SAID: cost}"),
        (20, "costs.matrix", "20 is not a table", "{TRUE: {SAID: cost}}"),
    ],
)
def test_37_a_matrix_that_makes_no_sense(matrix: object, place: str, found: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_costs({"matrix": matrix}, CLASSES, file="costs.yaml")
    (problem,) = caught.value.problems
    assert (problem.code, problem.level, problem.file, problem.column) == ("RS-C37", "error", "costs.yaml", place)
    assert found in problem.found and remedy in problem.remedy and problem.why


def test_37_a_matrix_for_labels_that_may_stand_together() -> None:
    with pytest.raises(ConfigError, match=r"RS-C37 (.|\n)*write costs.missed"):
        check_costs({"matrix": {"mel": {"nv": 2}}}, CLASSES, kind="independent")


def test_33_classes_of_a_matrix_are_known() -> None:
    with pytest.raises(ConfigError) as caught:
        check_costs({"matrix": {"mell": {"nv": 2}, "nv": {"bk": 3}}}, CLASSES)
    assert {p.column: p.code for p in caught.value.problems} == {
        "costs.matrix.mell": "RS-C33",
        "costs.matrix.nv.bk": "RS-C33",
    }
    assert "did you mean 'mel'?" in caught.value.problems[0].remedy


@pytest.mark.parametrize("price", [0, -1, "free", True, math.nan, math.inf])
def test_37_a_referral_is_not_free(price: object) -> None:
    with pytest.raises(ConfigError, match=r"RS-C37 .*costs.referral"):
        check_costs({"referral": price}, CLASSES)


def test_a_referral_has_a_price_or_none() -> None:
    assert check_costs({"referral": 0.5, "matrix": {}}, CLASSES) == []
    assert referral_cost({"referral": 0.5}) == 0.5
    assert math.isnan(referral_cost({})) and math.isnan(referral_cost(None))


def test_38_a_critical_error_no_dearer_than_the_reverse() -> None:
    (warning,) = check_costs({"matrix": {"mel": {"nv": 1, "bkl": 10}}}, CLASSES, critical=("mel",))
    assert (warning.code, warning.level, warning.column) == ("RS-C38", "warning", "costs.matrix.mel.nv")
    assert "confirm" in warning.remedy
    assert check_costs({"matrix": {"mel": {"nv": 2, "bkl": 10}}}, CLASSES, critical=("mel",)) == []
    assert check_costs({"matrix": {"mel": {"nv": 1, "bkl": 10}}}, CLASSES) == []


def test_39_prevalences_of_one_class_a_case_sum_to_one_at_most() -> None:
    costs = {"prevalence": {"mel": 0.6, "nv": 0.5}}
    with pytest.raises(ConfigError, match=r"RS-C39 .*costs.prevalence.*sum to 1.1"):
        check_costs(costs, CLASSES)
    assert check_costs(costs, CLASSES, kind="independent") == []
