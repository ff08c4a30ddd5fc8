"""One limitation of a study."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limitation:
    """`key` is stable, for programs; `weight` orders (higher is graver); `short` goes on page one."""

    key: str
    weight: int
    short: str
    text: str
