"""From somebody's files to a manifest: the first arrow of the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

import pandas as pd

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.manifest import LABEL_PREFIX, Manifest
from raresight.core.task import Kind
from raresight.data import ids, places
from raresight.data.labels import Labels

READERS = {  # kind of source -> its file in formats/
    "csv": "csv_table",
    "folder": "folder",
    "ham10000": "ham10000",
    "chestxray14": "chestxray14",
    "medmnist": "medmnist",
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which column is what, where a source leaves it open; None means that the usual names are looked for.

    `root` is the folder that image paths begin in (default: the table's own). `no_images` reads a table of labels
    alone. `one_image_per_patient` is the user's statement that no two images share a patient; every case is then a
    patient of its own.
    """

    image_col: str | None = None
    label_col: str | None = None
    label_sep: str | None = None
    patient_col: str | None = None
    group_col: str | None = None
    mask_col: str | None = None
    no_images: bool = False
    one_image_per_patient: bool = False
    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a source holds: the manifest, and what the first `study.yaml` should say of it.

    `classes` are sorted; `group` is the column to split by; `root` the absolute folder that `image` is relative to;
    `split_column` a split that the source brings along, or None.
    """

    manifest: Manifest
    kind: Kind
    classes: list[str]
    group: str
    root: Path
    preset: str = "none"
    channels: Literal[1, 3] = 3
    split_column: str | None = None
    problems: list[Problem] = field(default_factory=list)


def read(source_kind: str, source: Path, options: ReadOptions | None = None) -> Reading:
    """Read `source` (a folder, or the table or `.npz` itself) as `source_kind`: one of `READERS`.

    The order of rows is the source's, that of classes and columns fixed. Problems of level `error` in the result mean
    that the manifest must not be used; they are collected so that all are seen at once.

    Raises: `ConfigError` for an unknown kind of source; `DataError` where there is no table to collect problems of.
    """
    if source_kind not in READERS:
        close = nearest(source_kind, READERS)
        raise ConfigError(
            Problem(
                code="RS-C33",
                level="error",
                column="--from",
                found=f"unknown kind of source '{source_kind}'",
                why="each kind has its own headers and folders",
                remedy=f"did you mean '{close}'?" if close else f"one of: {', '.join(READERS)}",
            )
        )
    format_ = import_module(f"raresight.data.formats.{READERS[source_kind]}")
    options = options or ReadOptions()
    reading: Reading = format_.read(Path(source).expanduser(), options)
    if options.no_images:
        return reading
    astray = places.outside(reading.manifest, str(source), reading.root)
    astray += places.absent(reading.manifest, str(source), reading.root)
    return replace(reading, problems=[*reading.problems, *astray])


def assemble(
    *,
    case: pd.Series,
    image: pd.Series,
    patient: pd.Series | None,
    group: pd.Series | None,
    labels: Labels,
    metadata: pd.DataFrame,
    waived: bool,
) -> Manifest:
    """The manifest's columns in their order; metadata follow in the source's order, under their own names.

    Without patients: the case itself where `waived`, else empty. Without groups: the patient. A metadata column with
    a name of the manifest's own, or one that would pass for a label, is kept as `source_<name>`.
    """
    blank = pd.Series("", index=case.index)
    people = patient if patient is not None else (case if waived else blank)
    own = pd.DataFrame(
        {"case": case, "image": image, "patient_id": people, "group": people if group is None else group}
    )
    taken = {*own.columns, *labels.columns.columns}
    names: list[str] = []
    for written in metadata.columns:
        name = str(written)
        while name in taken or name.startswith(LABEL_PREFIX):
            name = f"source_{name}"
        taken.add(name)
        names.append(name)
    kept = metadata.set_axis(names, axis="columns")
    return Manifest(pd.concat([own, labels.columns, kept], axis=1).reset_index(drop=True).astype(object))


def cases_of(image: pd.Series) -> pd.Series:
    """A case id from the image's file name, without folder and suffix; the whole path where names repeat.

    An image in several rows gives `a`, `a~2`, ...: that it is repeated is for `check` to say.
    """
    array = image.str.extract(r"#(.*)\[(\d+)\]$")
    name = image.str.replace("\\", "/", regex=False).str.rpartition("/")[2]
    stem = name.str.replace(r"\.[A-Za-z]{2,5}$", "", regex=True)
    case = stem.where(array[0].isna(), array[0].str.removesuffix("_images") + "_" + array[1])
    distinct = ~image.duplicated()
    case = image if case[distinct].duplicated().any() else case
    nth = case.groupby(case).cumcount()
    return case.where(nth == 0, case + "~" + (nth + 1).astype(str))


def patients_or_problem(
    manifest: Manifest, file: str, columns: Sequence[str], options: ReadOptions, hint: str = ""
) -> list[Problem]:
    """RS-M01 where the source names no patient at all and nobody has waived that."""
    if options.one_image_per_patient or not ids.is_blank(manifest.table["patient_id"]).all():
        return []
    return [ids.no_patients(file, list(columns), hint)]


def supplied_split(table: pd.DataFrame, column: str | None) -> str | None:
    """`column` where it holds a split: a part's name somewhere. Other values in it are for `split` to refuse."""
    if column is None or column not in table:
        return None
    values = set(table[column].str.strip().str.casefold())
    return column if values & {"train", "training", "val", "valid", "validation", "test", "testing"} else None
