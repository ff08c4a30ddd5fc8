"""Conformal sets: quantiles by hand, MAPIE as oracle where each patient has one image, and coverage in simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from prediction_tables import drawn, predictions
from sklearn.base import BaseEstimator, ClassifierMixin

from raresight.core.errors import GateError
from raresight.core.estimate import Estimate
from raresight.evaluate.conformal import bound, fit, judge, sets

ROW = Estimate(metric="", value=0.0, part="test", operating_point="frozen")


def binary(p: list[float], y: list[float], patient: list[int] | None = None):
    return predictions("independent", np.array(y)[:, None], np.array(p)[:, None], patient)


def test_the_quantile_of_nine_patients_by_hand() -> None:
    # Scores .1 to .9. ceil(10 x .9) = 9th: .9; ceil(10 x .8) = 8th: .8; ceil(10 x .75) = 8th again.
    given = binary([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], [1] * 9 + [0])
    for alpha, q in ((0.1, 0.9), (0.2, 0.8), (0.25, 0.8), (0.5, 0.5)):
        entry = fit(given, alpha)["classes"]["c0"]
        assert entry["q"] == pytest.approx(q) and not entry["always"] and entry["n_patients"] == 9


def test_patients_needed() -> None:
    eight = binary([0.9] * 8 + [0.1], [1] * 8 + [0])
    entry = fit(eight, 0.1)["classes"]["c0"]
    assert (entry["q"], entry["always"], entry["needed"]) == (None, True, 9)
    assert entry["reason"] == "'c0' is always in the set: 8 patients with it, and 90% need 9"
    assert sets(np.array([[0.0]]), fit(eight, 0.1), ("c0",)).all()
    assert fit(eight, 0.05)["classes"]["c0"]["needed"] == 19
    assert not fit(eight, 0.2)["classes"]["c0"]["always"]
    nobody = fit(binary([0.5, 0.5], [0, math.nan]), 0.1)["classes"]["c0"]
    assert nobody["always"] and nobody["n_patients"] == 0


def test_each_patient_counts_once_by_the_worst_case() -> None:
    # Patient 0: .9 and .2 with the class, .01 without. Worst 1 - .2 = .8; the others .3 and .1: rank 2 of 3 at 50%.
    given = binary([0.9, 0.2, 0.01, 0.7, 0.9], [1, 1, 0, 1, 1], [0, 0, 0, 1, 2])
    entry = fit(given, 0.25)["classes"]["c0"]
    assert entry["n_patients"] == 3 and entry["q"] == pytest.approx(0.8)
    assert fit(given, 0.5)["classes"]["c0"]["q"] == pytest.approx(0.3)


def test_sets_by_hand() -> None:
    fitted = {"classes": {"a": {"q": 0.5, "always": False}, "b": {"q": 0.9, "always": False}, "c": {"always": True}}}
    prob = np.array([[0.5, 0.1, 0.4], [0.49, 0.51, 0.0], [0.99, 0.01, 0.0]])
    found = sets(prob, fitted, ("a", "b", "c"))
    assert found.tolist() == [[True, True, True], [False, True, True], [True, False, True]]


class Given(ClassifierMixin, BaseEstimator):
    """A model whose probabilities are its input, as MAPIE wants one."""

    def __init__(self, k: int = 3) -> None:
        self.k, self.classes_, self.is_fitted_ = k, np.arange(k), True

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization")
@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_agrees_with_mapie_class_by_class(alpha: float) -> None:
    """MAPIE's LAC score is 1 - p of the truth; calibrated on cases of one class alone it is class-conditional."""
    given = drawn("exclusive", n=600, k=3, n_patients=10**6, rng_seed=3)
    new = drawn("exclusive", n=200, k=3, rng_seed=4).prob
    ours = sets(new, fit(given, alpha), given.task.classes)
    truth = given.target.argmax(axis=1)
    for k in range(3):
        mapie = SplitConformalClassifier(Given(), confidence_level=1 - alpha, conformity_score="lac", prefit=True)
        mapie.conformalize(given.prob[truth == k], truth[truth == k])
        theirs = mapie.predict_set(new)[1][:, :, 0]
        np.testing.assert_array_equal(ours[:, k], theirs[:, k])
    assert 0 < ours.mean() < 1


