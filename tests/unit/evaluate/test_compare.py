"""Comparisons: signs, nulls, the declared family, alignment of cases."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from prediction_tables import drawn, predictions
from statsmodels.stats.multitest import multipletests

from raresight.core.errors import ConfigError, DataError
from raresight.core.predictions import Predictions
from raresight.evaluate.bootstrap import percentile
from raresight.evaluate.compare import _Pair, _Version, compare, identical
from raresight.evaluate.permutation import holm, swap_test
from raresight.evaluate.ranking import sensitivity_at_specificity

QUICK = {"resamples": 100, "permutations": 200}


def noisy(base: Predictions, rng_seed: int, noise: float = 0.7, arm: str = "b") -> Predictions:
    rng = np.random.default_rng(rng_seed)
    z = np.log(base.prob) + noise * rng.normal(size=base.prob.shape)
    prob = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    columns = {f"prob_{name}": prob[:, k] for k, name in enumerate(base.task.classes)}
    return replace(base, table=base.table.assign(**columns), arm=arm, seed=rng_seed)


def key(row: dict) -> tuple:
    return row["metric"], row["class"]


def test_swapping_the_arms_negates_every_difference() -> None:
    first = drawn("exclusive", critical=("c0",))
    second = noisy(first, 1)
    arms = {"a": [first], "b": [second]}
    there = {key(row): row for row in compare(arms, baseline="a", part="val", **QUICK)}
    back = {key(row): row for row in compare(arms, baseline="b", part="val", **QUICK)}
    assert set(there) == set(back) and any(row["difference"] for row in there.values())
    for name, row in there.items():
        if row["family"] == "primary":
            continue  # its specificity is the baseline's, so the two directions ask different questions
        assert row["difference"] == pytest.approx(-back[name]["difference"], abs=1e-12), name
        assert row["low"] == pytest.approx(-back[name]["high"], abs=1e-9), name
        assert row["p"] == pytest.approx(back[name]["p"])


def test_differences_are_those_of_the_figures() -> None:
    base = drawn("exclusive", critical=("c0",))
    worse = noisy(base, 1, noise=4.0)
    rows = {key(row): row for row in compare({"a": [base], "b": [worse]}, baseline="a", part="val", **QUICK)}
    recall = [np.mean(p.prob[p.target[:, 3] == 1].argmax(axis=1) == 3) for p in (base, worse)]
    assert rows["recall", "c3"]["difference"] == pytest.approx(recall[1] - recall[0])
    assert rows["macro_auprc", None]["high"] < 0 and rows["macro_auprc", None]["p"] < 0.05
    assert rows["macro_f1", None]["p_adjusted"] is None and rows["macro_f1", None]["family"] == "exploratory"


def test_only_critical_recall_is_the_declared_family() -> None:
    base = drawn("exclusive", critical=("c0", "c1"))
    arms = {"a": [base], "b": [noisy(base, 1)], "d": [noisy(base, 2)]}
    rows = compare(arms, baseline="a", part="val", **QUICK)
    primary = [row for row in rows if row["family"] == "primary"]
    assert {(row["arm"], row["class"]) for row in primary} == set(product("bd", ["c0", "c1"]))
    assert {row["metric"] for row in primary} == {"recall_at_matched_specificity"}
    assert [row["p_adjusted"] for row in primary] == holm([row["p"] for row in primary])
    assert all(0 < row["specificity"] < 1 and row["rule"] for row in primary)
    assert all(row["seed_noise"] == "unknown" and row["n_seeds"] == 1 for row in rows)


def test_a_monotone_change_of_scores_is_no_difference_at_matched_specificity() -> None:
    """An arm whose probabilities are merely lower has the same ranking, hence the same recall at one specificity."""
    base = drawn("independent", critical=("c0",))
    columns = {f"prob_{name}": base.prob[:, k] ** 3 for k, name in enumerate(base.task.classes)}
    lower = replace(base, table=base.table.assign(**columns))
    rows = compare({"a": [base], "b": [lower]}, baseline="a", part="val", **QUICK)
    (row,) = [row for row in rows if row["family"] == "primary"]
    assert (row["difference"], row["p"]) == (0, 1)
    assert row["low"] < 0 < row["high"], "no discordant patient is not certainty"


def test_recall_at_nine_of_ten_silent_is_compared_for_every_class() -> None:
    base = drawn("exclusive", critical=("c0",))
    worse = noisy(base, 1, noise=4.0)
    rows = {key(row): row for row in compare({"a": [base], "b": [worse]}, baseline="a", part="val", **QUICK)}
    for k, name in enumerate(base.task.classes):
        at = [sensitivity_at_specificity(p.target[:, k], p.prob[:, k], 0.9)[0] for p in (base, worse)]
        row = rows["recall_at_specificity_90", name]
        assert row["difference"] == pytest.approx(at[1] - at[0]) and row["family"] == "exploratory"
        assert row["low"] <= row["difference"] <= row["high"]


def test_several_seeds_are_a_second_level() -> None:
    base = drawn("exclusive", critical=("c0",))
    one = {"a": [noisy(base, 1)], "b": [noisy(base, 2, 2.0)]}
    many = {"a": [noisy(base, 1), noisy(base, 3)], "b": [noisy(base, 2, 2.0), noisy(base, 4, 0.1)]}
    rows = {key(row): row for row in compare(many, baseline="a", part="val", **QUICK)}
    single = {key(row): row for row in compare(one, baseline="a", part="val", **QUICK)}
    row, alone = rows["macro_auprc", None], single["macro_auprc", None]
    assert (row["seed_noise"], row["n_seeds"]) == ("resampled", 2)
    assert row["high"] - row["low"] > alone["high"] - alone["low"], "seeds that disagree must widen the interval"


def test_three_seeds_vary_as_a_sample_of_three_does() -> None:
    """Seeds 0.1, 0.2 and 0.6 against 0: by hand, s^2 = (0.04 + 0.01 + 0.09) / 2, the mean varies by s^2 / 3 = 0.14 / 6.

    Any seed is drawn three times in 1 of 27 resamples, so the interval ends there: 0.3 + sqrt(3/2) * (-0.2 and 0.3),
    and not at 0.1 and 0.6, what three seeds drawn with replacement would say.
    """
    seeds = [cast(_Version, SimpleNamespace(seed=seed)) for seed in (5, 6, 7)]
    values = [np.full(20_000, value) for value in (0.1, 0.2, 0.6)]
    none = [np.zeros(20_000)] * 3
    for ours, theirs, side in ((values, none, 1), (none, values, -1)):
        resampled = side * _Pair("b", "a", seeds, seeds, "val", 0)._second_level(ours, theirs)
        assert percentile(resampled)[:2] == pytest.approx((0.3 - 0.2 * math.sqrt(1.5), 0.3 + 0.3 * math.sqrt(1.5)))
        assert np.var(resampled) == pytest.approx(0.14 / 6, rel=0.05)
    alone = _Pair("b", "a", seeds[:1], seeds[:1], "val", 0)._second_level([np.arange(4.0)], [np.ones(4)])
    assert alone.tolist() == [-1, 0, 1, 2], "one seed changes nothing"


def test_equal_seeds_are_drawn_in_pairs() -> None:
    """Two seeds that differ from each other, but not between the arms, leave no difference in any resample."""
    base = drawn("exclusive", critical=("c0",))
    runs = [noisy(base, 1), noisy(base, 2, 2.0)]
    rows = compare({"a": runs, "b": runs}, baseline="a", part="val", **QUICK)
    assert all(row["method"].startswith("no patient tells the arms apart") for row in rows)
    other = [replace(run, seed=run.seed + 10) for run in runs]
    rows = compare({"a": runs, "b": other}, baseline="a", part="val", **QUICK)
    assert any(row["method"].startswith("paired patient bootstrap") for row in rows)


def test_an_absent_class_has_no_difference() -> None:
    base = drawn("independent", critical=("c0",))
    base = replace(base, table=base.table.assign(label_c0=0.0))
    rows = compare({"a": [base], "b": [noisy(base, 1)]}, baseline="a", part="val", **QUICK)
    absent = [row for row in rows if row["class"] == "c0"]
    assert absent and all(row["difference"] is None and row["status"] == "not_estimable" for row in absent)
    assert all(row["p_adjusted"] is None for row in absent)
    assert all("no case" in row["reason"] for row in absent)


def test_identical_arms_raise_the_inert_alarm() -> None:
    base = drawn("exclusive")
    shuffled = replace(base, table=base.table.sample(frac=1, random_state=0).reset_index(drop=True))
    arms = {"a": [base], "same": [shuffled], "b": [noisy(base, 1)]}
    assert identical(arms) == [("a", "same")]
    # Two heads of one bank that nothing tells apart differ by the rounding of sums, and are found all the same.
    for off, found in ((3e-8, [("a", "rounded")]), (3e-5, [])):
        rounded = replace(base, table=base.table.assign(prob_c0=base.table["prob_c0"] + off))
        assert identical({"a": [base], "rounded": [rounded]}) == found
    rows = compare({"a": [base], "same": [shuffled]}, baseline="a", part="val", **QUICK)
    assert {row["difference"] for row in rows} == {0.0}


def test_cases_must_be_the_same() -> None:
    base = drawn("exclusive")
    fewer = replace(base, table=base.table.iloc[3:].reset_index(drop=True))
    with pytest.raises(DataError, match=r"3 of 400 cases have no prediction: case0, case1, case2") as caught:
        compare({"a": [base], "b": [fewer]}, baseline="a", part="val", **QUICK)
    assert caught.value.problems[0].code == "RS-P43"
    with pytest.raises(DataError, match="3 predictions are for cases outside"):
        compare({"a": [fewer], "b": [base]}, baseline="a", part="val", **QUICK)
    moved = replace(base, table=base.table.assign(patient_id="p" + base.table["patient_id"]))
    with pytest.raises(DataError, match="the patient of 400 cases differs"):
        compare({"a": [base], "b": [moved]}, baseline="a", part="val", **QUICK)
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        compare({"alpha": [base]}, baseline="alpa", part="val", **QUICK)


def test_holm_agrees_with_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.9]
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_swaps_by_hand() -> None:
    # Three patients gained, none lost: |3| is reached by 2 of 8 swaps.
    assert swap_test(np.array([1.0, 1, 1, 0]), 10) == 0.25
    assert swap_test(np.zeros(5), 10) == 1.0
    # 20 gains and no loss: 2 in 2^20, below what 200 draws can show.
    assert swap_test(np.ones(20), 200, "x") == pytest.approx(1 / 201)


def test_permuted_arms_are_rejected_at_most_at_the_nominal_rate() -> None:
    """Two arms of equal skill with several images a patient: p <= 0.05 in at most 5% and three standard errors."""
    runs, rejected = 80, 0
    rng = np.random.default_rng(8)
    for run in range(runs):
        patient = np.repeat(np.arange(60), 3)
        target = np.zeros((180, 2))
        target[:36, 0] = 1
        target[:, 1] = rng.random(180) < 0.5
        shared = rng.normal(size=(60, 2))[patient]
        arms = {}
        for arm in "ab":
            z = shared + rng.normal(size=(60, 2))[patient] + 0.5 * rng.normal(size=(180, 2)) + 2 * target - 1
            arms[arm] = [predictions("independent", target, 1 / (1 + np.exp(-z)), patient, critical=("c0",))]
        rows = compare(arms, baseline="a", part="val", resamples=5, permutations=200, seed=run)
        rejected += sum(row["p_adjusted"] <= 0.05 for row in rows if row["family"] == "primary")
    assert rejected / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_the_noise_of_matched_thresholds_counts_where_many_patients_have_the_class() -> None:
    """Equal skill, and as many positive patients as negative ones: swapping found images alone rejects about 20%."""
    runs, rejected = 120, 0
    rng = np.random.default_rng(9)
    patient = np.repeat(np.arange(300), 2)
    target = np.zeros((600, 2))
    target[:300, 0] = 1
    target[:, 1] = np.arange(600) % 2
    for run in range(runs):
        arms = {}
        for arm in "ab":
            z = rng.normal(size=(300, 2))[patient] + 0.5 * rng.normal(size=(600, 2)) + 1.5 * target - 1
            arms[arm] = [predictions("independent", target, 1 / (1 + np.exp(-z)), patient, critical=("c0",))]
        rows = compare(arms, baseline="a", part="val", resamples=3, permutations=200, seed=run, exploratory=False)
        rejected += sum(row["p"] <= 0.05 for row in rows)
    assert rejected / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_slope_and_patients_at_a_specificity_by_hand() -> None:
    """Ten negatives at 0.05, 0.15 .. 0.95, four positives at 0.5, 0.72, 0.82, 0.99, and 0.8 of the negatives silent.

    Two false alarms are allowed, so the threshold is 0.82, the lowest score above the third-highest negative: 0.82 and
    0.99 are found, 0.85 and 0.95 alarm. The slope goes from one false alarm (1 found) to three (3 found): 2 / 2.
    """
    negative, positive = np.arange(10) / 10 + 0.05, np.array([0.5, 0.72, 0.82, 0.99])
    target = np.repeat([0.0, 1.0], [10, 4])[:, None]
    prob = np.concatenate([negative, positive])[:, None]
    version = _Version(predictions("independent", target, prob, np.arange(14) // 2))
    found, alarms = version.patients(0.8, 0)
    assert found.tolist() == [0, 0, 0, 0, 0, 0, 2]
    assert alarms.tolist() == [0, 0, 0, 0, 2, 0, 0]
    assert version.slope(0.8, 0) == pytest.approx((3 - 1) / (3 - 1))
    # Twice the positives at each score: twice as many are found for one more false alarm.
    twice = _Version(predictions("independent", np.r_[target, target[10:]], np.r_[prob, prob[10:]]))
    assert twice.slope(0.8, 0) == pytest.approx(2)


def test_the_declared_family_alone_is_the_same() -> None:
    base = drawn("exclusive", critical=("c0", "c2"))
    arms = {"a": [base], "b": [noisy(base, 1)]}
    both = [row for row in compare(arms, baseline="a", part="val", **QUICK) if row["family"] == "primary"]
    assert compare(arms, baseline="a", part="val", **QUICK, exploratory=False) == both and len(both) == 2


def test_what_a_lower_threshold_found_is_taken_back() -> None:
    """Six patients gained one image each: 2 of 64 swaps reach that. Where each of them also cost a false alarm, and the
    ROC gives one image for one alarm, nothing is left of it: d = 1 - 1 x 1 = 0."""
    gained, none = np.repeat([1.0, 0.0], 6), np.zeros(12)

    def p(alarms: np.ndarray) -> float:
        ours = SimpleNamespace(patients=lambda at, k: (gained, alarms), slope=lambda at, k: 1.0)
        theirs = SimpleNamespace(patients=lambda at, k: (none, none), slope=lambda at, k: 1.0)
        pair = _Pair("new", "old", [ours], [theirs], "test", 0)  # type: ignore[list-item]
        return float(pair.primary({"difference": 0.5, "method": ""}, 0, 0.9, "", 200)["p"])

    assert p(none) == 2 / 64
    assert p(gained) == 1
    assert p(-gained) == 2 / 64  # fewer alarms as well: the larger of two p, which is that of the images found
