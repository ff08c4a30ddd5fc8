"""A table of text from a file of unknown making: encoding, delimiter, ragged rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from raresight.core.errors import DataError, Problem, listed

DELIMITERS = (",", ";", "\t")
FIRST_ROW = 2


def read_text_table(path: Path) -> pd.DataFrame:
    """Every cell as text, an empty or missing one as empty text; the delimiter in `attrs["delimiter"]`.

    CSV in UTF-8 or UTF-16 with or without a byte-order mark, delimited by comma, semicolon or tab (the one that the
    header holds most of); Parquet by its suffix.

    Raises: `DataError` RS-P16 for a file that cannot be read, is empty, has ragged rows or a column named twice.
    """
    if not path.is_file():
        raise DataError(_problem(path, None, "no such file", "check the path"))
    table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    names = list(table.columns)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(_problem(path, 1, f"columns named twice: {listed(twice)}", "give every column its own name"))
    if not len(table):
        raise DataError(_problem(path, None, "a table without rows", "write one row per case"))
    return table


def _csv(path: Path) -> pd.DataFrame:
    text = _decoded(path)
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as cause:
        raise DataError(_problem(path, None, f"not readable as CSV: {cause}", "write it again as CSV")) from None
    if not rows:
        raise DataError(_problem(path, None, "an empty file", "write a header and one row per case"))
    width = len(rows[0])
    ragged = [number for number, row in enumerate(rows, start=1) if len(row) != width]
    if ragged:
        found = f"{len(ragged)} rows do not have the header's {width} cells: rows {listed(ragged)}"
        raise DataError(_problem(path, ragged[0], found, "quote cells that hold the delimiter"))
    table = pd.DataFrame(rows[1:], columns=rows[0], dtype=object)
    table.attrs["delimiter"] = delimiter
    return table


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as cause:
        raise DataError(_problem(path, None, f"not readable: {cause.strerror}", "check the file's rights")) from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as cause:
        found = f"byte {cause.start} is not {encoding.removesuffix('-sig').upper()}"
        raise DataError(_problem(path, None, found, "save the table as UTF-8")) from None
    if "\0" in text:
        raise DataError(_problem(path, None, "the file holds NUL characters: not a text table", "save it as CSV"))
    return text


def _parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except Exception as cause:  # the reader's errors share no class
        raise DataError(_problem(path, None, f"not readable as Parquet: {cause}", "write it again")) from None
    columns = [series.astype(object).where(series.notna(), "").map(str) for _, series in table.items()]
    plain = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    plain.columns = pd.Index([str(name) for name in table.columns], dtype=object)
    return plain.reset_index(drop=True).astype(object)


def _problem(path: Path, row: int | None, found: str, remedy: str) -> Problem:
    why = "nothing can be evaluated from it"
    return Problem(code="RS-P16", level="error", file=str(path), row=row, found=found, why=why, remedy=remedy)
