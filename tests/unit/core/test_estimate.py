"""An estimate without a value must say why, and no NaN reaches the disk."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from raresight.core.estimate import Estimate, load_estimates, save_estimates
from raresight.core.files import read_json

CONTRACT = [
    "metric",
    "class",
    "arm",
    "seed",
    "part",
    "unit",
    "operating_point",
    "threshold",
    "prevalence",
    "subgroup",
    "value",
    "low",
    "high",
    "method",
    "n_patients",
    "n_positive_patients",
    "n_images",
    "status",
    "reason",
]


def test_keys_are_those_of_the_contract() -> None:
    assert list(Estimate(metric="recall", class_="mel", value=0.5).as_dict()) == CONTRACT


def test_disk_round_trip(tmp_path: Path) -> None:
    estimates = [
        Estimate(metric="recall", class_="mel", arm="focal", seed=0, value=0.8, low=0.5, high=0.9, n_patients=11),
        Estimate(metric="auroc", status="not_estimable", reason="no positive"),
    ]
    save_estimates(tmp_path / "estimates.json", estimates, note="x")
    assert load_estimates(tmp_path / "estimates.json") == estimates
    written = read_json(tmp_path / "estimates.json")
    assert written["note"] == "x"
    assert written["estimates"][0]["class"] == "mel"
    assert written["estimates"][1]["value"] is None


def test_not_estimable_is_exactly_no_value_and_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="with value None"):
        Estimate(metric="recall", class_="mel")
    with pytest.raises(ValueError, match="with value 0"):
        Estimate(metric="recall", class_="mel", value=0.0, status="not_estimable", reason="absent")
    with pytest.raises(ValueError, match="without a reason"):
        Estimate(metric="recall", class_="mel", status="not_estimable")


def test_an_infinite_bound_becomes_null() -> None:
    row = Estimate(metric="expected_observed_ratio", value=1.0, low=0.0, high=math.inf).as_dict()
    assert (row["low"], row["high"]) == (0.0, None)
