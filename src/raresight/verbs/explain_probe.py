"""A study's part as a probe: pixels from its cache, labels, patients, and where the findings lie by masks or boxes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.files import sha256_of
from raresight.core.folds import Part
from raresight.core.manifest import Manifest
from raresight.core.seeds import numpy_rng
from raresight.explain.probe import ProbeSet, Regions
from raresight.verbs.opened import OpenStudy

MOST_PRIOR = 200  # training masks of a class that its mean mask is made of
CORNERS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = "give the columns case (or image), class (or label), xmin, ymin, xmax, ymax, in pixels of the image"
BEYOND = 0.1  # of a side: how far a box may reach over the edge before it was drawn on a picture of another size


def probe_of(study: OpenStudy, part: Part) -> tuple[ProbeSet, list[str]]:
    """The images of a part with everything known of them, and in words what of it could not be used.

    Patients are the split's units: those of its group column, joined where they share an image. With folds it is the
    part that fold 0's networks were held apart from.

    Raises: `DataError` RS-M47 for a file of boxes that cannot be read as one.
    """
    rows = rows_of(study, part)
    manifest = study.manifest.take(rows)
    unit = study.folds.table.set_index("case").loc[list(manifest.cases), "unit"].to_numpy(dtype=object)
    at = study.cache.rows(list(manifest.cases))
    pixels = np.asarray(study.cache.pixels)
    regions, limits = regions_of(study, manifest)
    probe = ProbeSet(
        lambda some: pixels[at[some]].transpose(0, 3, 1, 2),
        manifest.targets(study.task),
        unit,
        tuple(study.task.classes),
        manifest.cases,
        regions,
        part,
    )
    return probe, limits


def rows_of(study: OpenStudy, part: Part) -> np.ndarray:
    """The manifest's rows of a part; with folds, as fold 0 has it."""
    return study.folds.rows(study.manifest, part, 0 if study.folds.n_folds else None)


def training_counts(study: OpenStudy) -> dict[str, int]:
    """How many training images each class has."""
    target = study.manifest.take(rows_of(study, "train")).targets(study.task)
    return {name: int((target[:, k] == 1).sum()) for k, name in enumerate(study.task.classes)}


def regions_of(study: OpenStudy, manifest: Manifest) -> tuple[Regions | None, list[str]]:
    """Where the findings of these cases lie: by `data.boxes` where it is set, else by the manifest's masks."""
    if study.config.data.boxes:
        return _from_boxes(study, manifest, boxes_path(study))
    if (manifest.column("mask") != "").any():
        return _from_masks(study, manifest)
    return None, []


def prior_of(study: OpenStudy) -> np.ndarray | None:
    """The mean mask of each class's training images, `(K, H, W)` in [0, 1]; NaN for a class without any; None at all.

    At most 200 images of a class, drawn by the study's seed.
    """
    manifest = study.manifest.take(rows_of(study, "train"))
    target = manifest.targets(study.task)
    located = manifest.column("mask") != ""
    if study.config.data.boxes:
        located = np.isin(manifest.cases.astype(str), list(_table(study, manifest, boxes_path(study))[0]["case"]))
    drawn: set[int] = set()
    for k, name in enumerate(study.task.classes):
        rows = np.flatnonzero((target[:, k] == 1) & located)
        rng = numpy_rng(study.config.split.seed, "mean mask", name)
        drawn |= {int(row) for row in rng.permutation(rows)[:MOST_PRIOR]}
    regions = regions_of(study, manifest.take(sorted(drawn)))[0] if drawn else None
    if regions is None:
        return None
    prior = np.full((study.task.n_classes, *regions.shape), np.nan, dtype=np.float32)
    for k in range(study.task.n_classes):
        of_class = np.flatnonzero(regions.label == k)
        if len(of_class):
            prior[k] = regions.masks(of_class).mean(0)
    return prior


