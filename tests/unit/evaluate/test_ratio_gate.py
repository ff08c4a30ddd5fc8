"""The judgement of `benchmarks/gate.py`, on figures worked by hand; nothing is timed."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gate.py"
SPEC = importlib.util.spec_from_file_location("ratio_gate", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
gate = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = gate  # its dataclasses look their module up
SPEC.loader.exec_module(gate)


@pytest.mark.parametrize(
    ("reference", "measured", "better", "spread", "holds"),
    [
        (2.0, 2.2, "lower", 0.0, True),  # 1.1 times as bad: just allowed
        (2.0, 2.21, "lower", 0.0, False),
        (2.0, 2.29, "lower", 0.05, True),  # allowed: 1.15
        (2.0, 2.31, "lower", 0.05, False),
        (2.0, 0.5, "lower", 0.0, True),  # better than it was
        (3.3, 3.0, "higher", 0.0, True),  # 3.3 / 3.0 = 1.1
        (3.3, 2.99, "higher", 0.0, False),
        (3.3, 2.9, "higher", 0.05, True),  # 3.3 / 2.9 = 1.138
        (3.3, 2.8, "higher", 0.05, False),
        (3.3, 9.0, "higher", 0.0, True),
    ],
)
def test_a_ratio_may_be_a_tenth_worse_beyond_the_spread(
    reference: float, measured: float, better: str, spread: float, holds: bool
) -> None:
    assert gate.judge(reference, measured, better, spread).holds is holds


def test_what_is_no_number_never_holds() -> None:
    assert not gate.judge(2.0, math.nan, "lower", 0.0).holds
    assert not gate.judge(2.0, math.nan, "higher", 0.0).holds


def test_the_spread_is_the_farther_quartile_of_the_control() -> None:
    """Quartiles of 0.90, 0.96, 1.00, 1.01, 1.50 are 0.96 and 1.01; one wild round does not widen it."""
    assert gate.Measured([1.0], [0.96, 1.5, 1.0, 0.9, 1.01], "lower", "").spread == pytest.approx(0.04)
    assert gate.Measured([1.0], [1.0, 1.0, 1.0, 1.07, 1.07], "lower", "").spread == pytest.approx(0.07)


def test_a_failure_names_ratio_reference_measurement_and_spread() -> None:
    found = gate.Measured([2.4, 2.5, 2.6], [1.0, 1.0, 1.02, 1.02], "lower", "benchmarks/heads.py")
    said, holds = gate.line("32 heads over one", {"ratio": 2.0, "spread": 0.05}, found)
    assert not holds
    for part in ("32 heads over one", "2.500", "2.000", "1.25", "1.15", "0.050", "python benchmarks/heads.py"):
        assert part in said
    said, holds = gate.line("32 heads over one", {"ratio": 2.3, "spread": 0.0}, found)
    assert holds and "holds" in said and "0.020" in said  # the larger spread is this run's


def test_a_ratio_without_reference_is_told_and_not_judged() -> None:
    said, holds = gate.line("new one", None, gate.Measured([9.0], [1.0], "lower", ""))
    assert holds and "no reference" in said


def test_the_committed_references_are_complete() -> None:
    kept = json.loads(gate.REFERENCE.read_text(encoding="utf-8"))
    assert set(kept["machine"]) == {"processor", "torch", "numpy"}
    assert len(kept["ratios"]) >= 8
    for name, reference in kept["ratios"].items():
        assert name and reference["better"] in ("lower", "higher")
        assert reference["ratio"] > 0 and 0 <= reference["spread"] < 0.25
        assert reference["command"].startswith("python benchmarks/") and reference["date"]
