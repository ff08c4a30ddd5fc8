"""Confusions ranked by harm: the price of a pair, its interval, and the cases behind it. Figures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from prediction_tables import predictions

from raresight.evaluate.confusions import MOST_CASES, confusions

# c0: 4 cases, two taken for c2 (case1 surer than case0), one for c1; c1: 6 cases, five taken for c2; c2: all right.
TRUTH = [0] * 4 + [1] * 6 + [2] * 20
SAID = [2, 2, 0, 1, *[2] * 5, 1, *[2] * 20]
PROB = 0.6 * np.eye(3)[SAID] + 0.4 / 3
PROB[1] = [0.05, 0.05, 0.9]
GIVEN = predictions("exclusive", np.eye(3)[TRUTH], PROB)


def pairs(costs: object = None) -> list[tuple[str, str | None]]:
    return [(row["true"], row["predicted"]) for row in confusions(GIVEN, costs=costs)]


def test_the_price_of_a_pair_comes_before_the_price_of_a_miss() -> None:
    costs = {"missed": {"c0": 20.0}, "matrix": {"c0": {"c1": 50.0, "c2": 2.0}}}
    rows = {(row["true"], row["predicted"]): row for row in confusions(GIVEN, costs=costs)}
    assert rows["c0", "c1"]["harm"] == pytest.approx(0.25 * 50)
    assert rows["c0", "c2"]["harm"] == pytest.approx(0.50 * 2)
    assert rows["c1", "c2"]["harm"] == pytest.approx(5 / 6), "a pair that the matrix does not name costs 1"
    assert pairs(costs) == [("c0", "c1"), ("c0", "c2"), ("c1", "c2")]
    assert pairs({"missed": {"c0": 20.0}}) == [("c0", "c2"), ("c0", "c1"), ("c1", "c2")]


def test_the_interval_of_harm_is_that_of_the_rate_times_the_cost() -> None:
    row = confusions(GIVEN, costs={"missed": {"c0": 20.0}})[0]
    # Clopper-Pearson of 2 in 4, from any table: 0.0676 to 0.9324
    assert (row["harm_low"], row["harm_high"]) == pytest.approx((20 * 0.0676, 20 * 0.9324), abs=2e-3)
    without = confusions(GIVEN)[0]
    assert without["cost"] is without["harm"] is without["harm_low"] is without["harm_high"] is None


def test_the_surest_wrong_answer_comes_first() -> None:
    row = next(r for r in confusions(GIVEN) if (r["true"], r["predicted"]) == ("c0", "c2"))
    assert row["cases"] == ["case1", "case0"]


def test_nothing_said_is_surest_where_the_class_scored_least() -> None:
    target = np.array([[1, 0], [1, 0], [0, 0]])
    prob = np.array([[0.3, 0.1], [0.1, 0.2], [0.2, 0.2]])
    rows = confusions(predictions("independent", target, prob), costs={"missed": {"c0": 4}, "matrix": {}})
    assert [(r["predicted"], r["cases"], r["harm"]) for r in rows] == [(None, ["case1", "case0"], 4.0)]


def test_a_class_that_is_absent_has_no_confusions_and_cases_are_few() -> None:
    n = MOST_CASES + 5
    target = np.tile([1.0, 0.0, 0.0], (n, 1))
    given = predictions("exclusive", target, np.tile([0.1, 0.8, 0.1], (n, 1)), critical=("c0", "c2"))
    rows = confusions(given)
    assert [(r["true"], r["predicted"], r["n_images"]) for r in rows] == [("c0", "c1", n)]
    assert len(rows[0]["cases"]) == MOST_CASES


def test_where_nobody_knows_whether_the_other_is_there_nothing_is_mistaken() -> None:
    """Four images with c0, all called c1: c1 is absent, unknown, present and unknown there. One of four counts."""
    target = np.array([[1, 0], [1, np.nan], [1, 1], [1, np.nan], [0, 1], [0, 1], [0, 1], [0, 1]])
    prob = np.tile([0.1, 0.9], (8, 1))
    (row,) = [row for row in confusions(predictions("independent", target, prob)) if row["predicted"] == "c1"]
    assert (row["true"], row["rate"], row["n_images"], row["cases"]) == ("c0", 0.25, 1, ["case0"])
