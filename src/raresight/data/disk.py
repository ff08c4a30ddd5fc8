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
        full = error.errno in _FULL
        room = f", which needs {needed_bytes / 1e6:,.0f} MB" if needed_bytes else ""
        raise ConfigError(
            Problem(
                code="RS-R45",
                level="error",
                file=str(folder),
                found=f"the disk is full while writing here{room}" if full else "this folder cannot be written to",
                why="nothing more can be stored; what was finished before is whole and is used again",
                remedy="free some space and run the command again" if full else "choose a folder that you may write to",
            )
        ) from error
