"""Predictions of one part, laid out for estimating: what every figure of them starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate import cost
from raresight.evaluate.bootstrap import percentile
from raresight.evaluate.counts import DEFAULT_POINT, decide, ratio, threshold_array
from raresight.evaluate.intervals import loosened, opened
from raresight.evaluate.resampled import Resampled
from raresight.evaluate.verdict import judged, not_estimable

BOOTSTRAP = "patient bootstrap, percentile"
EDGE = "patient bootstrap, opened to the exact bound of the few positive patients"
LOOSE = ", opened for the classes with fewer than 10 positive patients"


@dataclass(frozen=True)
class Point:
    """An operating point: its name, the predictions that it reads, its alarms `(N, K)` and thresholds `(K,)`."""

    name: str
    predictions: Predictions
    alarm: np.ndarray
    thresholds: np.ndarray | None

    def reachable(self, k: int) -> bool:
        return self.thresholds is None or not math.isnan(self.thresholds[k])


class Layout:
    """Everything that estimates of one set of predictions share.

    `target` and `prob` `(N, K)`, `patient` `(N,)` positions of patients, `points` the operating points and `cells`
    their counts of every patient, `missed`, `deployed` and `prevalence` `(K,)`, `common` the row that every estimate is
    made from, and `draws` the resamples, whose streams `names` seed.
    """

    def __init__(
        self,
        predictions: Predictions,
        calibrated: Predictions,
        thresholds: Any,
        operating: str,
        unit: str,
        costs: Any,
        resamples: int,
        seed: int,
    ) -> None:
        self.task = task = predictions.task
        self.predictions, self.calibrated = predictions, calibrated
        self.resamples, self.names = resamples, (seed, predictions.part)
        self.draws = Resampled(predictions)
        self.target, self.prob, self.patient = predictions.target, predictions.prob, self.draws.patient
        self.missed = cost.cost_array(costs, task.classes)
        self.deployed = cost.cost_array(costs, task.classes, "prevalence")
        observed = ratio(np.sum(self.target == 1, axis=0), np.sum(~np.isnan(self.target), axis=0))
        self.prevalence = np.where(np.isnan(self.deployed), observed, self.deployed)
        alarm = decide(self.prob, task.kind)
        self.points = [Point(DEFAULT_POINT[task.kind], predictions, alarm, None)]
        if thresholds:
            chosen = threshold_array(thresholds, task.classes)
            at = decide(calibrated.prob, task.kind, chosen)
            self.points.append(Point(operating, calibrated, at, chosen))
        self.cells = {point.name: self.draws.counts(point.alarm) for point in self.points}
        self.common = Estimate(
            metric="",
            arm=predictions.arm,
            seed=predictions.seed,
            part=predictions.part,
            unit=unit,
            value=0.0,
            n_images=len(predictions.table),
            n_patients=self.draws.n_patients,
        )

    def of_class(self, k: int) -> Estimate:
        """The row that estimates of class k are made from: its prevalence, patients and images."""
        y = self.target[:, k]
        known = ~np.isnan(y)
        return replace(
            self.common,
            class_=self.task.classes[k],
            prevalence=float(np.mean(y[known])) if known.any() else None,
            n_positive_patients=int(self.draws.has[:, k].sum()),
            n_images=int(known.sum()),
            n_patients=len(np.unique(self.patient[known])),
        )

    def bootstrapped(
        self, row: Estimate, value: float, drawn: np.ndarray | None, absent: str, *, loose: float = 0.0
    ) -> Estimate:
        """Percentiles of the resamples, opened to what few positive patients leave open: `loose` in a macro figure."""
        if absent or drawn is None or math.isnan(value):
            return not_estimable(replace(row, method=BOOTSTRAP), absent or "no class can be estimated")
        low, high, undefined = percentile(drawn)
        method = f"{BOOTSTRAP}, {self.resamples} resamples"
        if math.isnan(low):
            return not_estimable(replace(row, method=method), "no resample can be estimated")
        behind = row.n_positive_patients if row.n_positive_patients is not None else row.n_patients
        low, high, edge = opened(value, low, high, behind) if not row.metric.startswith("ece") else (low, high, False)
        if loose:
            low, high = loosened(value, low, high, loose * value, loose * (1 - value))
            method += LOOSE
        # A resample repeats cases, which flatters AP and ECE: their percentiles may leave the value itself out.
        low, high = min(low, value), max(high, value)
        note = f"{undefined} of {self.resamples} resamples undefined" if undefined else ""
        row = replace(row, value=value, low=low, high=high, method=EDGE if edge else method, reason=note)
        return judged(row, needs_positives=row.class_ is not None)
