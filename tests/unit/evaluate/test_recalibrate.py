"""Calibrators: each map against a reference library, what they are equal to, and which one is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prediction_tables import drawn, predictions
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from raresight.core.errors import GateError
from raresight.core.predictions import Predictions
from raresight.evaluate import recalibrate
from raresight.evaluate.calibration import log_loss, probabilities
from raresight.evaluate.calibrators import fit_beta, fit_temperature, fit_vector, mapped
from raresight.evaluate.recalibrate import calibrate, calibrated_logits, fit

N = 1500


def independent(rng_seed: int, make: object, n: int = N, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from logistic(make(logits))."""
    rng = np.random.default_rng(rng_seed)
    z = 1.5 * rng.normal(size=(n, k)) - 1
    return z, (rng.random((n, k)) < expit(make(z))).astype(float)  # type: ignore[operator]


def exclusive(rng_seed: int, make: object, n: int = N, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rng_seed)
    z = log_softmax(1.5 * rng.normal(size=(n, k)), axis=1)
    prob = softmax(make(z), axis=1)  # type: ignore[operator]
    return z, np.eye(k)[(rng.random(n)[:, None] > np.cumsum(prob, axis=1)[:, :-1]).sum(axis=1)]


def table(kind: str, target: np.ndarray, logits: np.ndarray, patient: object = None, **more: object) -> Predictions:
    return predictions(kind, target, probabilities(logits, kind), patient, **more)  # type: ignore[arg-type]


# each map against a reference


def test_vector_of_independent_labels_is_platt_scaling() -> None:
    """Reference: scikit-learn's unpenalised LogisticRegression on the logit, class by class."""
    z, y = independent(0, lambda z: 0.6 * z + np.array([0.5, -0.4]))
    y[:200, 1] = np.nan
    found = fit_vector(y, z, "independent", np.array([True, True]), 1.0)
    for k, known in ((0, slice(0, None)), (1, slice(200, None))):
        reference = LogisticRegression(C=np.inf, tol=1e-10).fit(z[known, k : k + 1], y[known, k])
        assert found["scale"][k] == pytest.approx(reference.coef_[0, 0], abs=1e-4)
        assert found["bias"][k] == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_platt_scaling_is_that_of_calibrated_classifier() -> None:
    """Reference: CalibratedClassifierCV(method="sigmoid"), which smooths its targets to 1/(n+2): the same to 1%."""
    z, y = independent(1, lambda z: 0.5 * z - 0.7, n=4000, k=1)
    scorer = LogisticRegression().fit(z, y[:, 0])
    scorer.coef_, scorer.intercept_ = np.array([[1.0]]), np.array([0.0])
    reference = CalibratedClassifierCV(FrozenEstimator(scorer), method="sigmoid", cv=2).fit(z, y[:, 0])
    found = fit_vector(y, z, "independent", np.array([True]), 1.0)
    ours = probabilities(mapped(z, found, "independent"), "independent")[:, 0]
    # Its folds only say which rows it averages over, the scorer being frozen; 2 calibrators of 2,000 rows each.
    np.testing.assert_allclose(ours, reference.predict_proba(z)[:, 1], atol=0.01)


def test_temperature_is_that_of_calibrated_classifier() -> None:
    """Reference: CalibratedClassifierCV(method="temperature") of scikit-learn on a frozen scorer."""
    z, y = exclusive(2, lambda z: z / 2, n=3000)
    scorer = LogisticRegression().fit(z, y.argmax(axis=1))
    scorer.coef_, scorer.intercept_ = np.eye(3), np.zeros(3)
    reference = CalibratedClassifierCV(FrozenEstimator(scorer), method="temperature", cv=2, ensemble=False)
    reference.fit(z, y.argmax(axis=1))
    temperature = fit_temperature(y, z, "exclusive")
    assert temperature == pytest.approx(2, rel=0.1)
    np.testing.assert_allclose(softmax(z / temperature, axis=1), reference.predict_proba(z), atol=1e-3)


def test_beta_is_a_logistic_regression_on_two_logarithms() -> None:
    """Kull et al. 2017, section 4: logistic regression on ln p and -ln(1-p)."""
    make = lambda z: 0.5 * np.log(expit(z)) - 1.6 * np.log(expit(-z)) + 0.3  # noqa: E731
    z, y = independent(3, make, n=6000, k=1)
    found = fit_beta(y, z, "independent", np.array([True]), 1.0)
    features = np.concatenate([np.log(expit(z)), -np.log(expit(-z))], axis=1)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(features, y[:, 0])
    assert (reference.coef_ > 0).all()
    np.testing.assert_allclose([found["a"][0], found["b"][0]], reference.coef_[0], atol=2e-3)
    assert found["c"][0] == pytest.approx(reference.intercept_[0], abs=2e-3)
    np.testing.assert_allclose([found["a"][0], found["b"][0], found["c"][0]], [0.5, 1.6, 0.3], atol=0.35)


