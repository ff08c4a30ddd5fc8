"""From plain arrays to predictions, checked like a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed, nearest
from raresight.core.manifest import LABEL_PREFIX
from raresight.core.predictions import PROB_PREFIX, Predictions
from raresight.core.task import Task


def as_predictions(y: Any, p: Any, *, groups: Any, classes: Sequence[str], kind: str = "exclusive") -> Predictions:
    """Predictions of `p` `(N, K)` in [0, 1] for the cases 0..N-1 of the patients `groups` `(N,)`.

    `y` `(N, K)` of 0, 1 or NaN (unknown); for exclusive labels also `(N,)` of class names or positions. `groups=None`
    says that every case is a patient of its own.

    Raises: `DataError` RS-P43 (shapes that do not agree), RS-P42 (scores that are not finite), RS-P41 (not
    probabilities), RS-P12 (a kind that is not known, labels other than 0, 1 or NaN), RS-P09 (a class name that is not
    known).
    """
    if kind not in ("exclusive", "independent"):
        _refuse("RS-P12", "kind", repr(kind), "exclusive (one class a case) or independent (any number)")
    task = Task("exclusive" if kind == "exclusive" else "independent", tuple(classes))
    prob = _floats(p, "p")
    if prob.ndim != 2 or prob.shape[1] != task.n_classes:
        _refuse("RS-P43", "p", f"shape {prob.shape}", f"give (N, {task.n_classes}), one column per class")
    target = _target(y, task, len(prob))
    patient = np.arange(len(prob)) if groups is None else np.asarray(groups, dtype=object)
    if patient.shape != (len(prob),):
        _refuse("RS-P43", "groups", f"shape {patient.shape}", f"give ({len(prob)},), one patient id per case")
    if not np.isfinite(prob).all():
        rows = np.flatnonzero(~np.isfinite(prob).all(axis=1))
        _refuse(
            "RS-P42", "p", f"{len(rows)} rows are not finite: {listed(list(rows))}", "predict them, or leave them out"
        )
    sums = np.abs(prob.sum(axis=1) - 1) if kind == "exclusive" else np.zeros(len(prob))
    wrong = np.flatnonzero((prob < 0).any(axis=1) | (prob > 1).any(axis=1) | (sums > 1e-3))
    if len(wrong):
        expected = "in [0, 1] and summing to 1" if kind == "exclusive" else "in [0, 1]"
        found = f"{len(wrong)} rows are not {expected}: {listed(list(wrong))}"
        _refuse("RS-P41", "p", found, "turn logits into probabilities first")
    columns: dict[str, np.ndarray] = {"case": np.arange(len(prob)).astype(str), "patient_id": patient}
    columns |= {PROB_PREFIX + name: prob[:, k] for k, name in enumerate(task.classes)}
    if kind == "exclusive":
        known = ~np.isnan(target).any(axis=1)
        names = np.array([*task.classes, ""], dtype=object)
        columns["label"] = names[np.where(known, np.nan_to_num(target).argmax(axis=1), task.n_classes)]
    else:
        columns |= {LABEL_PREFIX + name: target[:, k] for k, name in enumerate(task.classes)}
    return Predictions(pd.DataFrame(columns), task)


def _target(y: Any, task: Task, n: int) -> np.ndarray:
    given = np.asarray(y)
    if given.ndim == 1 and task.kind == "exclusive":
        if given.dtype.kind in "iu":
            names: list[str] = [task.classes[i] if 0 <= i < task.n_classes else str(i) for i in given.tolist()]
        else:
            names = [str(name) for name in given.tolist()]
        unknown = sorted(set(names) - set(task.classes))
        if unknown:
            close = nearest(unknown[0], task.classes)
            remedy = f"did you mean '{close}'?" if close else f"classes: {listed(task.classes)}"
            _refuse("RS-P09", "y", f"unknown labels: {listed(unknown)}", remedy)
        target = np.array([[name == known for known in task.classes] for name in names], dtype=np.float64)
    else:
        target = _floats(y, "y")
    if target.shape != (n, task.n_classes):
        _refuse("RS-P43", "y", f"shape {target.shape}", f"give ({n}, {task.n_classes}), as many rows as p")
    if not np.isin(target[~np.isnan(target)], [0.0, 1.0]).all():
        _refuse("RS-P12", "y", "labels other than 0, 1 or NaN", "write 1, 0, or NaN for unknown")
    if task.kind == "exclusive" and not np.isin(target[~np.isnan(target).any(axis=1)].sum(axis=1), [1.0]).all():
        _refuse(
            "RS-P12", "y", "rows with no class or several", "exclusive labels have one class; else kind='independent'"
        )
    return target


def _floats(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return _refuse("RS-P42", name, f"{type(values).__name__} that holds no numbers", "give an array of numbers")


def _refuse(code: str, column: str, found: str, remedy: str) -> Any:
    why = "figures of misread arrays look like figures"
    raise DataError(Problem(code=code, level="error", column=column, found=found, why=why, remedy=remedy))
