"""Predictions as strangers write them: `score` answers with figures, with a reason for none, or with a refusal.

Tables start out sound and are then spoilt in none to four ways, so that many of them come close to being read. The page
is left out of most runs, as it costs thirty times what the figures do.
"""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raresight.core.errors import RaresightError
from raresight.evaluate.read import read_predictions
from raresight.verbs.score import score

NEEDS_THE_CLASS = {"recall", "precision", "f1", "auroc", "auprc", "ece", "recall_at_specificity_90", "npv", "ici"}
SHARES = {"recall", "precision", "specificity", "npv", "f1", "auroc", "auprc", "accuracy", "macro_f1", "macro_auroc"}
NAMES = ["mel", "nv", "Ünïcode 病", "a,b", "a;b", " mel", "MEL", "label", "x=y", "<b>", "nan", "0", "-", "e\u0301"]
CELLS = [
    "", " ", "nan", "NaN", "None", "inf", "-inf", "1e400", "1e308", "-1e308", "1e-320", "5e-324", "0", "1", "-0.0",
    "1.0", "0.5", "0,5",
    "1.000.000", "1_000", "½", "٠", "0x1p-1", "True", "1e", "--", "=1+1", "é", "\u202e", "\x00", '"', "'",
    "a" * 300, "mel", "NV", "1;2", "1,2", "9" * 40,
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"]
FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Table:
    """Columns of text, and how they are to be written."""

    columns: list[tuple[str, list[str]]]
    mark: str = ","
    encoding: str = "utf-8"
    newline: str = "\n"
    cut: int | None = None
    tail: bytes = b""
    log: list[str] = field(default_factory=list)

    def bytes(self) -> bytes:
        quoted = lambda cell: '"' + cell.replace('"', '""') + '"' if self.mark in cell or '"' in cell else cell  # noqa: E731
        names = [quoted(name) for name, _ in self.columns]
        rows = zip(*(cells for _, cells in self.columns), strict=False)
        lines = [self.mark.join(names), *(self.mark.join(map(quoted, row)) for row in rows)]
        raw = self.newline.join(lines).encode(self.encoding, "replace") + self.tail
        return raw if self.cut is None else raw[: self.cut]


@st.composite
def sound(draw: st.DrawFn) -> Table:
    n, k = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    classes = draw(st.lists(st.sampled_from(NAMES), min_size=k, max_size=k, unique=True))
    level = st.sampled_from([0.0, 1e-12, 0.1, 0.2, 0.5, 0.9, 1.0])
    prob = np.array(draw(st.lists(st.lists(level, min_size=k, max_size=k), min_size=n, max_size=n)))
    patients = draw(st.lists(st.integers(0, draw(st.integers(0, 13))), min_size=n, max_size=n))
    columns = [("case", [f"case{i}" for i in range(n)]), ("patient_id", [f"p{i}" for i in patients])]
    if draw(st.booleans()):
        total = prob.sum(axis=1, keepdims=True)
        prob = np.where(total > 0, prob / np.where(total > 0, total, 1), 1 / k)
        held = draw(st.lists(st.sampled_from([*classes, ""]), min_size=n, max_size=n))
        columns.append(("label", held))
    else:
        cell = st.sampled_from(["0", "1", ""])
        columns += [(f"label_{name}", draw(st.lists(cell, min_size=n, max_size=n))) for name in classes]
    columns += [(f"prob_{name}", [repr(float(value)) for value in prob[:, j]]) for j, name in enumerate(classes)]
    columns.append(("age", draw(st.lists(st.sampled_from(["30", "55", "81.5", "", "old"]), min_size=n, max_size=n))))
    return Table(columns, mark=draw(st.sampled_from([",", ",", ";", "\t"])))


def _cell(draw: st.DrawFn, table: Table) -> None:
    _, cells = table.columns[draw(st.integers(0, len(table.columns) - 1))]
    if cells:
        cells[draw(st.integers(0, len(cells) - 1))] = draw(st.one_of(st.sampled_from(CELLS), st.text(max_size=5)))


def _whole_column(draw: st.DrawFn, table: Table) -> None:
    _, cells = table.columns[draw(st.integers(0, len(table.columns) - 1))]
    cells[:] = [draw(st.sampled_from(CELLS))] * len(cells)


def _rename(draw: st.DrawFn, table: Table) -> None:
    i = draw(st.integers(0, len(table.columns) - 1))
    name = draw(
        st.sampled_from(["case", "patient_id", "label", "prob_", "prob_mel", "label_mel", "logit_mel", "", "x"])
    )
    table.columns[i] = (name, table.columns[i][1])


def _drop(draw: st.DrawFn, table: Table) -> None:
    if len(table.columns) > 1:
        table.columns.pop(draw(st.integers(0, len(table.columns) - 1)))


def _double(draw: st.DrawFn, table: Table) -> None:
    name, cells = draw(st.sampled_from(table.columns))
    table.columns.append((draw(st.sampled_from([name, name + " ", name.upper()])), list(cells)))


def _repeat_a_row(draw: st.DrawFn, table: Table) -> None:
    for _, cells in table.columns:
        cells.append(cells[0] if cells else "")


def _no_rows(draw: st.DrawFn, table: Table) -> None:
    for _, cells in table.columns:
        cells.clear()


def _encode(draw: st.DrawFn, table: Table) -> None:
    table.encoding = draw(st.sampled_from(ENCODINGS))


def _write(draw: st.DrawFn, table: Table) -> None:
    table.mark = draw(st.sampled_from([",", ";", "\t", "|", " "]))
    table.newline = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))


