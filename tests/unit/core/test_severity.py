"""Severity bands, at and beside every bound of docs: 20%, 10%, 2%, 0.5%."""

from __future__ import annotations

import pytest

from raresight.core.severity import severity


@pytest.mark.parametrize(
    ("prevalence", "band"),
    [
        (1.0, "balanced"),
        (0.20, "balanced"),
        (0.1999, "mild"),
        (0.10, "mild"),
        (0.0999, "moderate"),
        (0.02, "moderate"),
        (0.0199, "severe"),
        (0.005, "severe"),
        (0.00499, "extreme"),
        (1e-9, "extreme"),
        (0.0, "absent"),
        (float("nan"), "absent"),
    ],
)
def test_bands(prevalence: float, band: str) -> None:
    assert severity(prevalence) == band


def test_the_two_pathologies_of_the_case_study() -> None:
    """ChestX-ray14: Pneumothorax 5,302 and Hernia 227 of 112,120 images."""
    assert severity(5302 / 112_120) == "moderate"
    assert severity(227 / 112_120) == "extreme"
