"""Estimates of one class: its rates at every operating point, how it is ranked, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from raresight.core.estimate import Estimate
from raresight.evaluate.bootstrap import blocks
from raresight.evaluate.calibration import ece, equal_mass_bins, expected_observed
from raresight.evaluate.counts import count
from raresight.evaluate.intervals import WILSON, auroc_interval, rate
from raresight.evaluate.layout import BOOTSTRAP, Layout, Point
from raresight.evaluate.ranking import NINE_OF_TEN, RECALL_AT_90, auprc, sensitivity_at_specificity
from raresight.evaluate.verdict import deployed, few, from_interval, not_estimable


def class_estimates(given: Layout) -> list[Estimate]:
    """Of every class in turn: rates at each operating point, `auroc auprc recall_at_specificity_90`, calibration.

    An absent class has rows that say so.
    """
    present = [int(k) for k in np.flatnonzero(given.draws.has.any(axis=0))]
    asked = {RECALL_AT_90: NINE_OF_TEN}
    drawn = given.draws.of_classes(given.cells, given.resamples, *given.names, specificities=asked, classes=present)
    return [row for k in range(given.task.n_classes) for row in _of_class(given, k, drawn.get(k, {}))]


def _of_class(given: Layout, k: int, drawn: Mapping[str, np.ndarray]) -> list[Estimate]:
    y = given.target[:, k]
    base = given.of_class(k)
    absent = "" if base.n_positive_patients else f"no case has '{given.task.classes[k]}' in this part"
    rows: list[Estimate] = []
    for point in given.points:
        rows += _at_point(given, base, k, point, absent, drawn)
    area = auroc_interval(y, given.prob[:, k], given.patient)
    rows.append(from_interval(replace(base, metric="auroc"), area, absent or "every case has the class", True))
    ap = auprc(y, given.prob[:, k])
    rows.append(given.bootstrapped(replace(base, metric="auprc"), ap, drawn.get("auprc"), absent))
    found = sensitivity_at_specificity(y, given.prob[:, k], NINE_OF_TEN)[0]
    lacking = absent or ("" if (y == 0).any() else "every case has the class")
    rows.append(given.bootstrapped(replace(base, metric=RECALL_AT_90), found, drawn.get(RECALL_AT_90), lacking))
    return rows + _calibration(given, base, k, absent)


def _at_point(
    given: Layout, base: Estimate, k: int, point: Point, absent: str, drawn: Mapping[str, np.ndarray]
) -> list[Estimate]:
    y, alarm = given.target[:, k], point.alarm[:, k]
    chosen = None if point.thresholds is None else float(point.thresholds[k])
    row = replace(base, operating_point=point.name, threshold=chosen)
    if not point.reachable(k):
        reason = "the class has no threshold: it could not be chosen where thresholds are chosen"
        row = replace(row, threshold=None)
        names = ("recall", "precision", "specificity", "npv", "f1", "alarms_per_1000")
        return [not_estimable(replace(row, metric=name), reason) for name in names]
    patient, positive, negative = given.patient, y == 1, y == 0
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
    rows.append(given.bootstrapped(replace(row, metric="f1"), f1, drawn.get(f"f1@{point.name}"), absent))
    rows += deployed(row, recall, specificity, given.deployed[k], alarm[~np.isnan(y)], patient[~np.isnan(y)])
    return [given.frank(r) for r in rows]


def _calibration(given: Layout, base: Estimate, k: int, absent: str) -> list[Estimate]:
    y, patient = given.target[:, k], given.patient
    known = ~np.isnan(y)
    rows = []
    for suffix, predictions in (("", given.calibrated), ("_uncalibrated", given.predictions)):
        if suffix and given.calibrated is given.predictions:
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
        drawn = _ece_draws(given, y, p, known, k)
        made = given.bootstrapped(error, ece(y, p), drawn, "")
        rows.append(replace(made, method=f"{BOOTSTRAP}; 10 bins of equal mass, biased upwards"))
    return rows


def _ece_draws(given: Layout, y: np.ndarray, p: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    bins = np.full(len(y), -1)
    bins[known] = equal_mass_bins(p[known])
    gaps = np.where(bins[:, None] == np.arange(10)[None, :], np.nan_to_num(p - y)[:, None], 0.0)
    gap, images = given.draws.per_patient(gaps), given.draws.per_patient(known)
    strata = given.draws.has[:, k]
    parts = [
        np.abs(gap.T @ weight).sum(axis=0) / (images @ weight)
        for weight in blocks(strata, given.resamples, *given.names, "class", k)
    ]
    return np.concatenate(parts)