def regions_stamp(study: OpenStudy, parts: Sequence[Part]) -> str:
    """What regions are made from: the file of boxes by content, masks by name, size and when they were written."""
    if study.config.data.boxes:
        path = boxes_path(study)
        study.require(path, "the file of boxes", "correct `data: boxes:` in study.yaml, or take it out")
        return sha256_of(path.read_text(encoding="utf-8", errors="replace"))
    if not (study.manifest.column("mask") != "").any():
        return ""
    names = [m for part in parts for m in study.manifest.take(rows_of(study, part)).column("mask") if m]
    files = [study.root / name for name in names]
    facts = [file.stat() if file.exists() else None for file in files]
    return sha256_of([(name, at and (at.st_size, at.st_mtime_ns)) for name, at in zip(names, facts, strict=True)])


def boxes_path(study: OpenStudy) -> Path:
    return study.folder.home / str(study.config.data.boxes)


def _from_masks(study: OpenStudy, manifest: Manifest) -> tuple[Regions | None, list[str]]:
    """One mask an image, for every class that is positive on it."""
    from raresight.data.transforms import UndecodableError, to_mask

    target, size = manifest.targets(study.task), study.config.image.size
    names = manifest.column("mask")
    named = np.flatnonzero((names != "") & (target == 1).any(1))
    sides = _sizes(study).loc[manifest.cases[named].astype(str)].to_numpy(dtype=float)
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
            if of_mask and abs(of_mask[0] * height - of_mask[1] * width) > max(width, height):
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


def _from_boxes(study: OpenStudy, manifest: Manifest, path: Path) -> tuple[Regions | None, list[str]]:
    """Boxes in pixels of the image file, brought to the network's input by the same crop as the image."""
    from raresight.data.transforms import centre_square

    table, limits = _table(study, manifest, path)
    size, target = study.config.image.size, manifest.targets(study.task)
    place = {str(case): i for i, case in enumerate(manifest.cases)}
    row, label, boxes = [], [], []
    negative = outside = 0
    for line in table.to_dict("records"):
        case, k = str(line["case"]), int(line["class"])
        if case not in place:
            continue
        if target[place[case], k] != 1:
            negative += 1
            continue
        width, height = float(line["width"]), float(line["height"])
        left, top, right, _ = centre_square(int(width), int(height))
        scale = size / (right - left)
        x0, y0, x1, y1 = (float(line[name]) for name in CORNERS)
        moved = np.clip(np.array([y0 - top, x0 - left, y1 - top, x1 - left]) * scale, 0, size)
        if not (moved[2] > moved[0] and moved[3] > moved[1]):
            outside += 1
            continue
        row.append(place[case])
        label.append(k)
        boxes.append(moved)
    if negative:
        limits.append(f"{negative} boxes lie on images that do not have that label, and are left out")
    if outside:
        limits.append(f"{outside} boxes have no area within the square that the network sees, and are left out")
    if not boxes:
        return None, limits
    return Regions.of_boxes(row, label, np.array(boxes), (size, size)), limits


