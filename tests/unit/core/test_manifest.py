"""The manifest keeps text as text, and unknown apart from absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.manifest import Manifest
from raresight.core.task import Task


def test_ids_survive_the_disk(tmp_path: Path) -> None:
    table = pd.DataFrame({"case": ["a", "b", "c"], "patient_id": ["007", "7", ""], "label": ["NA", "null", "1.0"]})
    path = tmp_path / "manifest.csv"
    Manifest(table).save(path)
    loaded = Manifest.load(path)
    pd.testing.assert_frame_equal(loaded.table, table, check_dtype=False)
    assert list(loaded.column("patient_id")) == ["007", "7", ""]
    assert list(loaded.cases) == ["a", "b", "c"]


def test_a_missing_column_is_empty_text() -> None:
    assert list(Manifest(pd.DataFrame({"case": ["a", "b"]})).column("site")) == ["", ""]


def test_exclusive_targets_are_one_hot_and_unknown_is_nan() -> None:
    manifest = Manifest(pd.DataFrame({"case": list("abc"), "label": ["mel", "", "nv"]}))
    target = manifest.targets(Task("exclusive", ("nv", "mel")))
    np.testing.assert_array_equal(target, np.array([[0, 1], [np.nan, np.nan], [1, 0]], dtype=np.float32))
    assert target.dtype == np.float32


def test_independent_targets_keep_unknown_apart_from_absent() -> None:
    manifest = Manifest(pd.DataFrame({"case": list("abc"), "label_x": ["1", "0", ""], "label_y": ["", "1", "0"]}))
    target = manifest.targets(Task("independent", ("y", "x")))
    np.testing.assert_array_equal(target, np.array([[np.nan, 1], [1, 0], [0, np.nan]], dtype=np.float32))


def test_a_class_without_a_column_is_unknown_everywhere() -> None:
    manifest = Manifest(pd.DataFrame({"case": ["a"], "label_x": ["1"]}))
    target = manifest.targets(Task("independent", ("x", "z")))
    np.testing.assert_array_equal(target, np.array([[1, np.nan]], dtype=np.float32))


def test_take_renumbers() -> None:
    manifest = Manifest(pd.DataFrame({"case": list("abc")})).take([2, 0])
    assert list(manifest.cases) == ["c", "a"]
    assert list(manifest.table.index) == [0, 1]
