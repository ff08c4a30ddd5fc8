"""Drift without labels: hand-worked figures, false alarms under no change, and alarms under a change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raresight.core.predictions import Predictions
from raresight.core.task import Task
from raresight.evaluate.drift import alarm_drift, effective_size, reference, score_drift, stability
from raresight.evaluate.label_shift import prevalence, shares

TASK = Task("independent", ("ill",))
LEVEL = 0.05


def predictions(prob: np.ndarray, label: np.ndarray, patient: np.ndarray | None = None) -> Predictions:
    who = np.arange(len(prob)).astype(str) if patient is None else patient
    table = pd.DataFrame({"case": np.arange(len(prob)).astype(str), "patient_id": who, "prob_ill": prob})
    return Predictions(table.assign(label_ill=label.astype(float)), TASK, part="val")


def drawn(n: int, seed: int, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are calibrated by construction: the label is drawn from the score."""
    rng = np.random.default_rng(seed)
    label = rng.random(n) < share
    z = rng.normal(np.where(label, 1.5, -1.5), 1.0)
    odds = share / (1 - share) * np.exp(3.0 * z)  # two normals 3 apart, variance 1: log likelihood ratio 3 z
    return odds / (1 + odds), label


def was(n: int = 2000, seed: int = 0) -> dict:
    prob, label = drawn(n, seed)
    return reference(predictions(prob, label), (prob >= 0.5)[:, None])["classes"]["ill"]


def test_stability_by_hand() -> None:
    """(0.5-0.25) ln 2 + (0.5-0.75) ln(2/3) = 0.1733 + 0.1014."""
    assert stability([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))
    assert stability([0.2, 0.8], [0.2, 0.8]) == 0


def test_effective_size_by_hand() -> None:
    """Two images a patient: always alike, one counts; never alike, two do (capped); one patient alone is one."""
    alike, patient = np.repeat([0, 1, 0, 1], 2), np.repeat(["a", "b", "c", "d"], 2)
    # p = 1/2, each patient is off by 1: v = 4/3 * 4 / 64 = 1/12 a bin, spread 1/4 a bin; n = 3 (G - 1)
    assert effective_size(alike, patient) == pytest.approx(3)
    assert effective_size(np.tile([0, 1], 4), patient) == 8
    assert effective_size(alike, np.arange(8).astype(str)) == 8
    assert effective_size(alike, np.full(8, "a")) == 1
    assert effective_size(np.zeros(8, int), patient) == pytest.approx(4)  # one bin: N^2 / sum n_g^2


def test_the_reference_has_shares_and_no_scores() -> None:
    found = was()
    assert sum(found["shares"]) == pytest.approx(1) and len(found["shares"]) == len(found["edges"]) + 1 <= 100
    assert found["prevalence"]["low"] < 0.3 < found["prevalence"]["high"]
    assert found["mean_score"][0] > 0.8 and found["mean_score"][1] < 0.2


def test_no_change_is_seldom_called_one() -> None:
    """60 batches of 400 from the same world against references of their own: at 5% a false look, 10 or more of 60 have
    a chance under 0.1% (binomial), two figures counted as two."""
    looks = 0
    for seed in range(60):
        prob, _ = drawn(400, 1000 + seed)
        found = score_drift(prob, np.arange(400).astype(str), was(600, seed), np.random.default_rng(seed), level=0.025)
        looks += found["verdict"] == "look"
    assert looks < 10


def test_a_shift_is_seen_and_few_cases_say_so() -> None:
    prob, _ = drawn(500, 1, share=0.8)
    people, rng = np.arange(500).astype(str), np.random.default_rng(0)
    moved = score_drift(prob, people, was(), rng, level=LEVEL)
    assert moved["verdict"] == "look" and moved["psi"] > moved["psi_band"] and moved["ks"] > moved["ks_band"]
    same, _ = drawn(12, 5)
    few = score_drift(same, people[:12], was(), rng, level=LEVEL)
    assert few["verdict"] == "cannot be said with so few" and few["psi_band"] > 0.25
    assert score_drift(same[:0], people[:0], was(), rng, level=LEVEL)["verdict"] == "cannot be said with so few"


