"""Figures over all classes: macro means, accuracy and expected cost, beside what not looking achieves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.evaluate import cost
from raresight.evaluate.bootstrap import percentile
from raresight.evaluate.counts import Counts, count, trivial_accuracy
from raresight.evaluate.intervals import loosened, rate, reach, unseen
from raresight.evaluate.layout import BOOTSTRAP, LOOSE, Layout, Point
from raresight.evaluate.resampled import macro_areas, macro_of
from raresight.evaluate.verdict import frank, from_interval, not_estimable, over_classes


def macro_estimates(given: Layout) -> list[Estimate]:
    """Figures over all classes, with the classes that they run over; accuracy and cost beside the trivial answer's."""
    present = np.asarray(given.draws.has.any(axis=0))
    missing = [name for name, here in zip(given.task.classes, present, strict=True) if not here]
    over = f"macro over {present.sum()} of {given.task.n_classes}"
    if missing:
        over += f" (absent: {', '.join(missing)})"
    drawn, counts_of = given.draws.macro(given.cells, given.resamples, *given.names)
    loose = unseen(given.draws.has.sum(axis=0))
    smallest = int(given.draws.has.sum(axis=0)[present].min()) if present.any() else 0
    rows = []
    for point in given.points:
        counts = count(given.target, point.alarm)
        row = replace(given.common, operating_point=point.name)
        values = {name: float(value) for name, value in macro_of(counts, given.task.kind).items()}
        one_vs_rest = given.task.kind == "exclusive" and point.thresholds is not None
        for name, value in values.items():
            if one_vs_rest and name != "macro_f1":
                continue
            found = drawn.get(f"{name}@{point.name}")
            own = 0.0 if name == "accuracy" else loose
            made = given.bootstrapped(replace(row, metric=name), value, found, "", loose=own)
            if name == "accuracy" and given.task.kind == "exclusive":
                made = _accuracy(given, replace(row, metric=name), point)
            rows.append(over_classes(made, "" if name == "accuracy" else over, smallest))
        rows += _costs(given, row, counts, counts_of[point.name])
    rows += _trivial(given)
    for name, value in macro_areas(given.target, given.prob).items():
        made = given.bootstrapped(replace(given.common, metric=name), value, drawn.get(name), "", loose=loose)
        rows.append(over_classes(made, over, smallest))
    return [frank(row) for row in rows]


def _accuracy(given: Layout, row: Estimate, point: Point) -> Estimate:
    known = ~np.isnan(given.target).any(axis=1)
    right = ((given.target == 1) & point.alarm).any(axis=1)
    return from_interval(row, rate(right[known], given.patient[known]), "no label is known", False)


def _trivial(given: Layout) -> list[Estimate]:
    """What not looking at all achieves, beside which accuracy and cost are to be read."""
    row = replace(given.common, metric="trivial_accuracy", method="the commonest answer always")
    value = trivial_accuracy(given.target, given.task.kind)
    rows = [
        not_estimable(row, "no label is known")
        if math.isnan(value)
        else replace(row, value=value, low=value, high=value, reason="what accuracy is to be read beside")
    ]
    value = cost.trivial_cost(given.prevalence, given.missed)
    if not np.isnan(given.missed).all() and not math.isnan(value):
        method = "the cheaper of always and never, class by class"
        row = replace(given.common, metric="trivial_expected_cost", method=method)
        rows.append(replace(row, value=value, low=value, high=value, reason=_costed(given)))
    return rows


def _costs(given: Layout, row: Estimate, counts: Counts, drawn: Counts) -> list[Estimate]:
    """Expected cost at the deployment prevalence where one is given, else at that of the part."""
    if np.isnan(given.missed).all():
        return []
    row = replace(row, metric="expected_cost", method=f"{BOOTSTRAP}, {given.resamples} resamples")
    value = float(cost.expected_cost(counts.recall, counts.specificity, given.prevalence, given.missed))
    low, high, _ = percentile(cost.expected_cost(drawn.recall, drawn.specificity, given.prevalence, given.missed))
    if math.isnan(value) or math.isnan(low):
        return [not_estimable(row, "a class with a cost cannot be estimated in this part")]
    # Of a class with few positive patients, misses and finds may be other than any resample of them shows.
    n_positive = given.draws.has.sum(axis=0)
    far = np.array([reach(int(n)) if 0 < n < FEW_POSITIVE_PATIENTS else 0.0 for n in n_positive])
    stake = np.nan_to_num(given.prevalence * given.missed) * far
    recall = np.nan_to_num(counts.recall)
    if far.any():
        low, high = loosened(value, low, high, *(float(np.hypot.reduce(stake * s)) for s in (1 - recall, recall)))
        row = replace(row, method=row.method + LOOSE)
    return [replace(row, value=value, low=max(low, 0.0), high=high, reason=_costed(given))]


def _costed(given: Layout) -> str:
    named = [name for name, missed in zip(given.task.classes, given.missed, strict=True) if not math.isnan(missed)]
    return f"in false alarms a case, over {', '.join(named)}"
