"""Opening a table of any encoding and delimiter as text, with the row number of every record."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.data.text import empty, read_text, unreadable

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SNIFFED = 200  # records that vote on the delimiter
LONGEST_CELL = 1 << 20


@dataclass(frozen=True)
class Table:
    """`frame` holds text only, blank lines left out; `rows[i]` is the place of record i, the header being row 1."""

    path: Path
    frame: pd.DataFrame
    rows: np.ndarray
    problems: list[Problem]

    def require(self, column: str, option: str = "") -> str:
        """`column` where the table has it, else a `DataError` (RS-M52) with the nearest name."""
        if column in self.frame:
            return column
        close = nearest(column, list(self.frame.columns))
        raise DataError(absent_column(str(self.path), column, list(self.frame.columns), close, option))

    def first(self, *names: str) -> str | None:
        """The first of `names` that the table has, compared without case."""
        folded = {column.casefold(): column for column in reversed(list(self.frame.columns))}
        return next((folded[name.casefold()] for name in names if name.casefold() in folded), None)


def open_table(path: Path) -> Table:
    """Read `path` (CSV, TSV, semicolons; gzip; UTF-8, UTF-16, Windows-1252) without guessing at types.

    Raises: `DataError`: RS-M16 (no table, an ambiguous delimiter, a row with too many or too few cells, a quote left
    open), RS-M50 (no such file), RS-M51 (empty).
    """
    text, encoding = read_text(path)
    delimiter = _delimiter(path, text)
    header, n_records, rows = _survey(path, text, delimiter)
    names = _names(path, header)
    if not len(rows):
        raise DataError(empty(path, "a header and nothing else"))
    frame = _parse(path, text, delimiter, len(names))
    if len(frame) != n_records:
        found = f"{n_records} records by one reading and {len(frame)} by another"
        raise DataError(unreadable(path, found, "save the table as plain CSV, without line breaks inside cells"))
    frame.columns = pd.Index(names)
    frame = frame.iloc[rows - 2].reset_index(drop=True)
    nameless = [name for name in names if name.startswith("column_") and name not in header]
    dropped = [name for name in nameless if not frame[name].str.strip().any()]
    return Table(path, frame.drop(columns=dropped), rows, _said(path, encoding, delimiter))


def _delimiter(path: Path, text: str) -> str:
    """The character that cuts the header and the first records into the same number of cells."""
    head = text.split("\n", 1)[0]
    present = [mark for mark in DELIMITERS if mark in head]
    if len(present) < 2:
        return present[0] if present else ","
    consistent = []
    for mark in present:
        widths = [len(record) for record in _records(text, mark) if record]
        if widths and widths[0] > 1 and len(set(widths)) == 1:
            consistent.append(mark)
    if len(consistent) == 1:
        return consistent[0]
    names = " or ".join(DELIMITERS[mark] for mark in (consistent or present))
    found = f"the delimiter is ambiguous: {names}; the header is {head[:120]!r}"
    raise DataError(
        unreadable(path, found, "save the table as CSV with one delimiter, quoting cells that contain it", 1)
    )


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """The first records, leniently; whatever is wrong in them the survey finds and places."""
    try:
        yield from itertools.islice(csv.reader(io.StringIO(text), delimiter=delimiter), SNIFFED)
    except csv.Error:
        return


def _survey(path: Path, text: str, delimiter: str) -> tuple[list[str], int, np.ndarray]:
    """The header, how many records follow it, and the row numbers of those not blank, each of the header's width."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    widths: list[int] = []
    header: list[str] = []
    try:
        header = next(reader, [])
        widths.extend(len(record) if any(record) else 0 for record in reader)
    except csv.Error as cause:
        found = f"line {reader.line_num} cannot be cut into cells ({cause})"
        raise DataError(unreadable(path, found, "close the quote there, or remove it", len(widths) + 2)) from None
    if not any(name.strip() for name in header):
        raise DataError(unreadable(path, "the first line is blank", "let the table begin with its header", 1))
    width = np.array(widths, dtype=int)
    kept = np.flatnonzero(width)
    wrong = kept[width[kept] != len(header)]
    if len(wrong):
        row = int(wrong[0]) + 2
        found = f"{width[wrong[0]]} cells where the header has {len(header)} ({DELIMITERS[delimiter]}-separated)"
        more = f"; {len(wrong) - 1} more such rows" if len(wrong) > 1 else ""
        raise DataError(
            unreadable(path, found + more, "mend the row, or quote the cell that contains the delimiter", row)
        )
    return header, len(width), kept + 2


def _names(path: Path, header: list[str]) -> list[str]:
    """Column names without surrounding spaces; a column without a name is called by its place."""
    names = [name.strip() or f"column_{place}" for place, name in enumerate(header, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = f"the header names {listed(twice)} more than once"
        raise DataError(unreadable(path, found, "give each column its own name", 1))
    return names


def _parse(path: Path, text: str, delimiter: str, width: int) -> pd.DataFrame:
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=None,
            names=list(range(width)),
            index_col=False,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            skip_blank_lines=False,
        ).iloc[1:]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as cause:
        raise DataError(
            unreadable(path, f"cannot be cut into cells ({cause})", "save the table as plain CSV")
        ) from None


def _said(path: Path, encoding: str, delimiter: str) -> list[Problem]:
    usual = delimiter == "," or (delimiter == "\t" and ".tsv" in path.name)
    if encoding == "utf-8" and usual:
        return []
    name = {"utf-8-sig": "UTF-8 with a byte-order mark", "cp1252": "Windows-1252"}.get(encoding, encoding.upper())
    return [
        Problem(
            code="RS-M16",
            level="warning",
            file=str(path),
            found=f"read as {name}, cells separated by {DELIMITERS[delimiter]}",
            why="this was found from the content; were it wrong, names and labels would be garbled",
            remedy="if a name or label looks garbled, save the table as CSV UTF-8",
        )
    ]


def absent_column(file: str, column: str, known: list[str], close: str | None, option: str = "") -> Problem:
    hint = f"did you mean '{close}'? " if close else ""
    return Problem(
        code="RS-M52",
        level="error",
        file=file,
        row=1,
        column=column,
        found=f"no column '{column}'; the columns are {listed(known, 16)}",
        why="the manifest cannot be made without it",
        remedy=f"{hint}name the column with {option}" if option else f"{hint}add or rename the column",
    )
