"""Which rows lie in a part, with and without cross-fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raresight.core.folds import Folds
from raresight.core.manifest import Manifest


def folds(parts: list[str], fold: list[int]) -> Folds:
    cases = [f"c{i}" for i in range(len(parts))]
    return Folds(pd.DataFrame({"case": cases, "unit": cases, "part": parts, "fold": fold}))


def manifest(order: list[int]) -> Manifest:
    return Manifest(pd.DataFrame({"case": [f"c{i}" for i in order]}))


def test_parts_follow_the_manifests_order_not_the_splits() -> None:
    plain = folds(["train", "val", "test", "train"], [-1] * 4)
    turned = manifest([3, 2, 1, 0])
    assert [list(plain.rows(turned, p)) for p in ("train", "val", "test")] == [[0, 3], [2], [1]]
    assert plain.n_folds == 0


def test_a_fold_is_validation_once_and_training_otherwise() -> None:
    crossed = folds(["train", "train", "test", "train", "train"], [0, 1, -1, 0, 1])
    cases = manifest([0, 1, 2, 3, 4])
    assert crossed.n_folds == 2
    assert list(crossed.rows(cases, "train", 0)) == [1, 4]
    assert list(crossed.rows(cases, "val", 0)) == [0, 3]
    assert list(crossed.rows(cases, "test", 0)) == [2]
    assert list(crossed.rows(cases, "val")) == [0, 1, 3, 4]  # pooled, out of fold
    assert list(crossed.rows(cases, "train")) == [0, 1, 3, 4]


def test_a_subset_of_the_cases_will_do_and_a_stranger_will_not() -> None:
    plain = folds(["train", "val", "test"], [-1] * 3)
    assert list(plain.rows(manifest([2]), "test")) == [0]
    with pytest.raises(KeyError):
        plain.rows(manifest([7]), "test")


def test_disk_round_trip(tmp_path: Path) -> None:
    table = folds(["train", "test"], [3, -1])
    table.table["unit"] = ["007", "NA"]
    table.save(tmp_path / "split.csv")
    loaded = Folds.load(tmp_path / "split.csv")
    assert list(loaded.table["unit"]) == ["007", "NA"]
    assert loaded.n_folds == 4
    assert loaded.table["fold"].dtype.kind == "i"
    assert Folds(pd.DataFrame({"case": [], "unit": [], "part": [], "fold": np.array([], dtype=int)})).n_folds == 0
