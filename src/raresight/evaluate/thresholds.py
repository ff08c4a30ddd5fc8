"""Where to raise an alarm: one threshold a class, chosen on validation (or out-of-fold) patients, never on test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raresight.core.errors import Problem
from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.core.predictions import Predictions
from raresight.evaluate import conformal, recalibrate, referral
from raresight.evaluate.cost import cost_array
from raresight.evaluate.counts import threshold_array
from raresight.evaluate.fitting import refuse_test
from raresight.evaluate.intervals import Interval, rate
from raresight.evaluate.ranking import steps

__all__ = ["Tuned", "choose", "threshold_array", "tune"]


@dataclass(frozen=True)
class Tuned:
    """What validation decides: `calibrator` goes to `calibrator.json`, all else to `thresholds.json`.

    `thresholds` is class -> record (see `choose`), `conformal` the sets (see `conformal.fit`), `refer` the band of
    cases that go to a human (see `referral.fit`), None where none do.
    """

    calibrator: dict[str, Any]
    thresholds: dict[str, dict[str, Any]]
    problems: list[Problem] = field(default_factory=list)
    conformal: dict[str, Any] | None = None
    refer: dict[str, Any] | None = None

    @property
    def values(self) -> dict[str, float]:
        """The thresholds that could be chosen, class -> probability."""
        return {name: row["threshold"] for name, row in self.thresholds.items() if row["threshold"] is not None}

    @property
    def decisions(self) -> dict[str, Any]:
        """`thresholds.json`: thresholds, conformal sets, referral."""
        return {"thresholds": self.thresholds, "conformal": self.conformal, "refer": self.refer}


def tune(
    val: Predictions,
    *,
    implied_prior: np.ndarray | None = None,
    costs: Any = None,
    decision: Any = None,
    seed: int = 0,
) -> Tuned:
    """Fit the calibrator, then on its probabilities a threshold a class, the conformal sets and the referral.

    `implied_prior` `(K,)` in nats, None where the arm's shift is not defined; `costs` names prices and deployment
    prevalences; `decision` (a mapping or a `DecisionSection`) names `floors`, `miscoverage` and `refer`. Calibrator:
    `recalibrate.fit`; thresholds: `choose`; sets: `conformal.fit`; referral: `referral.fit`. Calibrator and thresholds
    rest on the same patients: figures on them are optimistic, those on test are not.

    A class without positives or without negatives has no threshold (`None`), status `not_estimable`, a reason, and a
    problem RS-P14.

    Raises: `GateError` RS-R36 for predictions of the test part.
    """
    refuse_test(val, "thresholds were", "a figure judged on the rows that chose its threshold")
    calibrator = recalibrate.fit(val, implied_prior=implied_prior, seed=seed)
    calibrated = recalibrate.calibrate(val, calibrator)
    classes = val.task.classes
    target, prob, patient = val.target, calibrated.prob, val.patient.astype(str)
    missed, deployed = cost_array(costs, classes), cost_array(costs, classes, "prevalence")
    floors = _setting(decision, "floors", {})
    records = {
        name: choose(
            target[:, k], prob[:, k], patient, missed=missed[k], prevalence=deployed[k], floor=floors.get(name)
        )
        for k, name in enumerate(classes)
    }
    problems = [
        _absent(name, row["reason"], val.part) for name, row in records.items() if row["status"] == "not_estimable"
    ]
    sets = conformal.fit(calibrated, float(_setting(decision, "miscoverage", 0.1)))
    refer = referral.fit(calibrated, records, float(_setting(decision, "refer", 0.0)))
    return Tuned(calibrator, records, problems, sets, refer)


def choose(
    target: np.ndarray,
    prob: np.ndarray,
    patient: np.ndarray,
    *,
    missed: float = math.nan,
    prevalence: float = math.nan,
    floor: Any = None,
) -> dict[str, Any]:
    """The threshold of one class, and what it does on the cases that chose it.

    The first rule that applies:

    - `floor` sensitivity s: the highest threshold with Se >= s on these cases.
    - `floor` specificity s: the lowest that the ⌈(n₋ + 1) s⌉-th smallest of the n₋ scores without the class does not
      reach, so that the specificity of new, independent cases is s or more on average; of fewer than s/(1-s) such
      scores none may alarm, and they promise n₋/(n₋ + 1).
    - a price `missed` C: the least π C (1-Se) + (1-π)(1-Sp), π being `prevalence`, else that of these cases.
    - otherwise the highest Youden's J = Se + Sp - 1.

    Of equally good thresholds the one with more recall. A threshold lies halfway between neighbouring scores; that of a
    specificity floor on the upper one, an observed score.

    `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)` in [0, 1], `patient` `(N,)` any labels, `missed` > 0 in
    false alarms and `prevalence` in (0, 1), NaN where not given, `floor` a mapping or section with `sensitivity` or
    `specificity`. Returns `threshold, rule, status, reason, prevalence, n_positive_patients, n_patients, n_positives,
    n_negatives, n_found, n_false_alarms, recall, recall_low, recall_high, specificity, specificity_low,
    specificity_high`, and with a floor `floor`, `floor_reached` (on these cases) and `floor_low`, the lower bound of
    what was to reach it: only where that is at least the floor have these patients shown it. The bounds are
    those of `intervals.rate`, for a threshold fixed beforehand: on the cases that chose it they are optimistic.

    A class without positives or negatives has no threshold: status `not_estimable`. Below 10 positive patients, or
    where a floor leaves no alarm or no silence, the status is `wide`.

    Source: Youden, Cancer 3 (1950) 32; the order statistic as in split conformal prediction, Papadopoulos et al., 2002.
    """
    known = ~np.isnan(target)
    yes, no = target == 1, target == 0
    kind, asked = _floor(floor)
    positives = len(np.unique(patient[yes].astype(str)))
    record: dict[str, Any] = {
        "threshold": None,
        "rule": _rule(kind, asked, missed),
        "status": "not_estimable",
        "reason": "",
        "prevalence": float(np.mean(target[known])) if known.any() else None,
        "n_positive_patients": positives,
        "n_patients": len(np.unique(patient[known].astype(str))),
        "n_positives": int(yes.sum()),
        "n_negatives": int(no.sum()),
    }
    record |= dict.fromkeys(["n_found", "n_false_alarms", *_bounds("recall"), *_bounds("specificity")])
    if kind:
        record |= {"floor": {kind: asked}, "floor_reached": None, "floor_low": None}
    at = steps(target, prob)
    if not at.positives > 0 or not at.negatives > 0:
        lacking = "no case has the class" if not at.positives > 0 else "no case is without the class"
        return record | {"reason": f"{lacking} in the part that chooses thresholds"}
    # Step 0 is "never alarm", the last is "always".
    found, alarms = np.append(0.0, at.tp), np.append(0.0, at.fp)
    best = _best(found, alarms, kind, asked, missed, prevalence)
    threshold = _between(at.score, best)
    if kind == "specificity" and best:
        threshold = float(at.score[best - 1])
    recall, specificity = rate(prob[yes] >= threshold, patient[yes]), rate(prob[no] < threshold, patient[no])
    few = positives < FEW_POSITIVE_PATIENTS
    reasons = [f"chosen from {positives} positive patients, fewer than {FEW_POSITIVE_PATIENTS}"] if few else []
    if kind:
        reached = recall if kind == "sensitivity" else specificity
        met = reached.value >= asked - 1e-12
        reasons += _of_floor(kind, asked, reached, float(found[best]), float(at.negatives - alarms[best]))
        record |= {"floor_reached": met, "floor_low": reached.low}
    mute = kind and (found[best] == 0 or alarms[best] == at.negatives)
    return record | {
        "threshold": threshold,
        "status": "wide" if few or mute else "ok",
        "reason": "; ".join(reasons),
        "n_found": int(found[best]),
        "n_false_alarms": int(alarms[best]),
        **_bounds("recall", recall),
        **_bounds("specificity", specificity),
    }


def _best(found: np.ndarray, alarms: np.ndarray, kind: str, asked: float, missed: float, prevalence: float) -> int:
    """The step to alarm down to; of equally good ones the last, which has the most recall."""
    positives, negatives = found[-1], alarms[-1]
    recall, fpr = found / positives, alarms / negatives
    if kind == "sensitivity":
        return int(np.flatnonzero(recall >= asked - 1e-12)[0])
    if kind == "specificity":
        silent = min(negatives, math.ceil((negatives + 1) * asked - 1e-9))
        return int(np.flatnonzero(alarms <= negatives - silent)[-1])
    if math.isnan(missed):
        loss = fpr - recall
    else:
        share = prevalence if not math.isnan(prevalence) else positives / (positives + negatives)
        loss = share * missed * (1 - recall) + (1 - share) * fpr
    return int(np.flatnonzero(loss <= loss.min() + 1e-12)[-1])


def _floor(floor: Any) -> tuple[str, float]:
    """`("sensitivity" | "specificity" | "", the share asked for)`."""
    for kind in ("sensitivity", "specificity"):
        value = floor.get(kind) if isinstance(floor, Mapping) else getattr(floor, kind, None)
        if value is not None:
            return kind, float(value)
    return "", math.nan


def _rule(kind: str, asked: float, missed: float) -> str:
    if kind == "sensitivity":
        return f"the highest threshold with a sensitivity of at least {asked:g}"
    if kind == "specificity":
        return f"the lowest threshold with a specificity of at least {asked:g}"
    return "highest Youden's J" if math.isnan(missed) else f"least expected cost, a miss = {missed:g} false alarms"


def _of_floor(kind: str, asked: float, reached: Interval, found: float, silent: float) -> list[str]:
    """What is to be said of a floor: whether the patients show it, and what it leaves of the class's alarms."""
    told = []
    if reached.low < asked:
        told.append(f"{kind} {reached.value:.3f} on these cases, but as low as {reached.low:.3f} is not excluded")
    if found == 0:
        told.append("the floor leaves no alarm that is right")
    if silent == 0:
        told.append("the floor is reached only where every case alarms")
    return told


def _bounds(name: str, interval: Interval | None = None) -> dict[str, float | None]:
    values = (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _between(score: np.ndarray, step: int) -> float:
    """A threshold below the scores of the first `step` steps and above the next one, `score` falling."""
    if step == 0:
        # Above every score: the cheapest rule is silence.
        return float((score[0] + 1) / 2) if score[0] < 1 - 1e-9 else 1.0 + 1e-9
    upper, lower = float(score[step - 1]), float(score[step]) if step < len(score) else 0.0
    middle = (upper + lower) / 2
    return middle if lower < middle <= upper else upper


def _setting(decision: Any, name: str, default: Any) -> Any:
    value = decision.get(name) if isinstance(decision, Mapping) else getattr(decision, name, None)
    return default if value is None else value


def _absent(name: str, reason: str, part: str) -> Problem:
    return Problem(
        code="RS-P14",
        level="warning",
        column=name,
        found=f"no threshold for '{name}': {reason}",
        why=f"a threshold needs cases with and without the class in the {part or 'validation'} part",
        remedy="use split.folds: 5, or merge the class with a related one",
    )
