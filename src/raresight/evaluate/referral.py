"""Saying "not sure": which cases go to a human, chosen on validation, and what that buys for what price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.core.task import Task
from raresight.evaluate import conformal
from raresight.evaluate.calibration import log_odds
from raresight.evaluate.cost import cost_array, referral_cost
from raresight.evaluate.counts import threshold_array
from raresight.evaluate.fitting import refuse_test
from raresight.evaluate.intervals import rate
from raresight.evaluate.mean_interval import mean_estimate
from raresight.evaluate.verdict import few, from_interval, not_estimable

RULE = "a case is referred where a change of the odds by no more than this factor would flip the alarm of a class"
UNSURE = "too close to a threshold to decide"
UNLIKE = "no class fits: unlike the cases of validation"


def fit(val: Predictions, thresholds: Any, share: float, *, watched: Sequence[str] = ()) -> dict[str, Any] | None:
    """The band around the thresholds in which a case is referred: as wide as `share` of validation cases allow.

    A case is as near as d = min_c |logit p_c - logit t_c| over the watched classes c, in log-odds: the decision for c
    flips when the odds, or the price of a miss, change by the factor e^d. A case is referred where d <= w, and w is
    the largest that refers no more than `share` of the cases; equal distances are referred together or not at all.
    Log-odds put a threshold of 0.05 and one of 0.5 on one scale.

    `val` holds calibrated probabilities, `thresholds` class -> probability or record; `watched` (default: the task's
    critical classes, or all where none is critical) are those that have a threshold. `share` in [0, 1); 0 refers none
    and returns None. Returns `{share, watched, thresholds, width, odds_factor, share_validation, n_cases, rule,
    reason}`; `width` is None, with the reason, where nothing can be referred.

    Raises: `GateError` RS-R36 for predictions of the test part.
    Source: Chow, IEEE Trans. Inf. Theory 16 (1970) 41, refers where no decision is sure enough; the band in log-odds,
    and its width by a share of cases, are our own choice.
    """
    refuse_test(val, "referral was", "a share judged on the rows that set it")
    if not share > 0:
        return None
    classes = val.task.classes
    asked = list(watched) or list(val.task.critical) or list(classes)
    found = threshold_array(thresholds, classes)
    chosen = {name: float(found[k]) for k, name in enumerate(classes) if name in asked and not math.isnan(found[k])}
    made: dict[str, Any] = {"share": float(share), "watched": list(chosen), "thresholds": chosen, "width": None}
    made |= {"odds_factor": None, "share_validation": 0.0, "n_cases": len(val.table), "rule": RULE, "reason": ""}
    if not chosen:
        return made | {"reason": f"no threshold for {', '.join(asked)}: nothing is near one"}
    near, times = np.unique(distance(val.prob, chosen, classes), return_counts=True)
    referred_by = np.cumsum(times)
    fits = np.flatnonzero(referred_by <= share * len(val.table) + 1e-9)
    if not len(fits):
        few = f"{len(val.table)} cases, of which {int(times[0]) if len(times) else 0} are equally near a threshold"
        return made | {"reason": f"{few}: more than {share:.0%}"}
    last = int(fits[-1])
    # Halfway to the next case, so that rounding never moves a case over the edge.
    width = float((near[last] + near[last + 1]) / 2) if last + 1 < len(near) else float(near[last])
    share_found = float(referred_by[last] / len(val.table))
    return made | {"width": width, "odds_factor": math.exp(min(width, 700.0)), "share_validation": share_found}


def distance(prob: np.ndarray, thresholds: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    """How near each case is to flipping a decision, `(N,)` in log-odds: min_c |logit p_c - logit t_c|.

    `prob` `(N, K)` calibrated; infinite where no class has a threshold.
    """
    near = np.full(len(prob), np.inf)
    for name, threshold in thresholds.items():
        gap = np.abs(
            log_odds(prob[:, list(classes).index(name)], "independent") - log_odds(np.array(threshold), "independent")
        )
        near = np.minimum(near, gap)
    return near


def referred(prob: np.ndarray, fitted: Mapping[str, Any] | None, classes: Sequence[str]) -> np.ndarray:
    """Which cases are referred, `(N,)` bool, from calibrated probabilities `(N, K)`; none without a fitted band."""
    if fitted is None or fitted["width"] is None:
        return np.zeros(len(prob), dtype=bool)
    return np.asarray(distance(prob, fitted["thresholds"], classes) <= float(fitted["width"]))


def hands_over(decisions: Mapping[str, Any], task: Task) -> bool:
    """Whether `decisions` (the content of `thresholds.json`) can refer a case at all."""
    return bool(decisions.get("refer")) or _may_be_empty(decisions.get("conformal"), task)


def handed_over(prob: np.ndarray, decisions: Mapping[str, Any], task: Task) -> np.ndarray:
    """Why each case goes to a human, `(N,)` of text, empty where the model decides: the one rule of all that refer.

    `UNSURE` in the band of `fit`; else `UNLIKE` for an exclusive case whose conformal set is empty (of independent
    labels none at all is an ordinary answer). `prob` `(N, K)` calibrated, `decisions` as in `hands_over`.
    """
    why = np.full(len(prob), "", dtype=object)
    if _may_be_empty(decisions.get("conformal"), task):
        why[~conformal.sets(prob, decisions["conformal"], task.classes).any(axis=1)] = UNLIKE
    why[referred(prob, decisions.get("refer"), task.classes)] = UNSURE
    return why


def _may_be_empty(fitted: Mapping[str, Any] | None, task: Task) -> bool:
    if not fitted or task.kind != "exclusive":
        return False
    return all(name in fitted["classes"] and not fitted["classes"][name]["always"] for name in task.classes)


def judge(
    predictions: Predictions, thresholds: Any, decisions: Mapping[str, Any], costs: Any, row: Estimate
) -> list[Estimate]:
    """What referral (`handed_over`) buys on other patients, and what it costs.

    `share_referred` of all cases; per class with a threshold `recall_decided` and `specificity_decided` (among cases
    that were not referred), `misses_avoided_per_100_referrals` (referred cases that would have been missed, a human
    being right about them); and, with `costs.referral` and a price of being missed,
    `referral_net_saving`: mean over cases of [Σ_c (C_c missed_c + false alarm_c) - C_referral] where referred, in
    false alarms a case at the prevalence of the part; below 0 the referrals cost more than they save.

    `predictions` are calibrated; `row` has the fields that all rows share. Intervals cluster by patient. Without a
    case of the class, or without one that is referred or decided, a figure is not estimable, with the reason.
    """
    task, target = predictions.task, predictions.target
    patient = np.unique(predictions.patient.astype(str), return_inverse=True)[1]
    chosen = threshold_array(thresholds, task.classes)
    why = handed_over(predictions.prob, decisions, task)
    away = why != ""
    alarm = predictions.prob >= np.where(np.isnan(chosen), np.inf, chosen)[None, :]
    note = _note(decisions.get("refer"), int((why == UNLIKE).sum()))
    own = replace(row, n_images=len(away), n_patients=len(np.unique(patient)))
    rows = [from_interval(replace(own, metric="share_referred", reason=note), rate(away, patient), "", False)]
    for k in np.flatnonzero(~np.isnan(chosen)):
        rows += _of_class(row, task.classes[k], target[:, k], alarm[:, k], away, patient, float(chosen[k]))
    return rows + _saving(own, target, alarm, away, patient, cost_array(costs, task.classes), referral_cost(costs))


def _note(fitted: Mapping[str, Any] | None, unlike: int) -> str:
    band = fitted or {"reason": "no band around thresholds was asked for"}
    told = band["reason"] or f"at most {band['share']:.0%} on validation, around {', '.join(band['watched'])}"
    return f"{told}; {unlike} because no class fits" if unlike else told


def _of_class(
    row: Estimate, name: str, y: np.ndarray, alarm: np.ndarray, away: np.ndarray, patient: np.ndarray, threshold: float
) -> list[Estimate]:
    yes, no = y == 1, y == 0
    n = len(np.unique(patient[yes]))
    own = replace(row, class_=name, n_positive_patients=n, threshold=threshold)
    absent = "" if n else f"no case has '{name}' in this part"

    def among(metric: str, cases: np.ndarray) -> Estimate:
        return replace(own, metric=metric, n_images=int(cases.sum()), n_patients=len(np.unique(patient[cases])))

    found, silent, sent = yes & ~away, no & ~away, (yes | no) & away
    all_sent, none_left = "every case with the class was referred", "no case without the class was decided"
    recall, specificity = rate(alarm[found], patient[found]), rate(~alarm[silent], patient[silent])
    avoided = rate((yes & ~alarm)[sent], patient[sent])
    row = among("misses_avoided_per_100_referrals", sent)
    if absent or math.isnan(avoided.value):
        row = not_estimable(row, absent or "no case was referred")
    else:
        low, high, small = 100 * avoided.low, 100 * avoided.high, few(row)
        row = replace(row, value=100 * avoided.value, low=low, high=high, method=avoided.method, reason=small)
        row = replace(row, status="wide" if small else "ok")
    return [
        from_interval(among("recall_decided", found), recall, absent or all_sent, True),
        from_interval(among("specificity_decided", silent), specificity, none_left, False),
        row,
    ]


def _saving(
    row: Estimate,
    target: np.ndarray,
    alarm: np.ndarray,
    away: np.ndarray,
    patient: np.ndarray,
    missed: np.ndarray,
    price: float,
) -> list[Estimate]:
    counted = ~np.isnan(missed)
    if math.isnan(price) or not counted.any():
        return []
    own = replace(row, metric="referral_net_saving", reason="in false alarms a case, at the prevalence of this part")
    known = ~np.isnan(target[:, counted]).any(axis=1)
    with_one = (target[:, counted] == 1).any(axis=1) & known
    own = replace(own, n_images=int(known.sum()), n_positive_patients=len(np.unique(patient[with_one])))
    if not with_one.any():
        return [not_estimable(own, "no case has a class with a cost")]
    lost = ((target == 1) & ~alarm) @ np.nan_to_num(missed) + ((target == 0) & alarm)[:, counted].sum(axis=1)
    saving = np.where(away, lost - price, 0.0)[known]
    most = float(np.maximum(missed[counted], 1.0).sum()) - price
    return [mean_estimate(own, saving, patient[known], (-price, max(most, 0.0)))]
