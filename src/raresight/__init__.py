"""raresight: for medical images in which the disease that must not be missed is rare.

The public verbs live in `raresight.api`; they load on first use, so that `import raresight` stays light.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    from raresight import api

    if name in api.__all__:
        return getattr(api, name)
    raise AttributeError(f"module 'raresight' has no attribute '{name}'; public names: {', '.join(api.__all__)}")
