"""raresight: for medical images in which the disease that must not be missed is rare.

The public verbs live in `raresight.api`; they load on first use, so that `import raresight` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["ProbeSet", "Regions", "Study", "demo", "doctor", "evaluate", "listing", "look", "score"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":  # the package of that name can be called
        return importlib.import_module("raresight.evaluate")
    if name in ("ProbeSet", "Regions"):
        return getattr(importlib.import_module("raresight.explain.probe"), name)
    if name in __all__:
        return getattr(importlib.import_module("raresight.api"), name)
    raise AttributeError(f"module 'raresight' has no attribute '{name}'; public names: {', '.join(__all__)}")
