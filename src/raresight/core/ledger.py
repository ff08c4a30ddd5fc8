"""The record of every opening of the test part: append-only, each line carrying the hash of the one before.

It deters and informs; it cannot stop somebody who copies the folder first.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raresight.core.errors import GateError, Problem
from raresight.core.files import read_jsonl, sha256_of, write_jsonl


def openings(path: Path) -> list[dict[str, Any]]:
    """All openings so far, the first one first; an empty list where the test part was never opened.

    Raises: `GateError` where a line was changed, removed or cannot be read: the chain is broken.
    """
    if not path.exists():
        return []
    try:
        lines = read_jsonl(path)
        chained = all(line["previous_sha256"] == (sha256_of(lines[i - 1]) if i else "") for i, line in enumerate(lines))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError):
        chained = False
    if not chained:
        raise GateError(
            Problem(
                code="RS-L01",
                level="error",
                file=str(path),
                found="the test ledger was changed by hand: its chain of hashes is broken",
                why="it can no longer be said how often the test part was looked at",
                remedy="restore the file from a backup; if there is none, take a fresh test part",
            )
        )
    return lines


def record(path: Path, *, plan_sha256: str, data_sha256: str, reason: str) -> int:
    """Append an opening and return its number, from 1."""
    lines = openings(path)
    opening = {
        "opening": len(lines) + 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan_sha256": plan_sha256,
        "data_sha256": data_sha256,
        "reason": reason,
        "previous_sha256": sha256_of(lines[-1]) if lines else "",
    }
    write_jsonl(path, [*lines, opening])
    return len(lines) + 1
