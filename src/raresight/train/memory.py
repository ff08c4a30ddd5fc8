"""Memory that one batch gave back serves the next, as long as something is computed and no longer."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
KEPT = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: (1 << 31) - 1}  # bytes: the largest block, and of free ones in all
# Where glibc's own adapting ends, which it does no more once it was told: what a process of large arrays arrives at.
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}

_open: list[None] = []  # one for each context that is open


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Within this context the C library keeps freed memory, up to 1 GB a block; afterwards the system has it back.

    Otherwise batches of megabytes go back to the system one by one, and each new one is handed out page by page and
    filled with zeros first: at 224 px that takes as long as augmenting it. The peak may rise by a block or two, until
    the freed ones fit. Contexts nest, and the outermost one ends it. Answers False where nothing is set: on systems
    without GNU's C library, and where the environment tunes its allocator already.
    """
    library = _tunable()
    if library is None:
        yield False
        return
    if not _open:
        _set(library, KEPT)
    _open.append(None)
    try:
        yield True
    finally:
        _open.pop()
        if not _open:
            _set(library, USUAL)
            library.malloc_trim(0)


def _tunable() -> Any:
    """The C library, where it has the settings and nobody else uses them."""
    by_user = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    if any(name in os.environ for name in by_user) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _set(library: Any, settings: dict[int, int]) -> None:
    for setting, value in settings.items():
        library.mallopt(setting, value)
