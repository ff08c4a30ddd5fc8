"""Inner loops that numba compiles where it is there, each beside a plain form that gives the same numbers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any


def inner_loops(load: Callable[[], ModuleType], slower: str) -> ModuleType | None:
    """The module of compiled loops that `load` imports and tries out, or None where the plain ones have to serve.

    None where numba is absent, or unwanted (`RARESIGHT_LANES=plain`), or broken; a warning then says why and that
    `slower` takes longer. Callers keep the answer, so that it is settled once a process.

    Raises: `ModuleNotFoundError` where anything but numba is missing.
    """
    if os.environ.get("RARESIGHT_LANES") == "plain":
        return None
    try:
        return load()
    except ModuleNotFoundError as cause:
        if cause.name == "numba":
            return None
        raise
    except Exception as cause:
        warnings.warn(f"numba cannot be used, and {slower} takes longer without it: {cause}", stacklevel=3)
        return None


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`numba.njit` with what was compiled kept beside the function's file, or in the user's cache, where it can be."""
    import numba

    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder in which compiled code can be kept
        return numba.njit(**options)(function)
