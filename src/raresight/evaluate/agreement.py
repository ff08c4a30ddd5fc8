"""Whether tables of predictions speak of the same cases, and one order for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from raresight.core.errors import ConfigError, DataError, Problem, listed, nearest
from raresight.core.predictions import Predictions

ROUNDING = 1e-5  # heads that train together differ by less than this from heads that train alone


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tables of probabilities agree but for rounding: no entry differs by more than 1e-5."""
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=ROUNDING, equal_nan=True))


def aligned(arms: Mapping[str, Sequence[Predictions]], baseline: str) -> dict[str, list[Predictions]]:
    """All predictions in the order of the baseline's first seed.

    Raises: `ConfigError` RS-C33 for an unknown baseline or differing classes; `DataError` RS-P43 for missing or extra
    cases, RS-P05 where the label or the patient of a case differs between tables; all problems at once.
    """
    if baseline not in arms or not arms[baseline]:
        close = nearest(baseline, list(arms))
        remedy = f"did you mean '{close}'?" if close else f"arms: {listed(list(arms))}"
        raise ConfigError(
            _problem("RS-C33", "", f"no arm is called '{baseline}'", "differences need a baseline", remedy)
        )
    reference = arms[baseline][0]
    ordered: dict[str, list[Predictions]] = {}
    problems: list[Problem] = []
    for name, runs in arms.items():
        for run in runs:
            who = name if run.seed is None else f"{name}, seed {run.seed}"
            if (run.task.kind, run.task.classes) != (reference.task.kind, reference.task.classes):
                found = f"{who}: {run.task.kind} {listed(run.task.classes)}"
                expected = f"use the classes of '{baseline}': {reference.task.kind} {listed(reference.task.classes)}"
                problems.append(_problem("RS-C33", name, found, "only equal tasks can be compared", expected))
                continue
            wrong = case_problems(run, reference.cases, who)
            if wrong:
                problems += wrong
                continue
            same_order = align(run, list(reference.cases), who)
            problems += _differing(same_order, reference, who, baseline)
            ordered.setdefault(name, []).append(same_order)
    if problems:
        raise DataError(*problems)
    return ordered


def align(predictions: Predictions, cases: Sequence[object], file: str = "") -> Predictions:
    """The same predictions in the order of `cases`.

    Raises: `DataError` RS-P43 with counts and examples where cases are missing, extra or repeated.
    """
    problems = case_problems(predictions, np.asarray(cases, dtype=object), file)
    if problems:
        raise DataError(*problems)
    if np.array_equal(predictions.cases, np.asarray(cases, dtype=object)):
        return predictions
    position = {str(case): row for row, case in enumerate(predictions.cases)}
    rows = [position[str(case)] for case in cases]
    return replace(predictions, table=predictions.table.iloc[rows].reset_index(drop=True))


def case_problems(predictions: Predictions, cases: np.ndarray, file: str = "") -> list[Problem]:
    """Cases that are missing, extra or repeated against the expected ones, one problem each."""
    given = [str(case) for case in predictions.cases]
    expected = [str(case) for case in cases]
    have, want = set(given), set(expected)
    if given == expected and len(have) == len(given):
        return []
    missing = [case for case in expected if case not in have]
    extra = [case for case in given if case not in want]
    problems = []
    why = "figures of different cases cannot be compared"
    if missing:
        found = f"{len(missing)} of {len(expected)} cases have no prediction: {listed(missing)}"
        problems.append(_problem("RS-P43", file, found, why, "predict every case of the part, once"))
    if extra:
        found = f"{len(extra)} predictions are for cases outside the part: {listed(extra)}"
        problems.append(_problem("RS-P43", file, found, why, "leave out the cases of other parts"))
    if len(have) < len(given):
        seen: set[str] = set()
        repeated = [case for case in given if case in seen or seen.add(case)]  # type: ignore[func-returns-value]
        found = f"{len(given) - len(have)} rows repeat a case: {listed(repeated)}"
        problems.append(_problem("RS-P43", file, found, why, "keep one row a case"))
    return problems


def _differing(run: Predictions, reference: Predictions, who: str, baseline: str) -> list[Problem]:
    problems = []
    unequal = ~np.all((run.target == reference.target) | (np.isnan(run.target) & np.isnan(reference.target)), axis=1)
    patients = run.patient != reference.patient
    if patients.any():  # 7 and "7" are one patient
        patients = run.patient.astype(str) != reference.patient.astype(str)
    for what, differs in (("label", unequal), ("patient", patients)):
        if differs.any():
            examples = listed(list(reference.cases[differs]))
            found = f"the {what} of {int(differs.sum())} cases differs from that in '{baseline}': {examples}"
            why = "a paired comparison needs the same truth about the same patients"
            problems.append(_problem("RS-P05", who, found, why, f"correct the {what} column of one of the two"))
    return problems


def _problem(code: str, file: str, found: str, why: str, remedy: str) -> Problem:
    return Problem(code=code, level="error", file=file, found=found, why=why, remedy=remedy)
