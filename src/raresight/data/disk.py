"""Writing to a disk that may be full or closed: one clear error instead of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raresight.core.errors import ConfigError, Problem

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(folder: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn a full or read-only disk met inside the block into a `ConfigError` (RS-R45) that names the folder.

    `needed_bytes` is told to the reader, so that they know how much to free.

    Raises: ConfigError.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL | _CLOSED:
            raise
        if error.errno in _FULL:
            raise full_disk(folder, needed_bytes) from error
        raise ConfigError(
            Problem(
                code="RS-R45",
                level="error",
                file=str(folder),
                found="this folder cannot be written to",
                why="results would have no place",
                remedy="choose a folder that you may write to",
            )
        ) from error


def is_full(error: OSError) -> bool:
    """Whether writing failed for want of room."""
    return error.errno in _FULL


def full_disk(folder: Path, needed_bytes: int | None = None) -> ConfigError:
    room = f" and {needed_bytes / 1e6:,.1f} MB are needed" if needed_bytes else ""
    return ConfigError(
        Problem(
            code="RS-R45",
            level="error",
            file=str(folder),
            found=f"the disk is full{room}",
            why="the files could not be written whole; nothing half-written counts as done",
            remedy="free some space and run the command again",
        )
    )
