"""A killed or failing write leaves the old file, whole, and nothing beside it."""

from __future__ import annotations

import hashlib
import math
import stat
from pathlib import Path

import pytest

from raresight.core.files import (
    finite,
    read_json,
    read_jsonl,
    replacing,
    sha256,
    sha256_of,
    sweep,
    write_json,
    write_jsonl,
    write_text,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_write_replaces_and_is_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    write_text(path, "neü")
    assert path.read_text(encoding="utf-8") == "neü"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)  # not mkstemp's 0600


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"ä": [1, None]})
    assert read_json(path) == {"ä": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": math.nan})
    assert read_json(path) == {"ä": [1, None]}
    write_jsonl(path, [{"a": 1}, {"b": 2}])
    assert read_jsonl(path) == [{"a": 1}, {"b": 2}]
    write_jsonl(path, [])
    assert read_jsonl(path) == []


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)  # longer than one block
    assert sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert sha256_of({"a": 1, "b": [2]}) == sha256_of({"b": [2], "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 2})


def test_finite() -> None:
    assert [finite(v) for v in (None, math.nan, math.inf, 1)] == [None, None, None, 1.0]


def test_sweep_removes_what_killed_writes_left_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "kept.txt", "kept")
    (tmp_path / ".resume.pt.abc123.tmp").write_bytes(b"half")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
