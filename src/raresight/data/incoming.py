"""Pictures that arrive where a bundle works: each prepared exactly as at training, or refused with the reason."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raresight.data.cache_row import Row, Sources, prepare, shows_nothing
from raresight.data.transforms import UndecodableError

STRETCH = 128
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")


@dataclass(frozen=True)
class Rules:
    """How pictures were prepared for training. `smallest_side`: the short side of the smallest picture seen there."""

    size: int
    channels: int
    dtype: str
    smallest_side: int


@dataclass(frozen=True)
class Incoming:
    """One picture: `pixels` `(size, size, C)`, or None with `code` and `reason`; `converted` names what was changed."""

    pixels: np.ndarray | None
    code: str = ""
    reason: str = ""
    converted: str = ""


def bring_in(image: str, sources: Sources, rules: Rules) -> Incoming:
    """Read, decode and resize one picture by the function that training used; refuse what training never saw.

    Refused: unreadable, truncated or foreign files, several frames, 16 bits where training had 8 (all RS-I..), a
    picture smaller than the network's input and than any picture of training, and one without content (RS-B10, RS-B11).
    """
    row = Row(image, -1, -1)
    try:
        content = sources.read(image)
        prepare(row, content, size=rules.size, channels=rules.channels, dtype=np.dtype(rules.dtype))
    except UndecodableError as error:
        return Incoming(None, error.code, error.found)
    except MemoryError:
        return Incoming(None, "RS-I31", "the image does not fit into memory")
    assert row.pixels is not None
    side, least = min(row.width, row.height), min(rules.size, rules.smallest_side)
    if side < least:
        told = f"the image is {row.width} x {row.height} pixels; no picture of training had a side below {least}"
        return Incoming(None, "RS-B10", told)
    if shows_nothing(row.pixels):
        return Incoming(None, "RS-B11", "the image is blank: all of its pixels are alike")
    return Incoming(row.pixels, converted=row.changed.replace(";", ", "))


def in_stretches(
    images: Sequence[str], root: Path, rules: Rules, *, threads: int | None = None
) -> Iterator[list[Incoming]]:
    """All pictures in order, a stretch at a time, so that memory does not grow with their number."""
    sources = Sources(root)

    def one(image: str) -> Incoming:
        return bring_in(image, sources, rules)

    with warnings.catch_warnings(), ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of them is judged here
        for start in range(0, len(images), STRETCH):
            yield list(pool.map(one, images[start : start + STRETCH]))


def pictures_below(path: Path, said: Callable[[str], None] = lambda text: None) -> list[Path]:
    """The pictures in a folder and the folders below it, by name; files of other suffixes are counted and left out."""
    files = sorted(found for found in path.rglob("*") if found.is_file() and not found.name.startswith("."))
    pictures = [found for found in files if found.suffix.lower() in SUFFIXES]
    if len(pictures) < len(files):
        said(f"{path}: left out, no pictures by their names: {len(files) - len(pictures)}")
    return pictures
