"""All estimates of one set of predictions: each with its interval, or with the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate import cost
from raresight.evaluate.arrays import as_predictions
from raresight.evaluate.bootstrap import blocks, percentile
from raresight.evaluate.calibration import ece, equal_mass_bins, expected_observed
from raresight.evaluate.counts import DEFAULT_POINT, Counts, count, decide, ratio, threshold_array, trivial_accuracy
from raresight.evaluate.intervals import (
    WILSON,
    auroc_interval,
    loosened,
    opened,
    rate,
    reach,
    unseen,
)
from raresight.evaluate.ranking import NINE_OF_TEN, RECALL_AT_90, auprc, sensitivity_at_specificity
from raresight.evaluate.resampled import Resampled, macro_areas, macro_of
from raresight.evaluate.verdict import deployed, few, from_interval, judged, not_estimable, over_classes

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


def estimate(
    predictions: Predictions,
    *,
    calibrated: Predictions | None = None,
    thresholds: Any = None,
    operating: str = "tuned",
    unit: str = "image",
    costs: Any = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Per-class and macro estimates at the default operating point and, where thresholds are given, at those.

    Per class: `recall precision specificity npv f1 alarms_per_1000` (and `ppv_at_prevalence` where a deployment
    prevalence is given) at each operating point; `auroc auprc recall_at_specificity_90 expected_observed_ratio ece`.
    Macro: `accuracy` with
    `trivial_accuracy` beside it, `balanced_accuracy macro_f1 macro_auroc macro_auprc`, and with costs `expected_cost`,
    `trivial_expected_cost`. At thresholds exclusive classes are judged one against the rest, a case may alarm
    for several, and accuracy and balanced accuracy are not given.

    `predictions` gives rankings and the default operating point; `calibrated` (default: the same) the probabilities
    that `thresholds` (class -> probability) and the calibration figures refer to. Status `wide`: a share's interval is
    wider than 0.30 in all, or fewer than 10 positive patients stand behind a figure that needs them. An absent class is
    `not_estimable` with the reason, and macro figures say over how many classes they run.
    """
    return _Estimates(predictions, calibrated or predictions, thresholds, operating, unit, costs, resamples, seed).all()


def from_arrays(
    y: Any, p: Any, *, groups: Any, classes: Sequence[str], kind: str = "exclusive", costs: Any = None
) -> list[Estimate]:
    """`estimate` for plain arrays: labels and probabilities `(N, K)`, patient ids `(N,)`; see `as_predictions`."""
    cost.check_costs(costs, classes)
    return estimate(as_predictions(y, p, groups=groups, classes=classes, kind=kind), costs=costs)


