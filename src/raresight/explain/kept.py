"""Results beside what they were made from: made once, found again by the hash of everything they depend on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from raresight.core.files import read_json, replacing, sha256_of, write_json

Found = TypeVar("Found")
# What reading a file that was cut short or overwritten ends in, by whatever reads it.
DAMAGED = (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile, zlib.error)


def kept_table(folder: Path, name: str, key: object, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table `name` for this `key`: read, or made and written whole; made anew where it cannot be read."""

    def write(path: Path) -> None:
        table = make()
        with replacing(path) as temporary:
            table.to_parquet(temporary, index=False)

    return _kept(folder, name, key, "parquet", pd.read_parquet, write)


def kept_json(folder: Path, name: str, key: object, make: Callable[[], Any]) -> Any:
    """As `kept_table`, for anything that is JSON."""
    return _kept(folder, name, key, "json", read_json, lambda path: write_json(path, make()))


def kept_arrays(
    folder: Path, name: str, key: object, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """As `kept_table`, for named arrays."""

    def write(path: Path) -> None:
        arrays = make()
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    return _kept(folder, name, key, "npz", _arrays, write)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _kept(
    folder: Path, name: str, key: object, suffix: str, read: Callable[[Path], Found], write: Callable[[Path], None]
) -> Found:
    path = folder / f"{name}-{sha256_of(key)[:16]}.{suffix}"
    if path.exists():
        try:
            return read(path)
        except DAMAGED:
            pass  # somebody cut it short; what it was made from is still there
    write(path)
    _forget(folder, name, suffix, path)
    return read(path)


def _forget(folder: Path, name: str, suffix: str, kept: Path) -> None:
    """What was made for other keys, so that the cache does not grow with every change."""
    for path in folder.glob(f"{name}-{'[0-9a-f]' * 16}.{suffix}"):
        if path != kept:
            path.unlink(missing_ok=True)