def _table(study: OpenStudy, manifest: Manifest, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The file of boxes with `case` and `class` (a number), and in words which classes of it the study lacks."""
    study.require(path, "the file of boxes", "correct `data: boxes:` in study.yaml, or take it out")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as cause:
        raise _bad_boxes(path, None, f"cannot be read as a table ({cause})") from cause
    names = {"class": next((c for c in ("class", "label") if c in table), None)}
    names["case"] = next((c for c in ("case", "image") if c in table), None)
    missing = [c for c in CORNERS if c not in table] + [key for key, column in names.items() if column is None]
    if missing:
        raise _bad_boxes(path, None, f"has no column {listed(missing)}; its columns are {listed(list(table.columns))}")
    if "case" not in table:
        of_image = dict(zip(map(str, study.manifest.column("image")), map(str, study.manifest.cases), strict=True))
        table["case"] = [of_image.get(image, "") for image in table["image"]]
    for column in (*CORNERS, *(c for c in ("width", "height") if c in table)):
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(dtype=float)) & (table[column] != "").to_numpy())
        bad = bad if column not in CORNERS else np.flatnonzero(~np.isfinite(numbers.to_numpy(dtype=float)))
        if len(bad):
            raise _bad_boxes(path, int(bad[0]) + 2, f"'{table[column].iloc[bad[0]]}' is no number of pixels", column)
        table[column] = numbers if column in CORNERS else numbers.fillna(0)
    table["line"] = np.arange(len(table)) + 2
    flat = np.flatnonzero(~((table["xmax"] > table["xmin"]) & (table["ymax"] > table["ymin"])).to_numpy())
    if len(flat):
        x0, y0, x1, y1 = (float(table[name].iloc[flat[0]]) for name in CORNERS)
        found = f"a box without area: x from {x0:g} to {x1:g}, y from {y0:g} to {y1:g}"
        remedy = "xmin and ymin are the upper left corner, xmax and ymax the lower right one; take out boxes of no area"
        raise _bad_boxes(path, int(flat[0]) + 2, found, remedy=remedy)
    position = {name.strip().casefold(): k for k, name in enumerate(study.task.classes)}
    which = [position.get(str(name).strip().casefold(), -1) for name in table[str(names["class"])]]
    unknown = sorted({str(name) for name, k in zip(table[str(names["class"])], which, strict=True) if k < 0})
    limits = []
    if unknown:
        close = {name: nearest(name, study.task.classes) for name in unknown}
        hints = [f"{name} (did you mean {close[name]}?)" if close[name] else name for name in unknown]
        limits.append(f"boxes of classes that are none of this study's are left out: {listed(hints)}")
    there = table["case"].astype(str).isin(list(map(str, study.manifest.cases))).to_numpy()
    if not there.all():
        column = "case" if names["case"] == "case" else "image"
        strange = list(dict.fromkeys(table[column][~there]))
        limits.append(f"{int((~there).sum())} boxes are of images that this study does not have: {listed(strange, 3)}")
    kept = table.assign(**{"class": which})[(np.array(which, dtype=int) >= 0) & there].reset_index(drop=True)
    if not len(kept):
        what = f"has no box that fits this study ({'; '.join(limits)})" if len(table) else "holds no box"
        raise _bad_boxes(path, None, what)
    return _sized(study, kept, path), limits


def _sized(study: OpenStudy, boxes: pd.DataFrame, path: Path) -> pd.DataFrame:
    """With the width and height of the picture that each box was drawn on: as written, else the file's."""
    of_file = _sizes(study).reindex(boxes["case"].astype(str)).to_numpy(dtype=float)
    for i, side in enumerate(("width", "height")):
        told = boxes[side].to_numpy(dtype=float) if side in boxes else np.zeros(len(boxes))
        boxes[side] = np.where(told > 0, told, of_file[:, i])
    width, height = boxes["width"], boxes["height"]
    over = np.maximum(boxes["xmax"] - width, -boxes["xmin"]) > BEYOND * width
    over |= np.maximum(boxes["ymax"] - height, -boxes["ymin"]) > BEYOND * height
    for _, line in boxes[over].head(1).iterrows():
        x0, y0, x1, y1 = (float(line[name]) for name in CORNERS)
        size = f"{line['width']:g} x {line['height']:g}"
        found = f"a box with x from {x0:g} to {x1:g} and y from {y0:g} to {y1:g} on a picture of {size}"
        remedy = "give pixels of these files, or columns width and height of the pictures that boxes were drawn on"
        raise _bad_boxes(path, int(line["line"]), found, remedy=remedy)
    return boxes


def _sizes(study: OpenStudy) -> pd.DataFrame:
    """Width and height of every image's file, by case."""
    facts = study.cache.facts
    return facts.set_index(facts["case"].astype(str))[["width", "height"]]


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


def _bad_boxes(path: Path, row: int | None, found: str, column: str | None = None, remedy: str = COLUMNS) -> DataError:
    return DataError(
        Problem(
            code="RS-M47",
            level="error",
            file=str(path),
            row=row,
            column=column,
            found=found if row else f"the file of boxes {found}",
            why="where findings lie is what maps are compared with",
            remedy=remedy,
        )
    )
