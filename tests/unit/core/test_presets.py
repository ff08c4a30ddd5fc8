"""Presets are data: every bound has its reason, and what anatomy forbids stays forbidden."""

from __future__ import annotations

from dataclasses import fields

import pytest

from raresight.core.presets import PRESETS, Preset

TRANSFORMS = {entry.name for entry in fields(Preset)} - {"name", "reasons"}


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_every_bound_has_a_reason_that_says_off_where_it_is_off(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    assert set(preset.reasons) == TRANSFORMS
    for transform, reason in preset.reasons.items():
        assert len(reason) > 10
        assert reason.startswith("off") == (not getattr(preset, transform)), transform


def test_the_modalities_are_there() -> None:
    assert list(PRESETS) == ["dermoscopy", "chest", "ct", "mr", "fundus", "histology", "none"]


@pytest.mark.parametrize("name", ["chest", "ct", "mr"])
def test_grey_modalities_have_neither_hue_nor_saturation_nor_flips(name: str) -> None:
    preset = PRESETS[name]
    assert preset.hue == preset.saturation == 0
    assert not (preset.flip_horizontal or preset.flip_vertical or preset.quarter_turns)
    assert preset.rotate_deg <= 15


def test_calibrated_units_are_hardly_moved() -> None:
    """Hounsfield units mean density: 2% of a window 400 wide are 8 units, less than grey and white matter differ by."""
    ct = PRESETS["ct"]
    assert ct.brightness <= 0.02
    assert ct.contrast <= 0.05
    assert ct.gamma == 0
    assert PRESETS["mr"].contrast > ct.contrast  # signal of MR has no unit


def test_what_the_shape_of_a_diagnosis_forbids() -> None:
    assert all(preset.shear_deg == 0 for preset in PRESETS.values())
    assert [name for name, preset in PRESETS.items() if preset.cutmix] == ["histology"]
    fundus = PRESETS["fundus"]
    assert fundus.flip_horizontal  # a right eye becomes a left one
    assert not fundus.flip_vertical  # the macula never lies above the disc
    histology = PRESETS["histology"]
    assert histology.rotate_deg == 180
    assert histology.hue > PRESETS["dermoscopy"].hue >= fundus.hue > 0
    assert not any(getattr(PRESETS["none"], name) for name in TRANSFORMS)
