"""One number about a network, with what it rests on, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A number, or None with a reason; never 0 for what could not be measured.

    `value` is None exactly where `reason` says why. `n_images` and `n_patients` are what the number rests on, `note`
    what a reader must know to read it.

    Raises: `ValueError` for a value that is not finite, or a missing value without a reason.
    """

    value: float | None
    n_images: int = 0
    n_patients: int | None = None
    reason: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a measured value of {self.value}: say None, and why")
        if (self.value is None) != bool(self.reason):
            raise ValueError(
                f"value {self.value} with reason {self.reason!r}: a reason is given exactly where no value is"
            )

    @property
    def status(self) -> str:
        return "ok" if self.value is not None else "not_estimable"

    @property
    def number(self) -> float:
        """The value, NaN where there is none, for arrays."""
        return float("nan") if self.value is None else self.value


def listed(names: Iterable[object]) -> str:
    """`a, b and c`."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
