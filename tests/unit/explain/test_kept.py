"""Kept results that were cut short, emptied or overwritten are made anew, and read when they are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from raresight.explain.kept import kept_arrays, kept_json, kept_table
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Asked, Network, see

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[:100] if len(whole) > 200 else whole[: len(whole) // 2],
    "last byte": lambda whole: whole[:-4],
    "empty": lambda whole: b"",
    "words": lambda whole: b"no such thing \xff\xfe",
}
KINDS: dict[str, tuple[Any, Any]] = {
    "parquet": (kept_table, lambda: pd.DataFrame({"a": np.arange(300)})),
    "json": (kept_json, lambda: {"a": list(range(300))}),
    "npz": (kept_arrays, lambda: {"a": np.random.default_rng(0).random(300)}),
}


def plain(found: Any) -> list[float]:
    return list(np.asarray(found["a"]))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_made_anew_and_then_kept(kind: str, damage: str, tmp_path: Path) -> None:
    kept, make = KINDS[kind]
    made = []

    def counted() -> Any:
        made.append(1)
        return make()

    first = kept(tmp_path, "facts", 1, counted)
    path = next(tmp_path.glob(f"facts-*.{kind}"))
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    again = kept(tmp_path, "facts", 1, counted)
    assert plain(first) == plain(again) == plain(make()) and len(made) == 2
    assert plain(kept(tmp_path, "facts", 1, counted)) == plain(again) and len(made) == 2
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_error_of_what_makes_it_is_not_taken_for_damage(tmp_path: Path) -> None:
    def fails() -> Any:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        kept_json(tmp_path, "facts", 1, fails)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["seen.json", "arrays.npz", "activations-*.npy", "maps-*.npy"])
def test_a_network_whose_kept_files_cannot_be_read_is_asked_again(pattern: str, damage: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    made = []

    def make() -> nn.Module:
        made.append(1)
        return model

    images = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    probe = ProbeSet(images, np.array([[1, 0], [0, 1]] * 2), np.arange(4))
    network = Network("plain", 0, make, sha256="weights")
    asked = Asked(stages=1, methods=("grad_cam",), kept=np.array([0, 2]))

    def seen() -> Any:
        return see(network, probe, asked, tmp_path / "val", probe_sha256="p")

    first = np.array(seen().logits)
    path = next((tmp_path / "val").glob(pattern))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    again = seen()
    assert len(made) == 2 and np.array_equal(again.logits, first)
    assert again.activations and again.maps
    seen()
    assert len(made) == 2
