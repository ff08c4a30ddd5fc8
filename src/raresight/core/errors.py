"""What went wrong, said once and so that the reader can act on it.

Every message answers five questions: what was given, what was expected, where, why it matters, and how to mend it.
A `Problem` is one line of `data/issues.jsonl`; a `RaresightError` carries problems to the command line, which prints
them and leaves with the error's exit code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "quarantine"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with the input.

    `code` is stable (`RS-M01`: catalogue part and number), `file`, `row` (1-based, counting the header as row 1) and
    `column` say where, `found` what was met, `why` what would go wrong, `remedy` the one thing to do.
    """

    code: str
    level: Level
    file: str = ""
    row: int | None = None
    column: str | None = None
    found: str
    why: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column '{self.column}'" if place else f"column '{self.column}'"
        head = f"{self.code} {place}: {self.found}" if place else f"{self.code} {self.found}"
        return f"{head}\n    why: {self.why}\n    remedy: {self.remedy}"


class RaresightError(Exception):
    """An error that the user can mend. Its `problems` are printed, its `exit_code` is the command's."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems: tuple[Problem, ...] = problems


class ConfigError(RaresightError):
    """A wrong option, `study.yaml` entry or missing optional package: exit code 2."""

    exit_code = 2


class DataError(RaresightError):
    """Data that is refused: exit code 3."""

    exit_code = 3


class GateError(RaresightError):
    """A gate that stays shut (leaking split, spent test part): exit code 4."""

    exit_code = 4


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The known name closest to `word`, or None. Compares without case, so `Melanoma ` finds `melanoma`."""
    by_folded = {option.strip().casefold(): option for option in options}
    match = difflib.get_close_matches(word.strip().casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[match[0]] if match else None


def listed(items: Sequence[object], most: int = 8) -> str:
    """`a, b, c and 4 more`: a list short enough for an error message."""
    head = ", ".join(str(item) for item in items[:most])
    return head if len(items) <= most else f"{head} and {len(items) - most} more"
