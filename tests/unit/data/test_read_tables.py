"""A table is opened as it was meant, or refused with the place; never a traceback."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raresight.core.errors import DataError, RaresightError
from raresight.data.read import ReadOptions, read
from raresight.data.tables import open_table

PLAIN = "image,label,patient_id\na.png,nævus,007\nb.png,mel,8\n"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (PLAIN.encode(), None),
        (gzip.compress(PLAIN.encode(), mtime=0), None),
        (PLAIN.replace("\n", "\r\n").encode(), None),
        (PLAIN.encode("utf-8-sig"), "byte-order mark"),
        (PLAIN.encode("utf-16"), "UTF-16"),
        (PLAIN.encode("utf-16-le"), "UTF-16"),
        (PLAIN.encode("utf-16-be"), "UTF-16"),
        (PLAIN.encode("cp1252"), "Windows-1252"),
        (PLAIN.replace(",", ";").encode(), "semicolon"),
        (PLAIN.replace(",", "\t").encode(), "tab"),
        (PLAIN.replace(",", "|").encode(), "bar"),
    ],
)
def test_encoding_and_delimiter_are_found_and_said(tmp_path: Path, content: bytes, named: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    table = open_table(path)
    assert list(table.frame.columns) == ["image", "label", "patient_id"]
    assert table.frame.to_numpy().tolist() == [["a.png", "nævus", "007"], ["b.png", "mel", "8"]]
    assert [problem.code for problem in table.problems] == ([] if named is None else ["RS-M16"])
    assert named is None or (named in table.problems[0].found and table.problems[0].level == "warning")


def test_rows_are_counted_as_an_editor_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,2\n\n3,"x\ny"\n,\n5,6\n\n')
    table = open_table(path)
    assert table.rows.tolist() == [2, 4, 6]  # row 3 is blank, row 5 has empty cells only
    assert table.frame["a"].tolist() == ["1", "3", "5"]
    assert table.frame["b"].tolist() == ["2", "x\ny", "6"]


def test_quoted_delimiters_and_words_for_missing_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('name,note\n"Smith, J",NA\n007,nan\n')
    assert open_table(path).frame.to_numpy().tolist() == [["Smith, J", "NA"], ["007", "nan"]]


@pytest.mark.parametrize(
    ("content", "code", "row", "words"),
    [
        (b"", "RS-M51", None, "empty"),
        (b"\n \n", "RS-M51", None, "empty"),
        (b"image,label\n", "RS-M51", None, "header and nothing else"),
        (b"a,b\n1,2\n3,4,5\n", "RS-M16", 3, "3 cells where the header has 2"),
        (b"a,b\n1,2\n3\n", "RS-M16", 3, "1 cells where the header has 2"),
        (b'a,b\n1,2\n"3,4\n', "RS-M16", 3, "cannot be cut"),
        (b"a;b,c\n1;2,3\n", "RS-M16", 1, "comma or semicolon"),
        (b"a,a\n1,2\n", "RS-M16", 1, "more than once"),
        (b"PK\x03\x04aaaa", "RS-M16", None, "zip archive"),
        (b"<!DOCTYPE html><html>", "RS-M16", None, "web page"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-12], "RS-M16", None, "gzip"),
        (b"a,b\n1,\x00\x00\n" + b"2,3\n" * 9, "RS-M16", 2, "zero bytes"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(
    tmp_path: Path, content: bytes, code: str, row: int | None, words: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_table(path)
    (problem,) = caught.value.problems
    assert (problem.code, problem.level, problem.file, problem.row) == (code, "error", str(path), row)
    assert words in problem.found
    assert problem.remedy


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_table(tmp_path / "nowhere.csv")
    assert caught.value.problems[0].code == "RS-M50"
    assert "nowhere.csv" in caught.value.problems[0].file


CELL = st.text(st.sampled_from('ab0,;|\t"\n\r é#./\\-'), max_size=6)
NAMES = st.sampled_from(
    ["image", "label", "patient_id", "label_a", "label_", "labels", "mask", "split", "case", "group"]
)


def _reads_or_refuses(content: bytes, kinds: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        for kind in kinds:
            for options in (ReadOptions(), ReadOptions(no_images=True, one_image_per_patient=True)):
                try:
                    reading = read(kind, path, options)
                except RaresightError as refused:
                    assert all(problem.code and problem.remedy for problem in refused.problems)
                else:
                    assert len(reading.manifest) > 0
                    assert reading.manifest.table.columns.is_unique


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
@example(b"\xfe\xff")  # a byte-order mark and nothing behind it
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    _reads_or_refuses(content, ("csv", "ham10000", "chestxray14", "medmnist", "folder"))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(NAMES, min_size=1, max_size=5),
    st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-16", "cp1252", "utf-8-sig"]),
)
def test_any_cells_are_read_or_refused(names: list[str], rows: list[list[str]], mark: str, encoding: str) -> None:
    text = "\n".join(mark.join(record) for record in [names, *rows])
    _reads_or_refuses(text.encode(encoding), ("csv",))