def _cut_off(draw: st.DrawFn, table: Table) -> None:
    table.cut = draw(st.integers(0, 200))


def _append(draw: st.DrawFn, table: Table) -> None:
    table.tail = draw(st.one_of(st.binary(max_size=12), st.sampled_from([b"\n\n\n", b"\x1a", b"\n,,,,", b"\x00"])))


SPOIL: list[Callable[[st.DrawFn, Table], None]] = [
    _cell, _cell, _cell, _whole_column, _rename, _drop, _double, _repeat_a_row, _no_rows, _encode, _write, _cut_off,
    _append,
]  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    table = draw(sound())
    for change in draw(st.lists(st.sampled_from(SPOIL), max_size=4)):
        change(draw, table)
    return table.bytes()


@st.composite
def parquet(draw: st.DrawFn) -> bytes:
    """A sound table in types that nobody asked for, or no Parquet at all."""
    table = draw(sound())
    frame = pd.DataFrame(dict(table.columns))
    for name in list(frame.columns):
        if name.startswith(("prob_", "label_")):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    kinds = ["float16", "float32", "Int64", "string", "category", "bool", "datetime64[ns]", "object", "bytes", "list"]
    for _ in range(draw(st.integers(0, 3))):
        name, kind = draw(st.sampled_from(list(frame.columns))), draw(st.sampled_from(kinds))
        try:
            if kind == "bytes":
                frame[name] = [str(value).encode() for value in frame[name]]
            elif kind == "list":
                frame[name] = [[value] for value in frame[name]]
            else:
                frame[name] = frame[name].astype(kind)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            continue
    if draw(st.booleans()):
        frame.index = pd.Index(
            draw(st.permutations(range(len(frame)))), name=draw(st.sampled_from([None, "case", "age"]))
        )
    stream = io.BytesIO()
    try:
        frame.to_parquet(stream)
    except Exception:  # what pandas cannot write is nobody's file
        return b"PAR1"
    raw = stream.getvalue()
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw


@dataclass(frozen=True)
class Asked:
    """Options of one call."""

    scores: str
    waived: bool
    subgroups: tuple[str, ...]
    unit_column: str | None
    beside: str


OPTIONS = st.builds(
    Asked,
    scores=st.sampled_from(["probabilities", "probabilities", "logits"]),
    waived=st.booleans(),
    subgroups=st.sampled_from([(), (), ("age",), ("patient_id", "age")]),
    unit_column=st.sampled_from([None, None, "patient_id", "age"]),
    beside=st.sampled_from(["", "val", "twin", "costs"]),
)


