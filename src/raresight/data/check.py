"""All problems of a manifest at once, each with its place and one remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.config import DataSection
from raresight.core.errors import Problem, nearest
from raresight.core.manifest import LABEL_PREFIX, Manifest
from raresight.core.task import Task
from raresight.data import ids, places
from raresight.data.labels import NO_FINDING, folded, no_finding_beside, unknown_labels
from raresight.data.tables import absent_column
from raresight.data.text import empty


def check(manifest: Manifest, task: Task, data: DataSection, folder: Path) -> list[Problem]:
    """Every table problem of `manifest`, in the order of the catalogue; rows count the header as row 1.

    Levels: an `error` stops the study, a `quarantine` row is left out, a `warning` is said. `folder` is the study's,
    which `data.manifest` and `data.root` are relative to. Pictures themselves are judged when they are decoded.
    """
    file = str(folder / data.manifest)
    root = (folder / data.root).resolve()
    if not len(manifest):
        return [empty(Path(file))]
    problems = [absent_column(file, name, list(manifest.table.columns), None) for name in _lacking(manifest, data)]
    problems += ids.missing_patients(manifest, file, waived=data.one_image_per_patient)
    problems += ids.look_alikes(manifest, file)
    problems += ids.repeated_cases(manifest, file)
    if "image" in manifest.table and data.images:
        problems += places.without_image(manifest, file)
        problems += places.repeated(manifest, file)
    problems += _labels(manifest, task, data, file)
    if "image" in manifest.table and data.images:
        problems += places.telling(manifest, file)
        problems += places.outside(manifest, file, root)
        problems += places.absent(manifest, file, root)
    return sorted(problems, key=lambda problem: problem.code)


def _lacking(manifest: Manifest, data: DataSection) -> list[str]:
    needed = ["case", "image"] if data.images else ["case"]
    return [name for name in needed if name not in manifest.table]


def _labels(manifest: Manifest, task: Task, data: DataSection, file: str) -> list[Problem]:
    if task.kind == "exclusive":
        return _exclusive(manifest, task, data, file)
    table = manifest.table
    columns = [name for name in table.columns if str(name).startswith(LABEL_PREFIX)]
    problems: list[Problem] = []
    for name in task.classes:
        if LABEL_PREFIX + name not in table:
            close = nearest(LABEL_PREFIX + name, columns)
            problems.append(absent_column(file, LABEL_PREFIX + name, list(table.columns), close))
    present = table[[LABEL_PREFIX + name for name in task.classes if LABEL_PREFIX + name in table]]
    if present.empty:
        return problems
    for column in present:
        bad = np.flatnonzero(~present[column].isin(["", "0", "1", "-1"]))
        if len(bad):
            problems.append(
                _not_a_label(file, int(bad[0]) + 2, str(column), str(present[column].iloc[bad[0]]), len(bad))
            )
    if data.uncertain == "refuse":
        problems += _uncertain(present, file)
    problems += no_finding_beside(table[columns], np.arange(len(table)) + 2, file, LABEL_PREFIX + NO_FINDING)
    healthy = [name for name in task.classes if folded(name) == folded(NO_FINDING)]
    if healthy and data.no_finding == "drop":
        problems.append(_healthy_class(healthy[0]))
    return problems


def _exclusive(manifest: Manifest, task: Task, data: DataSection, file: str) -> list[Problem]:
    if "label" not in manifest.table:
        columns = list(manifest.table.columns)
        return [absent_column(file, "label", columns, nearest("label", columns))]
    rows = np.arange(len(manifest)) + 2
    problems = unknown_labels(manifest.table["label"], rows, file, "label", task.classes)
    if data.uncertain == "refuse":
        problems += _uncertain(manifest.table[["label"]], file)
    return problems


def _uncertain(columns: pd.DataFrame, file: str) -> list[Problem]:
    """Item 12: -1 and blanks stop the study until the policy is named; the two are counted apart."""
    minus, blank, exclusive = columns == "-1", columns == "", columns.columns[0] == "label"
    if exclusive:
        minus = minus & False  # in an exclusive task "-1" is a class name, right or unknown
    either = (minus | blank).to_numpy()
    if not either.any():
        return []
    row = int(np.argmax(either.any(axis=1)))
    none_of_them = (
        "the name of a class for it" if exclusive else "0 in each column, or 'No Finding' in a list of labels"
    )
    n_columns = int(either.any(axis=0).sum())
    places = f" in {n_columns} columns" if n_columns > 1 else ""
    counts = f"{int(minus.to_numpy().sum())} uncertain (-1) and {int(blank.to_numpy().sum())} empty labels"
    return [
        Problem(
            code="RS-M12",
            level="error",
            file=file,
            row=row + 2,
            column=str(columns.columns[int(np.argmax(either[row]))]),
            found=counts + places,
            why="whether unknown means absent changes every prevalence and every score",
            remedy="set data.uncertain in study.yaml: ignore, or positive or negative for -1 (empty is unknown); where "
            f"an empty label means none of the classes, write {none_of_them}",
        )
    ]


def _not_a_label(file: str, row: int, column: str, value: str, count: int) -> Problem:
    return Problem(
        code="RS-M09",
        level="error",
        file=file,
        row=row,
        column=column,
        found=f"unknown label {value!r}" + (f" ({count} rows)" if count > 1 else ""),
        why="a label that cannot be read would be taken as unknown",
        remedy="write 1 (present), 0 (absent), -1 (uncertain) or nothing (unknown)",
    )


def _healthy_class(name: str) -> Problem:
    return Problem(
        code="RS-M11",
        level="error",
        file="study.yaml",
        column="task.classes",
        found=f"'{name}' is a class while data.no_finding is drop",
        why="one says that it is a class of its own, the other that it is not",
        remedy=f"remove '{name}' from task.classes, or set data.no_finding: keep",
    )
