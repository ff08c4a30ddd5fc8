"""From the labels of a table to the manifest's: one class a case, or 0, 1, -1 (uncertain) and empty (unknown) a class.

Unknown is never absent: an empty cell stays empty, and a case is negative only where the source says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.config import DataSection
from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.manifest import LABEL_PREFIX, Manifest
from raresight.core.task import Kind

NO_FINDING = "No Finding"
SEPARATORS = "|;,/&+"
MOST_CLASSES = 1000
MOST_TOLD = 20  # problems of one kind that a reader would look at
MISSING = {"", "nan", "na", "n/a", "null", "<na>"}  # compared without case; "none" may be a class
VALUES = {
    **dict.fromkeys(("0", "0.0", "no", "n", "false", "negative", "absent"), "0"),
    **dict.fromkeys(("1", "1.0", "yes", "y", "true", "positive", "present"), "1"),
    **dict.fromkeys(("-1", "-1.0", "uncertain", "u"), "-1"),
    **dict.fromkeys((*MISSING, "unknown", "unlabelled", "unlabeled"), ""),
}


@dataclass(frozen=True)
class Labels:
    """`columns`: `label`, or `label_<class>` per class (and `label_No Finding` where the source says so)."""

    columns: pd.DataFrame
    kind: Kind
    classes: list[str]
    problems: list[Problem]


def folded(name: str) -> str:
    """A class name without case, outer spaces, and the difference between spaces, `_` and `-`."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def in_order(names: Sequence[str]) -> list[str]:
    """Class names sorted; as numbers where all of them are numbers."""
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def is_missing(cells: pd.Series) -> pd.Series:
    return cells.str.strip().str.casefold().isin(MISSING)


def exclusive(cells: pd.Series, rows: np.ndarray, file: str, *, known: Sequence[str] | None = None) -> Labels:
    """One class a case. With `known`, a label outside it is an error; without, two spellings of one class are."""
    column = str(cells.name)
    label = cells.where(~is_missing(cells), "")
    if known:
        problems = unknown_labels(label, rows, file, column, known)
        return Labels(pd.DataFrame({"label": label}), "exclusive", in_order(known), problems)
    named = (label != "").to_numpy()
    _countable(label[named].nunique(), rows, file, column)
    problems = _spellings(label[named], rows[named], file, column)
    label = label if problems else label.str.strip()
    classes = in_order(list(pd.unique(label[named])))
    return Labels(pd.DataFrame({"label": label}), "exclusive", classes, problems)


def separated(
    cells: pd.Series, rows: np.ndarray, file: str, *, separator: str = "|", known: Sequence[str] | None = None
) -> Labels:
    """Any number of classes a case, written as `A|B`; `No Finding` alone says that all are absent.

    An empty cell is unknown for every class. `No Finding` beside a disease is a warning (RS-M11): the disease counts.
    A cell with another separator inside is an error that shows how it was read (RS-M10).
    """
    column = str(cells.name)
    codes, written = pd.factorize(cells)
    parts = [_parts(str(cell), separator) for cell in written]
    flat = pd.Series([name for names in parts for name in names], dtype=object, name=column)
    # every name with the row where it is first met, so that messages have a place
    first_row = rows[np.unique(codes, return_index=True)[1]]
    flat_rows = np.repeat(first_row, [len(names) for names in parts])
    problems = _mixed_separators(parts, first_row, file, column, separator)
    diseases = flat[np.array([folded(name) != folded(NO_FINDING) for name in flat], dtype=bool)]
    disease_rows = flat_rows[diseases.index.to_numpy()]
    problems += unknown_labels(diseases, disease_rows, file, column, known) if known else []
    problems += [] if known else _spellings(diseases, disease_rows, file, column)
    classes = in_order(list(known) if known else list(set(diseases)))
    _countable(len(classes), rows, file, column)
    position = {name: k for k, name in enumerate(classes)}
    table = np.zeros((len(written), len(classes) + 1), dtype=np.int8)
    for u, names in enumerate(parts):
        table[u] = 0 if names else -1
        for name in names:
            k = len(classes) if folded(name) == folded(NO_FINDING) else position.get(name)
            if k is not None:
                table[u, k] = 1
    text = np.array(["", "0", "1"], dtype=object)[table[codes] + 1]
    names = [*classes, NO_FINDING] if any(table[:, -1] == 1) else classes
    columns = pd.DataFrame({LABEL_PREFIX + name: text[:, k] for k, name in enumerate(names)}, index=cells.index)
    problems += no_finding_beside(columns, rows, file, column)
    return Labels(columns, "independent", classes, problems)


