"""T5's faithfulness of each arm: its seeds' mean with an interval over patients, and its place in the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raresight.explain.told import faithful_table
from raresight.report.look_rows import Look
from raresight.report.look_tables import look_tables


def measured(n: int, seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Seed s's image i of patient i gains 2 + s + (-1)^i by taking away, and loses as much by bringing back."""
    lines = []
    for seed in seeds:
        for i in range(n):
            gain = 2.0 + seed + (-1.0) ** i
            lines.append(("plain", seed, f"p{i}", "grad_cam", gain, -gain))
    return pd.DataFrame(lines, columns=["arm", "seed", "patient", "method", "deletion_gain", "insertion_gain"])


def test_an_arm_is_the_mean_of_its_seeds_with_an_interval_over_patients() -> None:
    rows = faithful_table(measured(28), "stage")
    arm = {row["metric"]: row for row in rows if row["seed"] is None}
    assert set(arm) == {"deletion_gain", "insertion_gain"}
    one = arm["deletion_gain"]
    assert one["value"] == pytest.approx(2.5) and arm["insertion_gain"]["value"] == pytest.approx(-2.5)
    assert one["low"] < 2.5 < one["high"]
    alone, lost = faithful_table(measured(28, (0,)), "stage")[:2]
    assert alone["low"] > 0 > lost["high"]
    error = 1 / np.sqrt(28)  # images scatter by 1 about 2
    assert (alone["high"] - alone["low"]) / 2 == pytest.approx(2.05 * error, rel=0.15)  # Student's t of 27
    assert one["high"] - one["low"] > alone["high"] - alone["low"]  # the seeds scatter too
    assert (one["n_images"], one["n_patients"], one["n_seeds"]) == (28, 28, 2)
    assert (one["layer"], one["method"], one["table"]) == ("stage", "grad_cam", "gate")
    assert "beyond a random order" in one["reason"]
    each = {(row["seed"], row["metric"]): row["value"] for row in rows if row["seed"] is not None}
    assert each[0, "deletion_gain"] == pytest.approx(2.0) and each[1, "insertion_gain"] == pytest.approx(-3.0)


def test_few_patients_have_no_interval_and_nothing_measured_no_row() -> None:
    one = faithful_table(measured(8), "stage")[0]
    assert one["value"] == pytest.approx(2.5) and one["low"] is None and "8 patients" in one["reason"]
    assert faithful_table(pd.DataFrame(), "stage") == []


def test_the_page_shows_each_arms_gains_with_the_interval() -> None:
    rows = faithful_table(measured(28), "stage")
    made = look_tables(Look({"arms": ["plain"], "classes": [], "tables": {"gate": rows}, "choices": {}}))
    lines = {line.cells[0]: line.cells for line in next(iter(made.values())).rows}
    shown = lines["logit lost with what the map shows, beyond a random order"]
    assert shown[4].startswith("2.50 (−") and " to " in shown[4] and "28" in shown