def test_the_distance_and_the_index_by_hand() -> None:
    """Below the edge: half then, three of four now. KS .25; half a case more in each bin: (3.5/5 - .5) ln(7/5) + ..."""
    then = {"edges": [0.5], "shares": [0.5, 0.5], "effective_n": 100.0}
    score = np.array([0.1, 0.2, 0.3, 0.9])
    found = score_drift(score, np.arange(4).astype(str), then, np.random.default_rng(0), level=LEVEL)
    assert found["ks"] == pytest.approx(0.25)
    assert found["psi"] == pytest.approx(0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5))


def test_the_band_knows_the_pooled_shares() -> None:
    """One in ten of 1,000 then, four of four now: pooled .1035. Of four, two or more differ from .1 by .4 in one draw
    of twenty; were the sizes exchanged, pooled .996, four of four would be what chance makes."""
    then = {"edges": [0.5], "shares": [0.1, 0.9], "effective_n": 1000.0}
    found = score_drift(np.full(4, 0.2), np.arange(4).astype(str), then, np.random.default_rng(0), level=LEVEL)
    assert found["ks"] == pytest.approx(0.9) and 0.3 < found["ks_band"] < 0.45
    assert found["verdict"] == "look" and found["ks_p"] < 0.01


def test_many_images_of_few_patients_are_few() -> None:
    prob, _ = drawn(12, 5)
    found = score_drift(
        np.repeat(prob, 40), np.repeat(np.arange(12), 40).astype(str), was(), np.random.default_rng(0), level=LEVEL
    )
    assert found["effective_n"] < 13 and found["verdict"] == "cannot be said with so few"


def test_alarms_that_double_are_seen() -> None:
    reference_, people = was(), np.arange(1000).astype(str)
    rng = np.random.default_rng(0)
    before = reference_["alarms"]["value"]
    doubled = alarm_drift(np.arange(1000) < 2000 * before, people, reference_, rng, level=LEVEL)
    same = alarm_drift(np.arange(1000) < 1000 * before, people, reference_, rng, level=LEVEL)
    assert doubled["verdict"] == "look" and doubled["per_1000_now"]["value"] == pytest.approx(2000 * before, abs=1)
    assert same["verdict"] == "steady"
    few = alarm_drift(np.array([True, False, False]), people[:3], reference_, rng, level=LEVEL)
    assert few["verdict"] == "cannot be said with so few"


def test_shares_of_certain_scores_are_their_counts() -> None:
    """With probabilities of 0 and 1 the first step gives the counts: 3 of 4, whatever the prior."""
    prob = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert shares(prob, np.array([0.1, 0.9])) == pytest.approx([0.75, 0.25])
    assert shares(prob[[3]], np.array([0.5, 0.5])) == pytest.approx([0, 1])


def test_shares_are_the_maximum_of_the_likelihood() -> None:
    """The fixed point against a grid search of sum log(pi r1 + (1 - pi) r0), r the probabilities over their prior."""
    prob, _ = drawn(300, 3)
    pair, prior = np.stack([prob, 1 - prob], 1), np.array([0.3, 0.7])
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = [np.log(pair / prior @ np.array([pi, 1 - pi])).sum() for pi in grid]
    assert shares(pair, prior)[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=1.5e-3)


