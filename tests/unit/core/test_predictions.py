"""The predictions table: probabilities of logits, labels with unknowns, and the way to disk and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from raresight.core.predictions import Predictions, tabulate
from raresight.core.task import Task

CASES = np.array(["a", "b", "c"], dtype=object)
METADATA = pd.DataFrame({"case": CASES, "patient_id": ["007", "7", "x"], "site": ["A", "B", ""]})
LOGITS = np.array([[1.0, -2.0, 0.5], [800.0, -800.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
NAN = np.nan


def test_exclusive_probabilities_are_softmax_without_overflow() -> None:
    task = Task("exclusive", ("x", "y", "z"))
    target = np.array([[0, 1, 0], [NAN, NAN, NAN], [1, 0, 0]])
    predictions = Predictions(tabulate(task, CASES, LOGITS, target, METADATA), task)
    np.testing.assert_allclose(predictions.prob, softmax(LOGITS.astype(np.float64), axis=1), atol=1e-15)
    assert list(predictions.table["label"]) == ["y", "", "x"]
    np.testing.assert_array_equal(predictions.target, target)
    np.testing.assert_array_equal(predictions.logits, LOGITS)


def test_independent_probabilities_are_logistic_without_overflow() -> None:
    task = Task("independent", ("x", "y", "z"))
    target = np.array([[0, 1, 1], [NAN, 0, 1], [1, 0, NAN]])
    predictions = Predictions(tabulate(task, CASES, LOGITS, target, METADATA), task)
    np.testing.assert_allclose(predictions.prob, expit(LOGITS.astype(np.float64)), atol=1e-15)
    np.testing.assert_array_equal(predictions.target, target)


def test_metadata_keeps_its_text_and_its_place() -> None:
    task = Task("independent", ("x", "y", "z"))
    predictions = Predictions(tabulate(task, CASES, LOGITS, np.zeros((3, 3)), METADATA), task)
    assert list(predictions.table.columns[:3]) == ["case", "patient_id", "site"]
    assert list(predictions.patient) == ["007", "7", "x"]
    assert list(predictions.cases) == list(CASES)
    assert list(Predictions(predictions.table, task, cluster="site").patient) == ["A", "B", ""]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_parquet_round_trip_is_exact(tmp_path: Path, kind: str) -> None:
    task = Task(kind, ("x", "y", "z"))
    target = np.array([[0, 1, 0], [NAN, NAN, NAN], [1, 0, 0]])
    before = Predictions(tabulate(task, CASES, LOGITS, target, METADATA), task)
    before.save(tmp_path / "p.parquet")
    after = Predictions.load(tmp_path / "p.parquet", task, arm="focal", seed=1, part="val")
    np.testing.assert_array_equal(after.prob, before.prob)
    np.testing.assert_array_equal(after.target, target)
    assert (after.arm, after.seed, after.part) == ("focal", 1, "val")


def test_logits_are_none_where_the_table_has_none() -> None:
    task = Task("independent", ("x",))
    table = pd.DataFrame({"case": ["a"], "patient_id": ["1"], "prob_x": [0.5], "label_x": [1.0]})
    assert Predictions(table, task).logits is None
