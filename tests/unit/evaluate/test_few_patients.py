"""A class that one patient has: no interval of it, or of a mean that it enters, may claim to know much."""

from __future__ import annotations

import numpy as np

from raresight.core.predictions import Predictions
from raresight.evaluate.arrays import as_predictions
from raresight.evaluate.compare import compare
from raresight.evaluate.estimates import estimate

CLASSES = [f"c{k}" for k in range(4)]


def table(seed: int) -> Predictions:
    """40 patients of 5 images; c0 and c1 in many, c2 and c3 in one patient each; scores without information."""
    patient = np.repeat(np.arange(40), 5)
    y = np.stack([patient % 3 == 0, patient % 2 == 0, patient == 7, patient == 11], axis=1).astype(float)
    scores = np.random.default_rng(seed).random(y.shape)
    return as_predictions(y, scores, groups=patient, classes=CLASSES, kind="independent")


def test_single_patients_open_the_intervals_of_their_class_and_of_every_mean() -> None:
    predictions = table(1)
    rows = {(row.metric, row.class_): row for row in estimate(predictions, resamples=200)}
    rare, common = rows["auprc", "c2"], rows["auprc", "c0"]
    assert rare.high - rare.low > 0.9 and rare.status == "wide" and "opened" in rare.method
    assert common.high - common.low < 0.5 and "opened" not in common.method
    for metric in ("macro_auprc", "macro_auroc", "macro_f1", "balanced_accuracy"):
        row = rows[metric, None]
        assert 0 <= row.low <= row.value <= row.high <= 1
        assert "opened" in row.method
    # two of four classes rest on one patient: sqrt(2) * 0.975 / 4 = 0.345 of the way down and up
    mean = rows["macro_auroc", None]
    assert mean.high - mean.low > 0.33


def test_no_arm_wins_by_classes_of_one_patient() -> None:
    first, second = table(1), table(2)
    rows = compare({"a": [first], "b": [second]}, baseline="a", part="val", resamples=200, permutations=200)
    for row in rows:
        if row["class"] in ("c2", "c3") or row["class"] is None:
            assert row["low"] < 0 < row["high"], row
            assert row["p"] in (None, 1.0) or row["family"] == "primary"


def test_ten_positive_patients_are_left_to_the_bootstrap() -> None:
    patient = np.repeat(np.arange(40), 3)
    y = np.eye(2)[(patient % 4 == 0).astype(int)]
    p = np.random.default_rng(3).dirichlet([1, 1], len(y))
    rows = estimate(as_predictions(y, p, groups=patient, classes=["a", "b"]), resamples=100)
    assert not any("opened" in row.method for row in rows)
