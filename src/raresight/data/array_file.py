"""Arrays of an array file (`.npz`), of which memory holds no more than is being read."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np

SMALL = 32 << 20
"""Bytes of an array up to which it is read into memory; above, it is unpacked to a file without a name and mapped."""
_BLOCK = 1 << 20


def dtype_of(path: Path, name: str) -> np.dtype:
    """The dtype of one array, from its header alone. Raises: as `array_of`."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        return _header(stream)[2]


def array_of(path: Path, name: str, scratch: Path | None = None) -> np.ndarray:
    """One array, read-only.

    An archive is mostly compressed and cannot be mapped where it lies. `scratch` is the folder for what is unpacked,
    the system's own for temporary files where it is None; the space is given back with the last use of the array.

    Raises: KeyError where there is no such array, OSError where the disk is full, and whatever zipfile, zlib and numpy
    raise on a damaged file; checksums of the archive are checked.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        shape, by_column, dtype = _header(stream)
        count = math.prod(shape)
        order: Literal["C", "F"] = "F" if by_column else "C"
        if count * dtype.itemsize <= SMALL:
            return np.frombuffer(stream.read(), dtype, count).reshape(shape, order=order)
        with tempfile.TemporaryFile(dir=scratch) as unpacked:
            shutil.copyfileobj(stream, unpacked, _BLOCK)
            unpacked.flush()
            mapped = np.memmap(unpacked, dtype, "r", shape=shape, order=order)
    return np.asarray(mapped)  # a plain view: indexing a np.memmap object costs more than the copy


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, which are not loaded: they could run code")
    return shape, by_column, dtype
