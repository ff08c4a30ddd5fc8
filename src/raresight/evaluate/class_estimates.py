"""Estimates of one class: its rates at every operating point, how it is ranked, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from raresight.core.estimate import Estimate
from raresight.evaluate.calibration_estimates import UNCALIBRATED, calibration_estimates
from raresight.evaluate.counts import count
from raresight.evaluate.intervals import auroc_interval, rate
from raresight.evaluate.layout import Layout, Point
from raresight.evaluate.ranking import NINE_OF_TEN, RECALL_AT_90, auprc, sensitivity_at_specificity
from raresight.evaluate.verdict import FITTED_HERE, deployed, frank, from_interval, not_estimable


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
    return rows + _calibration(given, base, k)


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
    return [frank(r) for r in rows]


def _calibration(given: Layout, base: Estimate, k: int) -> list[Estimate]:
    after, before = given.calibrated.prob[:, k], given.prob[:, k]
    fitted = given.calibrated is not given.predictions
    rows = calibration_estimates(
        base,
        given.target[:, k],
        after,
        given.patient,
        resamples=given.resamples,
        names=given.names,
        before=before if fitted else None,
    )
    if not fitted or base.part == "test" or not any(point.name == "tuned" for point in given.points):
        return rows
    return [
        row
        if row.metric.endswith(UNCALIBRATED) or row.value is None
        else replace(row, reason="; ".join(filter(None, [row.reason, FITTED_HERE])))
        for row in rows
    ]
