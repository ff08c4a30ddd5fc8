"""Whether a model serves all groups of patients alike: figures by age, sex, site, device or any other column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.core.predictions import LOGIT_PREFIX, PROB_PREFIX, Predictions
from raresight.evaluate.counts import DEFAULT_POINT, decide, threshold_array
from raresight.evaluate.grouping import UNKNOWN, Grouping, grouped
from raresight.evaluate.intervals import auroc_interval, rate
from raresight.evaluate.verdict import deployed, frank, from_interval, judged, not_estimable

AT_A_POINT = ("recall", "precision", "specificity", "alarms_per_1000")
COMPARED = ("recall", "specificity", "auroc")
DIFFERENCE = "_difference"
AGAINST = " against "
FEW = f"fewer than {FEW_POSITIVE_PATIENTS} positive patients: hidden, as too few to judge by and for their privacy"
COVER = "hidden, so that the one smaller group cannot be worked out from the total"


def subgroups(
    predictions: Predictions,
    columns: Sequence[str],
    *,
    calibrated: Predictions | None = None,
    thresholds: Any = None,
    operating: str = "tuned",
    unit: str = "image",
) -> list[Estimate]:
    """Per class and group `recall precision specificity alarms_per_1000` at each operating point, and `auroc`.

    `subgroup` reads `sex=female`; `grouping.grouped` says how a column becomes groups. The figures and intervals are
    those of the whole (`estimates.estimate`), on the group's rows; operating points too. A class with fewer than 10
    positive patients in a group is hidden there: no value, no count of positives, the reason. Where that leaves exactly
    one group of a column hidden with any positive patient in it, the next smallest is hidden as well: the small one
    could be worked out from the total. `unknown` alone hides no other, as it tells nothing of a person.

    After them, exploratory: `recall_difference specificity_difference auroc_difference` of every shown group against
    the one with the most positive patients (`sex=female against male`), at the operating point in use, with the
    interval d - sqrt((a - l_a)² + (u_b - b)²), d + sqrt((u_a - a)² + (b - l_b)²); the reason says among how many. A
    class absent from the part is hidden in every group.

    Raises: `ConfigError` RS-C34 for a column that is not there, or holds scores or labels.
    Source: Newcombe, Statistics in Medicine 17 (1998) 873, method 10; for AUROC Zou & Donner, ibid. 27 (2008) 1693.
    """
    check_columns(columns, predictions.table.columns)
    cut = _Cut(predictions, calibrated or predictions, thresholds, operating, unit)
    rows, differences = [], []
    for column in columns:
        made = grouped(predictions.table[column].to_numpy(dtype=object), column)
        for k in range(predictions.task.n_classes):
            here = cut.of_class(k, column, made)
            rows += here
            differences += cut.differences(k, column, made, here)
    n_groups = len({row.subgroup for row in rows})
    note = f"exploratory: one of {len(differences)} differences between {n_groups} subgroups"
    return rows + [replace(d, reason="; ".join(filter(None, [note, d.reason]))) for d in differences]


def check_columns(columns: Sequence[str], known: Iterable[object], file: str = "", place: str = "subgroups") -> None:
    """Raise `ConfigError` RS-C34, all problems at once, for columns that no subgroups can be made of."""
    options = [str(name) for name in known]
    scores = [name for name in options if name.startswith((PROB_PREFIX, LOGIT_PREFIX)) or _is_label(name)]
    usable = [name for name in options if name not in scores and name not in ("case", "image", "mask")]
    problems = []
    for name in columns:
        if name in usable:
            continue
        close = nearest(name, usable)
        found = f"'{name}' holds scores, labels or ids of cases" if name in options else f"no column '{name}'"
        problems.append(
            Problem(
                code="RS-C34",
                level="error",
                file=file,
                column=place,
                found=found,
                why="figures of a group need to know who belongs to it",
                remedy=f"did you mean '{close}'?" if close else f"columns: {listed(usable)}",
            )
        )
    if problems:
        raise ConfigError(*problems)


def _is_label(name: str) -> bool:
    return name == "label" or name.startswith("label_")


@dataclass(frozen=True)
class _Point:
    name: str
    alarm: np.ndarray
    thresholds: np.ndarray | None


class _Cut:
    """One set of predictions, to be cut by group after group."""

    def __init__(
        self, predictions: Predictions, calibrated: Predictions, thresholds: Any, name: str, unit: str
    ) -> None:
        self.predictions, self.task = predictions, predictions.task
        self.target, self.prob = predictions.target, predictions.prob
        self.patient = np.unique(predictions.patient.astype(str), return_inverse=True)[1]
        self.points = [_Point(DEFAULT_POINT[self.task.kind], decide(self.prob, self.task.kind), None)]
        if thresholds:
            chosen = threshold_array(thresholds, self.task.classes)
            self.points.append(_Point(name, decide(calibrated.prob, self.task.kind, chosen), chosen))
        self.row = Estimate(
            metric="", arm=predictions.arm, seed=predictions.seed, part=predictions.part, unit=unit, value=0.0
        )

    def of_class(self, k: int, column: str, made: Grouping) -> list[Estimate]:
        known = ~np.isnan(self.target[:, k])
        inside = {name: known & (made.of_row == name) for name in made.names}
        positives = {name: self._patients(rows & (self.target[:, k] == 1)) for name, rows in inside.items()}
        hidden = _hidden(positives)
        found = []
        for name, rows in inside.items():
            base = replace(
                self.row,
                class_=self.task.classes[k],
                subgroup=f"{column}={name}",
                n_images=int(rows.sum()),
                n_patients=self._patients(rows),
            )
            if name in hidden:
                found += [not_estimable(row, hidden[name]) for row in self._named(base)]
                continue
            base = replace(
                base, n_positive_patients=positives[name], prevalence=float(np.mean(self.target[rows, k] == 1))
            )
            for point in self.points:
                found += self._at(base, k, rows, point)
            area = auroc_interval(self.target[rows, k], self.prob[rows, k], self.patient[rows])
            found.append(from_interval(replace(base, metric="auroc"), area, "every case has the class", True))
        return found

    def _patients(self, rows: np.ndarray) -> int:
        return len(np.unique(self.patient[rows]))

    def _named(self, base: Estimate) -> list[Estimate]:
        at = [replace(base, metric=m, operating_point=p.name) for p in self.points for m in AT_A_POINT]
        return [*at, replace(base, metric="auroc")]

    def _at(self, base: Estimate, k: int, rows: np.ndarray, point: _Point) -> list[Estimate]:
        chosen = None if point.thresholds is None else float(point.thresholds[k])
        row = replace(base, operating_point=point.name, threshold=chosen)
        if chosen is not None and math.isnan(chosen):
            reason = "the class has no threshold: it could not be chosen where thresholds are chosen"
            row = replace(row, threshold=None)
            return [not_estimable(replace(row, metric=name), reason) for name in AT_A_POINT]
        y, alarm, patient = self.target[rows, k], point.alarm[rows, k], self.patient[rows]
        recall, specificity = rate(alarm[y == 1], patient[y == 1]), rate(~alarm[y == 0], patient[y == 0])
        precision = rate(y[alarm] == 1, patient[alarm])
        found = [
            from_interval(replace(row, metric="recall"), recall, "no case has the class", True),
            from_interval(replace(row, metric="precision"), precision, "no case alarms for the class", True),
            from_interval(replace(row, metric="specificity"), specificity, "every case has the class", False),
        ]
        alarms = deployed(row, recall, specificity, math.nan, alarm, patient)[0]
        found.append(replace(alarms, reason="at the prevalence of this group") if alarms.value is not None else alarms)
        return [frank(r) for r in found]

    def differences(self, k: int, column: str, made: Grouping, rows: list[Estimate]) -> list[Estimate]:
        """Every shown group against the one with the most positive patients; none where fewer than two are shown."""
        used = self.points[-1].name
        by_key = {
            (row.metric, row.subgroup): row
            for row in rows
            if row.value is not None and row.operating_point in (used, None)
        }
        shown = [
            name for name in made.names if name != UNKNOWN and any((m, f"{column}={name}") in by_key for m in COMPARED)
        ]
        if len(shown) < 2:
            return []
        size = {row.subgroup: row.n_positive_patients or 0 for row in rows}
        first = max(shown, key=lambda name: size[f"{column}={name}"])
        found = []
        for name in (other for other in shown if other != first):
            both = np.intersect1d(self.patient[made.of_row == name], self.patient[made.of_row == first]).size
            for metric in COMPARED:
                a, b = (by_key.get((metric, f"{column}={one}")) for one in (name, first))
                if a is not None and b is not None:
                    found.append(_difference(a, b, f"{column}={name}{AGAINST}{first}", both))
        return found


def _hidden(positives: dict[str, int]) -> dict[str, str]:
    """The groups that are not shown, and why."""
    hidden = {name: FEW for name, n in positives.items() if n < FEW_POSITIVE_PATIENTS}
    telling = [name for name in hidden if positives[name]]
    shown = [name for name in positives if name not in hidden]
    if len(telling) == 1 and telling != [UNKNOWN] and shown:
        hidden[min(shown, key=lambda name: positives[name])] = COVER
    return hidden


def _difference(a: Estimate, b: Estimate, subgroup: str, both: int) -> Estimate:
    assert a.value is not None and a.low is not None and a.high is not None
    assert b.value is not None and b.low is not None and b.high is not None
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    row = replace(
        a,
        metric=a.metric + DIFFERENCE,
        subgroup=subgroup,
        threshold=a.threshold,
        prevalence=None,
        value=value,
        low=low,
        high=high,
        method=f"both intervals combined (Newcombe); {a.method}",
        n_patients=a.n_patients + b.n_patients - both,
        n_positive_patients=min(a.n_positive_patients or 0, b.n_positive_patients or 0),
        n_images=a.n_images + b.n_images,
        status="ok",
        reason=f"{both} patients are in both groups, which the interval takes as independent" if both else "",
    )
    return judged(row, needs_positives=True)
