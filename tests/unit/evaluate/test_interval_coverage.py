"""A few cells of `benchmarks/interval_coverage.py`: the hard ones, and those where earlier rules failed.

Chosen from the whole table (docs/results): where Wilson with a plain design effect covered 87 to 90%, and where the
logit interval of an AUROC covered 90 to 91%, or was five to ten times as wide as it need be.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "interval_coverage.py"
SPEC = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
study = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = study  # its dataclasses look their module up
SPEC.loader.exec_module(study)

RATES, AREAS = 1000, 300


@pytest.mark.parametrize(
    ("value", "patients", "images", "correlation", "widest"),
    [
        (0.95, 40, 8, 0.7, 1.45),
        (0.9, 15, 8, 0.7, 1.3),
        (0.98, 100, 8, 0.7, 1.45),
        (0.7, 15, 8, 0.3, 1.15),
        (0.5, 8, 1, 0.0, 1.25),
    ],
)
def test_rates_cover(value: float, patients: int, images: int, correlation: float, widest: float) -> None:
    """At least 93% less three standard errors; widths as in the table, with a tenth to spare."""
    found = study.measure(study.Cell("recall", value, patients, images, correlation), RATES, seed=1)
    assert found.coverage >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / RATES)
    assert 0.9 < found.ratio < widest


@pytest.mark.parametrize(
    ("value", "patients", "images", "correlation", "widest"),
    [(0.97, 40, 8, 0.7, 1.35), (0.97, 8, 1, 0.0, 2.2), (0.9, 15, 8, 0.3, 1.4), (0.7, 8, 8, 0.0, 1.5)],
)
def test_areas_cover(value: float, patients: int, images: int, correlation: float, widest: float) -> None:
    found = study.measure(study.Cell("AUROC", value, patients, images, correlation), AREAS, seed=1)
    assert found.coverage >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / AREAS)
    assert 0.9 < found.ratio < widest


def test_the_oracle_of_a_rate_knows_the_design() -> None:
    """By hand: 10 patients of one image, p about 1/2: Wilson on 10. And its coverage is nominal where n is large."""
    cell = study.Cell("recall", 0.7, 100, 3, 0.3)
    found = study.measure(cell, 400, seed=2)
    # 100 patients of 1 to 5 images: N about 300, sum n^2 / N about 11/3, deff = 1 + 0.3 (11/3 - 1) = 1.8
    assert found.oracle == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 * 1.8 / 300), rel=0.03)


def test_the_oracle_of_an_area_by_hand() -> None:
    # logit(0.8) = 1.38629; half = 1.95996 * 0.05 / 0.16 = 0.61249; expit(1.99878) - expit(0.77380) = 0.88068 - 0.68434
    assert study.logit_normal(0.8, 0.05) == pytest.approx(0.88068 - 0.68434, abs=2e-5)
