"""The cases that a person should look at, on tables small enough to be sorted by hand."""

from __future__ import annotations

import numpy as np
from prediction_tables import predictions

from raresight.evaluate.failures import Failure, failures

PROB = np.array(
    [
        [0.70, 0.20, 0.10],  # 0: c0, found
        [0.30, 0.60, 0.10],  # 1: c0, missed
        [0.10, 0.20, 0.70],  # 2: c0, missed, and surest of it
        [0.95, 0.03, 0.02],  # 3: c1, called c0 with 95%
        [0.40, 0.35, 0.25],  # 4: c1, called c0 with 40%: no confident error
        [0.05, 0.90, 0.05],  # 5: c1, found
        [0.10, 0.10, 0.80],  # 6: c2, found
        [0.99, 0.00, 0.01],  # 7: unknown
    ]
)
TARGET = np.eye(3)[[0, 0, 0, 1, 1, 1, 2, 0]]
TARGET[7] = np.nan
GIVEN = predictions("exclusive", TARGET, PROB, critical=("c0",))


def test_each_kind_by_hand() -> None:
    found = failures(GIVEN, watched=["c0"])
    assert found == [
        Failure("missed", "case2", "c0", "c2", 0.10, 0.70),
        Failure("missed", "case1", "c0", "c1", 0.30, 0.60),
        Failure("confident", "case3", "c1", "c0", 0.03, 0.95),
        # the mean of c0 among cases labelled c0 is (0.7 + 0.3 + 0.1) / 3 = 0.367, which case4 reaches with 0.40
        Failure("suspect", "case4", "c1", "c0", 0.35, 0.40),
    ]


def test_a_threshold_decides_what_is_missed_and_few_are_shown() -> None:
    found = failures(GIVEN, thresholds={"c0": 0.25}, watched=["c0"], most=1)
    assert [(f.kind, f.case) for f in found] == [("missed", "case2"), ("confident", "case3"), ("suspect", "case1")]
    low = failures(GIVEN, thresholds={"c0": 0.05}, watched=["c0"])
    assert not [f for f in low if f.kind == "missed"]
    high = failures(GIVEN, thresholds={"c0": 0.75}, watched=["c0"])
    assert [(f.case, f.said) for f in high if f.kind == "missed"] == [("case2", "c2"), ("case1", "c1"), ("case0", None)]


def test_several_labels() -> None:
    target = np.array([[1, 0], [0, np.nan], [0, 1], [0, 0], [1, 1]], dtype=float)
    prob = np.array([[0.2, 0.1], [0.1, 0.99], [0.7, 0.6], [0.3, 0.5], [0.4, 0.9]])
    found = failures(predictions("independent", target, prob), watched=["c0", "c1"])
    assert [(f.kind, f.case, f.true, f.said) for f in found] == [
        ("missed", "case0", "c0", None),
        ("missed", "case4", "c0", None),  # what it is labelled with as well was not said instead
        ("confident", "case2", "c1", "c0"),
        ("confident", "case3", None, "c1"),
        # c0 among its cases: mean 0.3, which case3 reaches; it is shown above already
    ]
    assert found[3].true_score is None and found[3].said_score == 0.5


def test_nothing_is_mistaken_for_an_absent_class() -> None:
    target = np.tile([1.0, 0.0], (3, 1))
    found = failures(predictions("exclusive", target, np.array([[0.6, 0.4]] * 2 + [[0.49, 0.51]])), watched=["c1"])
    assert [(f.kind, f.case) for f in found] == [("confident", "case2")]
    assert failures(predictions("exclusive", np.full((2, 2), np.nan), np.full((2, 2), 0.5)), watched=["c0"]) == []


def test_a_label_is_suspect_only_where_another_class_beats_it() -> None:
    """Mean of c1 among its cases 0.35, of c0 0.45. case0 reaches the first, but its own label is likelier still."""
    prob = np.array([[0.45, 0.40, 0.15], [0.45, 0.35, 0.20]])
    found = failures(predictions("exclusive", np.eye(3)[[0, 1]], prob), watched=[])
    assert [(f.kind, f.case, f.true, f.said) for f in found] == [("suspect", "case1", "c1", "c0")]
