"""Where findings lie by boxes: a table of corners in pixels of the image files, named in `data.boxes`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.manifest import Manifest
from raresight.explain.probe import Regions
from raresight.verbs.opened import OpenStudy

CORNERS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = "give the columns case (or image), class (or label), xmin, ymin, xmax, ymax, in pixels of the image"
BEYOND = 0.1  # of a side: how far a box may reach over the edge before it was drawn on a picture of another size


def boxes_path(study: OpenStudy) -> Path:
    return study.folder.home / str(study.config.data.boxes)


def from_boxes(study: OpenStudy, manifest: Manifest, path: Path) -> tuple[Regions | None, list[str]]:
    """Boxes in pixels of the image file, brought to the network's input by the same crop as the image."""
    from raresight.data.transforms import centre_square

    table, limits = box_table(study, manifest, path)
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


def box_table(study: OpenStudy, manifest: Manifest, path: Path) -> tuple[pd.DataFrame, list[str]]:
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
        may_lack = column not in CORNERS  # sides that are not told are the file's
        bad = np.flatnonzero(
            ~np.isfinite(numbers.to_numpy(dtype=float)) & ~(may_lack & (table[column] == "")).to_numpy()
        )
        if len(bad):
            raise _bad_boxes(path, int(bad[0]) + 2, f"'{table[column].iloc[bad[0]]}' is no number of pixels", column)
        table[column] = numbers.fillna(0)
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
    of_file = study.image_sizes.reindex(boxes["case"].astype(str)).to_numpy(dtype=float)
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
