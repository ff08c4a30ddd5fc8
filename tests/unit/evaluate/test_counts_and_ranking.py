"""Counts and rankings against hand-worked values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from raresight.core.errors import ConfigError
from raresight.evaluate import counts, ranking, select


def one_hot(labels: list[int], k: int) -> np.ndarray:
    return np.eye(k)[labels]


# Six cases of three classes, worked by hand: truth 0 0 1 1 1 2, said 0 1 1 1 2 2.
TARGET = one_hot([0, 0, 1, 1, 1, 2], 3)
PROB = np.array([[8, 1, 1], [3, 6, 1], [1, 8, 1], [2, 7, 1], [2, 3, 5], [1, 1, 8]]) / 10


def test_counts_by_hand() -> None:
    found = counts.count(TARGET, counts.decide(PROB, "exclusive"))
    assert found.tp.tolist() == [1, 2, 1]
    assert found.fn.tolist() == [1, 1, 0]
    assert found.fp.tolist() == [0, 1, 1]
    assert found.tn.tolist() == [4, 2, 4]
    np.testing.assert_allclose(found.recall, [1 / 2, 2 / 3, 1])
    np.testing.assert_allclose(found.precision, [1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(found.specificity, [1, 2 / 3, 4 / 5])
    np.testing.assert_allclose(found.npv, [4 / 5, 2 / 3, 1])
    np.testing.assert_allclose(found.f1, [2 / 3, 2 / 3, 2 / 3])
    assert float(counts.accuracy(found, "exclusive")) == pytest.approx(4 / 6)
    assert float(counts.balanced_accuracy(found, "exclusive")) == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert counts.trivial_accuracy(TARGET, "exclusive") == pytest.approx(3 / 6)


def test_confusion_matrix_has_truth_in_rows() -> None:
    matrix = counts.confusion_matrix(TARGET, counts.decide(PROB, "exclusive"))
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 1]]
    unknown = TARGET.copy()
    unknown[1] = np.nan
    assert counts.confusion_matrix(unknown, counts.decide(PROB, "exclusive")).tolist()[0] == [1, 0, 0]


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    y = rng.choice(5, 300, p=[0.03, 0.07, 0.2, 0.3, 0.4])
    prob = rng.dirichlet(np.ones(5), 300) + 0.3 * np.eye(5)[y]
    prob /= prob.sum(axis=1, keepdims=True)
    weight = rng.integers(0, 4, 300).astype(float) if weighted else np.ones(300)
    said = prob.argmax(axis=1)
    found = counts.count(np.eye(5)[y], counts.decide(prob, "exclusive"), weight)
    options = {"average": None, "sample_weight": weight, "zero_division": 0}
    np.testing.assert_allclose(found.recall, metrics.recall_score(y, said, **options), atol=1e-12)
    np.testing.assert_allclose(found.precision, metrics.precision_score(y, said, **options), atol=1e-12)
    np.testing.assert_allclose(found.f1, metrics.f1_score(y, said, **options), atol=1e-12)
    balanced = metrics.balanced_accuracy_score(y, said, sample_weight=weight)
    assert float(counts.balanced_accuracy(found, "exclusive")) == pytest.approx(balanced, abs=1e-12)
    accuracy = metrics.accuracy_score(y, said, sample_weight=weight)
    assert float(counts.accuracy(found, "exclusive")) == pytest.approx(accuracy, abs=1e-12)
    for k in range(5):
        score = np.round(prob[:, k], 1)  # rounded, so that there are ties
        area = metrics.roc_auc_score(y == k, score, sample_weight=weight)
        assert ranking.auroc((y == k) * 1.0, score, weight) == pytest.approx(area, abs=1e-12)
        ap = metrics.average_precision_score(y == k, score, sample_weight=weight)
        assert ranking.auprc((y == k) * 1.0, score, weight) == pytest.approx(ap, abs=1e-12)


def test_ranking_by_hand() -> None:
    # Scores 4 3 2 1 hold + - + -: three of the four pairs are in order; precision is 1 at the first hit, then 2/3.
    target, score = np.array([1.0, 0, 1, 0]), np.array([4.0, 3, 2, 1])
    assert ranking.auroc(target, score) == 0.75
    assert ranking.auprc(target, score) == pytest.approx((1 + 2 / 3) / 2)
    # All tied: half of every pair; one step at the prevalence.
    assert ranking.auroc(target, np.ones(4)) == 0.5
    assert ranking.auprc(target, np.ones(4)) == 0.5


def test_curves_end_where_they_must() -> None:
    target, score = np.array([1.0, 0, 1, 0, np.nan]), np.array([4.0, 3, 2, 1, 9])
    fpr, recall, threshold = ranking.roc_points(target, score)
    assert (fpr[0], recall[0], threshold[0]) == (0, 0, np.inf)
    assert (fpr[-1], recall[-1], threshold[-1]) == (1, 1, 1)
    assert np.trapezoid(recall, fpr) == pytest.approx(0.75)
    recall, precision, _ = ranking.pr_points(target, score)
    assert recall.tolist() == [0.5, 0.5, 1, 1]
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 1 / 2])


def test_sensitivity_at_specificity_is_conservative_with_ties() -> None:
    target = np.array([1.0, 1, 1, 0, 0, 0, 0])
    score = np.array([9.0, 7, 5, 7, 4, 3, 2])
    # 75% of four negatives allows one false alarm: the tie at 7 may alarm, so 9, 7, 7 and then 5.
    assert ranking.sensitivity_at_specificity(target, score, 0.75) == (1.0, 0.75, 5.0)
    # 80% allows none: only 9 lies above every negative.
    found = ranking.sensitivity_at_specificity(target, score, 0.8)
    assert found == (pytest.approx(1 / 3), 1.0, 9.0)
    # When the highest score is a negative's, nothing may alarm.
    assert ranking.threshold_at_specificity(np.array([0.0, 1]), np.array([2.0, 1]), 1.0) == np.inf


def test_absent_class_never_becomes_a_number() -> None:
    target, score = np.zeros(5), np.arange(5.0)
    assert np.isnan(ranking.auroc(target, score)) and np.isnan(ranking.auprc(target, score))
    assert np.isnan(ranking.auroc(np.ones(5), score))
    assert all(len(values) == 0 for values in (*ranking.roc_points(target, score), *ranking.pr_points(target, score)))
    found = counts.count(target[:, None], np.ones((5, 1), dtype=bool))
    assert np.isnan(found.recall[0]) and np.isnan(found.f1[0])
    assert found.specificity[0] == 0
    both = counts.count(np.stack([target, [1, 1, 0, 0, 0]], axis=1), np.ones((5, 2), dtype=bool))
    assert float(counts.macro_f1(both)) == pytest.approx(4 / 7)


def test_unknown_labels_are_left_out_class_by_class() -> None:
    target = np.array([[1, np.nan], [0, 1], [np.nan, 0]])
    found = counts.count(target, np.ones((3, 2), dtype=bool))
    assert (found.tp.tolist(), found.fp.tolist()) == ([1, 1], [1, 1])


def test_thresholds_judge_one_against_the_rest() -> None:
    alarm = counts.decide(PROB, "exclusive", np.array([0.3, np.nan, 0.5]))
    assert alarm[1].tolist() == [True, False, False]
    assert not alarm[:, 1].any()
    assert alarm[4].tolist() == [False, False, True]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_reversing_the_scores_mirrors_auroc(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 30))
    target = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=n, max_size=n)))
    score = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), dtype=float)
    area = ranking.auroc(target, score)
    mirrored = ranking.auroc(target, -score)
    assert (np.isnan(area) and np.isnan(mirrored)) or area == pytest.approx(1 - mirrored)


def test_selection_is_higher_the_better_for_every_rule() -> None:
    rng = np.random.default_rng(3)
    y = rng.choice(3, 400, p=[0.05, 0.25, 0.7])
    target = np.eye(3)[y]
    good, poor = (np.exp(rng.normal(size=(400, 3)) + s * target) for s in (3.0, 0.3))
    for rule in select.RULES:
        values = [
            select.score(target, p / p.sum(axis=1, keepdims=True), "exclusive", rule, costs=[20, 0, np.nan])
            for p in (good, poor)
        ]
        assert values[0] > values[1], rule
    prob = good / good.sum(axis=1, keepdims=True)
    areas = [metrics.average_precision_score(y == k, prob[:, k]) for k in range(3)]
    assert select.score(target, prob, "exclusive", "macro_auprc") == pytest.approx(np.mean(areas), abs=1e-12)
    target[:, 0] = 0
    assert select.score(target, prob, "independent", "macro_auprc") == pytest.approx(np.mean(areas[1:]), abs=1e-12)


def test_selection_by_cost_by_hand() -> None:
    # Scores 4 3 2 1 hold - + - +, a miss costs 3. Alarms: none 6, first 7, two 4, three 5, all 2. Least 2 over 4 cases.
    target, prob = np.array([[0.0], [1], [0], [1]]), np.array([[0.4], [0.3], [0.2], [0.1]])
    assert select.score(target, prob, "independent", "expected_cost", costs=[3]) == -0.5
    # A miss costs half an alarm: silence costs 1 and nothing is cheaper.
    assert select.score(target, prob, "independent", "expected_cost", costs=[0.5]) == -0.25


def test_selection_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="did you mean 'macro_auprc'"):
        select.score(TARGET, PROB, "exclusive", "macro_aucpr")
    with pytest.raises(ConfigError, match="RS-C37"):
        select.score(TARGET, PROB, "exclusive", "expected_cost")
    assert np.isnan(select.score(TARGET, PROB * np.nan, "exclusive", "macro_f1"))
    assert np.isnan(select.score(TARGET * 0, PROB, "independent", "macro_auprc"))
