"""Optional packages, loaded inside the function that needs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from raresight.core.errors import ConfigError, Problem


def need(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import `module`, or raise a `ConfigError` with the exact install command.

    `extra` is the name in `pip install 'raresight[extra]'`, `feature` what the user asked for.
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise ConfigError(
            Problem(
                code="RS-X01",
                level="error",
                found=f"{feature} needs the package '{module}', which cannot be imported ({cause})",
                why="raresight's base installation leaves it out so that evaluation stays small",
                remedy=f"pip install 'raresight[{extra}]'",
            )
        ) from cause
