"""The explorer's data and arithmetic: hand-worked figures, the estimates' own at the frozen point, honest thinning."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions, tabulate
from raresight.core.task import Task
from raresight.evaluate.intervals import rate
from raresight.report.content import ArmResult, Content
from raresight.report.explorer import at, cheapest, explorer_data, figures, record_of, step_of
from raresight.report.explorer_view import embedded, explorer_view, starting_points

WORKED = {  # 8 of 10 found, 10 of 100 alarm without it
    "positives": 10, "negatives": 100, "t": [None, 0.5, 0.1], "tp": [0, 8, 10], "fp": [0, 10, 100],
    "recall_low": [0, 0.5, 0.7], "recall_high": [0.3, 0.9, 1], "specificity_low": [0.96, 0.8, 0],
    "specificity_high": [1, 0.95, 0.04],
}  # fmt: skip


def synthetic(n: int, classes: int, patients: int, arms: int = 1, seed: int = 0) -> Content:
    """Independent labels, a tenth of them positive, the last class absent; several images of a patient."""
    rng = np.random.default_rng(seed)
    task = Task("independent", tuple(f"c{k}" for k in range(classes)), ("c1",))
    target = (rng.random((n, classes)) < 0.1).astype(float)
    target[:, -1] = 0
    rows = pd.DataFrame({"patient_id": rng.integers(0, patients, n).astype(str).astype(object)})
    made = []
    for number in range(arms):
        logits = rng.normal(size=(n, classes)) + 2 * target - 2
        table = tabulate(task, np.arange(n).astype(str).astype(object), logits, target, rows)
        made.append(ArmResult(f"arm {number}", predictions=(Predictions(table, task, f"arm {number}", 0, "val"),)))
    return Content(task, part="val", arms=tuple(made), baseline="arm 1", missed={"c1": 30}, prevalence={"c1": 0.02})


def test_figures_worked_by_hand() -> None:
    """Se 0.8, Sp 0.9, prevalence 1%, a miss worth 99 alarms: 8 true and 99 false alarms per 1,000, 2 missed."""
    found = figures(WORKED, 1, 0.01, 99)
    value = {key: figure[0] for key, figure in found.items() if isinstance(figure, tuple)}
    assert value == pytest.approx(
        {"recall": 0.8, "specificity": 0.9, "ppv": 8 / 107, "npv": 891 / 893, "alarms_per_1000": 107,
         "misses_per_100000": 200, "number_needed_to_read": 107 / 8, "net_benefit": 7, "expected_cost": 297}
    )  # fmt: skip
    assert (found["net_benefit_all"], found["net_benefit_none"]) == (pytest.approx(0), 0)
    # The bounds: Se 0.5 to 0.9, Sp 0.8 to 0.95, both at their bad or both at their good end.
    assert found["ppv"][1:] == pytest.approx((5 / 203, 9 / 58.5))
    assert found["npv"][1:] == pytest.approx((792 / 797, 940.5 / 941.5))
    assert found["number_needed_to_read"][1:] == pytest.approx((58.5 / 9, 203 / 5))
    assert found["alarms_per_1000"][1:] == pytest.approx((5 + 49.5, 9 + 198))
    assert found["misses_per_100000"][1:] == pytest.approx((100, 500))
    # Of 1,000 alike: 10 (Se - its bound) and 10 (Sp - its bound), added in squares.
    assert found["net_benefit"][1:] == pytest.approx((7 - math.hypot(3, 1), 7 + math.hypot(1, 0.5)))
    assert found["expected_cost"][1:] == pytest.approx((297 - 99 * math.hypot(1, 0.5), 297 + 99 * math.hypot(3, 1)))


def test_never_and_always_alarming_leave_figures_undefined() -> None:
    never, always = figures(WORKED, 0, 0.01, 99), figures(WORKED, 2, 0.01, 99)
    assert never["ppv"] == never["number_needed_to_read"] == (None, None, None)
    assert never["npv"][0] == pytest.approx(0.99)
    assert always["npv"] == (None, None, None)
    assert always["ppv"][0] == pytest.approx(0.01)
    assert figures(WORKED | {"recall_low": [0, 0, 0]}, 1, 0.01, 99)["number_needed_to_read"][2] is None  # unbounded
    blind = figures(WORKED | {"tp": [0, 0, 10], "recall_low": [0, 0, 0]}, 1, 0.01, 99)
    assert (blind["ppv"][:2], blind["number_needed_to_read"][0]) == ((0, 0), None)


@pytest.mark.parametrize("pair", [(0.01, 99.0), (0.3, 2.0)])
def test_net_benefit_and_expected_cost_are_one_scale(pair: tuple[float, float]) -> None:
    prevalence, cost = pair
    found = figures(WORKED, 1, prevalence, cost)
    assert found["net_benefit"][0] == pytest.approx(1000 * prevalence - found["expected_cost"][0] / cost)


def test_the_frozen_point_has_the_figures_of_the_estimates(opened: Content) -> None:
    data = explorer_data(opened)
    assert data is not None and data["part"] == "test"
    assert [one["name"] for one in data["classes"]][:3] == ["mel", "bcc", "akiec"]
    arm = opened.chosen
    for name in opened.task.classes:
        record = record_of(data, name)
        recall, specificity = (arm.find(metric, name, seed=0, point="frozen") for metric in ("recall", "specificity"))
        found = at(data, name, recall.threshold, 0.01, 20)
        assert found["threshold"] == recall.threshold == arm.thresholds[name]
        assert record["start"] == record["frozen"] == step_of(record, recall.threshold)
        for metric, estimate in (("recall", recall), ("specificity", specificity)):
            value, low, high = found[metric]
            assert value == pytest.approx(estimate.value)
            assert estimate.low - 1e-5 <= low <= estimate.low + 1e-12
            assert estimate.high - 1e-12 <= high <= estimate.high + 1e-5
        assert record["positive_patients"] == recall.n_positive_patients


def test_thresholds_are_thinned_evenly_and_keep_what_matters() -> None:
    content = synthetic(4000, 3, 1500)
    arm = replace(content.arms[0], thresholds={"c1": 0.2})
    tuned = Estimate(metric="recall", class_="c1", value=0.5, operating_point="tuned")
    data = explorer_data(replace(content, arms=(replace(arm, estimates=(tuned,)),)))
    assert data is not None
    record = record_of(data, "c1")
    t, recall = record["t"], np.array(record["tp"]) / record["positives"]
    assert 120 < len(t) <= 200
    assert t[0] is None and record["tp"][-1] == record["positives"] and record["fp"][-1] == record["negatives"]
    assert (t[record["frozen"]], t[record["half"]], record["start"]) == (0.2, 0.5, record["frozen"])
    assert all(a > b for a, b in itertools.pairwise(t[1:]))
    assert np.diff(recall).max() < 0.03 and np.diff(np.array(record["fp"]) / record["negatives"]).max() < 0.03
    predictions = arm.predictions[0]
    target, prob, patient = predictions.target[:, 1], predictions.prob[:, 1], predictions.patient
    for step in (0, 7, record["frozen"], record["half"], len(t) - 1):
        alarm = prob >= (math.inf if t[step] is None else t[step])
        assert (record["tp"][step], record["fp"][step]) == (alarm[target == 1].sum(), alarm[target == 0].sum())
        exact = rate(~alarm[target == 0], patient[target == 0])
        assert exact.low - 1e-5 <= record["specificity_low"][step] <= exact.low + 1e-9
        assert exact.high - 1e-9 <= record["specificity_high"][step] <= exact.high + 1e-5


def test_what_nobody_said_is_marked_and_what_was_said_is_used() -> None:
    data = explorer_data(synthetic(300, 3, 100))
    assert data is not None
    said, unsaid, absent = (record_of(data, name) for name in ("c1", "c0", "c2"))
    assert (said["prevalence"], said["prevalence_stated"], said["cost"], said["cost_stated"]) == (0.02, True, 30, True)
    here = unsaid["positives"] / 300
    assert (unsaid["prevalence"], unsaid["prevalence_stated"], unsaid["cost_stated"]) == (here, False, False)
    assert absent == {"name": "c2", "why": "no case has the class in this part"}
    assert at(data, "c2", 0.5, 0.1, 10) == {"why": "no case has the class in this part"}
    for table in starting_points(data):
        row = next(row for row in table.rows if row.cells[0] == "c2")
        assert row.mark == "blank" and not any(character.isdigit() for character in "".join(row.cells[1:]))


def test_cheapest_is_the_least_cost_of_every_threshold() -> None:
    content = synthetic(150, 3, 60)
    data = explorer_data(content)
    assert data is not None
    record, predictions = record_of(data, "c0"), content.arms[0].predictions[0]
    target, prob = predictions.target[:, 0], predictions.prob[:, 0]
    for prevalence, cost in ((0.1, 5.0), (0.01, 200.0), (0.3, 1.0)):
        costs = {
            t: prevalence * cost * np.mean(prob[target == 1] < t) + (1 - prevalence) * np.mean(prob[target == 0] >= t)
            for t in [math.inf, *np.unique(prob)]
        }
        best = cheapest(record, prevalence, cost)
        assert figures(record, best, prevalence, cost)["expected_cost"][0] == pytest.approx(1000 * min(costs.values()))
        lowest = min(t for t, c in costs.items() if c <= min(costs.values()) + 1e-12)
        assert best == step_of(record, lowest)


def test_arms_are_bounded_and_the_shown_one_comes_first() -> None:
    content = replace(synthetic(60, 2, 30, arms=9), deploy={"arm": "arm 4"})
    data, view = explorer_data(content), explorer_view(content)
    assert data is not None and view is not None
    assert [arm["name"] for arm in data["arms"]] == ["arm 4", "arm 1", "arm 0", "arm 2", "arm 3", "arm 5"]
    assert data["arms_left_out"] == 3 and "3 arms of this study left out here." in view["note"]


def test_no_text_breaks_out_of_the_data() -> None:
    evil = {"name": "</script><!--<script>\u2028\u2029&amp;", "value": [None, 0.5]}
    text = str(embedded(evil))
    assert json.loads(text) == evil
    assert not set("<>&\u2028\u2029") & set(text)
    with pytest.raises(ValueError, match="JSON"):
        embedded({"value": math.nan})


def test_without_predictions_there_is_nothing_to_explore() -> None:
    assert explorer_data(Content(Task("exclusive", ("a", "b")))) is None


def test_a_large_table_stays_small_in_the_page() -> None:
    """14 findings on 25,596 images, as many as the NIH's test part."""
    assert len(embedded(explorer_data(synthetic(25_596, 14, 2_797)) or {})) < 400_000
