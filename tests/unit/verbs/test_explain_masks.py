"""Masks of a manifest as regions: which are used, which are left out and why, and that each file is read once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raresight.core.errors import DataError
from raresight.core.manifest import Manifest
from raresight.core.progress import Silent
from raresight.core.task import Task
from raresight.verbs.explain_probe import regions_of

SIZE = 8
MASKS = ["left.png", "gone.png", "", "words.png", "empty.png", "lying.png", "both.png", "whole.png"]


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """Images of 16 x 16 pixels and what stands in for an opened study."""
    inside = np.zeros((16, 16), dtype=np.uint8)
    Image.fromarray(inside).save(tmp_path / "empty.png")
    inside[:, :8] = 255
    Image.fromarray(inside).save(tmp_path / "left.png")
    Image.fromarray(inside.T).save(tmp_path / "both.png")
    Image.fromarray(inside[:12]).save(tmp_path / "lying.png")
    Image.fromarray(np.full((16, 16), 255, dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "words.png").write_text("no picture", encoding="utf-8")
    facts = pd.DataFrame({"case": [f"c{i}" for i in reversed(range(8))], "width": 16, "height": 16})
    return SimpleNamespace(
        root=tmp_path,
        task=Task("independent", ("a", "b")),
        config=SimpleNamespace(data=SimpleNamespace(boxes=None), image=SimpleNamespace(size=SIZE)),
        image_sizes=facts.set_index("case")[["width", "height"]],
        progress=Silent(),
    )


def manifest(rows: list[int]) -> Manifest:
    labels = {"label_a": ["1", "1", "1", "1", "1", "1", "1", "0"], "label_b": ["0"] * 6 + ["1", "0"]}
    table = pd.DataFrame({"case": [f"c{i}" for i in range(8)], "mask": MASKS} | labels)
    return Manifest(table).take(rows)


def test_masks_that_fit_are_used_and_the_others_are_told(study, monkeypatch):
    opened: Counter[str] = Counter()
    read = Path.read_bytes

    def counted(path: Path) -> bytes:
        opened[path.name] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    regions, limits = regions_of(study, manifest(list(range(8))))
    assert regions is not None and regions.kind == "mask"
    assert regions.row.tolist() == [0, 6, 6] and regions.label.tolist() == [0, 0, 1]  # c7 has no finding
    left = np.zeros((SIZE, SIZE), dtype=bool)
    left[:, : SIZE // 2] = True
    assert (regions.masks([0])[0] == left).all() and (regions.masks([1, 2]) == left.T).all()
    assert limits == [
        "2 masks cannot be read and are left out: gone.png, words.png",
        "1 masks have no pixel left at 8 by 8 and are left out: empty.png",
        "1 masks have other sides than their image and are left out: lying.png (16 x 12, its image 16 x 16)",
        "on 1 images with several findings one mask stands for each of them",
    ]
    assert set(opened.values()) == {1} and set(opened) == set(MASKS) - {"", "whole.png"}


def test_sides_are_those_of_the_case_whatever_the_order(study):
    study.image_sizes.loc["c5", "height"] = 12
    regions, limits = regions_of(study, manifest([5, 0]))
    assert regions is not None and regions.row.tolist() == [0, 1] and limits == []


def test_no_mask_that_can_be_used_is_an_error_and_no_mask_at_all_is_none(study):
    with pytest.raises(DataError, match="none of the 2 masks of these images can be used"):
        regions_of(study, manifest([1, 3]))
    assert regions_of(study, manifest([2])) == (None, [])
