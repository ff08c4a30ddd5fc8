"""Where findings lie by masks: one file an image, named in the manifest."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from raresight.core.errors import DataError, Problem, listed
from raresight.core.manifest import Manifest
from raresight.explain.probe import Regions
from raresight.verbs.opened import OpenStudy

Side = float | np.ndarray


def from_masks(study: OpenStudy, manifest: Manifest) -> tuple[Regions | None, list[str]]:
    """One mask an image, for every class that is positive on it."""
    from raresight.data.transforms import UndecodableError, to_mask

    target, size = manifest.targets(study.task), study.config.image.size
    names = manifest.column("mask")
    named = np.flatnonzero((names != "") & (target == 1).any(1))
    sides = study.image_sizes.loc[manifest.cases[named].astype(str)].to_numpy(dtype=float)
    row, label, masks = [], [], []
    unreadable, empty, other = [], [], []
    with study.progress.bar("reading masks") as advance:
        for done, (i, (width, height)) in enumerate(zip(named, sides, strict=True), start=1):
            name = str(names[i])
            advance(done, len(named))
            try:
                content = (study.root / name).read_bytes()
                mask = to_mask(content, size)
            except (OSError, UndecodableError):
                unreadable.append(name)
                continue
            of_mask = _size_of(content)
            if of_mask and not alike(*of_mask, width, height):
                other.append(f"{name} ({of_mask[0]} x {of_mask[1]}, its image {width:.0f} x {height:.0f})")
                continue
            if not mask.any():
                empty.append(name)
                continue
            for k in np.flatnonzero(target[i] == 1):
                row.append(int(i))
                label.append(int(k))
                masks.append(np.packbits(mask.reshape(-1)))
    limits = []
    if unreadable:
        limits.append(f"{len(unreadable)} masks cannot be read and are left out: {listed(unreadable, 3)}")
    if empty:
        limits.append(f"{len(empty)} masks have no pixel left at {size} by {size} and are left out: {listed(empty, 3)}")
    if other:
        limits.append(f"{len(other)} masks have other sides than their image and are left out: {listed(other, 3)}")
    if len(named) and not masks:
        raise _no_mask(study, len(named), limits)
    several = int(((target[named] == 1).sum(1) > 1).sum())
    if several:
        limits.append(f"on {several} images with several findings one mask stands for each of them")
    if not masks:
        return None, limits
    shape = (size, size)
    return Regions(np.array(row), np.array(label), np.stack(masks), shape, "mask"), limits


def alike(width: Side, height: Side, of_width: Side, of_height: Side) -> np.ndarray:
    """Whether two pictures are of one shape: the sides proportional, but for a pixel that resizing rounds away."""
    longest = np.maximum.reduce(np.broadcast_arrays(width, height, of_width, of_height))
    return np.asarray(np.abs(np.multiply(width, of_height) - np.multiply(height, of_width)) <= longest)


def _size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height of a picture's file by its head; None where that does not say."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.size
    except (OSError, ValueError):
        return None


def _no_mask(study: OpenStudy, n: int, limits: Sequence[str]) -> DataError:
    return DataError(
        Problem(
            code="RS-M47",
            level="error",
            file=str(study.root),
            column="mask",
            found=f"none of the {n} masks of these images can be used: {'; '.join(limits)}",
            why="where findings lie is what maps are compared with",
            remedy="correct the column `mask` of the manifest, or empty it to look without masks",
        )
    )
