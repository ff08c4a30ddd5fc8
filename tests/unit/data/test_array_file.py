"""Arrays of an .npz: large ones are mapped from a file without a name, small ones read; the same numbers either way."""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from raresight.data import array_file
from raresight.data.array_file import array_of, dtype_of


def base_of(array: np.ndarray) -> object:
    """What the memory of an array belongs to in the end."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base


@pytest.fixture
def path(tmp_path: Path) -> Path:
    numbers = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)
    np.savez_compressed(tmp_path / "set.npz", rows=numbers, columns=np.asfortranarray(numbers), none=numbers[:0])
    return tmp_path / "set.npz"


@pytest.mark.parametrize(("small", "mapped"), [(60, False), (59, True)])  # the array has 60 bytes
@pytest.mark.parametrize("name", ["rows", "columns"])
def test_the_same_numbers_read_or_mapped(
    path: Path, monkeypatch: pytest.MonkeyPatch, small: int, mapped: bool, name: str
) -> None:
    monkeypatch.setattr(array_file, "SMALL", small)
    found = array_of(path, name, path.parent)
    assert isinstance(base_of(found), mmap.mmap) == mapped
    assert type(found) is np.ndarray
    assert found.dtype == np.uint16
    assert found.tolist() == np.arange(30).reshape(2, 3, 5).tolist()
    assert not found.flags.writeable
    assert [file.name for file in path.parent.iterdir()] == ["set.npz"]  # nothing to clean up after a kill


def test_an_array_without_rows(path: Path) -> None:
    assert array_of(path, "none").shape == (0, 3, 5)
    assert dtype_of(path, "none") == np.uint16


def test_what_is_not_there_or_could_run_code_is_refused(path: Path) -> None:
    for read in (array_of, dtype_of):
        with pytest.raises(KeyError):
            read(path, "other")
        np.savez(path.parent / "objects.npz", rows=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="objects of Python"):
            read(path.parent / "objects.npz", "rows")


@pytest.mark.parametrize("small", [array_file.SMALL, 0])
def test_damage_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    """One bit of stored content turned over: the archive's checksum says so."""
    monkeypatch.setattr(array_file, "SMALL", small)
    np.savez(path, rows=np.arange(30, dtype=np.uint16))
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(30, dtype=np.uint16).tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        array_of(path, "rows")
