"""Finding the images that a table names: by path, by file name in any folder, or by name without a suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from raresight.data.places import ABSOLUTE, file_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def images_under(root: Path) -> list[str]:
    """Every image file under `root`, as sorted relative paths with forward slashes; hidden folders are left out."""
    return sorted(_walk(root, ""))


def locate(names: pd.Series, root: Path, *, exclude: str = "") -> pd.Series:
    """`names` as paths relative to `root`, where that is possible without a guess.

    A path that exists stays. Otherwise the file of that name (or of that name without suffix) anywhere under `root`
    is taken if there is exactly one; what is not found stays as written, for `check` to report. `exclude` leaves out
    paths that contain it.
    """
    written = _relative(names, root)
    sample = written[written != ""].iloc[:: max(1, len(written) // 50)]
    if len(sample) and all((root / path).is_file() for path in file_of(sample)):
        return written
    found = pd.Series(images_under(root), dtype=object)
    if exclude:
        found = found[~found.str.contains(exclude, regex=False)]
    if not len(found):
        return written
    names_found = found.str.rpartition("/")[2]
    stems_found = names_found.str.rpartition(".")[0]
    by_name = _unique(names_found, found)
    by_stem = _unique(stems_found, found)
    wanted = written.str.rpartition("/")[2]
    exact = written.where(written.isin(set(found)))
    return exact.fillna(wanted.map(by_name)).fillna(wanted.map(by_stem)).fillna(written)


def channels_of(images: pd.Series, root: Path) -> Literal[1, 3]:
    """1 where the first readable images are grey, else 3."""
    from PIL import Image, UnidentifiedImageError

    modes = []
    for path in file_of(images.iloc[:: max(1, len(images) // 5)]):
        try:
            with Image.open(root / path) as image:
                modes.append(image.mode)
        except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
            continue
    grey = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}
    return 1 if modes and set(modes) <= grey else 3


def _relative(names: pd.Series, root: Path) -> pd.Series:
    """Paths of this computer under `root` made relative; those of another, where their end exists under `root`."""
    absolute = names.str.contains(ABSOLUTE, regex=True)
    if not absolute.any():
        return names
    prefix = _foreign_prefix(str(names[absolute].iloc[0]).replace("\\", "/"), root)
    if prefix is None:
        return names
    plain = names.str.replace("\\", "/", regex=False)
    return names.where(~(absolute & plain.str.startswith(prefix)), plain.str.slice(len(prefix)))


def _foreign_prefix(path: str, root: Path) -> str | None:
    """The beginning of `path` to leave out so that the rest is a file under `root`; the shortest such beginning."""
    parts = path.split("/")
    for cut in range(1, len(parts)):
        rest = "/".join(parts[cut:])
        if rest and ".." not in rest and (root / rest).is_file():
            return "/".join(parts[:cut]) + "/"
    return None


def _unique(keys: pd.Series, values: pd.Series) -> pd.Series:
    once = ~keys.duplicated(keep=False)
    return pd.Series(values[once].to_numpy(dtype=object), index=keys[once].to_numpy(dtype=object))


def _walk(root: Path, under: str) -> Iterator[str]:
    try:
        with os.scandir(root / under) as entries:
            for entry in entries:
                path = f"{under}/{entry.name}" if under else entry.name
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield from _walk(root, path)
                elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                    yield path
    except OSError:
        return
