"""Probes, regions and settings from Python that cannot be right are refused in words, or left out and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raresight.core.errors import ConfigError, DataError
from raresight.explain.fitting import folder_for, labelled
from raresight.explain.look import look
from raresight.explain.probe import ProbeSet, Regions

N, SIDE = 6, 8
MASK = np.pad(np.ones((1, 4, 4)), ((0, 0), (2, 2), (2, 2)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.body(x).mean((2, 3)))


def probe(**changed: Any) -> ProbeSet:
    given = {
        "images": np.random.default_rng(0).random((N, 1, SIDE, SIDE)).astype(np.float32),
        "labels": np.array([[1, 0], [0, 1]] * 3),
        "patients": np.arange(N),
        "classes": ("common", "rare"),
    }
    return ProbeSet(**(given | changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"classes": ("a", "a")}, "two label columns are called 'a'"),
        ({"patients": ["p", None, "q", "r", "s", None]}, "2 of 6 images have no patient, the first is image 1"),
        ({"patients": [1.0, 2.0, 3.0, np.nan, 4.0, 5.0]}, "1 of 6 images have no patient, the first is image 3"),
        ({"patients": ["p", "q", "", "r", "s", "t"]}, "the first is image 2"),
        ({"patients": np.zeros((N, 1))}, r"patients of shape \(6, 1\)"),
    ],
)
def test_probes_that_cannot_be(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        probe(**changed)
    assert refused.value.problems[0].code == "RS-M47"


def test_patients_of_several_types_are_told_apart_by_name() -> None:
    given = probe(patients=np.array([1, "b", 2, 1, "b", 3], dtype=object))
    assert len(np.unique(given.patients)) == 4 and given.n_positive_patients.tolist() == [3, 3]


@pytest.mark.parametrize("masks", [MASK * 0.3, MASK * 7, MASK * np.nan, -MASK, np.concatenate([MASK, MASK * 255])])
def test_masks_of_other_values_than_inside_and_outside_are_refused(masks: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"a mask with the value .*; expected bool, 0 and 1, or 0 and 255"):
        Regions.of(range(len(masks)), [0] * len(masks), masks)


@pytest.mark.parametrize("masks", [MASK, MASK * 255, MASK.astype(bool), (MASK * 255).astype(np.uint8)])
def test_masks_of_1_255_or_bool_are_one(masks: np.ndarray) -> None:
    assert np.array_equal(Regions.of([0], [0], masks).masks(), MASK == 1)


def test_masks_without_a_grid_are_refused() -> None:
    with pytest.raises(DataError, match=r"masks of shape \(0,\)"):
        Regions.of([], [], [])


def test_no_region_at_all_is_as_if_nobody_drew() -> None:
    regions = Regions.of([], [], np.zeros((0, SIDE, SIDE)))
    assert len(regions) == 0 and regions.shape == (SIDE, SIDE) and len(regions.area) == 0
    looked = look(arms={"a": [Net()]}, probe=probe(regions=regions)).run(["alignment"])
    assert any("nobody drew" in limit for limit in looked.limits)


def test_regions_of_a_class_that_the_image_does_not_have_are_left_out_and_told() -> None:
    """Image 0 has class 0 alone, image 1 class 1; of image 2 class 1 is unknown."""
    labels = np.array([[1, 0], [0, 1], [1, np.nan], [0, 1], [1, 0], [0, 1]])
    regions = Regions.of([0, 0, 1, 2], [0, 1, 1, 1], np.repeat(MASK, 4, axis=0))
    some, told = labelled(probe(labels=labels, regions=regions, part="val"))
    assert some.regions is not None
    assert list(zip(some.regions.row, some.regions.label, strict=True)) == [(0, 0), (1, 1)]
    assert told == ["regions of val on images that do not have that label, left out: 2 of 4"]
    looked = look(arms={"a": [Net()]}, probe=probe(labels=labels, regions=regions)).run(["geometry"])
    assert "regions on images that do not have that label, left out: 2 of 4" in looked.limits
    assert looked.crossed and len(looked.which) == 2


def test_the_same_probe_given_twice_is_one_set_of_images() -> None:
    given = probe(regions=Regions.of([0, 1], [1, 1], np.repeat(MASK, 2, axis=0)))
    assert look(arms={"a": [Net()]}, probe=given, choose=given).crossed


@pytest.mark.parametrize("count", [-3, float("nan"), float("inf"), "many", None])
def test_counts_that_are_none_are_refused(count: Any) -> None:
    with pytest.raises(ConfigError, match=r"RS-C34 column 'counts': .* training images of 'rare'"):
        look(arms={"a": [Net()]}, probe=probe(), counts={"common": 5, "rare": count})


def test_a_report_onto_a_file_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("mine", encoding="utf-8")
    looked = look(arms={"a": [Net()]}, probe=probe()).run(["geometry"])
    for place in (tmp_path / "afile", tmp_path / "afile" / "below"):
        with pytest.raises(ConfigError, match=r"RS-C34 column 'out': .*afile is a file"):
            looked.report(place)
    with pytest.raises(ConfigError, match=r"RS-C34 column 'cache': .*afile is a file"):
        look(arms={"a": [Net()]}, probe=probe(), cache=tmp_path / "afile")
    assert (tmp_path / "afile").read_text(encoding="utf-8") == "mine"
    assert folder_for("out", tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
