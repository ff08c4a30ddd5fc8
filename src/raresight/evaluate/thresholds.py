"""Calibrator and thresholds, chosen on validation (or out-of-fold) predictions and never on the test part."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raresight.core.errors import GateError, Problem
from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.core.predictions import Predictions
from raresight.evaluate.cost import cost_array
from raresight.evaluate.ranking import steps
from raresight.evaluate.recalibrate import calibrate, fit


@dataclass(frozen=True)
class Tuned:
    """`calibrator` goes to `calibrator.json`, `thresholds` (class -> record) to `thresholds.json`."""

    calibrator: dict[str, Any]
    thresholds: dict[str, dict[str, Any]]
    problems: list[Problem] = field(default_factory=list)

    @property
    def values(self) -> dict[str, float]:
        """The thresholds that could be chosen, class -> probability."""
        return {name: row["threshold"] for name, row in self.thresholds.items() if row["threshold"] is not None}


def tune(val: Predictions, *, implied_prior: np.ndarray | None = None, costs: Any = None) -> Tuned:
    """Fit the calibrator, then one threshold a class on the calibrated probabilities.

    Calibrator: see `recalibrate.fit`. Threshold: the cheapest
    π C (1-Se) + (1-π)(1-Sp) if the class has a cost C of being missed (π: its deployment prevalence, else that of
    validation); otherwise the highest Youden's J = Se + Sp - 1. Of equally good thresholds the one with more recall;
    thresholds lie halfway between neighbouring scores.

    `implied_prior` `(K,)` in nats, None where the arm's shift is not defined. A class without positives or without
    negatives has no threshold (`None`), status `not_estimable`, a reason, and a problem RS-P14; under 10 positive
    patients the status is `wide`.

    Raises: `GateError` RS-R36 for predictions of the test part.
    Source: Youden, Cancer 3 (1950) 32.
    """
    if val.part == "test":
        raise GateError(
            Problem(
                code="RS-R36",
                level="error",
                found="thresholds were to be chosen on the test part",
                why="a figure judged on the rows that chose its threshold is too good",
                remedy="tune on validation or out-of-fold predictions",
            )
        )
    calibrator = fit(val, implied_prior=implied_prior)
    target, prob = val.target, calibrate(val, calibrator).prob
    missed, deployed = cost_array(costs, val.task.classes), cost_array(costs, val.task.classes, "prevalence")
    patient = val.patient
    records = {
        name: _record(target[:, k], prob[:, k], patient, missed[k], deployed[k])
        for k, name in enumerate(val.task.classes)
    }
    problems = [
        _absent(name, row["reason"], val.part) for name, row in records.items() if row["status"] == "not_estimable"
    ]
    return Tuned(calibrator, records, problems)


def threshold_array(thresholds: Any, classes: tuple[str, ...]) -> np.ndarray:
    """Thresholds by class name as `(K,)`, NaN for a class without one; a record's `threshold` counts too."""
    values = [thresholds.get(name) for name in classes]
    plain = [value.get("threshold") if isinstance(value, dict) else value for value in values]
    return np.array([math.nan if value is None else float(value) for value in plain], dtype=np.float64)


def _record(
    target: np.ndarray, prob: np.ndarray, patient: np.ndarray, missed: float, deployed: float
) -> dict[str, Any]:
    known = ~np.isnan(target)
    positives = len(np.unique(patient[target == 1].astype(str)))
    costed = not math.isnan(missed)
    record: dict[str, Any] = {
        "threshold": None,
        "rule": f"least expected cost, a miss = {missed:g} false alarms" if costed else "highest Youden's J",
        "status": "not_estimable",
        "reason": "",
        "n_positive_patients": positives,
        "n_patients": len(np.unique(patient[known].astype(str))),
        "recall": None,
        "specificity": None,
    }
    at = steps(target, prob)
    if not at.positives > 0 or not at.negatives > 0:
        lacking = "no case has the class" if not at.positives > 0 else "no case is without the class"
        return record | {"reason": f"{lacking} in the part that chooses thresholds"}
    # Step 0 is "never alarm", the last is "always"; ties go to the later step, which has more recall.
    recall, fpr = np.append(0.0, at.tp / at.positives), np.append(0.0, at.fp / at.negatives)
    if costed:
        prevalence = deployed if not math.isnan(deployed) else at.positives / (at.positives + at.negatives)
        loss = prevalence * missed * (1 - recall) + (1 - prevalence) * fpr
    else:
        loss = fpr - recall
    best = int(np.flatnonzero(loss <= loss.min() + 1e-12)[-1])
    few = positives < FEW_POSITIVE_PATIENTS
    return record | {
        "threshold": _between(at.score, best),
        "status": "wide" if few else "ok",
        "reason": f"chosen from {positives} positive patients, fewer than {FEW_POSITIVE_PATIENTS}" if few else "",
        "recall": float(recall[best]),
        "specificity": float(1 - fpr[best]),
    }


def _between(score: np.ndarray, step: int) -> float:
    """A threshold below the scores of the first `step` steps and above the next one, `score` falling."""
    if step == 0:
        # Above every score: the cheapest rule is silence.
        return float((score[0] + 1) / 2) if score[0] < 1 - 1e-9 else 1.0 + 1e-9
    upper, lower = float(score[step - 1]), float(score[step]) if step < len(score) else 0.0
    middle = (upper + lower) / 2
    return middle if lower < middle <= upper else upper


def _absent(name: str, reason: str, part: str) -> Problem:
    return Problem(
        code="RS-P14",
        level="warning",
        column=name,
        found=f"no threshold for '{name}': {reason}",
        why=f"a threshold needs cases with and without the class in the {part or 'validation'} part",
        remedy="use split.folds: 5, or merge the class with a related one",
    )
