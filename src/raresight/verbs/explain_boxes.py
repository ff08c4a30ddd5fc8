"""Where findings lie by boxes: a table of corners in pixels of the image files, named in `data.boxes`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.manifest import Manifest
from raresight.explain.probe import Regions
from raresight.verbs.explain_masks import alike
from raresight.verbs.opened import OpenStudy

CORNERS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = "give the columns case (or image), class (or label), xmin, ymin, xmax, ymax, in pixels of the image"
WHY = "where findings lie is what maps are compared with"
BEYOND = 0.1  # of a side: how far a box may reach over the edge before it was drawn on a picture of another size


def boxes_path(study: OpenStudy) -> Path:
    return study.folder.home / str(study.config.data.boxes)


def from_boxes(study: OpenStudy, manifest: Manifest, path: Path) -> tuple[Regions | None, list[str]]:
    """Boxes in pixels of the image file, brought to the network's input by the same crop as the image."""
    table, limits = box_table(study, manifest, path)
    row, label, boxes, dropped = _placed(study, manifest, table)
    limits += dropped
    if not boxes:
        return None, limits
    size = study.config.image.size
    return Regions.of_boxes(row, label, np.array(boxes), (size, size)), limits


def check_boxes(study: OpenStudy) -> list[Problem]:
    """What will not be used of the study's boxes, over all its parts, as `explain` will tell it: warnings.

    Raises: `ConfigError` RS-C03 where the file is missing; `DataError` RS-M47 where it cannot be read as boxes, or
    none of them can be used.
    """
    path = boxes_path(study)
    table, limits = box_table(study, study.manifest, path)
    _, _, boxes, dropped = _placed(study, study.manifest, table)
    if not boxes:
        raise _bad_boxes(path, None, f"has no box that can be used ({'; '.join(limits + dropped)})")
    remedy = "correct the file of boxes, or leave it where this is meant: the others are used"
    return [
        Problem(code="RS-M47", level="warning", file=str(path), found=limit, why=WHY, remedy=remedy)
        for limit in limits + dropped
    ]


def _placed(
    study: OpenStudy, manifest: Manifest, table: pd.DataFrame
) -> tuple[list[int], list[int], list[np.ndarray], list[str]]:
    """Rows, classes and corners of the boxes on these images, on the network's grid, and in words which are dropped."""
    from raresight.data.transforms import centre_square

    size, target = study.config.image.size, manifest.targets(study.task)
    place = {str(case): i for i, case in enumerate(manifest.cases)}
    row: list[int] = []
    label: list[int] = []
    boxes: list[np.ndarray] = []
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
    dropped = []
    if negative:
        dropped.append(f"boxes on images that do not have that label are left out: {negative}")
    if outside:
        dropped.append(f"boxes without area in the square that the network sees are left out: {outside}")
    return row, label, boxes, dropped


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
    _read_numbers(table, path)
    table["line"] = np.arange(len(table)) + 2
    _refuse_shares(table, path)
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
        n = int((~there).sum())
        limits.append(f"boxes of images that this study does not have are left out: {n} ({listed(strange, 3)})")
    kept = table.assign(**{"class": which})[(np.array(which, dtype=int) >= 0) & there].reset_index(drop=True)
    if not len(kept):
        what = f"has no box that fits this study ({'; '.join(limits)})" if len(table) else "holds no box"
        raise _bad_boxes(path, None, what)
    return _sized(study, kept, path), limits


def _read_numbers(table: pd.DataFrame, path: Path) -> None:
    """Corners as numbers; width and height too, 0 where they are not told."""
    for column in (*CORNERS, *(c for c in ("width", "height") if c in table)):
        numbers = pd.to_numeric(table[column], errors="coerce")
        values = numbers.to_numpy(dtype=float)
        wrong = ~np.isfinite(values)
        remedy = COLUMNS
        if column not in CORNERS:  # sides that are not told are the file's
            wrong = (wrong | (values <= 0)) & (table[column].str.strip() != "").to_numpy()
            remedy = (
                f"give the {column} of the picture that the box was drawn on, or leave it empty: the file's is taken"
            )
        bad = np.flatnonzero(wrong)
        if len(bad):
            found = f"'{table[column].iloc[bad[0]]}' is no number of pixels"
            raise _bad_boxes(path, int(bad[0]) + 2, found, column, remedy)
        table[column] = numbers.fillna(0)


def _refuse_shares(table: pd.DataFrame, path: Path) -> None:
    """Corners within [0, 1] throughout are shares of the sides, as detectors write them, and no pixels."""
    corners = table[list(CORNERS)].to_numpy(dtype=float)
    if len(corners) and corners.min() >= 0 and corners.max() <= 1:
        found = f"gives corners from {corners.min():g} to {corners.max():g}: shares of the sides; expected are pixels"
        remedy = "multiply xmin and xmax by the width of the image, ymin and ymax by its height"
        raise _bad_boxes(path, None, found, remedy=remedy)


def _sized(study: OpenStudy, boxes: pd.DataFrame, path: Path) -> pd.DataFrame:
    """With the width and height of the picture that each box was drawn on: as written, else the file's."""
    of_file = study.image_sizes.reindex(boxes["case"].astype(str)).to_numpy(dtype=float)
    for i, side in enumerate(("width", "height")):
        told = boxes[side].to_numpy(dtype=float) if side in boxes else np.zeros(len(boxes))
        boxes[side] = np.where(told > 0, told, of_file[:, i])
    width, height = boxes["width"], boxes["height"]
    for i in np.flatnonzero(~alike(width.to_numpy(), height.to_numpy(), *of_file.T))[:1]:
        w, h = of_file[i]
        found = f"a box drawn on a picture of {width.iloc[i]:g} x {height.iloc[i]:g}; its image is {w:g} x {h:g}"
        remedy = "give boxes of the file's whole picture, neither cropped nor turned, or correct width and height"
        raise _bad_boxes(path, int(boxes["line"].iloc[i]), found, remedy=remedy)
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
            why=WHY,
            remedy=remedy,
        )
    )
