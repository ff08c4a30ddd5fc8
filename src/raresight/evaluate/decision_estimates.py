"""Figures of decisions on top of recall and specificity: what they mean in deployment, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate import conformal, referral
from raresight.evaluate.bootstrap import blocks, percentile
from raresight.evaluate.cost import cost_array, threshold_for_cost
from raresight.evaluate.cost_matrix import (
    at_prior,
    cost_matrix,
    deployed_prior,
    least_cost,
    matrix_cost,
    trivial_matrix_cost,
)
from raresight.evaluate.counts import DEFAULT_POINT, ratio
from raresight.evaluate.deployment import METHOD, MISSES, deployment
from raresight.evaluate.intervals import Interval, loosened, reach
from raresight.evaluate.net_benefit import METHOD as RECOVERED
from raresight.evaluate.net_benefit import benefit_interval
from raresight.evaluate.verdict import FITTED_HERE, few, frank, judged, not_estimable

LEAST_COST = "least_cost"
DEPLOYED = ("number_needed_to_read", "npv_at_prevalence", "misses_per_100000")


def decision_estimates(
    predictions: Predictions,
    calibrated: Predictions,
    thresholds: Any,
    costs: Any,
    *,
    rows: Sequence[Estimate],
    decisions: Mapping[str, Any] | None = None,
    operating: str = "tuned",
    unit: str = "image",
    resamples: int = 1000,
    names: Sequence[object] = (),
) -> list[Estimate]:
    """All that follows from decisions once recall and specificity are known.

    Per class and operating point, from the recall and specificity in `rows`: with a deployment prevalence in `costs`
    `number_needed_to_read npv_at_prevalence misses_per_100000` (see `deployment`); with a price of being missed
    `net_benefit` at t = 1/(1 + C) and the deployment prevalence, else that of the part. With a cost matrix, at argmax
    and at the decisions of least expected cost (operating point `least_cost`): `expected_cost_matrix` in false alarms a
    case and `relative_cost_matrix`, divided by the best rule that never looks. With `decisions` (the content of
    `thresholds.json`) the conformal sets and the referral fitted there are judged.

    `predictions` are as given, `calibrated` those that thresholds, matrix, sets and referral read. Nothing is fitted
    here. An absent class is not estimable, with the reason; what was chosen on the very part that is judged says so.
    """
    given = dict(decisions or {})
    found = [one for row in _pairs(rows, costs, predictions) for one in row]
    shared = Estimate(
        metric="",
        arm=predictions.arm,
        seed=predictions.seed,
        part=predictions.part,
        unit=unit,
        value=0.0,
        n_images=len(predictions.table),
        n_patients=len(np.unique(predictions.patient.astype(str))),
    )
    found += _matrix(predictions, calibrated, costs, given.get("thresholds") or {}, shared, operating, resamples, names)
    own = replace(shared, operating_point=operating)
    if given.get("conformal"):
        found += [frank(row) for row in conformal.judge(calibrated, given["conformal"], own)]
    if referral.hands_over(given, predictions.task):
        found += [frank(row) for row in referral.judge(calibrated, thresholds or {}, given, costs, own)]
    return found


# one class at one operating point


def _pairs(rows: Sequence[Estimate], costs: Any, predictions: Predictions) -> list[list[Estimate]]:
    classes = predictions.task.classes
    missed, deployed = cost_array(costs, classes), cost_array(costs, classes, "prevalence")
    at = {(row.class_, row.operating_point, row.metric): row for row in rows if row.subgroup is None}
    made = []
    for (name, point, metric), recall in at.items():
        specificity = at.get((name, point, "specificity"))
        if metric != "recall" or name is None or specificity is None:
            continue
        k = predictions.task.index(name)
        share = deployed[k] if not math.isnan(deployed[k]) else recall.prevalence
        base = replace(recall, reason="", status="ok", value=0.0, low=None, high=None, method="")
        pair = _interval(recall), _interval(specificity)
        lacking = recall.reason if recall.value is None else specificity.reason if specificity.value is None else ""
        if not math.isnan(deployed[k]):
            made.append(_deployed(base, *pair, float(deployed[k]), lacking))
        if not math.isnan(missed[k]):
            made.append([_benefit(base, *pair, None if share is None else float(share), float(missed[k]), lacking)])
    return [[frank(row) for row in several] for several in made]


def _deployed(
    base: Estimate, recall: Interval, specificity: Interval, prevalence: float, lacking: str
) -> list[Estimate]:
    base = replace(base, prevalence=prevalence)
    found = deployment(recall, specificity, prevalence)
    note = f"at a deployment prevalence of {prevalence:g}"
    made = []
    for metric, key in zip(DEPLOYED, ("number_needed_to_read", "npv", "misses_per_100000"), strict=True):
        value, low, high = found[key]
        row = replace(base, metric=metric, method=MISSES if key == "misses_per_100000" else METHOD)
        if lacking or math.isnan(value) or not math.isfinite(high):
            silent = "no case alarms for the class" if math.isnan(value) else "a precision of 0 is not excluded"
            made.append(not_estimable(row, lacking or silent))
            continue
        row = replace(row, value=value, low=low, high=high, reason=note)
        made.append(judged(row, key != "npv") if key == "npv" else _small(row))
    return made


def _benefit(
    base: Estimate, recall: Interval, specificity: Interval, prevalence: float | None, missed: float, lacking: str
) -> Estimate:
    row = replace(base, metric="net_benefit", prevalence=prevalence, method=RECOVERED)
    if lacking or prevalence is None:
        return not_estimable(row, lacking or "no label of the class is known")
    t = threshold_for_cost(missed)
    found = benefit_interval(recall, specificity, prevalence, t)
    everybody = max(0.0, prevalence - (1 - prevalence) / missed)
    note = f"a miss = {missed:g} false alarms; always or never alarming gives {everybody:.4g}"
    return _small(replace(row, value=found.value, low=found.low, high=found.high, reason=note))


def _interval(row: Estimate) -> Interval:
    bounds = [math.nan if x is None else x for x in (row.value, row.low, row.high)]
    return Interval(bounds[0], bounds[1], bounds[2], row.method, row.n_patients, row.n_images)


def _small(row: Estimate) -> Estimate:
    """`wide` for few positive patients; the width of a figure that is no share says nothing by itself."""
    small = few(row)
    return replace(row, status="wide" if small else "ok", reason="; ".join(filter(None, [small, row.reason])))


# a cost matrix


@dataclass(frozen=True)
class _Decided:
    """Said classes `(N,)` at one operating point, and why they may be read."""

    point: str
    said: np.ndarray
    reason: str


def _matrix(
    predictions: Predictions,
    calibrated: Predictions,
    costs: Any,
    records: Mapping[str, Any],
    shared: Estimate,
    operating: str,
    resamples: int,
    names: Sequence[object],
) -> list[Estimate]:
    task = predictions.task
    matrix = cost_matrix(costs, task.classes) if task.kind == "exclusive" else None
    if matrix is None:
        return []
    target = predictions.target
    known = ~np.isnan(target).any(axis=1)
    row = replace(shared, n_images=int(known.sum()), method=f"patient bootstrap, percentile, {resamples} resamples")
    if not known.any():
        return [not_estimable(replace(row, metric="expected_cost_matrix"), "no label is known")]
    observed = target[known].mean(axis=0)
    deployed = cost_array(costs, task.classes, "prevalence")
    prior = deployed_prior(observed, deployed)
    made: list[Estimate] = []
    own_part = operating == "tuned" and shared.part != "test" and calibrated is not predictions
    points = [
        _Decided(DEFAULT_POINT[task.kind], predictions.prob.argmax(axis=1), ""),
        _least(calibrated, matrix, records, deployed, own_part),
    ]
    who = np.unique(predictions.patient[known].astype(str), return_inverse=True)[1]
    truth = target[known].argmax(axis=1)
    for decided in points:
        own = replace(row, operating_point=decided.point)
        made += _costed(own, truth, decided.said[known], who, prior, matrix, decided.reason, resamples, names)
    return made


def _least(
    calibrated: Predictions, matrix: np.ndarray, records: Mapping[str, Any], deployed: np.ndarray, own_part: bool
) -> _Decided:
    """Decisions of least expected cost; at the prevalences of deployment where those of validation are known."""
    classes = calibrated.task.classes
    shares = [records.get(name) for name in classes]
    fitted = np.array([one.get("prevalence") or 0.0 if isinstance(one, Mapping) else math.nan for one in shares])
    prob, reason = calibrated.prob, "argmin of expected cost"
    if not np.isnan(deployed).all():
        if np.isnan(fitted).any() or not fitted.sum() > 0:
            reason += "; probabilities as they are: the prevalence that they were fitted at is not known"
        else:
            prob = at_prior(prob, fitted / fitted.sum(), deployed_prior(fitted, deployed))
            reason += " at the deployment prevalence"
    reason += f"; {FITTED_HERE}" if own_part else ""
    return _Decided(LEAST_COST, least_cost(prob, matrix), reason)


def _costed(
    row: Estimate,
    truth: np.ndarray,
    said: np.ndarray,
    who: np.ndarray,
    prior: np.ndarray,
    matrix: np.ndarray,
    reason: str,
    resamples: int,
    names: Sequence[object],
) -> list[Estimate]:
    """`expected_cost_matrix` and `relative_cost_matrix` of one set of decisions."""
    n, patients = len(prior), int(who.max()) + 1
    cells = np.zeros((patients, n, n))
    np.add.at(cells, (who, truth, said), 1.0)
    has = cells.sum(axis=2) > 0
    counts = cells.sum(axis=0)
    value, trivial = float(matrix_cost(counts, prior, matrix)), trivial_matrix_cost(prior, matrix)
    rows = [replace(row, metric=metric) for metric in ("expected_cost_matrix", "relative_cost_matrix")]
    if math.isnan(value):
        absent = "a class with a cost has no case in this part"
        return [not_estimable(one, absent) for one in rows]
    flat = cells.reshape(patients, n * n)
    drawn = np.concatenate(
        [
            matrix_cost((flat.T @ np.asarray(w, dtype=np.float64)).T.reshape(-1, n, n), prior, matrix)
            for w in blocks(_rarest(has), resamples, *names, "cost matrix")
        ]
    )
    low, high, _ = percentile(drawn)
    low, high = (value, value) if math.isnan(low) else (min(low, value), max(high, value))
    # Of a class with few patients, errors may be other than any resample of them shows.
    positives = has.sum(axis=0)
    far = np.array([reach(int(p)) if 0 < p < FEW_POSITIVE_PATIENTS else 0.0 for p in positives])
    now = np.nan_to_num((ratio(counts, counts.sum(axis=1, keepdims=True)) * matrix).sum(axis=1))
    worst = np.where(counts.sum(axis=1) > 0, matrix.max(axis=1), 0.0)
    stakes = [float(np.linalg.norm(prior * far * gap)) for gap in (now, worst - now)]
    low, high = loosened(value, low, high, *stakes)
    low = max(low, 0.0)
    small = int(positives[positives > 0].min())
    told = [f"rarest class: {small} patients"] if small < FEW_POSITIVE_PATIENTS else []
    told += [reason, f"in false alarms a case; the best rule that never looks costs {trivial:.4g}"]
    made = [replace(rows[0], value=value, low=low, high=high, reason="; ".join(filter(None, told)))]
    if not trivial > 0:
        return [*made, not_estimable(rows[1], "a rule that never looks costs nothing")]
    scaled = [x / trivial for x in (value, low, high)]
    of_trivial = replace(rows[1], value=scaled[0], low=scaled[1], high=scaled[2], reason="; ".join(filter(None, told)))
    status: Any = "wide" if small < FEW_POSITIVE_PATIENTS else "ok"
    return [replace(one, status=status) for one in (*made, of_trivial)]


def _rarest(has: np.ndarray) -> np.ndarray:
    """The rarest class of each patient `(G,)`, the stratum that keeps every class in every resample."""
    by_rarity = np.argsort(has.sum(axis=0), kind="stable")
    return np.asarray(by_rarity[has[:, by_rarity].argmax(axis=1)])
