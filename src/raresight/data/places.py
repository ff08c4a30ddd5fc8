"""Where the images are said to be: repeated, absolute, outside the root, missing, or giving the label away."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import Problem
from raresight.core.manifest import LABEL_PREFIX, Manifest

ABSOLUTE = r"^(?:[/\\~]|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]+://)"
MOST_TOLD = 20  # contradictions listed; the count is in each of them
MOST_NAMED = 100  # classes looked for in paths
MISSING_LIMIT = 0.01  # single missing files are quarantined when images are decoded; more than this is a wrong root


def file_of(images: pd.Series) -> pd.Series:
    """The file part of `image`: without `#array[index]`, with forward slashes and no `./`."""
    plain = images.str.replace(r"#[^#]*\[\d+\]$", "", regex=True).str.replace("\\", "/", regex=False)
    return plain.str.replace(r"/(?:\./)+|/{2,}", "/", regex=True).str.replace(r"^(?:\./)+", "", regex=True)


def folder_of(paths: pd.Series) -> pd.Series:
    """The folder part of each path, empty where there is none."""
    return paths.str.replace(r"/?[^/]*$", "", regex=True)


def without_image(manifest: Manifest, file: str) -> list[Problem]:
    """RS-M55: rows that name no image."""
    blank = np.flatnonzero(manifest.table["image"].str.strip() == "")
    return [
        Problem(
            code="RS-M55",
            level="quarantine",
            file=file,
            row=int(row) + 2,
            column="image",
            found="no image named",
            why="there is nothing to look at",
            remedy="write the path; the row is left out until then",
        )
        for row in blank
    ]


def repeated(manifest: Manifest, file: str) -> list[Problem]:
    """Items 4 and 5: one image in several rows, quarantined where all agree, an error where label or patient differ."""
    table = manifest.table
    array = table["image"].str.extract(r"(#[^#]*\[\d+\])$", expand=False).fillna("")
    path = file_of(table["image"]) + array
    twice = path.duplicated(keep=False) & (table["image"].str.strip() != "")
    if not twice.any():
        return []
    labels = [name for name in table.columns if name == "label" or str(name).startswith(LABEL_PREFIX)]
    said = [*labels, *(["patient_id"] if "patient_id" in table else [])]
    copies = table.loc[twice, said].assign(path=path[twice], row=np.flatnonzero(twice) + 2)
    by_path = copies.groupby("path", sort=False)
    several = by_path[said].nunique() > 1
    contradictory = several.index[several.any(axis=1)]
    problems = []
    for name in contradictory[:MOST_TOLD]:
        rows = by_path.get_group(name)
        column = said[int(np.argmax(several.loc[name].to_numpy()))]
        told = ", ".join(f"row {n}: {value!r}" for n, value in zip(rows["row"].iloc[:4], rows[column], strict=False))
        problems.append(_contradiction(file, int(rows["row"].iloc[-1]), column, str(name), told, len(contradictory)))
    agreeing = copies[~copies["path"].isin(contradictory)]
    first = agreeing.groupby("path")["row"].transform("first")
    later = agreeing["row"] != first
    again = zip(agreeing["row"][later], agreeing["path"][later], first[later], strict=True)
    return problems + [_duplicate(file, int(row), str(name), int(before)) for row, name, before in again]


def outside(manifest: Manifest, file: str, root: Path, columns: tuple[str, ...] = ("image", "mask")) -> list[Problem]:
    """Items 17 and 18: absolute paths (of another computer), and paths or links that leave the root."""
    problems = []
    for column in columns:
        if column not in manifest.table:
            continue
        written = manifest.table[column]
        absolute = np.flatnonzero(written.str.contains(ABSOLUTE, regex=True))
        if len(absolute):
            problems.append(
                _absolute(file, int(absolute[0]) + 2, column, str(written.iloc[absolute[0]]), len(absolute))
            )
        paths = file_of(written)
        climbs = paths.str.contains("..", regex=False)
        away = np.flatnonzero(climbs)
        away = away[[os.path.normpath(paths.iloc[row]).startswith("..") for row in away]]
        if len(away):
            problems.append(_escape(file, int(away[0]) + 2, column, str(written.iloc[away[0]]), len(away), root))
        elif not len(absolute):
            problems += _links(paths, file, column, root)
    return problems


def absent(manifest: Manifest, file: str, root: Path) -> list[Problem]:
    """Item 17, the other half: more than 1% of the files named are not under the root."""
    paths = file_of(manifest.table["image"])
    named = paths[(paths != "") & ~manifest.table["image"].str.contains(ABSOLUTE, regex=True)]
    unique = pd.Series(pd.unique(named), dtype=object)
    there = _listing(unique, root)
    gone = named[~named.isin(set(unique[there]))]
    if len(gone) <= MISSING_LIMIT * len(named):
        return []
    row = int(gone.index[0])
    return [
        Problem(
            code="RS-M17",
            level="error",
            file=file,
            row=row + 2,
            column="image",
            found=f"{len(gone)} of {len(named)} images are not under {root}, first '{gone.iloc[0]}'",
            why="most likely the root is another folder",
            remedy="name the folder that the paths begin in: --root FOLDER (data.root in study.yaml)",
        )
    ]


def telling(manifest: Manifest, file: str) -> list[Problem]:
    """Item 15: the folder or the file name gives the label away. Looks at 5,000 rows, evenly spaced."""
    if "label" not in manifest.table or manifest.table["label"].nunique() > MOST_NAMED:
        return []
    step = max(1, len(manifest) // 5000)
    label = manifest.table["label"].iloc[::step]
    path = file_of(manifest.table["image"].iloc[::step])
    known = (label != "") & (path != "")
    label, path = label[known], path[known]
    folder = folder_of(path)
    named = [name for name in sorted(label.unique()) if _names_the_class(name, label, path)]
    pairs = pd.DataFrame({"folder": folder, "label": label}).drop_duplicates()
    one_to_one = len(pairs) == pairs["label"].nunique() == pairs["folder"].nunique() > 1
    if not named and not one_to_one:
        return []
    example = int(label.index[label == named[0]][0] if named else label.index[0])
    what = f"the path contains the label ('{named[0]}')" if named else "each label has a folder of its own"
    return [
        Problem(
            code="RS-M15",
            level="warning",
            file=file,
            row=example + 2,
            column="image",
            found=f"{what}: '{path.loc[example]}'",
            why="folders often differ by source as well as by disease: another device, crop or file format is learned",
            remedy="check that all classes come from the same sources, or add a `site` column and score by it",
        )
    ]


def _names_the_class(name: str, label: pd.Series, path: pd.Series) -> bool:
    token = r"(?:^|[/_. -])" + re.escape(name) + r"(?:[/_. -]|$)"
    hit = path.str.contains(token, case=False, regex=True)
    mine = label == name
    return bool(hit[mine].mean() > 0.9 and (not (~mine).any() or hit[~mine].mean() < 0.1))


def _listing(paths: pd.Series, root: Path) -> np.ndarray:
    """Which of `paths` exist, by listing each folder once instead of asking for each file."""
    there: set[str] = set()
    for folder in pd.unique(folder_of(paths)):
        try:
            with os.scandir(root / folder) as entries:
                there.update(f"{folder}/{entry.name}" if folder else entry.name for entry in entries)
        except (OSError, ValueError):
            continue
    return paths.isin(there).to_numpy()


def _links(paths: pd.Series, file: str, column: str, root: Path) -> list[Problem]:
    """Links, of folders or files, that lead out of the root."""
    home = root.resolve()
    leading: set[str] = set()
    for folder in pd.unique(folder_of(paths[paths != ""])):
        try:
            where = (root / folder).resolve()
            if not where.is_relative_to(home):
                leading.add(folder + "/")
                continue
            with os.scandir(where) as entries:
                links = [entry for entry in entries if entry.is_symlink()]
        except (OSError, ValueError, RuntimeError):
            continue
        for link in links:
            if not Path(os.path.realpath(link.path)).is_relative_to(home):
                leading.add(f"{folder}/{link.name}" if folder else link.name)
    if not leading:
        return []
    away = np.flatnonzero(paths.isin(leading) | (folder_of(paths) + "/").isin(leading))
    if not len(away):
        return []
    return [_escape(file, int(away[0]) + 2, column, str(paths.iloc[away[0]]), len(away), root)]


def _contradiction(file: str, row: int, column: str, image: str, told: str, count: int) -> Problem:
    among = f" (one of {count} such images)" if count > 1 else ""
    return Problem(
        code="RS-M05",
        level="error",
        file=file,
        row=row,
        column=column,
        found=f"image '{image}' stands in several rows with different values: {told}{among}",
        why="one picture cannot be both; the model would be trained against itself",
        remedy="keep the row that is right; several findings of one image belong into one row",
    )


def _duplicate(file: str, row: int, image: str, first: int) -> Problem:
    return Problem(
        code="RS-M04",
        level="quarantine",
        file=file,
        row=row,
        column="image",
        found=f"image '{image}' is that of row {first} too",
        why="a picture counted twice makes intervals too narrow",
        remedy="remove the row; it is left out until then",
    )


def _absolute(file: str, row: int, column: str, path: str, count: int) -> Problem:
    return Problem(
        code="RS-M17",
        level="error",
        file=file,
        row=row,
        column=column,
        found=f"{count} absolute paths, first '{path}'",
        why="they hold on one computer only",
        remedy="name the folder that holds the images with --root FOLDER; paths become relative to it",
    )


def _escape(file: str, row: int, column: str, path: str, count: int, root: Path) -> Problem:
    return Problem(
        code="RS-M18",
        level="error",
        file=file,
        row=row,
        column=column,
        found=f"{count} paths lead out of the image root {root}, first '{path}'",
        why="files outside the root are not part of the study and may be anybody's",
        remedy="move the images under the root, or name a root that holds them all with --root FOLDER",
    )