def test_beta_keeps_rising_where_labels_would_have_it_fall() -> None:
    """Labels that fall with the score would need a, b < 0; both stay at 0 and c gives the prevalence."""
    z, y = independent(4, lambda z: -z, n=2000, k=1)
    found = fit_beta(y, z, "independent", np.array([True]), 1.0)
    assert (found["a"][0], found["b"][0]) == (0, 0)
    assert expit(found["c"][0]) == pytest.approx(y.mean(), abs=1e-5)


def test_exclusive_vector_reaches_the_parameters_that_made_the_labels() -> None:
    scale, bias = np.array([0.5, 1.0, 1.5]), np.array([0.8, 0.0, -0.8])
    z, y = exclusive(5, lambda z: z * scale + bias, n=20_000)
    found = fit_vector(y, z, "exclusive", np.ones(3, bool), 1.0)
    np.testing.assert_allclose(found["scale"], scale, atol=0.08)
    np.testing.assert_allclose(found["bias"], bias, atol=0.12)
    assert sum(found["bias"]) == pytest.approx(0, abs=1e-9)
    # Gradient of the log-loss at an inner optimum: calibrated probabilities sum to the cases of each class.
    np.testing.assert_allclose(softmax(mapped(z, found, "exclusive"), axis=1).sum(axis=0), y.sum(axis=0), rtol=1e-4)


# what is equal to what


def test_temperature_is_beta_with_equal_slopes_and_vector_with_equal_scales() -> None:
    z = np.random.default_rng(6).normal(size=(20, 3)) * 4
    cold = mapped(z, {"temperature": 2.5}, "independent")
    same = [0.4] * 3
    beta = mapped(z, {"temperature": 1.0, "a": same, "b": same, "c": [0.0] * 3}, "independent")
    np.testing.assert_allclose(beta, cold, atol=1e-12)
    for kind in ("independent", "exclusive"):
        vector = mapped(z, {"temperature": 1.0, "scale": same, "bias": [0.0] * 3}, kind)
        expected = probabilities(mapped(z, {"temperature": 2.5}, kind), kind)
        np.testing.assert_allclose(probabilities(vector, kind), expected, atol=1e-12)


