"""How the cache lies on disk, and how it survives a kill at any moment.

```
cache/current.json            which settings were built last
cache/<settings>/index.json   which generation is valid: the one file whose replacement makes a build count
                 pixels-<generation>.npy   rows-<generation>.parquet
                 partial.npy  partial.jsonl   a build under way: rows in the manifest's order and a line for each
```

A build appends to the partial files and, once whole, renames them. A killed build is taken up where its lines end.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from raresight.core.files import read_json, replacing, write_json
from raresight.data.cache_row import Row

COLUMNS = tuple(field.name for field in fields(Row) if field.name != "pixels")


@dataclass(frozen=True)
class Stored:
    """A finished generation. `table` has one line per case of the manifest it was built from, with `case`, `row` (its
    place in `pixels`, -1 = quarantined) and the fields of `Row`; `good` `(M,)` is False where the checksum is wrong."""

    pixels: np.ndarray
    table: pd.DataFrame
    good: np.ndarray

    @classmethod
    def load(cls, home: Path) -> Stored | None:
        """The valid generation in `home`, or None where there is none or nothing of it can be read."""
        try:
            generation = _generation(home)
            table = pd.read_parquet(home / f"rows-{generation}.parquet")
            pixels = _map(home / f"pixels-{generation}.npy")
            kept = table[table["row"] >= 0].sort_values("row")
            if set(table) != {"case", "row", *COLUMNS} or not np.array_equal(kept["row"], np.arange(len(kept))):
                return None
        except Exception:  # whatever is wrong with a cache, it can be built again
            return None
        good = np.zeros(len(kept), dtype=bool)
        for row, checksum in enumerate(kept["checksum"].to_numpy()[: len(pixels)]):
            good[row] = zlib.crc32(pixels[row].data) == checksum
        return cls(pixels, table, good)

    def keys(self) -> list[tuple[str, int, int]]:
        """Image, file size and time of change of every line."""
        return list(zip(*(self.table[name].tolist() for name in ("image", "file_bytes", "mtime_ns")), strict=True))

    def usable(self) -> np.ndarray:
        """`(N,)`: quarantined, or with pixels that match their checksum."""
        rows = self.table["row"].to_numpy()
        usable = rows < 0
        usable[~usable] = self.good[rows[~usable]]
        return usable


def _generation(home: Path) -> int:
    """The number of the valid generation, 0 where there is none."""
    try:
        return int(read_json(home / "index.json")["generation"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _map(path: Path) -> np.ndarray:
    """The array in `path`, memory-mapped; of a file that was cut short, the rows that are whole."""
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        start = stream.tell()
        whole = (stream.seek(0, os.SEEK_END) - start) // (int(np.prod(shape[1:])) * dtype.itemsize)
    n_rows = min(shape[0], whole)
    if n_rows == 0:
        return np.zeros((0, *shape[1:]), dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=(n_rows, *shape[1:]))


class Partial:
    """A build under way: rows are appended in the order of the manifest, each followed by its line in the journal."""

    def __init__(self, home: Path, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.home, self.shape, self.dtype = home, shape, dtype
        self.n_lines = 0
        self.n_rows = 0
        self._pixels_path, self._journal_path = home / "partial.npy", home / "partial.jsonl"
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._start = len(self._header(0))
        self._journal_bytes = 0

    @contextmanager
    def opened(self, keys: list[tuple[str, int, int]]) -> Iterator[int]:
        """Take up what an earlier build left, as far as its images are those of `keys` (image, bytes, mtime_ns).

        Yields the number of images that need no work any more.
        """
        self._take_up(keys)
        with self._pixels_path.open("ab") as pixels, self._journal_path.open("ab") as journal:
            pixels.truncate(self._start + self.n_rows * self._row_bytes if self.n_lines else 0)
            journal.truncate(self._journal_bytes)
            if not self.n_lines:
                pixels.write(self._header(0))
            self._pixels: BinaryIO = pixels
            self._journal: BinaryIO = journal
            yield self.n_lines

    def append(self, rows: list[Row]) -> None:
        """Store one stretch of rows: pixels first, so that a line in the journal means that its pixels are there."""
        for row in rows:
            if row.pixels is not None:
                self._pixels.write(row.pixels.data)
        self._pixels.flush()
        for row in rows:
            line = {"row": self.n_rows if row.pixels is not None else -1, **row.record()}
            self.n_rows += row.pixels is not None
            self.n_lines += 1
            self._journal.write(self._encode(line))
        self._journal.flush()

    def commit(self, cases: np.ndarray) -> None:
        """Make this build the valid generation and remove the one before it. Call after `opened` has closed."""
        with self._pixels_path.open("rb+") as stream:
            stream.write(self._header(self.n_rows))  # of the same length: numpy leaves room for a longer first axis
            stream.flush()
            os.fsync(stream.fileno())
        generation = 1 + _generation(self.home)
        table = self.table()
        table.insert(0, "case", cases)
        with replacing(self.home / f"rows-{generation}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        os.replace(self._pixels_path, self.home / f"pixels-{generation}.npy")
        write_json(self.home / "index.json", {"generation": generation})
        self._journal_path.unlink(missing_ok=True)
        for old in [*self.home.glob("pixels-*.npy"), *self.home.glob("rows-*.parquet")]:
            if old.stem.rpartition("-")[2] != str(generation):
                old.unlink(missing_ok=True)

    def discard(self) -> None:
        self._pixels_path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def table(self) -> pd.DataFrame:
        """The journal as a table: one line per image, without cases."""
        columns: dict[str, list[Any]] = {name: [] for name in ("row", *COLUMNS)}
        with self._journal_path.open("rb") as journal:
            for text in journal:
                line = json.loads(text)
                for name, values in columns.items():
                    values.append(line[name])
        return pd.DataFrame(columns)

    def _take_up(self, keys: list[tuple[str, int, int]]) -> None:
        """Read the journal back as far as it agrees with `keys` and with the pixels."""
        if not (self._journal_path.exists() and self._pixels_path.exists()):
            return
        with self._journal_path.open("rb") as journal, self._pixels_path.open("rb") as pixels:
            pixels.seek(self._start)
            for text, key in zip(journal, keys, strict=False):
                try:
                    line = json.loads(text)
                    if (line["image"], line["file_bytes"], line["mtime_ns"]) != key or self._encode(line) != text:
                        return
                except (ValueError, KeyError, TypeError):  # the line that was being written when the build was killed
                    return
                if line["row"] >= 0:
                    if line["row"] != self.n_rows or zlib.crc32(pixels.read(self._row_bytes)) != line["checksum"]:
                        return
                    self.n_rows += 1
                self.n_lines += 1
                self._journal_bytes += len(text)

    def _header(self, n_rows: int) -> bytes:
        stream = io.BytesIO()
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": (n_rows, *self.shape)}
        np.lib.format.write_array_header_1_0(stream, description)
        return stream.getvalue()

    @staticmethod
    def _encode(line: dict[str, Any]) -> bytes:
        return json.dumps(line).encode() + b"\n"


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Let one process at a time build in `home`; the others wait. Without file locks (Windows) nobody waits."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (home / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
