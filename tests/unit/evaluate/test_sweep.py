"""A sweep judged: a better arm wins, an equal one does not, thresholds come from elsewhere, interactions add up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import predictions

from raresight.core.predictions import Predictions
from raresight.evaluate.ranking import auprc, sensitivity_at_specificity
from raresight.evaluate.sweep import COST, Column, Judged
from raresight.evaluate.sweep_differences import MOVED, across, differences, interactions
from raresight.evaluate.sweep_points import Run, cross_fitted, halves, inert, transferred
from raresight.evaluate.sweep_verdict import verdicts

N, PATIENTS, SHARE, MISSED = 900, 600, 0.08, 20.0
SKILL = {"baseline": 1.2, "equal": 1.2, "better": 2.2, "worse": 0.4}


def people(rng_seed: int = 0, n: int = N, n_patients: int = PATIENTS, share: float = SHARE) -> tuple:
    rng = np.random.default_rng(rng_seed)
    patient = np.r_[np.arange(n_patients), rng.integers(0, n_patients, n - n_patients)]
    return (rng.random(n) < share).astype(float), patient


def scored(y: np.ndarray, patient: np.ndarray, skill: float, draw: int, part: str = "val") -> Predictions:
    """Calibrated-ish probabilities of one independent finding and of another that nobody asks about."""
    rng = np.random.default_rng(1000 + draw)
    z = skill * y + rng.normal(size=len(y)) - 3
    prob = 1 / (1 + np.exp(-np.stack([z, rng.normal(size=len(y))], axis=1)))
    other = (rng.random(len(y)) < 0.5).astype(float)
    return predictions("independent", np.stack([y, other], axis=1), prob, patient, part=part)


def judged(skills: dict[str, float], *, n_seeds: int = 3, names: tuple[str, ...] = ("0.01", "all"), **size) -> Judged:
    y, patient = people(**size)
    draw = iter(range(10_000))
    columns = []
    for i, name in enumerate(names):
        runs = {
            arm: [_fitted(scored(y, patient, skill, next(draw))) for _ in range(n_seeds)]
            for arm, skill in skills.items()
        }
        columns.append(Column(name, 0.01 * (i + 1), runs))
    return Judged(columns, scored(y, patient, 1.0, 0), "c0", missed=MISSED, resamples=400)


def _fitted(given: Predictions) -> Run:
    return cross_fitted(given, "c0", halves(given, "c0", 0), missed=MISSED, deployed=None, prior=None)


def only(rows: list[dict], **wanted: object) -> dict:
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def told(at: Judged, rows: list[dict], groups: int = 30) -> dict[str, dict]:
    columns = [{"name": c.name, "prevalence": c.prevalence, "n_positive_groups": [groups] * 3} for c in at.columns]
    found = verdicts(columns, rows, n_positive=at.n_positive, baseline="baseline", cls="c0")
    return {entry["column"]: entry for entry in found}


def test_the_better_arm_wins_and_the_equal_one_does_not() -> None:
    at = judged(SKILL)
    rows = differences(at, "baseline")
    for column in ("0.01", "all"):
        for metric in ("auprc", COST):
            point = None if metric == "auprc" else "tuned"
            sign = 1 if metric == "auprc" else -1
            better = only(rows, column=column, arm="better", metric=metric, operating_point=point)
            assert sign * better["difference"] > 0 and better["p_adjusted"] < 0.05 and better["family"] == "primary"
            assert (better["low"] > 0) if sign > 0 else (better["high"] < 0)
            equal = only(rows, column=column, arm="equal", metric=metric, operating_point=point)
            assert equal["low"] < 0 < equal["high"] and equal["p_adjusted"] > 0.05
        worse = only(rows, column=column, arm="worse", metric="auprc")
        assert worse["high"] < 0 and worse["p_adjusted"] < 0.05
    for entry in told(at, rows).values():
        assert entry["outcome"] == "arms" and entry["arms"] == ["better"] and "better (AUPRC" in entry["text"]


def test_arms_of_equal_scores_in_every_seed_are_inert() -> None:
    def run(*score: float) -> Run:
        return Run(np.array(score), np.zeros(2), np.zeros(2), (0.5,))

    one, other = run(0.1, 0.2), run(0.1, 0.2002)
    rounded = run(0.1 + 3e-8, 0.2 - 3e-8)  # heads trained together differ by so much where nothing tells them apart
    assert inert({"a": [one], "b": [rounded]}) == [("a", "b")]
    assert inert({"a": [one, other], "b": [one, one], "c": [one, other], "d": [one, one]}) == [("a", "c"), ("b", "d")]
    assert inert({"a": [one], "b": [other]}) == []


def test_moving_the_threshold_is_a_winner_of_its_own() -> None:
    at = judged({"baseline": 1.6, "equal": 1.6})
    rows = differences(at, "baseline")
    moved = only(rows, column="all", arm=MOVED, metric=COST)
    assert moved["difference"] < 0 and moved["p_adjusted"] < 0.05 and moved["operating_point"] == "tuned"
    recall = only(rows, column="all", arm=MOVED, metric="recall")
    assert recall["difference"] > 0.2 and recall["family"] == "exploratory"
    figures = f"{moved['difference']:+.1f}, {moved['low']:+.1f} to {moved['high']:+.1f}"
    text = f"nothing beats moving the threshold: {figures} false alarms per 1,000"
    assert told(at, rows)["all"]["text"] == text
    # The arm is held against the baseline at the same operating point, not against the untouched one.
    equal = only(rows, column="all", arm="equal", metric=COST, operating_point="tuned")
    base = [at.value(at.columns[1], arm, (COST, "moved")) for arm in ("equal", "baseline")]
    assert equal["difference"] == pytest.approx(base[0] - base[1])


def test_figures_are_those_of_the_runs_by_hand() -> None:
    at = judged(SKILL, n_seeds=2, names=("all",))
    column = at.columns[0]
    rows = {(r["arm"], r["metric"], r["operating_point"]): r for r in at.estimates()}
    y = at.target
    for arm, runs in column.runs.items():
        assert rows[arm, "auprc", None]["value"] == pytest.approx(np.mean([auprc(y, r.score) for r in runs]))
        at90 = [sensitivity_at_specificity(y, r.score, 0.9)[0] for r in runs]
        assert rows[arm, "recall_at_specificity_90", None]["value"] == pytest.approx(np.mean(at90))
        for point, alarms in (("0.5", [r.default for r in runs]), ("tuned", [r.moved for r in runs])):
            recall = np.mean([np.mean(a[y == 1]) for a in alarms])
            silent = np.mean([1 - np.mean(a[y == 0]) for a in alarms])
            assert rows[arm, "recall", point]["value"] == pytest.approx(recall)
            assert rows[arm, "specificity", point]["value"] == pytest.approx(silent)
            share = y.mean()
            cost = 1000 * (share * MISSED * (1 - recall) + (1 - share) * (1 - silent))
            assert rows[arm, COST, point]["value"] == pytest.approx(cost)
    for row in rows.values():
        assert row["low"] <= row["value"] <= row["high"] and row["status"] in ("ok", "wide") and row["part"] == "val"
        assert row["prevalence"] == pytest.approx(y.mean()) and row["column"] == "all" and row["seed"] is None


def test_seeds_widen_the_interval_and_one_seed_says_so() -> None:
    y, patient = people()
    one = _fitted(scored(y, patient, 1.5, 1))
    far = _fitted(scored(y, patient, 0.2, 2))
    truth = scored(y, patient, 1.0, 0)
    width = {}
    for name, runs in {"one": [one], "same": [one, one, one], "spread": [one, one, far]}.items():
        at = Judged([Column("all", 0.1, {"baseline": runs})], truth, "c0", missed=MISSED, resamples=400)
        (row,) = (r for r in at.estimates() if r["metric"] == "auprc")
        width[name] = row["high"] - row["low"]
        assert ("one seed" in row["reason"]) == (name == "one")
    assert width["same"] == pytest.approx(width["one"]) and width["spread"] > 1.3 * width["same"]


def test_spread_of_seeds_is_that_of_their_mean() -> None:
    # Patients that never vary: 40 of one image each, all seeds perfect in ranking but for the share of misses.
    y = np.repeat([1.0, 0.0], 20)
    truth = predictions("independent", y[:, None], np.full((40, 1), 0.5), np.arange(40))
    always, never = (Run(y, np.full(40, a), np.full(40, float(a)), (0.5,)) for a in (True, False))
    at = Judged([Column("all", 0.5, {"baseline": [always, always, never]})], truth, "c0", missed=1, resamples=4000)
    drawn = at.draws(at.columns[0], "baseline", ("recall", "default"))
    # Recalls 1, 1, 0: the variance of their mean is s^2/3 = (1/3)/3.
    assert np.var(drawn) == pytest.approx(1 / 9, rel=0.08)


def test_null_arms_win_at_most_as_often_as_they_may() -> None:
    wins = 0
    for study in range(24):
        y, patient = people(rng_seed=study, n=240, n_patients=160, share=0.2)
        arms = {arm: [_fitted(scored(y, patient, 1.2, 10_000 * (study + 1) + 10 * a + s)) for s in range(3)]
                for a, arm in enumerate(["baseline", "x", "y"])}  # fmt: skip
        at = Judged([Column("all", 0.1, arms)], scored(y, patient, 1, 0), "c0", missed=MISSED, resamples=100)
        rows = [row for row in differences(at, "baseline") if row["arm"] != MOVED]
        wins += any(row["p_adjusted"] is not None and row["p_adjusted"] < 0.05 for row in rows)
    assert wins <= 5  # binomial(24, 0.05) exceeds 5 with probability 0.001


def test_the_interaction_is_what_was_built_in() -> None:
    y, patient = people(n=1200, n_patients=1200, share=0.2)
    truth = scored(y, patient, 1.0, 0)
    positives = np.flatnonzero(y == 1)[:200]

    def finds(n: int) -> Run:
        alarm = np.zeros(len(y))
        alarm[positives[:n]] = 1
        return Run(alarm, alarm == 1, alarm, (0.5,))

    found = {"baseline": 40, "a": 60, "b": 70, "both": 130}
    at = Judged([Column("all", 0.2, {arm: [finds(n)] for arm, n in found.items()})], truth, "c0", missed=10,
                resamples=400)  # fmt: skip
    rows = interactions(at, {"both": ("baseline", ["a", "b"])})
    row = only(rows, metric=COST)
    # Finds beyond the sum of parts: (130-40) - (60-40) - (70-40) = 40 misses saved, at 10 false alarms each.
    assert row["interaction"] == pytest.approx(-40 * 10 / 1200 * 1000)
    assert row["parts"] == ["a", "b"] and row["high"] < 0 and row["says"] == "more than the sum of its parts"
    found["both"] = 90  # exactly the sum
    at = Judged([Column("all", 0.2, {arm: [finds(n)] for arm, n in found.items()})], truth, "c0", missed=10,
                resamples=400)  # fmt: skip
    row = only(interactions(at, {"both": ("baseline", ["a", "b"])}), metric=COST)
    assert row["interaction"] == pytest.approx(0, abs=1e-9) and row["low"] < 0 < row["high"]
    assert row["says"] == "not told apart from the sum of its parts"


def test_gains_that_depend_on_severity_are_seen() -> None:
    y, patient = people()
    draw = iter(range(500, 600))
    runs = {
        name: {arm: [_fitted(scored(y, patient, skill, next(draw))) for _ in range(3)] for arm, skill in arms.items()}
        for name, arms in {"0.01": {"baseline": 0.6, "arm": 2.0}, "all": {"baseline": 2.0, "arm": 2.0}}.items()
    }
    columns = [Column("0.01", 0.01, runs["0.01"]), Column("all", 0.1, runs["all"])]
    at = Judged(columns, scored(y, patient, 1, 0), "c0", missed=MISSED, resamples=400)
    row = only(across(at, "baseline"), metric="auprc")
    assert row["low"] > 0 and row["column"] == "0.01" and row["against"] == "all"
    rows = differences(at, "baseline")
    gains = [only(rows, column=c, arm="arm", metric="auprc")["difference"] for c in ("0.01", "all")]
    assert row["difference"] == pytest.approx(gains[0] - gains[1])


def test_few_positive_patients_are_not_ranked() -> None:
    at = judged(SKILL, n=200, n_patients=200, share=0.03)
    assert at.n_positive < 10
    rows = differences(at, "baseline")
    assert all(row["p"] is None and row["p_adjusted"] is None for row in rows if row["difference"] is not None)
    assert {row["status"] for row in rows} <= {"wide", "not_estimable"}
    for entry in told(at, rows).values():
        assert entry["outcome"] == "unresolved" and entry["text"].startswith("cannot be resolved with so few patients")
    for row in at.estimates():
        assert row["status"] != "ok" or row["metric"] == "specificity"


def test_one_patient_in_training_concludes_nothing() -> None:
    at = judged(SKILL)
    entry = told(at, differences(at, "baseline"), groups=1)["0.01"]
    assert entry["outcome"] == "unresolved" and "training held 1" in entry["text"]


def test_an_absent_class_has_no_figure() -> None:
    at = judged({"baseline": 1.0, "equal": 1.0}, n=200, n_patients=200, share=0.0)
    for row in at.estimates():
        assert (row["value"] is None) == (row["metric"] != "specificity" or row["operating_point"] == "tuned"), row
        assert row["value"] is not None or "no case has 'c0'" in row["reason"] or "threshold" in row["reason"]
    assert all(row["difference"] is None for row in differences(at, "baseline") if row["metric"] == "auprc")


def test_halves_keep_patients_whole_and_share_the_class() -> None:
    y, patient = people()
    given = scored(y, patient, 1, 0)
    half = halves(given, "c0", 0)
    by_patient = {p: set(half[patient == p]) for p in set(patient)}
    assert all(len(sides) == 1 for sides in by_patient.values())
    with_class = [next(iter(by_patient[p])) for p in sorted(set(patient[y == 1]))]
    assert abs(2 * sum(with_class) - len(with_class)) <= 1
    assert abs(2 * sum(next(iter(s)) for s in by_patient.values()) - PATIENTS) <= 2
    assert not np.array_equal(half, halves(given, "c0", 1))


def test_no_half_is_judged_at_a_threshold_of_its_own() -> None:
    y, patient = people()
    given = scored(y, patient, 1.5, 7)
    half = halves(given, "c0", 0)
    run = _fitted(given)
    assert len(run.thresholds) == 2 and len(set(run.thresholds)) == 2
    # Other labels on one half change the alarms of the other half, and not its own.
    target = given.target[:, 0].copy()
    target[half == 1] = np.random.default_rng(0).permutation(target[half == 1])
    again = cross_fitted(replace(given, table=given.table.assign(label_c0=target)), "c0", half, missed=MISSED,
                         deployed=None, prior=None)  # fmt: skip
    assert np.array_equal(run.moved[half == 1], again.moved[half == 1])
    assert not np.array_equal(run.moved[half == 0], again.moved[half == 0])
    assert np.array_equal(run.score, given.prob[:, 0]) and np.array_equal(run.default, given.prob[:, 0] >= 0.5)


def test_the_test_part_is_judged_at_the_threshold_of_validation() -> None:
    y, patient = people()
    val, test = scored(y, patient, 1.5, 7), scored(y, patient, 1.5, 8, part="test")
    run = transferred(val, test, "c0", missed=MISSED, deployed=None, prior=None)
    shuffled = test.table.assign(label_c0=np.random.default_rng(0).permutation(y))
    again = transferred(val, replace(test, table=shuffled), "c0", missed=MISSED, deployed=None, prior=None)
    assert np.array_equal(run.moved, again.moved) and len(run.thresholds) == 1
    at = Judged([Column("all", 0.1, {"baseline": [run]})], test, "c0", missed=MISSED, resamples=100)
    assert {row["operating_point"] for row in at.estimates()} == {None, "0.5", "frozen"}


def test_a_half_without_the_class_leaves_the_moved_threshold_open() -> None:
    y = np.zeros(60)
    y[0] = 1
    given = scored(y, np.arange(60), 1.0, 0)
    run = _fitted(given)
    assert None in run.thresholds and np.isnan(run.moved).any()
    at = Judged([Column("all", 0.1, {"baseline": [run]})], given, "c0", missed=MISSED, resamples=50)
    rows = {(r["metric"], r["operating_point"]): r for r in at.estimates()}
    assert rows["recall", "tuned"]["value"] is None and "no threshold" in rows["recall", "tuned"]["reason"]
    assert rows["recall", "0.5"]["value"] is not None and math.isfinite(rows["auprc", None]["value"])


def test_the_deployment_prevalence_prices_the_cost() -> None:
    y, patient = people()
    runs = {"baseline": [_fitted(scored(y, patient, 1.5, 1))]}
    at = Judged([Column("all", 0.1, runs)], scored(y, patient, 1, 0), "c0", missed=MISSED, deployed=0.5, resamples=50)
    rows = {(r["metric"], r["operating_point"]): r["value"] for r in at.estimates()}
    cost = 1000 * (0.5 * MISSED * (1 - rows["recall", "0.5"]) + 0.5 * (1 - rows["specificity", "0.5"]))
    assert rows[COST, "0.5"] == pytest.approx(cost)
