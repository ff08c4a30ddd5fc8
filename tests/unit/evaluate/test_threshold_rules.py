"""The four rules of a threshold, by hand on seven cases: + - + - + - - at .9 .8 .7 .6 .3 .2 .1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from prediction_tables import drawn
from scipy.stats import beta

from raresight.core.config import DecisionSection
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import choose, tune

PROB = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1])
TARGET = np.array([1.0, 0, 1, 0, 1, 0, 0])
PATIENT = np.arange(7)


def chosen(target: np.ndarray = TARGET, prob: np.ndarray = PROB, patient: np.ndarray = PATIENT, **more: Any) -> dict:
    return choose(target, prob, patient, **more)


@pytest.mark.parametrize(
    ("floor", "threshold", "found", "false"),
    [
        ({"sensitivity": 0.6}, 0.65, 2, 1),  # two of three are enough
        ({"sensitivity": 2 / 3}, 0.65, 2, 1),
        ({"sensitivity": 0.7}, 0.25, 3, 2),
        ({"sensitivity": 1.0}, 0.25, 3, 2),
        ({"sensitivity": 0.01}, 0.85, 1, 0),
        ({"specificity": 0.5}, 0.7, 2, 1),  # the 3rd of 4 scores without the class, .6, must stay silent
        ({"specificity": 0.6}, 0.7, 2, 1),  # still the 3rd: ceil(5 x .6)
        ({"specificity": 0.61}, 0.9, 1, 0),  # the 4th
        ({"specificity": 0.9}, 0.9, 1, 0),  # the 5th of 4: as silent as can be
        ({"specificity": 0.2}, 0.2, 3, 3),  # the 1st, .1, and no other
    ],
)
def test_floors_by_hand(floor: dict[str, float], threshold: float, found: int, false: int) -> None:
    row = chosen(floor=floor)
    assert row["threshold"] == pytest.approx(threshold)
    assert (row["n_found"], row["n_false_alarms"], row["n_positives"], row["n_negatives"]) == (found, false, 3, 4)
    assert (row["recall"], row["specificity"]) == (pytest.approx(found / 3), pytest.approx(1 - false / 4))
    assert row["floor"] == floor and row["floor_reached"] is True
    kind = next(iter(floor))
    assert kind in row["rule"] and f"{floor[kind]:g}" in row["rule"]


def test_bounds_of_a_floor_are_exact_where_each_patient_has_one_image() -> None:
    row = chosen(floor={"sensitivity": 0.6})
    assert row["recall_low"] == row["floor_low"] == pytest.approx(beta.ppf(0.025, 2, 2))
    assert row["recall_high"] == pytest.approx(beta.ppf(0.975, 3, 1))
    assert row["specificity_low"] == pytest.approx(beta.ppf(0.025, 3, 2))
    assert row["specificity_high"] == pytest.approx(beta.ppf(0.975, 4, 1))
    assert "sensitivity 0.667 on these cases, but as low as 0.094 is not excluded" in row["reason"]
    assert "3 positive patients, fewer than 10" in row["reason"] and row["status"] == "wide"


def test_a_floor_that_these_patients_show() -> None:
    target = np.repeat([1.0, 0.0], 200)
    row = chosen(target, np.linspace(1, 0, 400), np.arange(400), floor={"sensitivity": 0.9})
    assert (row["status"], row["recall"]) == ("ok", 0.9)
    assert row["floor_low"] < 0.9 and "not excluded" in row["reason"]
    full = chosen(target, np.repeat([0.9, 0.1], 200), np.arange(400), floor={"sensitivity": 0.9})
    assert full["floor_low"] == pytest.approx(0.025 ** (1 / 200)) and full["reason"] == "" and full["status"] == "ok"


def test_ten_cases_without_the_class_may_not_hold_one_false_alarm_at_ninety_percent() -> None:
    """Nine of ten silent would be a specificity of 9/11 on average of new cases; the largest of ten gives 10/11."""
    target, prob = np.append(np.zeros(10), 1.0), np.append(np.linspace(0.1, 0.55, 10), 0.5)
    row = chosen(target, prob, np.arange(11), floor={"specificity": 0.9})
    assert row["n_false_alarms"] == 0 and row["threshold"] > 0.55
    assert row["recall"] == 0 and "no alarm that is right" in row["reason"] and row["status"] == "wide"


def test_specificity_of_new_cases_reaches_the_floor_on_average() -> None:
    """2,000 draws of 30 cases without the class; uniform scores, so specificity of new cases is the threshold."""
    rng = np.random.default_rng(0)
    target = np.append(np.zeros(30), np.ones(3))
    found = []
    for _ in range(2000):
        prob = rng.random(33)
        found.append(min(1.0, chosen(target, prob, np.arange(33), floor={"specificity": 0.8})["threshold"]))
    assert 0.8 <= np.mean(found) < 0.85


def test_scores_that_are_all_tied() -> None:
    tied = np.full(7, 0.5)
    always = chosen(prob=tied, floor={"sensitivity": 0.5})
    assert always["threshold"] == 0.25 and (always["recall"], always["specificity"]) == (1, 0)
    assert "only where every case alarms" in always["reason"]
    never = chosen(prob=tied, floor={"specificity": 0.5})
    assert never["threshold"] == 0.75 and (never["recall"], never["specificity"]) == (0, 1)
    assert "no alarm that is right" in never["reason"] and never["floor_reached"] is True


def test_a_floor_goes_before_a_price_and_a_price_before_youden() -> None:
    both = chosen(missed=20.0, floor={"specificity": 0.61})
    assert both["threshold"] == 0.9 and "specificity" in both["rule"]
    assert "expected cost, a miss = 20" in chosen(missed=20.0)["rule"] and "floor" not in chosen(missed=20.0)
    assert "Youden" in chosen()["rule"] and "floor_low" not in chosen()


def test_directions() -> None:
    assert chosen(missed=0.1)["threshold"] > chosen(missed=20.0)["threshold"]
    rarer = [chosen(missed=2.0, prevalence=p)["threshold"] for p in (0.5, 0.001)]
    assert rarer[0] < rarer[1]
    by_floor = [chosen(floor={"sensitivity": s})["threshold"] for s in (0.3, 0.6, 0.9)]
    assert by_floor[0] > by_floor[1] > by_floor[2]
    silent = [chosen(floor={"specificity": s})["threshold"] for s in (0.2, 0.5, 0.9)]
    assert silent[0] < silent[1] < silent[2]


def test_unknown_labels_and_several_images_of_one_patient() -> None:
    target, prob = np.append(TARGET, np.nan), np.append(PROB, 0.99)
    row = choose(target, prob, np.array([0, 0, 0, 1, 1, 1, 2, 9]), floor={"sensitivity": 0.6})
    assert (row["n_patients"], row["n_positive_patients"], row["n_positives"]) == (3, 2, 3)
    assert row["threshold"] == pytest.approx(0.65) and row["prevalence"] == pytest.approx(3 / 7)
    assert row["recall_high"] - row["recall_low"] > 0.85  # two patients say less than three


@pytest.mark.parametrize(("label", "words"), [(0.0, "no case has the class"), (1.0, "no case is without the class")])
def test_a_class_that_is_absent_or_everywhere_has_no_threshold(label: float, words: str) -> None:
    row = chosen(np.full(7, label), floor={"sensitivity": 0.9})
    assert row["threshold"] is None and row["status"] == "not_estimable" and words in row["reason"]
    assert row["recall"] is None and row["recall_low"] is None and row["floor_reached"] is None


def test_no_known_label_at_all() -> None:
    row = chosen(np.full(7, math.nan))
    assert row["threshold"] is None and row["prevalence"] is None and row["n_patients"] == 0


def test_tuning_reads_the_section_of_the_study() -> None:
    given = drawn("exclusive")
    floors = {"c0": {"sensitivity": 0.9}, "c1": {"specificity": 0.95}}
    section = DecisionSection(floors=floors, miscoverage=0.2, refer=0.1)
    tuned = tune(given, decision=section)
    assert tuned.thresholds["c0"]["recall"] >= 0.9 and tuned.thresholds["c1"]["specificity"] >= 0.95
    assert "Youden" in tuned.thresholds["c2"]["rule"]
    assert tuned.conformal is not None and tuned.conformal["miscoverage"] == 0.2
    assert tuned.refer is not None and tuned.refer["share"] == 0.1 and 0 < tuned.refer["share_validation"] <= 0.1
    assert set(tuned.decisions) == {"thresholds", "conformal", "refer"}
    same = tune(given, decision={"floors": {"c0": {"sensitivity": 0.9}}})
    assert same.thresholds["c0"] == tuned.thresholds["c0"] and same.refer is None
    assert calibrate(given, tuned.calibrator).prob.shape == (400, 4)


def test_youden_weighs_recall_and_specificity_alike() -> None:
    """J at 0.9 is 1/2 - 0; at 0.4 it is 1 - 4/5. Were recall to count twice, 0.4 would win."""
    y, p = np.array([1.0, 1, 0, 0, 0, 0, 0]), np.array([0.9, 0.4, 0.8, 0.7, 0.6, 0.5, 0.3])
    found = choose(y, p, np.arange(7))
    assert found["threshold"] == pytest.approx(0.85) and found["recall"] == 0.5 and found["n_false_alarms"] == 0
