"""The text of a table file, whatever wrote it: gzip, UTF-8 with or without a mark, UTF-16, an old Windows page."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from raresight.core.errors import DataError, Problem

GZIP = b"\x1f\x8b"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NOT_TEXT = (
    (
        b"PK\x03\x04",
        "a zip archive (an Excel workbook, or an .npz)",
        "save the sheet as CSV UTF-8; an .npz: --from medmnist",
    ),
    (b"PAR1", "a Parquet file", "write it as CSV first, e.g. pandas.read_parquet(...).to_csv(...)"),
    (b"%PDF", "a PDF", "give the table itself"),
    (b"\x89PNG", "a PNG image", "give the table, or the folder of images with --from folder"),
    (b"\xff\xd8\xff", "a JPEG image", "give the table, or the folder of images with --from folder"),
    (b"<!DOCTYPE", "a web page", "the download was refused or redirected: fetch the table again"),
    (b"<html", "a web page", "the download was refused or redirected: fetch the table again"),
)


def read_text(path: Path) -> tuple[str, str]:
    """The text of `path` with line ends as `\\n`, and the encoding that it was in.

    Without a byte-order mark, UTF-8 is tried first; UTF-16 is recognised by its zero bytes; other bytes are taken as
    Windows-1252, which the caller should say. Raises: `DataError` (RS-M16, RS-M50, RS-M51) for whatever is no text.
    """
    raw = _bytes(path)
    if not raw.strip(b"\0 \t\r\n"):
        raise DataError(empty(path))
    for start, what, remedy in NOT_TEXT:
        if raw.startswith(start):
            raise DataError(unreadable(path, f"this is {what}, not a CSV table", remedy))
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), None) or _guess(raw)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as cause:
        found = f"bytes at position {cause.start} are not {encoding.upper()} text"
        raise DataError(unreadable(path, found, "save the table as CSV UTF-8")) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            unreadable(path, "zero bytes inside the text: a binary or damaged file", "export the table again", row)
        )
    return text, "utf-8" if encoding == "utf-8-sig" and not raw.startswith(codecs.BOM_UTF8) else encoding


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(GZIP) else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as cause:
        found = f"the gzip stream is damaged or cut short ({cause})"
        raise DataError(unreadable(path, found, "copy or download the file again")) from None
    except OSError as cause:
        raise DataError(missing(path, cause.strerror or str(cause))) from None


def _guess(raw: bytes) -> str:
    head = raw[:4096]
    if head.count(0) > len(head) // 4:  # mostly ASCII in two bytes each
        return "utf-16-le" if head[1::2].count(0) >= head[0::2].count(0) else "utf-16-be"
    try:
        raw.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252"


def unreadable(path: Path, found: str, remedy: str, row: int | None = None) -> Problem:
    why = "a table read wrongly would mix up labels and patients"
    return Problem(code="RS-M16", level="error", file=str(path), row=row, found=found, why=why, remedy=remedy)


def missing(path: Path, reason: str = "no such file or folder") -> Problem:
    return Problem(
        code="RS-M50",
        level="error",
        file=str(path),
        found=f"cannot be opened: {reason}",
        why="there is nothing to read",
        remedy="check the path; SOURCE is the folder, table or .npz of the data set",
    )


def empty(path: Path, what: str = "no rows") -> Problem:
    return Problem(
        code="RS-M51",
        level="error",
        file=str(path),
        found=f"the table is empty ({what})",
        why="there is nothing to learn from",
        remedy="give a table with a header row and one row per image",
    )
