"""Results beside what they were made from: made once, found again by the hash of everything they depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.files import read_json, replacing, sha256_of, write_json


def kept_table(folder: Path, name: str, key: object, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table `name` for this `key`: read, or made and written whole."""
    path = _place(folder, name, key, "parquet")
    if not path.exists():
        table = make()
        with replacing(path) as temporary:
            table.to_parquet(temporary, index=False)
        _forget(folder, name, "parquet", path)
    return pd.read_parquet(path)


def kept_json(folder: Path, name: str, key: object, make: Callable[[], Any]) -> Any:
    """As `kept_table`, for anything that is JSON."""
    path = _place(folder, name, key, "json")
    if not path.exists():
        write_json(path, make())
        _forget(folder, name, "json", path)
    return read_json(path)


def kept_arrays(
    folder: Path, name: str, key: object, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """As `kept_table`, for named arrays."""
    path = _place(folder, name, key, "npz")
    if not path.exists():
        arrays = make()
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        _forget(folder, name, "npz", path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _place(folder: Path, name: str, key: object, suffix: str) -> Path:
    return folder / f"{name}-{sha256_of(key)[:16]}.{suffix}"


def _forget(folder: Path, name: str, suffix: str, kept: Path) -> None:
    """What was made for other keys, so that the cache does not grow with every change."""
    for path in folder.glob(f"{name}-{'[0-9a-f]' * 16}.{suffix}"):
        if path != kept:
            path.unlink(missing_ok=True)
