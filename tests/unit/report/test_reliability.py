"""The reliability figure: who is named as poorly calibrated, where there is no curve, what each panel prints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from raresight.core.predictions import Predictions
from raresight.core.task import Task
from raresight.evaluate.estimates import estimate
from raresight.report.content import ArmResult, Content
from raresight.report.figures.reliability import reliability
from raresight.report.figures.style import Absent, Figure


@pytest.fixture(scope="module")
def content() -> Content:
    """`fair`: labels drawn from its probabilities; `loud`: five times too high; `few`: 2 positive patients."""
    rng = np.random.default_rng(0)
    n, classes = 1500, ("fair", "loud", "few")
    z = rng.normal(size=(n, 3)) * 1.5 - 3.5
    y = (rng.random((n, 3)) < expit(z)).astype(float)
    y[:, 2] = np.arange(n) < 3
    prob = expit(z + np.array([0.0, np.log(5), -3.5]))
    columns: dict[str, object] = {"case": [str(i) for i in range(n)], "patient_id": [str(i // 2) for i in range(n)]}
    for k, name in enumerate(classes):
        columns |= {f"label_{name}": y[:, k], f"prob_{name}": prob[:, k]}
    task = Task("independent", classes, critical=classes)
    given = Predictions(pd.DataFrame(columns), task, "a", 0, "test")
    arm = ArmResult("a", predictions=(given,), estimates=tuple(estimate(given, resamples=20)))
    return Content(task=task, arms=(arm,), baseline="a", part="test")


def test_poorly_calibrated_rare_classes_are_named(content: Content) -> None:
    figure = reliability(content)
    assert isinstance(figure, Figure)
    assert "Poorly calibrated among the rare classes: loud (it expects" in figure.caption
    assert "Too few patients to say for few." in figure.caption
    assert "loud: poorly calibrated" in figure.svg and "fair: poorly" not in figure.svg
    assert "no curve: 2 positive" in figure.svg
    rows = {row.cells[0]: row for row in figure.table.rows}
    assert rows["loud"].cells[4].startswith("poorly calibrated: it expects") and rows["fair"].cells[4] == ""
    assert rows["few"].cells[4].startswith("cannot be said") and rows["few"].mark == "blank"
    assert "a reliability curve needs 20" in rows["few"].cells[5] and "→" in rows["fair"].cells[5]


def test_each_panel_prints_ratio_and_slope_with_intervals(content: Content) -> None:
    figure = reliability(content)
    assert isinstance(figure, Figure)
    rows = {row.cells[0]: row.cells for row in figure.table.rows}
    for name in ("fair", "loud"):
        assert rows[name][1] in figure.svg and rows[name][2] in figure.svg
        assert rows[name][1].endswith(")") and "–" in rows[name][2]
    assert "lies wholly outside 0.8 to 1.25" in figure.table.note


def test_without_predictions_there_is_no_figure(content: Content) -> None:
    assert isinstance(reliability(replace(content, arms=())), Absent)
    bare = replace(content, arms=(replace(content.arms[0], predictions=()),))
    assert isinstance(reliability(bare), Absent)
