"""Costs of taking one class for another: exclusive labels, where what is said instead decides how bad an error is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raresight.core.errors import Problem, nearest
from raresight.evaluate.counts import ratio


def cost_matrix(costs: Any, classes: Sequence[str]) -> np.ndarray | None:
    """What it costs to say class j of a case of class i, `(K, K)` in false alarms; None where no matrix is given.

    C_ii = 0 and C_ij = 1 unless `costs.matrix` names the pair. A class without a row of its own, but with a price of
    being missed (`costs.missed`), has that price in its whole row.

    `costs` is None, a mapping or an object with `matrix` (true class -> class said -> cost, or K rows of K numbers in
    the order of `classes`) and `missed`. Checked by `cost.check_costs`, not here.
    Source: Elkan, IJCAI 2001, section 2 (rows are the truth here).
    """
    rows = _rows(_entry(costs, "matrix"), classes)
    if not rows:
        return None
    missed = _entry(costs, "missed") or {}
    matrix = np.ones((len(classes), len(classes)))
    np.fill_diagonal(matrix, 0.0)
    for i, true in enumerate(classes):
        if true in rows:
            for said, price in rows[true].items():
                matrix[i, list(classes).index(said)] = float(price)
        elif true in missed:
            matrix[i, np.arange(len(classes)) != i] = float(missed[true])
    return matrix


def least_cost(prob: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The class to say, `(N,)`: argmin_j Σ_i p_i C_ij of calibrated probabilities `(N, K)`; of equals the first.

    With 1 for every error that is the most probable class. A class of probability 0 counts for nothing.
    Source: Elkan, IJCAI 2001, eq. 1.
    """
    return np.asarray(np.argmin(np.round(prob @ matrix, 12), axis=1))


def deployed_prior(observed: np.ndarray, deployed: np.ndarray) -> np.ndarray:
    """The shares of all classes where some are known in deployment: `(K,)`, summing to 1.

    π_k = π*_k where `deployed` `(K,)` names it; the rest of 1 is shared by the other classes (NaN) in proportion to
    `observed` `(K,)`, their shares in the data. Shares named for all classes are scaled to sum to 1.
    """
    named = ~np.isnan(deployed)
    if not named.any():
        return np.asarray(observed / observed.sum())
    rest = observed * ~named
    left = max(0.0, 1.0 - float(deployed[named].sum()))
    others = rest * (left / rest.sum()) if rest.sum() > 0 else rest
    prior = np.where(named, np.nan_to_num(deployed), others)
    return np.asarray(prior / prior.sum())