class _Estimates:
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

    def all(self) -> list[Estimate]:
        present = [int(k) for k in np.flatnonzero(self.draws.has.any(axis=0))]
        asked = {RECALL_AT_90: NINE_OF_TEN}
        drawn = self.draws.of_classes(self.cells, self.resamples, *self.names, specificities=asked, classes=present)
        rows = [row for k in range(self.task.n_classes) for row in self.of_class(k, drawn.get(k, {}))]
        return rows + self.macro()

    # one class

    def of_class(self, k: int, drawn: dict[str, np.ndarray]) -> list[Estimate]:
        y = self.target[:, k]
        known = ~np.isnan(y)
        n_positive = len(np.unique(self.patient[y == 1]))
        base = replace(
            self.common,
            class_=self.task.classes[k],
            prevalence=float(np.mean(y[known])) if known.any() else None,
            n_positive_patients=n_positive,
            n_images=int(known.sum()),
            n_patients=len(np.unique(self.patient[known])),
        )
        absent = "" if n_positive else f"no case has '{self.task.classes[k]}' in this part"
        rows: list[Estimate] = []
        for point in self.points:
            rows += self._at_point(base, k, point, absent, drawn)
        area = auroc_interval(y, self.prob[:, k], self.patient)
        rows.append(from_interval(replace(base, metric="auroc"), area, absent or "every case has the class", True))
        ap = auprc(y, self.prob[:, k])
        rows.append(self._bootstrapped(replace(base, metric="auprc"), ap, drawn.get("auprc"), absent))
        found = sensitivity_at_specificity(y, self.prob[:, k], NINE_OF_TEN)[0]
        lacking = absent or ("" if (y == 0).any() else "every case has the class")
        rows.append(self._bootstrapped(replace(base, metric=RECALL_AT_90), found, drawn.get(RECALL_AT_90), lacking))
        return rows + self._calibration(base, k, absent)

    def _at_point(
        self, base: Estimate, k: int, point: Point, absent: str, drawn: dict[str, np.ndarray]
    ) -> list[Estimate]:
        y, alarm = self.target[:, k], point.alarm[:, k]
        chosen = None if point.thresholds is None else float(point.thresholds[k])
        row = replace(base, operating_point=point.name, threshold=chosen)
        if not point.reachable(k):
            reason = "the class has no threshold: it could not be chosen where thresholds are chosen"
            row = replace(row, threshold=None)
            names = ("recall", "precision", "specificity", "npv", "f1", "alarms_per_1000")
            return [not_estimable(replace(row, metric=name), reason) for name in names]
        patient, positive, negative = self.patient, y == 1, y == 0
        recall, specificity = rate(alarm[positive], patient[positive]), rate(~alarm[negative], patient[negative])
        alarmed, silent = alarm & (positive | negative), ~alarm & (positive | negative)
        precision, npv = rate(positive[alarmed], patient[alarmed]), rate(negative[silent], patient[silent])
        every = "every case has the class"
        rows = [
            from_interval(replace(row, metric="recall"), recall, absent, True),
            from_interval(replace(row, metric="precision"), precision, "no case alarms for the class", True),
            from_interval(replace(row, metric="specificity"), specificity, every, False),
            from_interval(replace(row, metric="npv"), npv, "every case alarms for the class", False),
        ]
        if absent:
            rows[1] = not_estimable(replace(row, metric="precision"), absent)
            rows[3] = not_estimable(replace(row, metric="npv"), absent)
        f1 = float(count(y[:, None], alarm[:, None]).f1[0])
        rows.append(self._bootstrapped(replace(row, metric="f1"), f1, drawn.get(f"f1@{point.name}"), absent))
        rows += deployed(row, recall, specificity, self.deployed[k], alarm[~np.isnan(y)], patient[~np.isnan(y)])
        return [self._frank(r) for r in rows]

    def _frank(self, row: Estimate) -> Estimate:
        """The row, which says so where its threshold was chosen on the very cases that it judges."""
        if row.operating_point != "tuned" or row.part == "test":
            return row
        note = "the threshold was chosen on this same part: optimistic"
        return replace(row, reason="; ".join(filter(None, [row.reason, note])))

    def _calibration(self, base: Estimate, k: int, absent: str) -> list[Estimate]:
        y, patient = self.target[:, k], self.patient
        known = ~np.isnan(y)
        rows = []
        for suffix, predictions in (("", self.calibrated), ("_uncalibrated", self.predictions)):
            if suffix and self.calibrated is self.predictions:
                continue
            p = predictions.prob[:, k]
            balance = replace(base, metric=f"expected_observed_ratio{suffix}", method=f"prevalence: {WILSON}")
            error = replace(base, metric=f"ece{suffix}")
            if absent:
                rows += [not_estimable(balance, absent), not_estimable(error, absent)]
                continue
            observed = rate(y[known] == 1, patient[known])
            mean = float(p[known].mean())
            small = few(base)
            rows.append(
                replace(
                    balance,
                    value=expected_observed(y, p),
                    low=mean / observed.high,
                    high=mean / observed.low,
                    method=f"prevalence: {observed.method}",
                    status="wide" if small else "ok",
                    reason=small,
                )
            )
            # The bins stay those of the data: bins of each resample's own would bias it further upwards.
            drawn = self._ece_draws(y, p, known, k)
            made = self._bootstrapped(error, ece(y, p), drawn, "")
            rows.append(replace(made, method=f"{BOOTSTRAP}; 10 bins of equal mass, biased upwards"))
        return rows

    def _ece_draws(self, y: np.ndarray, p: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
        bins = np.full(len(y), -1)
        bins[known] = equal_mass_bins(p[known])
        gaps = np.where(bins[:, None] == np.arange(10)[None, :], np.nan_to_num(p - y)[:, None], 0.0)
        gap, images = self.draws.per_patient(gaps), self.draws.per_patient(known)
        strata = self.draws.has[:, k]
        parts = [
            np.abs(gap.T @ weight).sum(axis=0) / (images @ weight)
            for weight in blocks(strata, self.resamples, *self.names, "class", k)
        ]
        return np.concatenate(parts)

    def _bootstrapped(
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

    # all classes

    def macro(self) -> list[Estimate]:
        present = np.asarray(self.draws.has.any(axis=0))
        missing = [name for name, here in zip(self.task.classes, present, strict=True) if not here]
        over = f"macro over {present.sum()} of {self.task.n_classes}"
        if missing:
            over += f" (absent: {', '.join(missing)})"
        drawn, counts_of = self.draws.macro(self.cells, self.resamples, *self.names)
        loose = unseen(self.draws.has.sum(axis=0))
        smallest = int(self.draws.has.sum(axis=0)[present].min()) if present.any() else 0
        rows = []
        for point in self.points:
            counts = count(self.target, point.alarm)
            row = replace(self.common, operating_point=point.name)
            values = {name: float(value) for name, value in macro_of(counts, self.task.kind).items()}
            one_vs_rest = self.task.kind == "exclusive" and point.thresholds is not None
            for name, value in values.items():
                if one_vs_rest and name != "macro_f1":
                    continue
                found = drawn.get(f"{name}@{point.name}")
                own = 0.0 if name == "accuracy" else loose
                made = self._bootstrapped(replace(row, metric=name), value, found, "", loose=own)
                if name == "accuracy" and self.task.kind == "exclusive":
                    made = self._accuracy(replace(row, metric=name), point)
                rows.append(over_classes(made, "" if name == "accuracy" else over, smallest))
            rows += self._costs(row, counts, counts_of[point.name])
        rows += self._trivial()
        for name, value in macro_areas(self.target, self.prob).items():
            made = self._bootstrapped(replace(self.common, metric=name), value, drawn.get(name), "", loose=loose)
            rows.append(over_classes(made, over, smallest))
        return [self._frank(row) for row in rows]

    def _accuracy(self, row: Estimate, point: Point) -> Estimate:
        known = ~np.isnan(self.target).any(axis=1)
        right = ((self.target == 1) & point.alarm).any(axis=1)
        return from_interval(row, rate(right[known], self.patient[known]), "no label is known", False)

    def _trivial(self) -> list[Estimate]:
        """What not looking at all achieves, beside which accuracy and cost are to be read."""
        row = replace(self.common, metric="trivial_accuracy", method="the commonest answer always")
        value = trivial_accuracy(self.target, self.task.kind)
        rows = [
            not_estimable(row, "no label is known")
            if math.isnan(value)
            else replace(row, value=value, low=value, high=value, reason="what accuracy is to be read beside")
        ]
        value = cost.trivial_cost(self.prevalence, self.missed)
        if not np.isnan(self.missed).all() and not math.isnan(value):
            method = "the cheaper of always and never, class by class"
            row = replace(self.common, metric="trivial_expected_cost", method=method)
            rows.append(replace(row, value=value, low=value, high=value, reason=self._costed()))
        return rows

    def _costs(self, row: Estimate, counts: Counts, drawn: Counts) -> list[Estimate]:
        """Expected cost at the deployment prevalence where one is given, else at that of the part."""
        if np.isnan(self.missed).all():
            return []
        row = replace(row, metric="expected_cost", method=f"{BOOTSTRAP}, {self.resamples} resamples")
        value = float(cost.expected_cost(counts.recall, counts.specificity, self.prevalence, self.missed))
        low, high, _ = percentile(cost.expected_cost(drawn.recall, drawn.specificity, self.prevalence, self.missed))
        if math.isnan(value) or math.isnan(low):
            return [not_estimable(row, "a class with a cost cannot be estimated in this part")]
        # Of a class with few positive patients, misses and finds may be other than any resample of them shows.
        n_positive = self.draws.has.sum(axis=0)
        far = np.array([reach(int(n)) if 0 < n < FEW_POSITIVE_PATIENTS else 0.0 for n in n_positive])
        stake = np.nan_to_num(self.prevalence * self.missed) * far
        recall = np.nan_to_num(counts.recall)
        if far.any():
            low, high = loosened(value, low, high, *(float(np.hypot.reduce(stake * s)) for s in (1 - recall, recall)))
            row = replace(row, method=row.method + LOOSE)
        return [replace(row, value=value, low=max(low, 0.0), high=high, reason=self._costed())]

    def _costed(self) -> str:
        named = [name for name, missed in zip(self.task.classes, self.missed, strict=True) if not math.isnan(missed)]
        return f"in false alarms a case, over {', '.join(named)}"
