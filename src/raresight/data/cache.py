"""Decode once: the images of a manifest as one memory-mapped array, keyed by settings and content.

Training reads rows of the array and never an image file. What has not changed is used again; what is damaged is
noticed and built again; what cannot be decoded is quarantined by name.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.errors import ConfigError, DataError, Problem, listed
from raresight.core.files import read_json, sha256_of, write_json
from raresight.core.manifest import Manifest
from raresight.data.cache_row import FACTS, Row, Sources, content_hash, prepare
from raresight.data.cache_store import COLUMNS, Partial, Stored, alone
from raresight.data.disk import full_disk, writing
from raresight.data.transforms import UndecodableError

_FORMAT = 3
"""Raise this number whenever decoding, resizing or hashing gives something else: every cache is then built anew."""
_STRETCH = 128
_WHY_CHANGED = {
    "alpha": "transparency was dropped; what it hid is now visible",
    "palette": "indexed colours became red, green and blue",
    "CMYK": "print colours became red, green and blue",
    "EXIF rotation": "the picture was turned upright, so boxes drawn on the unturned file would not fit",
    "16-bit colour": "16-bit colour was read as 8 bits a channel",
    "wrong extension": "the extension names another format than the content; it was read by its content",
}


@dataclass(frozen=True)
class Cache:
    """`pixels` `(M, size, size, C)` uint8 or uint16, read-only; row i belongs to `cases[i]`, in the manifest's order.

    `facts` has one line per row: `case, file_sha256, pixel_hash, dhash, width, height`. `problems` are first the
    quarantined images (level `quarantine`, which have no row), then counts of what was converted (level `warning`).
    """

    pixels: np.ndarray
    cases: np.ndarray
    facts: pd.DataFrame
    problems: list[Problem]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {case: row for row, case in enumerate(self.cases)}

    def __contains__(self, case: str) -> bool:
        return case in self._row_of

    def rows(self, cases: Sequence[str] | np.ndarray) -> np.ndarray:
        """Rows of `pixels` for `cases`, `(len(cases),)` int64.

        Raises: DataError (RS-I21) where a case has no picture, because it is quarantined or unknown.
        """
        missing = [case for case in cases if case not in self._row_of]
        if missing:
            raise DataError(
                Problem(
                    code="RS-I21",
                    level="error",
                    column="image",
                    found=f"{len(missing)} cases have no picture in the cache: {listed(missing)}",
                    why="they are quarantined, or the manifest has changed since the cache was built",
                    remedy="leave quarantined cases out of the split, or build the cache again",
                )
            )
        return np.array([self._row_of[case] for case in cases], dtype=np.int64)


def build_cache(
    manifest: Manifest,
    root: Path,
    folder: Path,
    *,
    size: int,
    channels: int,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cache:
    """Bring the cache of `manifest` in `folder` up to date and open it.

    Images (paths below `root`, or `file.npz#array[index]`) are decoded, scaled to `size` by their short side, cut to
    the middle square, with `channels` 1 (grey) or 3. The array is uint16 if any source is, else uint8. A row is used
    again where the file's size and time are unchanged, or else its SHA-256. Nothing is written when nothing changed.
    A killed build leaves the last finished cache as it was and is taken up again where it stopped.
    `progress(done, total)` counts images.

    A class all of whose images are quarantined has no rows; nothing is put in their place.

    Raises: ConfigError (RS-R45) where the disk is full or read-only, DataError where no image at all can be decoded.
    """
    sources = Sources(root, scratch=folder)
    images = [str(image) for image in manifest.column("image")]
    dtype = np.dtype(np.uint16 if any(sources.depth(image) == 16 for image in images) else np.uint8)
    settings = {"format": _FORMAT, "size": size, "channels": channels, "dtype": dtype.name}
    key = sha256_of(settings)[:12]
    home = folder / key
    with writing(folder):
        home.mkdir(parents=True, exist_ok=True)
        with alone(home):
            current = _update(manifest.cases, images, sources, home, settings, threads, progress)
        if not (folder / "current.json").exists() or read_json(folder / "current.json").get("key") != key:
            write_json(folder / "current.json", {"key": key, "settings": settings})
    return open_cache(folder) if current is None else _opened(current)


def open_cache(folder: Path) -> Cache:
    """Open the cache that was built last in `folder`, after checking every row against its checksum.

    Raises: ConfigError where no cache was built there, DataError (RS-I21) where rows are damaged; building the cache
    again mends exactly those.
    """
    try:
        home = folder / read_json(folder / "current.json")["key"]
    except (OSError, ValueError, KeyError, TypeError):
        home = folder
    stored = Stored.load(home)
    if stored is None or not stored.good.all():
        damaged = 0 if stored is None else int((~stored.good).sum())
        raise (ConfigError if stored is None and not (home / "index.json").exists() else DataError)(
            Problem(
                code="RS-I21",
                level="error",
                file=str(folder),
                found=f"{damaged} rows of the image cache do not match their checksum"
                if damaged
                else "there is no readable image cache here",
                why="training would see other pixels than those of the images",
                remedy="run the command again: what is missing or damaged is built again, the rest is kept",
            )
        )
    return _opened(stored)


def _opened(stored: Stored) -> Cache:
    kept = stored.table[stored.table["row"] >= 0]
    facts = kept[["case", *FACTS]].reset_index(drop=True)
    return Cache(stored.pixels, facts["case"].to_numpy(dtype=object), facts, _problems(stored.table))


def _problems(table: pd.DataFrame) -> list[Problem]:
    without = table[table["row"] < 0]
    quarantined = [
        Problem(
            code=str(line["code"]),
            level="quarantine",
            file=str(line["image"]),
            row=place + 2,  # the header is row 1
            column="image",
            found=str(line["found"]),
            why=str(line["why"]),
            remedy=str(line["remedy"]),
        )
        for place, line in zip(without.index.tolist(), without.to_dict("records"), strict=True)
    ]
    warned = []
    converted = table.loc[table["changed"] != "", "changed"].str.split(";")
    for kind, why in _WHY_CHANGED.items():
        lines = converted.index[[kind in changed for changed in converted]]
        if len(lines):
            code = {"16-bit colour": "RS-I23", "wrong extension": "RS-I22"}.get(kind, "RS-I24")
            warned.append(
                Problem(
                    code=code,
                    level="warning",
                    file=table["image"][lines[0]],
                    row=int(lines[0]) + 2,
                    column="image",
                    found=f"{kind}: {len(lines)} images were converted; this is the first",
                    why=why,
                    remedy="nothing to do if that is right; otherwise convert the files yourself",
                )
            )
    return quarantined + warned


def _update(
    cases: np.ndarray,
    images: list[str],
    sources: Sources,
    home: Path,
    settings: dict[str, Any],
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> Stored | None:
    """Write a new generation in `home`, or return the valid one if it is already that of `cases` and `images`."""
    keys = [(image, *sources.stat(image)) for image in images]
    stored = Stored.load(home)
    if stored is not None and _is_current(stored, cases, keys):
        return stored
    dtype = np.dtype(settings["dtype"])
    shape = (settings["size"], settings["size"], settings["channels"])
    needed = len(keys) * int(np.prod(shape)) * dtype.itemsize
    partial = Partial(home, shape, dtype)
    worker = _Worker(sources, stored, keys, settings)
    try:
        with writing(home, needed), partial.opened(keys) as kept:
            if shutil.disk_usage(home).free < needed - partial.n_rows * (needed // max(len(keys), 1)):
                raise full_disk(home, needed)
            if progress is not None:
                progress(kept, len(keys))
            for rows in _in_stretches(worker, range(kept, len(keys)), threads):
                partial.append(rows)
                if progress is not None:
                    progress(partial.n_lines, len(keys))
        if partial.n_rows == 0 and keys:
            raise DataError(*_problems(partial.table())[:5])
        with writing(home, needed):
            partial.commit(cases)
    except (ConfigError, DataError):
        partial.discard()  # gives the space back; the last finished cache stands as it was
        raise
    return None


def _is_current(stored: Stored, cases: np.ndarray, keys: list[tuple[str, int, int]]) -> bool:
    return (
        stored.keys() == keys
        and np.array_equal(stored.table["case"].to_numpy(dtype=object), cases)
        and bool(stored.usable().all())
    )


class _Worker:
    """Makes one row: copied where the image is unchanged, else decoded. Called from several threads."""

    def __init__(
        self,
        sources: Sources,
        stored: Stored | None,
        keys: list[tuple[str, int, int]],
        settings: dict[str, Any],
    ) -> None:
        self.sources, self.stored, self.keys = sources, stored, keys
        self.size, self.channels, self.dtype = settings["size"], settings["channels"], np.dtype(settings["dtype"])
        self.of_key: dict[tuple[str, int, int], int] = {}
        self.of_content: dict[str, int] = {}
        if stored is not None:
            sound = np.flatnonzero(stored.usable()).tolist()
            known, rows, hashes = stored.keys(), stored.table["row"].tolist(), stored.table["file_sha256"].tolist()
            self.of_key = {known[line]: line for line in sound}
            self.of_content = {hashes[line]: line for line in sound if rows[line] >= 0}
            self.columns = {name: stored.table[name].tolist() for name in ("row", *COLUMNS)}

    def __call__(self, place: int) -> Row:
        key = self.keys[place]
        if key in self.of_key:
            return self._copy(self.of_key[key], key)
        row = Row(*key)
        try:
            content = self.sources.read(row.image)
            row.file_sha256 = content_hash(content)
            if row.file_sha256 in self.of_content:
                return self._copy(self.of_content[row.file_sha256], key)
            return prepare(row, content, size=self.size, channels=self.channels, dtype=self.dtype)
        except UndecodableError as error:
            row.code, row.found, row.why, row.remedy = error.code, error.found, error.why, error.remedy
            return row

    def _copy(self, line: int, key: tuple[str, int, int]) -> Row:
        assert self.stored is not None
        row = Row(**{name: self.columns[name][line] for name in COLUMNS})
        row.image, row.file_bytes, row.mtime_ns = key
        if self.columns["row"][line] >= 0:
            row.pixels = self.stored.pixels[self.columns["row"][line]]
        return row


def _in_stretches(worker: _Worker, places: range, threads: int | None) -> Iterator[list[Row]]:
    """Rows in order, a stretch at a time, so that memory does not grow with the number of images."""
    with warnings.catch_warnings(), ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        # what matters of Pillow's warnings (size, damage) is judged here and quarantined; the rest is noise
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for start in range(places.start, places.stop, _STRETCH):
            yield list(pool.map(worker, range(start, min(start + _STRETCH, places.stop))))
