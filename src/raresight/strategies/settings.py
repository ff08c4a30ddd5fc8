"""Checks of a method's settings: a value outside its range is refused with the range in the message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raresight.core.errors import ConfigError, Problem, nearest


def number(
    method: str,
    setting: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    below_high: bool = False,
    above_low: bool = False,
) -> float:
    """`value` as a float in [low, high], without `high` where `below_high`, without `low` where `above_low`.

    Infinity itself is never a setting.

    Raises: `ConfigError` RS-C34 naming method, setting, value and allowed range.
    """
    closing = ")" if below_high or math.isinf(high) else "]"
    allowed = f"{'(' if above_low else '['}{low:g}, {high:g}{closing}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(method, setting, f"{setting} = {value!r}", f"it must be a number in {allowed}")
    if not low <= value <= high or (below_high and value == high) or (above_low and value == low):
        raise refused(method, setting, f"{setting} = {value!r}", f"it must lie in {allowed}")
    return float(value)


def whole(method: str, setting: str, value: Any, low: int) -> int:
    """`value` as an int of at least `low`. Raises: `ConfigError` RS-C34."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise refused(method, setting, f"{setting} = {value!r}", f"it must be a whole number >= {low}")
    return value


def flag(method: str, setting: str, value: Any) -> bool:
    """`value` as true or false. Raises: `ConfigError` RS-C34."""
    if not isinstance(value, bool):
        raise refused(method, setting, f"{setting} = {value!r}", "it must be true or false")
    return value


def choice(method: str, setting: str, value: Any, options: Sequence[str]) -> str:
    """`value` as one of `options`. Raises: `ConfigError` RS-C34 with the nearest option."""
    if value not in options:
        close = nearest(str(value), options)
        hint = f"did you mean '{close}'?" if close else None
        raise refused(method, setting, f"{setting} = {value!r}", f"it must be one of {', '.join(options)}", hint)
    return str(value)


def refused(method: str, setting: str, found: str, expected: str, remedy: str | None = None) -> ConfigError:
    """The RS-C34 error of one setting; `build` puts the arm's name before its place."""
    return ConfigError(
        Problem(
            code="RS-C34",
            level="error",
            file="study.yaml",
            column=f"{method}.{setting}",
            found=f"{method}: {found}",
            why=expected,
            remedy=remedy or f"write a value for {setting} that it allows, or leave it out for the default",
        )
    )