@pytest.mark.parametrize("patients", [9, 14, 40])
def test_coverage_of_new_patients(patients: int) -> None:
    """Patients of one to four correlated images: all images of a new patient are covered at least 90% of the time.

    Expected of continuous scores: ceil((n+1) .9)/(n+1), that is .90, .933 and .902.
    """
    rng = np.random.default_rng(patients)
    covered, images, runs = [], [], 3000
    for _ in range(runs):
        n_images = rng.integers(1, 5, patients + 1)
        who = np.repeat(np.arange(patients + 1), n_images)
        p = 1 / (1 + np.exp(-(rng.normal(size=patients + 1)[who] + rng.normal(size=len(who)))))
        new = who == patients
        q, _ = bound(1 - p[~new], who[~new], 0.1)
        held = 1 - p[new] <= q
        covered.append(held.all())
        images.append(held.mean())
    expected = math.ceil((patients + 1) * 0.9 - 1e-9) / (patients + 1)
    assert np.mean(covered) == pytest.approx(expected, abs=4 * math.sqrt(0.09 / runs))
    assert np.mean(images) >= np.mean(covered)


def test_less_miscoverage_makes_larger_sets() -> None:
    given = drawn("exclusive", n=900)
    sizes = [sets(given.prob, fit(given, alpha), given.task.classes).sum() for alpha in (0.4, 0.2, 0.1)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_judged_on_other_patients_by_hand() -> None:
    fitted = {
        "miscoverage": 0.1,
        "classes": {
            "c0": {"q": 0.5, "always": False, "reason": ""},
            "c1": {"q": None, "always": True, "reason": "rare"},
        },
    }
    # c0 is held at p >= .5: two of its three cases. c1 is always held. Sizes 2, 2, 1, 1.
    target = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    prob = np.array([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.3, 0.7]])
    given = predictions("exclusive", target, prob, part="test")
    rows = {(r.metric, r.class_): r for r in judge(given, fitted, ROW)}
    coverage = rows["conformal_coverage", "c0"]
    assert coverage.value == pytest.approx(2 / 3) and coverage.n_positive_patients == 3 and coverage.n_images == 3
    assert coverage.low == pytest.approx(0.0943, abs=1e-4)  # Clopper-Pearson, 2 of 3
    assert "90% asked for" in coverage.reason and coverage.status == "wide"
    always = rows["conformal_coverage", "c1"]
    assert always.value == 1 and "rare" in always.reason
    size = rows["conformal_set_size", None]
    assert size.value == 1.5 and "0 of 4 sets are empty, 2 hold one class" in size.reason
    assert 1 <= size.low < 1.5 < size.high <= 2, "a set holds the class that is always in it, and no more than two"
    assert rows["conformal_set_size", "c0"].value == pytest.approx(5 / 3)
    assert {r.operating_point for r in rows.values()} == {"frozen"}


def test_a_patient_is_covered_in_all_cases_or_not_at_all() -> None:
    """Held at p >= .5: patient a in three of four cases, b in one of one, c in two of two. Two of three patients."""
    fitted = {"miscoverage": 0.1, "classes": {"c0": {"q": 0.5, "always": False, "reason": ""}}}
    p = np.array([0.9, 0.8, 0.7, 0.1, 0.6, 0.9, 0.9])
    given = predictions("independent", np.ones((7, 1)), p[:, None], patient=list("aaaabcc"), part="test")
    coverage = judge(given, fitted, ROW)[0]
    assert coverage.value == pytest.approx(2 / 3) and coverage.low == pytest.approx(0.0943, abs=1e-4)
    assert coverage.n_patients == 3 and coverage.n_images == 7


def test_an_absent_class_has_no_coverage() -> None:
    given = predictions("exclusive", np.array([[1.0, 0], [1, 0]]), np.full((2, 2), 0.5), part="test")
    fitted = fit(drawn("exclusive", k=2), 0.1)
    rows = {(r.metric, r.class_): r for r in judge(given, fitted, ROW)}
    for metric in ("conformal_coverage", "conformal_set_size"):
        assert rows[metric, "c1"].status == "not_estimable" and "no case has 'c1'" in rows[metric, "c1"].reason
    unfitted = {"miscoverage": 0.1, "classes": {}}
    assert sets(given.prob, unfitted, given.task.classes).all()
    assert "not fitted" in judge(given, unfitted, ROW)[0].reason


def test_sets_are_never_fitted_on_test() -> None:
    with pytest.raises(GateError, match="RS-R36"):
        fit(replace(drawn("exclusive"), part="test"))