def at_prior(prob: np.ndarray, fitted: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities `(N, K)` of cases whose classes are as common as `prior` `(K,)`, not as where they were fitted.

    p'_k ∝ p_k π*_k / π_k. A class that the `fitted` shares `(K,)` lack keeps its probability.
    Source: Saerens et al., Neural Computation 14 (2002) 21, eq. 2.4.
    """
    factor = np.where(fitted > 0, prior / np.where(fitted > 0, fitted, 1.0), 1.0)
    moved = prob * factor
    total = moved.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(moved, total, out=np.array(prob, dtype=np.float64), where=total > 0))


def matrix_cost(counts: np.ndarray, prior: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The cost of one case, `(...)`: EC = Σ_ij π_i R_ij C_ij, R_ij the share of class i that is called j.

    `counts` `(..., K, K)`, rows the truth; `prior` `(K,)`. NaN where a class with π_i > 0 has no case, unless all of
    its errors are free.
    Source: Adams & Hand, Pattern Recognition 32 (1999) 1139; the two-class form is in Drummond & Holte 2006.
    """
    shares = ratio(counts, counts.sum(axis=-1, keepdims=True))
    matters = (prior > 0)[:, None] & (matrix > 0)
    return np.asarray(np.where(matters, prior[:, None] * shares * matrix, 0.0).sum(axis=(-1, -2)))


def trivial_matrix_cost(prior: np.ndarray, matrix: np.ndarray) -> float:
    """The cost of the best rule that never looks: min_j Σ_i π_i C_ij, the same answer for every case."""
    return float((prior @ matrix).min())


def as_mapping(costs: Any, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """`costs.matrix` as true class -> class said -> cost, however it was written; empty where there is none."""
    return {true: dict(row) for true, row in _rows(_entry(costs, "matrix"), classes).items()}


def matrix_problems(costs: Any, classes: Sequence[str], critical: Sequence[str], kind: str, file: str) -> list[Problem]:
    """All that is wrong with `costs.matrix`: RS-C33, RS-C37 and the warning RS-C38; see `cost.check_costs`."""
    given = _entry(costs, "matrix")
    if not given:
        return []
    place = "costs.matrix"
    if kind == "independent":
        found = "a cost matrix for labels that may stand together"
        return [_problem(file, place, found, "write costs.missed: a case may have several of these labels at once")]
    if isinstance(given, Mapping):
        problems = [problem for name, row in given.items() for problem in _row(str(name), row, classes, file)]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        problems = _square(given, classes, file)
    else:
        problems = [_problem(file, place, f"{given!r} is not a table", "write matrix: {TRUE: {SAID: cost}}")]
    return problems or _against_sense(costs, classes, critical, file)


def _against_sense(costs: Any, classes: Sequence[str], critical: Sequence[str], file: str) -> list[Problem]:
    matrix = cost_matrix(costs, classes)
    assert matrix is not None
    problems = []
    for i, true in enumerate(classes):
        j = int(matrix[i].argmin())
        if matrix[i, j] < matrix[i, i]:
            found = f"saying '{classes[j]}' of '{true}' costs {matrix[i, j]:g}, the correct answer {matrix[i, i]:g}"
            remedy = f"write a cost of 0 for costs.matrix.{true}.{true}, or leave it out"
            problems.append(_problem(file, f"costs.matrix.{true}", f"{found}: the error is cheaper", remedy))
    if problems:
        return problems
    for i, true in enumerate(classes):
        others = [j for j, name in enumerate(classes) if name not in critical and matrix[i, j] <= matrix[j, i]]
        if true in critical and others:
            said = classes[others[0]]
            found = (
                f"calling the critical class '{true}' '{said}' costs {matrix[i, others[0]]:g}, no more than an alarm"
            )
            found += f" ({matrix[others[0], i]:g})"
            remedy = "confirm, or write what the missed case is worth"
            place = f"costs.matrix.{true}.{said}"
            problems.append(_problem(file, place, found, remedy, code="RS-C38", level="warning"))
    return problems


def _row(true: str, row: Any, classes: Sequence[str], file: str) -> list[Problem]:
    place = f"costs.matrix.{true}"
    if not isinstance(row, Mapping):
        return [_problem(file, place, f"{row!r} is not a row of costs", f"write {true}: {{SAID: cost}}")]
    problems = [] if true in classes else [_unknown(true, place, classes, file)]
    for said, price in row.items():
        if said not in classes:
            problems.append(_unknown(str(said), f"{place}.{said}", classes, file))
        problems += _price(price, f"{place}.{said}", file)
    return problems


def _square(rows: Sequence[Any], classes: Sequence[str], file: str) -> list[Problem]:
    wide = [len(row) if isinstance(row, Sequence) and not isinstance(row, str) else 1 for row in rows]
    if wide != [len(classes)] * len(classes):
        found = f"a matrix of {len(rows)} rows of {', '.join(map(str, sorted(set(wide))))} numbers: not square"
        remedy = f"write {len(classes)} rows of {len(classes)} numbers, in the order {', '.join(classes)}"
        return [_problem(file, "costs.matrix", found, remedy)]
    return [
        problem
        for true, row in zip(classes, rows, strict=True)
        for said, price in zip(classes, row, strict=True)
        for problem in _price(price, f"costs.matrix.{true}.{said}", file)
    ]


def _price(price: Any, place: str, file: str) -> list[Problem]:
    number = isinstance(price, int | float) and not isinstance(price, bool) and abs(price) < 1e300
    if number and price >= 0:
        return []
    found = f"a cost of {price:g}: an error would be a gain" if number else f"{price!r} is not a number"
    return [_problem(file, place, found, "write a cost of 0 or more, in false alarms")]


def _unknown(name: str, place: str, classes: Sequence[str], file: str) -> Problem:
    close = nearest(name, classes)
    remedy = f"did you mean '{close}'?" if close else f"known here: {', '.join(classes)}"
    return _problem(file, place, f"'{name}' is not a class", remedy, code="RS-C33")


def _entry(costs: Any, name: str) -> Any:
    return costs.get(name) if isinstance(costs, Mapping) else getattr(costs, name, None)


def _rows(given: Any, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    if not given:
        return {}
    if isinstance(given, Mapping):
        return {str(true): {str(said): float(price) for said, price in row.items()} for true, row in given.items()}
    return {
        true: {said: float(price) for said, price in zip(classes, row, strict=True)}
        for true, row in zip(classes, given, strict=True)
    }


def _problem(file: str, place: str, found: str, remedy: str, *, code: str = "RS-C37", level: Any = "error") -> Problem:
    why = "decisions and recommendations follow from the costs"
    return Problem(code=code, level=level, file=file, column=place, found=found, why=why, remedy=remedy)