def indicators(table: pd.DataFrame, rows: np.ndarray, file: str) -> Labels:
    """Any number of classes a case, one column each with 0, 1, -1 (uncertain) or empty (unknown)."""
    problems: list[Problem] = []
    columns: dict[str, pd.Series] = {}
    for column in table.columns:
        name = str(column).removeprefix(LABEL_PREFIX)
        read = table[column].str.strip().str.casefold().map(VALUES)
        bad = np.flatnonzero(read.isna())
        if len(bad):
            problems.append(_not_an_indicator(table[column], bad, rows, file, str(column)))
        name = NO_FINDING if folded(name) == folded(NO_FINDING) else name
        columns[LABEL_PREFIX + name] = read.fillna("")
    classes = in_order([name.removeprefix(LABEL_PREFIX) for name in columns if name != LABEL_PREFIX + NO_FINDING])
    names = [*classes, NO_FINDING] if LABEL_PREFIX + NO_FINDING in columns else classes
    ordered = pd.DataFrame({LABEL_PREFIX + name: columns[LABEL_PREFIX + name] for name in names})
    return Labels(ordered, "independent", classes, problems + no_finding_beside(ordered, rows, file, NO_FINDING))


def are_indicators(cells: pd.Series) -> bool:
    """Whether every value is 0, 1, -1 or empty (or a word for one of these), and not all are empty."""
    values = pd.Series(pd.unique(cells)).str.strip().str.casefold().map(VALUES)
    return bool(values.notna().all() and (values != "").any())


def no_finding_beside(columns: pd.DataFrame, rows: np.ndarray, file: str, column: str) -> list[Problem]:
    """RS-M11: `No Finding` together with a disease, counted; the rows' labels contradict themselves."""
    healthy = LABEL_PREFIX + NO_FINDING
    if healthy not in columns:
        return []
    diseases = [name for name in columns if str(name).startswith(LABEL_PREFIX) and name != healthy]
    both = np.flatnonzero((columns[healthy] == "1") & (columns[diseases] == "1").any(axis=1))
    if not len(both):
        return []
    return [
        Problem(
            code="RS-M11",
            level="warning",
            file=file,
            row=int(rows[both[0]]),
            column=column,
            found=f"'{NO_FINDING}' stands beside a disease in {len(both)} rows",
            why="a case cannot be healthy and ill; one of the two labels is wrong",
            remedy="data.no_finding: drop (the default) lets the disease count; keep makes 'No Finding' a class",
        )
    ]


def settle(manifest: Manifest, data: DataSection) -> Manifest:
    """The manifest with uncertain labels (-1) read as `data.uncertain` says; empty ones stay unknown.

    `ignore` and `refuse` make -1 unknown (`check` has refused it before training), `positive` 1 and `negative` 0.
    """
    columns = [name for name in manifest.table.columns if str(name).startswith(LABEL_PREFIX)]
    meant = {"positive": "1", "negative": "0"}.get(data.uncertain, "")
    changed = {name: manifest.table[name].where(manifest.table[name] != "-1", meant) for name in columns}
    return Manifest(manifest.table.assign(**changed))


def _parts(cell: str, separator: str) -> list[str]:
    names = [part.strip() for part in cell.split(separator)]
    return [name for name in names if name.casefold() not in MISSING]


