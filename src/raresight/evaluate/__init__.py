"""Estimates with intervals, from predictions alone; the package can be called: `raresight.evaluate(y, p, ...)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    """`raresight.evaluate` names both this package and the verb of the Python API, so the package answers to a call."""

    def __call__(
        self, y: Any, p: Any, *, groups: Any, classes: Any, kind: str = "exclusive", costs: Any = None
    ) -> list[Any]:
        """Estimates for arrays: labels and probabilities `(N, K)` (NaN = unknown), patient ids `(N,)`."""
        from raresight.evaluate.estimates import from_arrays

        return from_arrays(y, p, groups=groups, classes=classes, kind=kind, costs=costs)


sys.modules[__name__].__class__ = _Evaluate