def test_prevalence_that_changed_is_found_and_alike_scores_are_refused() -> None:
    rng = np.random.default_rng(0)
    _, label = drawn(3000, 4, share=0.1)
    z = rng.normal(np.where(label, 1.5, -1.5), 1.0)
    odds = 0.3 / 0.7 * np.exp(3 * z)  # the model still believes in 30%
    pair = np.stack([odds / (1 + odds), 1 / (1 + odds)], 1)
    means, prior = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0.3, 0.7])
    people = np.arange(3000).astype(str)
    found = prevalence(pair, prior, means, people)
    assert found["low"][0] < label.mean() < found["high"][0] and found["high"][0] < 0.2
    alike = prevalence(pair, prior, np.array([[0.52, 0.48], [0.5, 0.5]]), people)
    assert alike["value"] is None and "too alike" in alike["reason"]
    absent = prevalence(pair, prior, np.array([[0.9, 0.1], [np.nan, np.nan]]), people)
    assert absent["value"] is None and "fewer than two" in absent["reason"]
    assert prevalence(pair[:0], prior, means, people[:0])["reason"] == "there are no cases"


def test_the_interval_of_certain_scores_is_that_of_their_counts() -> None:
    """With probabilities of 0 and 1 the likelihood is binomial: 2 (l_max - l(v)) = t(39)^2 at both bounds, 10 of 40."""
    certain = np.repeat([1.0, 0.0], [10, 30])
    pair, people = np.stack([certain, 1 - certain], 1), np.arange(40).astype(str)
    found = prevalence(pair, np.array([0.5, 0.5]), np.eye(2), people)
    for v in (found["low"][0], found["high"][0]):
        lost = 2 * (10 * np.log(0.25 / v) + 30 * np.log(0.75 / (1 - v)))
        assert lost == pytest.approx(2.0227**2, rel=1e-3)  # t(39), 97.5%: from a table
    assert [found["low"][1], found["high"][1]] == pytest.approx([1 - found["high"][0], 1 - found["low"][0]], abs=1e-5)
    twice = prevalence(np.repeat(pair, 2, axis=0), np.array([0.5, 0.5]), np.eye(2), np.repeat(people, 2))
    assert twice["low"] == pytest.approx(found["low"], abs=1e-4)  # the same patients twice know no more
    none = prevalence(pair[10:], np.array([0.5, 0.5]), np.eye(2), people[10:])
    assert none["value"][0] == pytest.approx(0, abs=1e-6) and none["low"][0] == pytest.approx(0, abs=1e-6)
    assert none["high"][0] == pytest.approx(1 - np.exp(-(2.0452**2) / 60), rel=1e-3)  # 60 ln(1/(1-v)) = t(29)^2


def test_a_share_keeps_its_interval_where_the_others_are_most_likely_given_it() -> None:
    """Three classes: l at the bound of a share against a grid over the other two, which hold what it leaves."""
    rng = np.random.default_rng(0)
    prior, label = np.array([0.6, 0.3, 0.1]), rng.choice(3, 150, p=[0.6, 0.3, 0.1])
    z = np.log(prior) + 1.5 * (rng.normal(size=(150, 3)) + 1.5 * np.eye(3)[label])
    prob = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    found = prevalence(prob, prior, np.eye(3), np.arange(150).astype(str))
    most = np.log(prob / prior @ np.array(found["value"])).sum()
    for v in (found["low"][2], found["high"][2]):
        split = np.linspace(0, 1 - v, 2001)
        mixed = np.stack([split, 1 - v - split, np.full(2001, v)])
        best = np.log(prob / prior @ mixed).sum(axis=0).max()
        assert 2 * (most - best) == pytest.approx(1.9760**2, rel=5e-3)  # t(149), 97.5%


def test_shares_of_rare_classes_are_covered() -> None:
    """100 batches of 60 with a class of 8%: an interval that stops at 0 with its estimate covers 73% (a percentile
    bootstrap did). At 95%, 88 or fewer of 100 have a chance of 0.4% (binomial)."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(100):
        label = rng.random(60) < 0.08
        odds = 0.08 / 0.92 * np.exp(1.5 * rng.normal(np.where(label, 0.75, -0.75), 1.0))
        pair = np.stack([odds / (1 + odds), 1 / (1 + odds)], 1)
        found = prevalence(pair, np.array([0.08, 0.92]), np.array([[0.5, 0.5], [0.1, 0.9]]), np.arange(60).astype(str))
        covered += found["low"][0] <= 0.08 <= found["high"][0]
    assert covered > 88