def _spellings(cells: pd.Series, rows: np.ndarray, file: str, column: str) -> list[Problem]:
    """RS-M09: names that differ by case, spaces or `_` alone, each beside the more frequent spelling."""
    met = _met(cells, rows).sort_values("count", ascending=False, kind="stable")
    by_fold: dict[str, list[str]] = {}
    for name in met.index:
        by_fold.setdefault(folded(name), []).append(name)
    wrong = [(variant, names[0]) for names in by_fold.values() for variant in names[1:]]
    return [_wrong_label(name, met.loc[name], file, column, usual) for name, usual in wrong[:MOST_TOLD]]


def unknown_labels(cells: pd.Series, rows: np.ndarray, file: str, column: str, known: Sequence[str]) -> list[Problem]:
    """RS-M09: names outside `known`, each once, at its first row, with the nearest known name."""
    met = _met(cells, rows)
    strange = met[~met.index.isin([*known, ""])]
    told = [
        _wrong_label(name, met.loc[name], file, column, nearest(name, known), known)
        for name in strange.index[:MOST_TOLD]
    ]
    if len(strange) > MOST_TOLD:
        row = int(strange["row"].iloc[MOST_TOLD])
        told.append(_too_many(len(strange) - MOST_TOLD, "more unknown labels", row, file, column))
    return told


def _met(cells: pd.Series, rows: np.ndarray) -> pd.DataFrame:
    """Every name in order of appearance, with `count` and the `row` where it is first met."""
    codes, names = pd.factorize(cells.to_numpy(dtype=object))
    first = np.unique(codes, return_index=True)[1]
    columns = {"count": np.bincount(codes, minlength=len(names)), "row": rows[first]}
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))


def _countable(n_classes: int, rows: np.ndarray, file: str, column: str) -> None:
    """Refuse a column of free text or of ids before a table of all its values is made."""
    if n_classes > MOST_CLASSES:
        raise DataError(_too_many(n_classes, "different labels", int(rows[0]), file, column))


def _too_many(count: int, what: str, row: int, file: str, column: str) -> Problem:
    return Problem(
        code="RS-M09",
        level="error",
        file=file,
        row=row,
        column=column,
        found=f"{count} {what}",
        why="this looks like free text or ids, not like classes",
        remedy="name the column that holds the class: --label-col",
    )


def _wrong_label(name: str, met: Any, file: str, column: str, close: str | None, known: Sequence[str] = ()) -> Problem:
    times = f" ({met['count']} rows)" if met["count"] > 1 else ""
    return Problem(
        code="RS-M09",
        level="error",
        file=file,
        row=int(met["row"]),
        column=column,
        found=f"unknown label {name!r}{times}",
        why="it would silently become a class of its own, or be lost",
        remedy=f"did you mean '{close}'? write it so" if close else f"the classes are {listed(known, 20)}",
    )


def _mixed_separators(
    parts: list[list[str]], first_row: np.ndarray, file: str, column: str, separator: str
) -> list[Problem]:
    """RS-M10: `A;B` is two classes where `A` or `B` occurs by itself elsewhere; `Head/Neck` stays one."""
    others = "[" + re.escape("".join(mark for mark in SEPARATORS if mark != separator)) + "]"
    everywhere = {name for names in parts for name in names}
    for names, row in zip(parts, first_row, strict=True):
        pieces = {piece.strip() for name in names for piece in re.split(others, name)} - set(names)
        if pieces & everywhere:
            return [
                Problem(
                    code="RS-M10",
                    level="error",
                    file=file,
                    row=int(row),
                    column=column,
                    found=f"two separators in one cell: read as {names!r} with '{separator}'",
                    why="classes written together would become one new class",
                    remedy=f"separate every label by '{separator}', or say which separator is meant with --label-sep",
                )
            ]
    return []


def _not_an_indicator(cells: pd.Series, bad: np.ndarray, rows: np.ndarray, file: str, column: str) -> Problem:
    more = f" and {len(bad) - 1} more rows" if len(bad) > 1 else ""
    return Problem(
        code="RS-M09",
        level="error",
        file=file,
        row=int(rows[bad[0]]),
        column=column,
        found=f"{cells.iloc[bad[0]]!r}{more} is not 0, 1, -1 or empty",
        why="a label that cannot be read would be taken as absent",
        remedy="write 1 (present), 0 (absent), -1 (uncertain) or nothing (unknown)",
    )
