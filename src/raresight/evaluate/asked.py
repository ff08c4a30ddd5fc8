"""What is asked of decisions, from a file: the prices of errors, and the floors that thresholds must reach."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.task import Task
from raresight.evaluate.cost import check_costs
from raresight.evaluate.cost_matrix import as_mapping

DECISION_KEYS = ("floors", "miscoverage", "refer")
NO_COSTS: dict[str, Any] = {"missed": {}, "prevalence": {}, "matrix": {}, "referral": None}


def read_costs(path: Path | str, task: Task) -> dict[str, Any]:
    """`{missed: {class: cost}, prevalence: {class: share}, matrix: {true: {said: cost}}, referral}` from YAML or JSON.

    Keys that are not given are empty. A matrix may be written as rows of numbers, in the order of the classes. What the
    file says of decisions (`floors`, `miscoverage`, `refer`) is for `read_decisions`.

    Raises: `ConfigError` RS-C37 for a file that is no such table, and those of `check_costs`.
    """
    given = {key: value for key, value in _table(Path(path)).items() if key not in DECISION_KEYS}
    check_costs(given, task.classes, task.critical, str(path), kind=task.kind)
    named = {
        entry: {str(name): float(value) for name, value in (given.get(entry) or {}).items()}
        for entry in ("missed", "prevalence")
    }
    referral = given.get("referral")
    prices = {"matrix": as_mapping(given, task.classes), "referral": None if referral is None else float(referral)}
    return named | prices


def read_decisions(path: Path | str, classes: Sequence[str]) -> dict[str, Any]:
    """`floors`, `miscoverage` and `refer` of a file, as far as it names them; a file of classes alone is all floors.

    A floor is what a class's threshold must reach on validation: `mel: {sensitivity: 0.9}` or `{specificity: 0.9}`.

    Raises: `ConfigError` RS-C37 for a file that is no table, RS-C33 for a class that is not known, RS-C34 for anything
    but one share above 0 per class.
    """
    path = Path(path)
    given = _table(path)
    if given and not set(given) & {*DECISION_KEYS, *NO_COSTS}:
        given = {"floors": given}
    asked = {key: given[key] for key in DECISION_KEYS if given.get(key) is not None}
    floors = asked.get("floors", {})
    if not isinstance(floors, Mapping):
        raise ConfigError(_problem("RS-C34", path, "floors", f"{floors!r} is not a table of classes"))
    problems = [problem for name, floor in floors.items() for problem in _floor(path, str(name), floor, classes)]
    limits = {"miscoverage": (0.0, 0.5), "refer": (0.0, 0.5)}
    for key in ("miscoverage", "refer"):
        low, high = limits[key]
        value = asked.get(key, high)
        inside = _number(value) and (low < value <= high or (key == "refer" and value == 0))
        if not inside:
            problems.append(_problem("RS-C34", path, key, f"{value!r} is not a share up to {high:g}", f"{key}: 0.1"))
    if problems:
        raise ConfigError(*problems)
    return asked


def _floor(path: Path, name: str, floor: Any, classes: Sequence[str]) -> list[Problem]:
    place = f"floors.{name}"
    if name not in classes:
        close = nearest(name, classes)
        remedy = f"did you mean '{close}'?" if close else f"known here: {', '.join(classes)}"
        return [_problem("RS-C33", path, place, f"'{name}' is not a class", remedy)]
    one = isinstance(floor, Mapping) and len(floor) == 1 and set(floor) <= {"sensitivity", "specificity"}
    value: Any = next(iter(floor.values())) if one else None
    if one and _number(value) and 0 < value <= 1:
        return []
    return [_problem("RS-C34", path, place, f"{floor!r} is not one share of sensitivity or specificity above 0")]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table(path: Path) -> dict[str, Any]:
    why, remedy = "costs decide thresholds", "write   missed: {mel: 20}   and, if known,   prevalence: {mel: 0.02}"
    try:
        text = path.read_text(encoding="utf-8-sig")
        given = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as cause:
        said = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ConfigError(_problem("RS-C37", path, None, f"not readable as a table: {said}", remedy, why)) from None
    if not isinstance(given, Mapping):
        raise ConfigError(_problem("RS-C37", path, None, f"{type(given).__name__}, not a table", remedy, why))
    return {str(key): value for key, value in given.items()}


def _problem(
    code: str,
    path: Path,
    column: str | None,
    found: str,
    remedy: str = "write   floors: {mel: {sensitivity: 0.9}}",
    why: str = "thresholds are chosen by what is asked of them",
) -> Problem:
    return Problem(code=code, level="error", file=str(path), column=column, found=found, why=why, remedy=remedy)
