"""Writing so that a killed process leaves either the old file or the new one, never half of either."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raresight.core.errors import ConfigError, Problem

FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed over `path`, else removed.

    Raises: `ConfigError` RS-R45 where the disk is full or may not be written to; `path` is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as cause:
        if cause.errno not in FULL | CLOSED:
            raise
        raise _not_written(path, full=cause.errno in FULL) from cause


def sweep(folder: Path) -> None:
    """Remove what killed writes left in `folder`; call it only where nobody else is writing."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; a NaN or infinity is a bug of ours and raises `ValueError`."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def finite(value: float | None) -> float | None:
    """`value` as a plain float, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(value: Any) -> str:
    """Hash of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _not_written(path: Path, *, full: bool) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R45",
            level="error",
            file=str(path),
            found="the disk is full" if full else "this folder may not be written to",
            why="the file could not be written whole; what was there before is untouched",
            remedy="free some space and give the same command again: it goes on where it was left"
            if full
            else "choose a folder that you may write to, or change its permissions",
        )
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
