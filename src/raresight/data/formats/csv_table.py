"""Any table with one row per image: `--from csv TABLE.csv`, with columns named by options or by their usual names."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from raresight.core.errors import DataError, Problem, nearest
from raresight.core.manifest import LABEL_PREFIX
from raresight.data.finding import channels_of, locate
from raresight.data.labels import Labels, are_indicators, exclusive, indicators, separated
from raresight.data.read import Reading, ReadOptions, assemble, cases_of, patients_or_problem, supplied_split
from raresight.data.tables import Table, absent_column, open_table
from raresight.data.text import missing

IMAGE = (
    *("image", "image_path", "filepath", "file_path", "path", "filename", "file_name", "file", "img"),
    *("image_id", "image index", "image_name", "id", "case"),
)
LABEL = ("label", "labels", "dx", "diagnosis", "class", "target", "finding labels", "findings", "category", "disease")
PATIENT = ("patient_id", "patient id", "patientid", "patient", "subject_id", "subject id", "subjectid", "subject")
GROUP = ("group", "lesion_id")
MASK = ("mask", "mask_path", "segmentation")
SPLIT = ("split", "part", "subset")


def read(source: Path, options: ReadOptions) -> Reading:
    """Read a table; labels are one column (exclusive), a separated list in one column, or 0/1/-1/empty columns.

    `--label-col A,B,C` names several indicator columns. A cell with `|` makes the one column a list. Classes follow
    from the labels, sorted; `No Finding` is none of them in an independent task.

    Raises: `DataError` for a table that cannot be opened, or lacks a column that was named.
    """
    table = open_table(table_in(source))
    file = str(table.path)
    root = (options.root or table.path.parent).resolve()
    named = {
        "image": _column(table, options.image_col, IMAGE, "--image-col"),
        "patient": _column(table, options.patient_col, PATIENT, "--patient-col"),
        "group": _column(table, options.group_col, ("group",), "--group-col"),
        "mask": _column(table, options.mask_col, MASK, "--mask-col"),
    }
    if named["image"] is None and not options.no_images:
        problem = absent_column(file, "image", list(table.frame.columns), None, "--image-col")
        raise DataError(problem)
    labels, used = find_labels(table, options)
    frame = table.frame
    image = _images(frame, named["image"], root, options)
    case = _cases(frame, named["image"], image)
    patient = frame[named["patient"]] if named["patient"] else None
    group = frame[named["group"]] if named["group"] else None
    problems = [*table.problems, *labels.problems]
    if patient is None and group is not None and options.group_col and not options.one_image_per_patient:
        patient, problems = group, [*problems, stands_in(file, str(options.group_col))]
    dropped = {named["image"], named["mask"], named["patient"], *used, "case", "patient_id", "group"} - {None}
    metadata = frame.drop(columns=[name for name in dropped if name in frame])
    if named["mask"]:
        metadata.insert(0, "mask", frame[named["mask"]] if options.no_images else locate(frame[named["mask"]], root))
    waived = options.one_image_per_patient
    manifest = assemble(
        case=case, image=image, patient=patient, group=group, labels=labels, metadata=metadata, waived=waived
    )
    problems += patients_or_problem(manifest, file, list(frame.columns), options, _group_hint(table))
    split = supplied_split(manifest.table, table.first(*SPLIT))
    by = "group" if options.group_col and patient is group else "patient_id"
    if waived and patient is None:
        by = "case"
    return Reading(
        manifest=manifest,
        kind=labels.kind,
        classes=labels.classes,
        group=by,
        root=root,
        channels=3 if options.no_images else channels_of(image, root),
        split_column=split,
        problems=problems,
    )


def table_in(source: Path, names: tuple[str, ...] = ("manifest.csv", "labels.csv", "labels.csv.gz")) -> Path:
    """The table itself, or the one in the folder `source`: of a usual name, or the only one."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(missing(source))
    usual = [source / name for name in names if (source / name).is_file()]
    tables = usual or sorted(
        path
        for path in source.iterdir()
        if re.search(r"\.(csv|tsv|tab|txt)(\.gz)?$", path.name, re.I) and path.is_file()
    )
    if usual or len(tables) == 1:
        return tables[0]
    found = "no table here" if not tables else f"{len(tables)} tables: {', '.join(path.name for path in tables[:8])}"
    raise DataError(
        Problem(
            code="RS-M50",
            level="error",
            file=str(source),
            found=found,
            why="it is not clear what to read",
            remedy="name the table itself as SOURCE",
        )
    )


def find_labels(table: Table, options: ReadOptions) -> tuple[Labels, list[str]]:
    """The labels and the columns that they were read from."""
    frame, rows, file = table.frame, table.rows, str(table.path)
    if options.label_col and options.label_col not in frame and "," in options.label_col:
        columns = [table.require(name.strip(), "--label-col") for name in options.label_col.split(",") if name.strip()]
        return indicators(frame[columns], rows, file), columns
    prefixed = [name for name in frame.columns if name.startswith(LABEL_PREFIX) and are_indicators(frame[name])]
    if prefixed and not options.label_col and "label" not in frame:
        prefixed = [name for name in frame.columns if name.startswith(LABEL_PREFIX) and name != LABEL_PREFIX]
        return indicators(frame[prefixed], rows, file), prefixed
    column = _column(table, options.label_col, LABEL, "--label-col")
    if column is None:
        raise DataError(_no_labels(table))
    separator = options.label_sep or ("|" if frame[column].str.contains("|", regex=False).any() else None)
    if separator:
        return separated(frame[column], rows, file, separator=separator), []
    return exclusive(frame[column], rows, file), [column]


def stands_in(file: str, column: str) -> Problem:
    """RS-M01 as a warning: groups below the patient are all that is known."""
    return Problem(
        code="RS-M01",
        level="warning",
        file=file,
        row=1,
        column=column,
        found=f"no patient ids; '{column}' stands in for the patient",
        why="two of them may be of one patient, so scores can be a little too good and intervals too narrow",
        remedy="add a patient_id column if patients are known; else say in the paper that the split is by " + column,
    )


def _column(table: Table, given: str | None, usual: tuple[str, ...], option: str) -> str | None:
    return table.require(given, option) if given else table.first(*usual)


def _images(frame: pd.DataFrame, column: str | None, root: Path, options: ReadOptions) -> pd.Series:
    if column is None:
        return pd.Series("", index=frame.index)
    array = {"array", "index"} <= set(frame.columns) and frame[column].str.endswith(".npz").all()
    if array:
        return frame[column] + "#" + frame["array"] + "[" + frame["index"] + "]"
    return frame[column] if options.no_images else locate(frame[column], root)


def _cases(frame: pd.DataFrame, column: str | None, image: pd.Series) -> pd.Series:
    if "case" in frame:
        return frame["case"]
    if column is None:
        return pd.Series([f"row-{place + 2}" for place in range(len(frame))], index=frame.index)
    return cases_of(image)


def _group_hint(table: Table) -> str:
    group = table.first(*GROUP)
    return f"name the column with --patient-col; if '{group}' may stand in for it: --group-col {group}" if group else ""


def _no_labels(table: Table) -> Problem:
    columns = list(table.frame.columns)
    binary = [name for name in columns if are_indicators(table.frame[name])]
    problem = absent_column(str(table.path), "label", columns, nearest("label", columns), "--label-col")
    if len(binary) > 1:
        return Problem(**problem.as_dict() | {"remedy": f"name the 0/1 columns: --label-col {','.join(binary)}"})
    return problem
