"""What one run of a sweep says of one class: its scores, and its alarms before and after the threshold is moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from raresight.core.predictions import Predictions
from raresight.core.seeds import numpy_rng
from raresight.evaluate.agreement import alike
from raresight.evaluate.counts import decide
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune


@dataclass(frozen=True)
class Run:
    """One trained network, judged for one class on N decision units.

    `score` `(N,)` ranks them. `default` `(N,)` holds the alarms at the default operating point, `moved` `(N,)` those at
    the threshold chosen for the cost: 1, 0, or NaN where no threshold could be chosen. `thresholds` are those chosen,
    one, or one for each half.
    """

    score: np.ndarray
    default: np.ndarray
    moved: np.ndarray
    thresholds: tuple[float | None, ...]


def inert(runs: Mapping[str, Sequence[Run]]) -> list[tuple[str, str]]:
    """Pairs of arms whose scores agree but for rounding in every seed: one of the two did nothing."""
    return [
        (one, other)
        for one, other in combinations(runs, 2)
        if all(alike(a.score, b.score) for a, b in zip(runs[one], runs[other], strict=True))
    ]


def halves(predictions: Predictions, cls: str, *names: object) -> np.ndarray:
    """Every patient in one of two halves, `(N,)` of 0 and 1, those with the class spread evenly over both.

    Patients with the class, then those without, are dealt out alternately in an order drawn from `names`.
    """
    k = predictions.task.index(cls)
    patients, who = np.unique(predictions.patient.astype(str), return_inverse=True)
    has = np.bincount(who, weights=predictions.target[:, k] == 1, minlength=len(patients)) > 0
    order = numpy_rng("sweep halves", *names, cls).permutation(len(patients))
    order = order[np.argsort(~has[order], kind="stable")]
    half = np.zeros(len(patients), dtype=int)
    half[order] = np.arange(len(patients)) % 2
    return half[who]


def cross_fitted(
    predictions: Predictions, cls: str, half: np.ndarray, *, missed: float, deployed: float | None, prior: Any
) -> Run:
    """A run on the validation part: each half is judged at the threshold that the other half chose."""
    moved = np.full(len(half), np.nan)
    chosen: list[float | None] = []
    for side in (0, 1):
        judged = half == side
        threshold, alarm = _choose(
            _rows(predictions, ~judged), _rows(predictions, judged), cls, missed, deployed, prior
        )
        chosen.append(threshold)
        moved[judged] = alarm
    return _run(predictions, cls, moved, tuple(chosen))


def transferred(
    val: Predictions, test: Predictions, cls: str, *, missed: float, deployed: float | None, prior: Any
) -> Run:
    """A run on the test part, judged at the threshold that the validation part chose."""
    threshold, alarm = _choose(val, test, cls, missed, deployed, prior)
    return _run(test, cls, alarm, (threshold,))


def _run(predictions: Predictions, cls: str, moved: np.ndarray, chosen: tuple[float | None, ...]) -> Run:
    k = predictions.task.index(cls)
    prob = predictions.prob
    return Run(prob[:, k], decide(prob, predictions.task.kind)[:, k], moved, chosen)


def _choose(
    choosing: Predictions, judged: Predictions, cls: str, missed: float, deployed: float | None, prior: Any
) -> tuple[float | None, np.ndarray]:
    """The calibrator and threshold of one set of patients, and the alarms that they raise in another."""
    costs = {"missed": {cls: missed}, "prevalence": {} if deployed is None else {cls: deployed}}
    shift = None if prior is None else np.asarray(prior, dtype=np.float64)
    tuned = tune(choosing, implied_prior=shift, costs=costs)
    threshold = tuned.values.get(cls)
    prob = calibrate(judged, tuned.calibrator).prob[:, judged.task.index(cls)]
    if threshold is None:
        return None, np.full(len(prob), math.nan)
    return threshold, (prob >= threshold).astype(np.float64)


def _rows(predictions: Predictions, inside: np.ndarray) -> Predictions:
    return replace(predictions, table=predictions.table[inside].reset_index(drop=True))
