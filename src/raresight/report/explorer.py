"""The operating-point explorer's data, and the arithmetic that the page does in JavaScript, in Python.

The page holds, for each arm and class, the counts and intervals of recall and specificity at up to 200 thresholds. All
else follows from these and from where the sliders of prevalence and cost stand, by the formulas of `at`, which
explorer.js repeats and the browser tests compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.predictions import Predictions
from raresight.evaluate.cost import threshold_for_cost
from raresight.evaluate.counts import DEFAULT_POINT
from raresight.evaluate.deployment import deployment
from raresight.evaluate.intervals import Interval
from raresight.evaluate.net_benefit import benefit_interval, treat_all
from raresight.evaluate.ranking import Steps, steps
from raresight.evaluate.threshold_rates import rates_at
from raresight.report.content import ArmResult, Content
from raresight.report.words import class_name, plural, unit_of

MOST_STEPS = 200
MOST_STEPS_IN_ALL = 16_000  # about 1 MB of the page
MOST_ARMS = 6
HALF = 0.5
UNSTATED_COST = 10.0  # where the slider starts if nobody said what a miss costs
DIGITS = 5  # of interval bounds, rounded outwards


def explorer_data(content: Content) -> dict[str, Any] | None:
    """All that the page needs to move the operating point, as plain JSON values; None where no predictions are shown.

    `arms[].classes[]` are columns over thresholds from high to low: `t` (None: above every score), `tp`, `fp`, and the
    bounds `recall_low` ... `specificity_high` in [0, 1]; `frozen` and `half` are positions in them (`frozen` None if no
    threshold was chosen on other rows), `start` where the slider begins. A class that is absent, or that nothing is
    without, has `why` instead.
    """
    arms = [arm for arm in _arms(content) if arm.predictions or arm.calibrated]
    if not arms:
        return None
    names = [*content.watched, *(name for name in content.task.classes if name not in content.watched)]
    most = max(30, min(MOST_STEPS, MOST_STEPS_IN_ALL // (len(arms) * len(names))))
    return {
        "part": content.part,
        **_marks(content),
        "units": plural(content.unit),
        "who": plural(unit_of(content.group_by)),
        "classes": [{"name": name, "label": class_name(name)} for name in names],
        "arms": [
            {"name": arm.name, "seed": _shown(arm).seed, "classes": _classes(content, arm, names, most)}
            for arm in arms[:MOST_ARMS]
        ],
        "arms_left_out": len(arms[MOST_ARMS:]),
    }


def _marks(content: Content) -> dict[str, str]:
    """What the chosen threshold is called, and what is said of any other where it was not chosen on these rows."""
    opened = "the frozen point was chosen before the test part was opened; this one was not"
    given = "the frozen point was not chosen on these patients; this one is"
    return {
        "mark_name": "tuned point" if content.part == "val" else "frozen point",
        "watermark": f"Exploratory: {opened if content.ledger else given}.",
        "watermark_unfrozen": "Exploratory: no threshold was frozen before these patients were looked at.",
    }


def at(
    data: Mapping[str, Any], class_: str, threshold: float, prevalence: float, cost: float, arm: str | None = None
) -> dict[str, Any]:
    """What the page shows for a class at a threshold, a prevalence and a cost of a miss in false alarms.

    With Se, Sp at the lowest embedded threshold at or above `threshold`, π = `prevalence`, C = `cost`, t = 1/(1+C): the
    five figures of `deployment`; net benefit per 1,000 = 1000 (Se π - (1-Sp)(1-π) t/(1-t)) with the bounds of
    `benefit_interval`, and that of alarming for all and for none; expected cost per 1,000 in false alarms,
    1000 (π C (1-Se) + (1-π)(1-Sp)) = C (1000 π - net benefit).

    Every figure is `(value, low, high)`; None for what is undefined (PPV without alarms) or unbounded (alarms to read
    per case found, where none was found). `{"why": ...}` for a class that is not estimable.

    Source: Vickers & Elkin, Medical Decision Making 26 (2006) 565.
    """
    record = record_of(data, class_, arm)
    if "why" in record:
        return {"why": record["why"]}
    return figures(record, step_of(record, threshold), prevalence, cost)


def record_of(data: Mapping[str, Any], class_: str, arm: str | None = None) -> Mapping[str, Any]:
    """One class of one arm, the first one by default."""
    arms = data["arms"]
    found = arms[0] if arm is None else next(one for one in arms if one["name"] == arm)
    return next(one for one in found["classes"] if one["name"] == class_)


def step_of(record: Mapping[str, Any], threshold: float) -> int:
    """The last position whose threshold is at or above the one given; they fall."""
    return max(i for i, t in enumerate(record["t"]) if t is None or t >= threshold)


def figures(record: Mapping[str, Any], step: int, prevalence: float, cost: float) -> dict[str, Any]:
    """`at`, for a position in the columns."""
    recall = _interval(
        record["tp"][step] / record["positives"], record["recall_low"][step], record["recall_high"][step]
    )
    specificity = _interval(
        1 - record["fp"][step] / record["negatives"], record["specificity_low"][step], record["specificity_high"][step]
    )
    trade = threshold_for_cost(cost)
    benefit = benefit_interval(recall, specificity, prevalence, trade)
    net = tuple(1000 * value for value in (benefit.value, benefit.low, benefit.high))
    follows = deployment(recall, specificity, prevalence)
    return {
        "threshold": record["t"][step],
        "recall": (recall.value, recall.low, recall.high),
        "specificity": (specificity.value, specificity.low, specificity.high),
        **{name: tuple(v if math.isfinite(v) else None for v in triple) for name, triple in follows.items()},
        "net_benefit": net,
        "net_benefit_all": 1000 * treat_all(prevalence, trade),
        "net_benefit_none": 0.0,
        "expected_cost": tuple(cost * (1000 * prevalence - net[i]) for i in (0, 2, 1)),
    }


def cheapest(record: Mapping[str, Any], prevalence: float, cost: float) -> int:
    """The position of least expected cost; of equally cheap ones the lowest threshold. For the validation part only."""
    costs = np.array([figures(record, i, prevalence, cost)["expected_cost"][0] for i in range(len(record["t"]))])
    return int(np.flatnonzero(costs <= costs.min() + 1e-9)[-1])


def _interval(value: float, low: float, high: float) -> Interval:
    return Interval(value, low, high, "", 0, 0)


def _arms(content: Content) -> list[ArmResult]:
    """The arm that the report speaks of, the baseline, then the others."""
    first = [arm for arm in (content.chosen, content.reference) if arm is not None]
    return list({arm.name: arm for arm in [*first, *content.arms]}.values())


def _shown(arm: ArmResult) -> Predictions:
    """Its first seed; after calibration where there is a calibrator, since thresholds then belong to that."""
    return arm.calibrated[0] if arm.calibrated else arm.predictions[0]


def _classes(content: Content, arm: ArmResult, names: list[str], most: int) -> list[dict[str, Any]]:
    predictions = _shown(arm)
    prob, target = predictions.prob, predictions.target
    patient = pd.factorize(predictions.patient)[0]
    thresholded = any(e.operating_point in ("tuned", "frozen") for e in arm.estimates)
    rows = []
    for name in names:
        k = content.task.index(name)
        chosen = arm.thresholds.get(name) if thresholded else None
        record = _record(prob[:, k], target[:, k], patient, chosen, most)
        rows.append({"name": name, **record, **_circumstances(content, name, record)})
    return rows


def _circumstances(content: Content, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """How rare the class is in use and what missing it costs, and whether anybody said so."""
    if "why" in record:
        return {}
    deployed, missed = content.prevalence.get(name), content.missed.get(name)
    here = record["positives"] / (record["positives"] + record["negatives"])
    return {
        "prevalence_here": here,
        "prevalence": here if deployed is None else float(deployed),
        "prevalence_stated": deployed is not None,
        "cost": UNSTATED_COST if missed is None else float(missed),
        "cost_stated": missed is not None,
        "default_is_half": DEFAULT_POINT[content.task.kind] == "0.5",
    }


def _record(
    score: np.ndarray, target: np.ndarray, patient: np.ndarray, chosen: float | None, most: int
) -> dict[str, Any]:
    with_class, without = target == 1, target == 0
    if not with_class.any() or not without.any():
        lacking = "no case has the class" if not with_class.any() else "every case has the class"
        return {"why": f"{lacking} in this part"}
    walk = steps(target, score)
    marks = {"half": HALF} if chosen is None else {"half": HALF, "frozen": float(chosen)}
    place = {mark: int(np.sum(walk.score >= t)) for mark, t in marks.items()}
    kept = _spread(walk, most, set(place.values()))
    thresholds = np.append(np.inf, walk.score)[kept]
    position = {mark: int(np.searchsorted(kept, where)) for mark, where in place.items()}
    for mark, t in marks.items():  # the chosen threshold last: it gives its own value where both fall on one step
        thresholds[position[mark]] = t
    recall = rates_at(score[with_class], patient[with_class], thresholds)
    alarms = rates_at(score[without], patient[without], thresholds)
    return {
        "positives": recall.n_images,
        "negatives": alarms.n_images,
        "positive_patients": recall.n_patients,
        "negative_patients": alarms.n_patients,
        "t": [float(t) if math.isfinite(t) else None for t in thresholds],
        "tp": recall.hits.tolist(),
        "fp": alarms.hits.tolist(),
        "recall_low": _outwards(recall.low, np.floor),
        "recall_high": _outwards(recall.high, np.ceil),
        "specificity_low": _outwards(1 - alarms.high, np.floor),
        "specificity_high": _outwards(1 - alarms.low, np.ceil),
        "frozen": position.get("frozen"),
        "half": position["half"],
        "start": position.get("frozen", position["half"]),
    }


def _spread(walk: Steps, most: int, wanted: set[int]) -> np.ndarray:
    """Up to `most` of the positions 0 (never alarm) to T: even in recall, in specificity, and in log(1 - specificity).

    The last for rare classes, whose usable thresholds all lie where hardly anything alarms.
    """
    n = len(walk.score) + 1
    if n <= most:
        return np.arange(n)
    recall, alarms = np.append(0.0, walk.tp) / walk.positives, np.append(0.0, walk.fp) / walk.negatives
    third = (most - len(wanted) - 2) // 3
    even = np.linspace(0, 1, third)
    at_recall, at_specificity = np.searchsorted(recall, even), np.searchsorted(alarms, even)
    at_tail = np.searchsorted(alarms, np.geomspace(1 / walk.negatives, 1, third))
    every = np.concatenate([at_recall, at_specificity, at_tail, [0, n - 1], sorted(wanted)])
    return np.unique(np.minimum(every, n - 1)).astype(int)


def _outwards(bounds: np.ndarray, rounding: Any) -> list[float]:
    tens = 10.0**DIGITS
    return np.clip(np.round(rounding(np.round(bounds * tens, 6)) / tens, DIGITS), 0, 1).tolist()
