"""Files of boxes: what is taken as pixels, what is refused, and with which remedy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raresight.core.errors import DataError
from raresight.core.manifest import Manifest
from raresight.core.task import Task
from raresight.verbs.explain_boxes import check_boxes, from_boxes
from raresight.verbs.explain_masks import alike


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """Two images of 16 x 16 pixels with a finding each, shown to a network of 8 x 8."""
    table = pd.DataFrame({"case": ["c0", "c1"], "label_a": ["1", "0"], "label_b": ["0", "1"]})
    facts = pd.DataFrame({"width": [16, 16], "height": [16, 16]}, index=["c0", "c1"])
    return SimpleNamespace(
        folder=SimpleNamespace(home=tmp_path),
        manifest=Manifest(table),
        task=Task("independent", ("a", "b")),
        config=SimpleNamespace(data=SimpleNamespace(boxes="boxes.csv"), image=SimpleNamespace(size=8)),
        image_sizes=facts,
        require=lambda path, what, command: None,
    )


def boxes(study: Any, *lines: str, sides: bool = False) -> Path:
    path = Path(study.folder.home / "boxes.csv")
    head = "case,class,xmin,ymin,xmax,ymax" + ",width,height" * sides
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_shares_of_the_sides_are_refused_with_how_to_make_pixels_of_them(study: Any) -> None:
    path = boxes(study, "c0,a,0.25,0.25,0.75,1", "c1,b,0,0,0.5,0.5")
    with pytest.raises(DataError, match=r"from 0 to 1: shares of the sides; expected are pixels") as refused:
        from_boxes(study, study.manifest, path)
    assert refused.value.problems[0].code == "RS-M47" and refused.value.problems[0].file == str(path)
    assert "multiply xmin and xmax by the width of the image" in refused.value.problems[0].remedy


def test_one_corner_beyond_1_makes_them_pixels(study: Any) -> None:
    regions, limits = from_boxes(study, study.manifest, boxes(study, "c0,a,0,0,1,1", "c1,b,0,0,8,16"))
    assert regions is not None and limits == []
    assert regions.masks()[1][:, :4].all() and regions.masks()[1].sum() == 4 * 8


@pytest.mark.parametrize("width", ["-5", "0", "wide"])
def test_a_side_that_cannot_be_is_refused(study: Any, width: str) -> None:
    path = boxes(study, f"c0,a,2,2,8,8,{width},16", sides=True)
    with pytest.raises(DataError, match=f"row 2, column 'width': '{width}' is no number of pixels.*\n.*\n.*empty"):
        from_boxes(study, study.manifest, path)


def test_sides_not_told_are_the_files_and_others_scale_the_box(study: Any) -> None:
    whole, _ = from_boxes(study, study.manifest, boxes(study, "c0,a,0,0,8,16,,", sides=True))
    scaled, _ = from_boxes(study, study.manifest, boxes(study, "c0,a,0,0,16,32,32,32", sides=True))
    assert whole is not None and scaled is not None
    assert np.array_equal(whole.masks(), scaled.masks()) and whole.masks().sum() == 4 * 8


def test_boxes_of_a_picture_of_another_shape_are_refused(study: Any) -> None:
    path = boxes(study, "c1,b,2,2,8,8,16,16", "c0,a,2,2,8,8,32,24", sides=True)
    with pytest.raises(DataError, match=r"row 3: a box drawn on a picture of 32 x 24; its image is 16 x 16"):
        from_boxes(study, study.manifest, path)


@pytest.mark.parametrize(
    ("sides", "same"),
    [
        ((2500, 2048, 224, 183), True),
        ((224, 183, 2500, 2048), True),
        ((16, 12, 16, 16), False),
        ((17, 16, 16, 16), True),
    ],
)
def test_a_pixel_that_resizing_rounds_away_is_no_other_shape(sides: tuple[int, ...], same: bool) -> None:
    """2048 of 2500 is 183.5 of 224."""
    assert alike(*sides) == same


def test_a_check_warns_of_what_will_not_be_used(study: Any) -> None:
    boxes(study, "c0,a,2,2,8,8", "c0,b,2,2,8,8", "c9,a,2,2,8,8", "c0,unheard,2,2,8,8")
    found = check_boxes(study)
    assert {(problem.code, problem.level) for problem in found} == {("RS-M47", "warning")}
    assert [problem.found for problem in found] == [
        "boxes of classes that are none of this study's are left out: unheard",
        "boxes of images that this study does not have are left out: 1 (c9)",
        "boxes on images that do not have that label are left out: 1",
    ]


def test_a_check_refuses_boxes_none_of_which_can_be_used(study: Any) -> None:
    boxes(study, "c0,b,2,2,8,8")
    with pytest.raises(DataError, match=r"has no box that can be used \(boxes on images that do not have that label"):
        check_boxes(study)
