"""What errors cost, and what rates mean where a disease is as rare as it is in practice.

The unit of cost is one false alarm; `missed` says how many false alarms one missed case is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.evaluate.cost_matrix import matrix_problems

LARGEST = 1e300  # an integer of YAML may be larger than any float
KEYS = ("missed", "prevalence", "matrix", "referral")


def cost_array(costs: Any, classes: Sequence[str], entry: str = "missed") -> np.ndarray:
    """One entry of `costs` (`missed` or `prevalence`) as `(K,)`, NaN for a class that is not named.

    `costs` is None, a mapping `{missed: {class: cost}, prevalence: {class: share}}`, or an object that has
    those attributes.
    """
    named = costs.get(entry) if isinstance(costs, Mapping) else getattr(costs, entry, None)
    named = named or {}
    return np.array([float(named.get(name, np.nan)) for name in classes], dtype=np.float64)


def referral_cost(costs: Any) -> float:
    """What one referred case costs, in false alarms; NaN where `costs.referral` is not given."""
    given = costs.get("referral") if isinstance(costs, Mapping) else getattr(costs, "referral", None)
    return float("nan") if given is None else float(given)


def check_costs(
    costs: Any, classes: Sequence[str], critical: Sequence[str] = (), file: str = "", *, kind: str = "exclusive"
) -> list[Problem]:
    """All that is wrong with costs: the warnings are returned, the errors raised together.

    `kind` of the task: a matrix is for exclusive labels, whose prevalences also may not sum to more than 1.

    Raises: `ConfigError` RS-C33 (a class or key that is not known), RS-C37 (a cost that is not positive; a matrix that
    is not square, has a negative cost, or makes an error cheaper than the correct answer), RS-C39 (a prevalence outside
    (0, 1), `5` being taken for percent, or all of them together above 1). Warning: RS-C38 (missing a critical class is
    no dearer than an alarm).
    """
    problems: list[Problem] = []
    if costs is not None and not isinstance(costs, Mapping) and not hasattr(costs, "missed"):
        found = f"costs are {costs!r}, not a table"
        raise ConfigError(_problem("RS-C37", file, "costs", found, "write costs: {missed: {CLASS: 20}}"))
    if isinstance(costs, Mapping):
        for key in costs:
            if key not in KEYS:
                remedy = _did_you_mean(str(key), KEYS)
                problems.append(_problem("RS-C33", file, f"costs.{key}", f"unknown key '{key}'", remedy))
    for entry in ("missed", "prevalence"):
        named = (costs.get(entry) if isinstance(costs, Mapping) else getattr(costs, entry, None)) or {}
        if not isinstance(named, Mapping):
            found = f"{named!r} is not a table of classes"
            problems.append(_problem("RS-C37", file, f"costs.{entry}", found, f"write {entry}: {{CLASS: number}}"))
            continue
        for name, value in named.items():
            problems += _entry_problems(entry, str(name), value, classes, critical, file)
    problems += _referral_problems(costs, file)
    if not any(problem.level == "error" for problem in problems):
        problems += matrix_problems(costs, classes, critical, kind, file)
        together = float(np.nansum(cost_array(costs, classes, "prevalence")))
        if kind == "exclusive" and together > 1:
            found, remedy = f"prevalences sum to {together:g}, and a case has one class", "write shares, 5% as 0.05"
            problems.append(_problem("RS-C39", file, "costs.prevalence", found, remedy))
    errors = [problem for problem in problems if problem.level == "error"]
    if errors:
        raise ConfigError(*errors)
    return problems


def expected_cost(
    recall: np.ndarray, specificity: np.ndarray, prevalence: np.ndarray, missed: np.ndarray
) -> np.ndarray:
    """The cost of one case, summed over the classes that have a cost.

    EC = Σ_c [π_c C_c (1 - Se_c) + (1 - π_c)(1 - Sp_c)], in false alarms a case.

    All arguments `(..., K)`; NaN in `missed` leaves a class out. NaN where a class with a cost cannot be estimated.
    """
    counted = ~np.isnan(missed)
    terms = prevalence * missed * (1 - recall) + (1 - prevalence) * (1 - specificity)
    return np.where(counted, terms, 0.0).sum(axis=-1)


def trivial_cost(prevalence: np.ndarray, missed: np.ndarray) -> float:
    """The cost of the best rule that never looks: always or never alarm, whichever is cheaper, class by class."""
    counted = ~np.isnan(missed)
    return float(np.minimum(prevalence * missed, 1 - prevalence)[counted].sum())


def threshold_for_cost(missed: float) -> float:
    """The probability at which an alarm pays for a *calibrated* model: 1 / (1 + C)."""
    return 1 / (1 + missed)


def ppv(recall: float, specificity: float, prevalence: float) -> float:
    """The share of alarms that are right at a prevalence π: Se π / (Se π + (1-Sp)(1-π)); NaN without any alarm."""
    alarms = recall * prevalence + (1 - specificity) * (1 - prevalence)
    return recall * prevalence / alarms if alarms > 0 else float("nan")


def npv(recall: float, specificity: float, prevalence: float) -> float:
    """The share of silent cases that are free of the class at a prevalence; NaN if all alarm."""
    silent = (1 - recall) * prevalence + specificity * (1 - prevalence)
    return specificity * (1 - prevalence) / silent if silent > 0 else float("nan")


def alarms_per_1000(recall: float, specificity: float, prevalence: float) -> float:
    """Alarms, right and wrong, among 1,000 cases at a prevalence."""
    return 1000 * (recall * prevalence + (1 - specificity) * (1 - prevalence))


def _entry_problems(
    entry: str, name: str, value: Any, classes: Sequence[str], critical: Sequence[str], file: str
) -> list[Problem]:
    place = f"costs.{entry}.{name}"
    if name not in classes:
        return [_problem("RS-C33", file, place, f"'{name}' is not a class", _did_you_mean(name, classes))]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return [_problem("RS-C37", file, place, f"{value!r} is not a number", "write a positive number")]
    if entry == "missed" and value <= 0:
        found = f"a cost of {value:g} makes missing '{name}' free or a gain"
        return [_problem("RS-C37", file, place, found, "write a cost above 0, in false alarms")]
    if entry == "missed" and name in critical and value <= 1:
        found = f"missing the critical class '{name}' costs {value:g} false alarms"
        remedy = "confirm, or write how many false alarms one missed case is worth"
        return [_problem("RS-C38", file, place, found, remedy, level="warning")]
    if entry == "missed" or 0 < value < 1:
        return []
    percent = f"did you mean {value / 100:g} ({value:g}%)?" if 1 <= value < 100 else "write a share between 0 and 1"
    return [_problem("RS-C39", file, place, f"a prevalence of {value:g} lies outside (0, 1)", percent)]


def _referral_problems(costs: Any, file: str) -> list[Problem]:
    value = costs.get("referral") if isinstance(costs, Mapping) else getattr(costs, "referral", None)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LARGEST):
        return []
    found = f"a referral that costs {value!r}: a human's look is not free"
    return [_problem("RS-C37", file, "costs.referral", found, "write a cost above 0, in false alarms, or leave it out")]


def _problem(code: str, file: str, place: str, found: str, remedy: str, level: Any = "error") -> Problem:
    why = "thresholds and recommendations follow from the costs"
    return Problem(code=code, level=level, file=file, column=place, found=found, why=why, remedy=remedy)


def _did_you_mean(word: str, options: Sequence[str]) -> str:
    close = nearest(word, options)
    return f"did you mean '{close}'?" if close else f"known here: {', '.join(options)}"
