"""Tables of a few cases, absent classes and unknown labels among them: never a crash, never an invented number."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_tables import predictions

from raresight.advise.recommend import recommend
from raresight.core.predictions import Predictions
from raresight.evaluate.compare import compare
from raresight.evaluate.confusions import confusions
from raresight.evaluate.estimates import estimate
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune
from raresight.evaluate.units import aggregate

COSTS = {"missed": {"c0": 5.0}, "prevalence": {"c1": 0.1}}


@st.composite
def tiny(draw: st.DrawFn, kind: str) -> Predictions:
    n, k = draw(st.integers(1, 8)), draw(st.integers(2, 3))
    values = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
    prob = np.array(draw(st.lists(st.lists(values, min_size=k, max_size=k), min_size=n, max_size=n)))
    if kind == "exclusive":
        prob = (prob + 0.01) / (prob + 0.01).sum(axis=1, keepdims=True)
        labels = draw(st.lists(st.integers(-1, k - 1), min_size=n, max_size=n))
        target = np.array([np.full(k, np.nan) if y < 0 else np.eye(k)[y] for y in labels])
    else:
        cells = st.sampled_from([0.0, 1.0, np.nan])
        target = np.array(draw(st.lists(st.lists(cells, min_size=k, max_size=k), min_size=n, max_size=n)))
    patient = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return predictions(kind, target, prob, patient, critical=("c0",))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_whole_evaluation_of_a_tiny_table(kind: str, data: st.DataObject) -> None:
    given_ = data.draw(tiny(kind))
    tuned = tune(given_, costs=COSTS)
    calibrated = calibrate(given_, tuned.calibrator)
    assert np.isfinite(calibrated.prob).all()
    rows = estimate(given_, calibrated=calibrated, thresholds=tuned.values, costs=COSTS, resamples=20)
    present = (given_.target == 1).any(axis=0)
    for e in rows:
        if e.value is None:
            assert e.low is None and e.high is None and e.reason
            continue
        assert e.low is not None and e.high is not None
        assert math.isfinite(e.value) and e.low <= e.value + 1e-12 and e.value <= e.high + 1e-12, e
        if e.class_ is not None and e.metric in ("recall", "precision", "f1", "auroc", "auprc", "ece"):
            assert present[given_.task.index(e.class_)], e
    confusions(given_, costs=COSTS)
    turned = replace(given_, table=given_.table.assign(prob_c0=given_.prob[:, 1], prob_c1=given_.prob[:, 0]), arm="b")
    compared = compare({"a": [given_], "b": [turned]}, baseline="a", part="val", resamples=20, permutations=20)
    for row in compared:
        absent = row["class"] is not None and not present[given_.task.index(row["class"])]
        assert not absent or row["difference"] is None
        if row["difference"] is not None:
            assert -1 <= row["low"] <= row["high"] <= 1
            assert row["p"] is None or 0 < row["p"] <= 1
    advice = recommend(given_.task, compared, rows, baseline="a", costs=COSTS)
    assert len(advice["recommendation"]) == given_.task.n_classes and advice["deploy"]["arm"] in "ab"
    if kind == "independent":
        assert len(aggregate(given_, "patient_id", "max").table) == len(set(given_.patient))