def test_beta_of_two_exclusive_classes_with_equal_slopes_is_temperature() -> None:
    """With K = 2 one against the rest is the whole question; q of both classes already sum to 1."""
    z = np.random.default_rng(7).normal(size=(20, 2)) * 3
    beta = mapped(z, {"temperature": 1.0, "a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.0, 0.0]}, "exclusive")
    np.testing.assert_allclose(softmax(beta, axis=1), softmax(z / 2, axis=1), atol=1e-9)


def test_classes_without_parameters_of_their_own_keep_the_temperature() -> None:
    z = np.random.default_rng(8).normal(size=(6, 2))
    after = mapped(z, {"temperature": 4.0, "a": [2.0, None], "b": [1.0, None], "c": [0.1, None]}, "independent")
    np.testing.assert_allclose(after[:, 1], z[:, 1] / 4)
    np.testing.assert_allclose(after[:, 0], 2 * np.log(expit(z[:, 0])) - np.log(expit(-z[:, 0])) + 0.1)
    # Exclusive: q = (logistic of own, softmax(z/4) of class 1), scaled to sum to 1.
    both = softmax(
        mapped(z, {"temperature": 4.0, "a": [2.0, None], "b": [1.0, None], "c": [0.1, None]}, "exclusive"), 1
    )
    p = softmax(z, axis=1)[:, 0]
    q = np.stack([expit(2 * np.log(p) - np.log(1 - p) + 0.1), softmax(z / 4, axis=1)[:, 1]], axis=1)
    np.testing.assert_allclose(both, q / q.sum(axis=1, keepdims=True))
    z3, y3 = exclusive(9, lambda z: z)
    found = fit_vector(y3, z3, "exclusive", np.array([True, False, False]), 2.0)
    assert found["scale"][1:] == [0.5, 0.5] and found["bias"][1:] == [0, 0] and found["bias"][0] != 0
    assert fit_beta(y3, z3, "exclusive", np.array([False, True, False]), 2.0)["a"][0] is None


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@pytest.mark.parametrize("method", ["temperature", "vector", "beta"])
def test_every_map_keeps_the_order_of_an_independent_label(kind: str, method: str) -> None:
    z, y = (independent if kind == "independent" else exclusive)(10, lambda z: 0.5 * z, n=400)
    k = y.shape[1]
    free = np.ones(k, bool)
    parameters = {
        "temperature": lambda: {"temperature": fit_temperature(y, z, kind)},
        "vector": lambda: fit_vector(y, z, kind, free, 1.5),
        "beta": lambda: fit_beta(y, z, kind, free, 1.5),
    }[method]()
    after = mapped(z, parameters, kind)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(probabilities(after, kind).sum(axis=1), 1) if kind == "exclusive" else None
    if kind == "independent":
        for c in range(k):
            assert (np.diff(after[np.argsort(z[:, c]), c]) >= 0).all()


# the choice


def test_what_is_right_already_is_left_alone() -> None:
    z, y = independent(11, lambda z: z)
    found = fit(table("independent", y, z))
    assert found["method"] == "none" and found["temperature"] == 1 and found["shift"] is None
    assert found["log_loss_after"] == found["log_loss_corrected"] == found["log_loss_before"]
    assert "no map was better" in found["reason"]
    np.testing.assert_allclose(calibrated_logits(z, found, "independent"), z)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_overconfidence_needs_a_temperature_and_no_more(kind: str) -> None:
    # One draw in six makes a needless map look better by a standard error; these seeds do not.
    z, y = independent(21, lambda z: z / 3) if kind == "independent" else exclusive(12, lambda z: z / 3)
    found = fit(table(kind, y, z))
    assert found["method"] == "temperature" and found["temperature"] == pytest.approx(3, rel=0.2)
    by_name = {row["method"]: row for row in found["candidates"]}
    assert list(by_name) == ["none", "temperature", "vector", "beta"] and all(r["eligible"] for r in by_name.values())
    assert by_name["temperature"]["over"] == "none" and by_name["vector"]["over"] == "temperature"
    assert by_name["temperature"]["gain"] > by_name["temperature"]["standard_error"]
    assert by_name["none"]["log_loss"] == found["log_loss_corrected"]
    assert by_name["temperature"]["log_loss"] == found["log_loss_after"] < found["log_loss_before"]
    assert "not better than temperature" in by_name["beta"]["reason"]
    assert found["own_parameters"] == []


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_classes_that_err_in_different_directions_need_vector_scaling(kind: str) -> None:
    k = 2 if kind == "independent" else 3
    bias = np.array([1.5, -1.5, 0.0])[:k]
    z, y = (independent if kind == "independent" else exclusive)(13, lambda z: z + bias)
    found = fit(table(kind, y, z))
    assert found["method"] == "vector" and found["own_parameters"] == [f"c{i}" for i in range(k)]
    if kind == "independent":
        np.testing.assert_allclose(found["bias"], bias, atol=0.25)
    after = calibrate(table(kind, y, z), found)
    np.testing.assert_allclose(after.prob.sum(axis=0), y.sum(axis=0), rtol=1e-3)
    assert log_loss(y, after.logits, kind) < found["log_loss_before"]


def test_a_bent_curve_needs_beta() -> None:
    make = lambda z: 3 * np.log(expit(z)) - 0.2 * np.log(expit(-z)) + 1  # noqa: E731
    z, y = independent(14, make, n=4000)
    found = fit(table("independent", y, z))
    assert found["method"] == "beta" and min(found["a"]) > 5 * max(found["b"])


def test_own_parameters_need_more_than_fifty_positive_patients() -> None:
    """50 patients with the class are not enough, 51 are; two images of one patient count once."""
    z, y = independent(15, lambda z: z + np.array([2.0, 0.0]), n=1000)
    for n, eligible in ((50, False), (51, True)):
        target = y.copy()
        target[:, 0], target[:, 1] = 0, np.nan
        target[:n, 0] = 1
        patient = np.arange(1000)
        rows = fit(table("independent", target, z, patient))["candidates"]
        assert [row["eligible"] for row in rows] == [True, True, eligible, eligible]
        assert eligible or "no class has more than 50 patients" in rows[2]["reason"]
        patient[1] = 0
        if eligible:
            assert not fit(table("independent", target, z, patient))["candidates"][2]["eligible"]


def test_too_few_patients_fit_nothing() -> None:
    z, y = independent(16, lambda z: z / 5, n=400)
    found = fit(table("independent", y, z, np.arange(400) % 19))
    assert found["method"] == "none" and found["n_patients"] == 19
    assert found["reason"] == "nothing could be fitted: 19 patients, fewer than 20"
    assert fit(table("independent", y, z, np.arange(400) % 20))["candidates"][1]["eligible"]


def test_prior_correction_comes_first() -> None:
    """Logits pushed up by ln 10 and then corrected for it need no further map; without the prior they do."""
    z, y = independent(17, lambda z: z)
    shift = np.array([np.log(10), 0.0])
    pushed = table("independent", y, z + shift)
    with_prior, without = fit(pushed, implied_prior=shift), fit(pushed)
    assert with_prior["method"] == "none" and with_prior["shift"] == shift.tolist()
    assert with_prior["log_loss_after"] < with_prior["log_loss_before"]
    assert without["method"] == "vector" and without["bias"][0] == pytest.approx(-np.log(10), abs=0.25)
    np.testing.assert_allclose(calibrate(pushed, with_prior).prob, expit(z), atol=1e-9)


def test_a_patient_is_never_on_both_sides() -> None:
    given = drawn("independent", n=400, n_patients=60)
    _, who = np.unique(given.patient.astype(str), return_inverse=True)
    positives = np.array([len(np.unique(who[given.target[:, k] == 1])) for k in range(4)])
    fold = recalibrate._folds(given.target, who, positives, 0)
    for g in np.unique(who):
        assert len(set(fold[who == g])) == 1
    rare = np.unique(np.stack([who, fold], axis=1)[given.target[:, 0] == 1], axis=0)[:, 1]
    counts = np.bincount(rare, minlength=5)
    assert counts.max() - counts.min() <= 1, "the patients of the rarest class are spread evenly"
    assert not np.array_equal(fold, recalibrate._folds(given.target, who, positives, 1))


def test_gain_by_hand() -> None:
    """Three patients with sums 0.4, 0.2, -0.3 over 2, 1, 1 labels: mean 0.075, deviations 0.25, 0.125, -0.375."""
    difference = np.array([0.1, 0.3, 0.2, -0.3, np.nan])
    mean, error = recalibrate._gain(difference, np.array([0, 0, 1, 2, 2]))
    assert mean == pytest.approx(0.075)
    assert error == pytest.approx(np.sqrt(1.5 * (0.25**2 + 0.125**2 + 0.375**2)) / 4)


def test_old_files_still_apply() -> None:
    z = np.random.default_rng(18).normal(size=(5, 2))
    old = {"method": "prior correction, then temperature", "shift": [0.5, 0.0], "temperature": 2.0}
    np.testing.assert_allclose(calibrated_logits(z, old, "independent"), (z - [0.5, 0]) / 2)
    np.testing.assert_allclose(calibrated_logits(z, {"shift": None, "temperature": 2.0}, "exclusive"), z / 2)


def test_nothing_is_fitted_on_the_test_part() -> None:
    with pytest.raises(GateError, match="RS-R36"):
        fit(drawn("exclusive", part="test"))


def test_no_label_at_all() -> None:
    given = drawn("independent", n=60)
    given = replace(given, table=given.table.assign(**{f"label_c{k}": np.nan for k in range(4)}))
    found = fit(given)
    assert (found["method"], found["log_loss_before"], found["log_loss_after"]) == ("none", None, None)


def test_logits_and_probabilities_give_the_same_calibrator() -> None:
    z, y = exclusive(19, lambda z: z * np.array([0.5, 1, 1.5]) + np.array([1.0, 0, 0]))
    bare = table("exclusive", y, z)
    raw = z + np.linspace(-5, 5, len(z))[:, None]  # logits of a softmax are told up to a constant of each case
    full = replace(bare, table=bare.table.assign(**{f"logit_c{k}": raw[:, k] for k in range(3)}))
    first, second = fit(bare), fit(full)
    assert first["method"] == second["method"] == "vector"
    np.testing.assert_allclose(calibrate(bare, first).prob, calibrate(full, second).prob, atol=1e-5)
    assert logit(calibrate(full, second).prob).std() > 0


def test_own_parameters_need_patients_without_the_class_as_well() -> None:
    """300 patients, 40 of them without the class: no map of its own; with 60 there is one."""
    rng = np.random.default_rng(0)
    for without, own in ((40, []), (60, ["c0"])):
        y = np.repeat([1.0, 0.0], [300 - without, without])[:, None]
        z = (3 * y - 1 + rng.normal(size=(300, 1))) * 3
        free = [row["eligible"] for row in fit(table("independent", y, z))["candidates"] if row["method"] == "vector"]
        assert free == [bool(own)]


def test_maps_are_judged_where_they_were_not_fitted() -> None:
    """Every fold after the temperature and the scales of the other folds, to the last digit."""
    z, y = independent(3, lambda z: 0.4 * z + 0.3, n=300)
    fold, free = np.arange(300) % 5, np.array([True, True])
    after = recalibrate._crossed(y, z, "independent", free, fold, ["none", "temperature", "vector"])
    for f in range(5):
        out = fold == f
        t = fit_temperature(y[~out], z[~out], "independent")
        np.testing.assert_array_equal(after["temperature"][out], z[out] / t)
        alone = fit_vector(y[~out], z[~out], "independent", free, t)
        np.testing.assert_array_equal(after["vector"][out], mapped(z[out], alone, "independent"))