def refused_or_sound(folder: Path, raw: bytes, other: bytes, suffix: str, asked: Asked) -> str:
    """`refused` or `scored`; fails on anything that is neither, or on a figure that nothing stands behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path, second = folder / f"m{suffix}", folder / f"v{suffix}"
    path.write_bytes(raw)
    second.write_bytes(other)
    tests = [path, second] if asked.beside == "twin" else [path]
    options: dict[str, Any] = {"val": [second]} if asked.beside == "val" else {}
    if asked.beside == "costs":
        (folder / "c.yaml").write_bytes(b"missed: {mel: 20}\nprevalence: {mel: 0.02}\n")
        options["costs"] = folder / "c.yaml"
    reading: dict[str, Any] = {"scores": asked.scores, "one_image_per_patient": asked.waived}
    try:
        score(
            tests,
            folder / "out",
            subgroups=asked.subgroups,
            unit_column=asked.unit_column,
            resamples=20,
            **reading,
            **options,
        )
    except RaresightError as refusal:
        assert refusal.exit_code in (2, 3, 4)
        assert refusal.problems and all(p.code and p.found and p.why and p.remedy for p in refusal.problems)
        assert not (folder / "out").exists(), "nothing is half-written"
        return "refused"
    written = (folder / "out/estimates.json").read_text(encoding="utf-8")
    rows = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["estimates"]
    given_ = read_predictions(path, **reading)
    present = dict(zip(given_.task.classes, (given_.target == 1).any(axis=0), strict=True))
    assert rows
    for row in rows:
        if row["value"] is None:
            assert row["low"] is None and row["high"] is None and row["reason"], row
            continue
        assert all(math.isfinite(row[key]) for key in ("value", "low", "high")), row
        assert row["low"] <= row["value"] + 1e-9 and row["value"] <= row["high"] + 1e-9, row
        assert row["metric"] not in SHARES or 0 <= row["value"] <= 1, row
        assert row["class"] is None or row["metric"] not in NEEDS_THE_CLASS or present[row["class"]], row
        assert row["subgroup"] is None or row["n_positive_patients"] >= 10, row
    return "scored"


@pytest.fixture
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raresight.report.page.write", lambda content, out: None)


@settings(FIXED, max_examples=300)
@given(raw=spoilt(), other=spoilt(), asked=OPTIONS)
def test_spoilt_tables(tmp_path: Path, pageless: None, raw: bytes, other: bytes, asked: Asked) -> None:
    refused_or_sound(tmp_path / "f", raw, other, ".csv", asked)


@settings(FIXED, max_examples=80)
@given(raw=parquet(), other=parquet(), asked=OPTIONS)
def test_parquet_of_odd_types(tmp_path: Path, pageless: None, raw: bytes, other: bytes, asked: Asked) -> None:
    refused_or_sound(tmp_path / "f", raw, other, ".parquet", asked)


@settings(FIXED, max_examples=60)
@given(raw=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".parquet", ".pq", "", ".json"]), asked=OPTIONS)
def test_bytes_that_are_no_table(tmp_path: Path, pageless: None, raw: bytes, suffix: str, asked: Asked) -> None:
    assert refused_or_sound(tmp_path / "f", raw, raw, suffix, asked) == "refused"


@settings(FIXED, max_examples=6)
@given(table=sound(), asked=OPTIONS)
def test_sound_tables_have_a_page(tmp_path: Path, table: Table, asked: Asked) -> None:
    raw = table.bytes()
    if refused_or_sound(tmp_path / "f", raw, raw, ".csv", asked) == "scored":
        assert (tmp_path / "f/out/report.html").stat().st_size > 10_000


def test_many_spoilt_tables_are_still_read() -> None:
    """A fuzz whose every table is refused at the door tests the door alone."""
    seen: list[bool] = []

    @settings(FIXED, max_examples=60)
    @given(raw=spoilt())
    def draw(raw: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "m.csv").write_bytes(raw)
            try:
                read_predictions(Path(folder) / "m.csv")
                seen.append(True)
            except RaresightError:
                seen.append(False)

    draw()
    assert sum(seen) >= len(seen) / 5
