"""Sets of classes that cannot be ruled out: class by class, with a stated share of misses, from validation patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate.fitting import refuse_test
from raresight.evaluate.intervals import rate
from raresight.evaluate.mean_interval import mean_estimate
from raresight.evaluate.verdict import from_interval

COVERAGE, SET_SIZE = "conformal_coverage", "conformal_set_size"


def fit(val: Predictions, miscoverage: float = 0.1) -> dict[str, Any]:
    """For each class, the highest score at which it still belongs into the set.

    The score of a case for class c is s = 1 - p_c. Each of the n_c patients with the class counts once, by the *worst*
    (highest) score of their cases with it; q_c is the ⌈(n_c + 1)(1 - α)⌉-th smallest of the n_c. The set of a new case
    holds c where 1 - p_c <= q_c. Of new patients with c, who come as those of validation came, at least 1 - α have it
    in the sets of *all* their cases with it: on average over such validations, not for each. Of *cases* that is not
    promised: patients with many may be those that are lost. Scores are taken as not chosen on these very patients; a
    calibrator and a checkpoint were, which with exclusive labels can cost a little, and `judge` sees it on test.

    `val` holds calibrated probabilities; `miscoverage` α in (0, 1). Returns `{miscoverage, score, counted, classes:
    {c: {q, n_patients, needed, always, reason}}}`. A class with fewer than 1/α - 1 patients (9 for 90%, 19 for 95%),
    an absent one included, has no q: it is `always` in the set, and the reason says so.

    Raises: `GateError` RS-R36 for predictions of the test part.
    Source: Vovk et al., Algorithmic Learning in a Random World (2005), section 4.5; Sadinle, Lei & Wasserman, JASA 114
    (2019) 223. One score a patient is our reading of exchangeable: images of one patient are not.
    """
    refuse_test(val, "conformal sets were", "a coverage judged on the rows that set it")
    target, prob, patient = val.target, val.prob, val.patient.astype(str)
    return {
        "miscoverage": float(miscoverage),
        "score": "1 - calibrated probability of the class",
        "counted": "patients with the class, each by the worst of their cases",
        "part": val.part,
        "classes": {
            name: _of_class(1 - prob[:, k], target[:, k] == 1, patient, miscoverage, name)
            for k, name in enumerate(val.task.classes)
        },
    }


def sets(prob: np.ndarray, fitted: Mapping[str, Any], classes: Sequence[str]) -> np.ndarray:
    """Which classes cannot be ruled out, `(N, K)` bool, from calibrated probabilities `(N, K)`.

    1 - p_c <= q_c; always for a class with too few validation patients. A set may be empty: the case looks like no
    class that was seen.
    """
    limit = np.array([_limit(fitted["classes"].get(name)) for name in classes])
    return np.asarray(1 - prob <= limit[None, :])


def judge(predictions: Predictions, fitted: Mapping[str, Any], row: Estimate) -> list[Estimate]:
    """What the sets are worth on other patients: per class their coverage and mean size, and the mean size of all.

    `conformal_coverage` is the share of patients with the class whose sets hold it in all of their cases with it, as
    `fit` promises, `conformal_set_size` the mean number of classes in a set: in cases with the class, and (`class`
    null) in all cases. `predictions` are calibrated; `row` has the fields that all rows share. Intervals: that of
    `intervals.rate` over patients, and for sizes that of `mean_interval`, which clusters by patient, within the
    smallest and largest size that a set can have. An absent class is not estimable. Coverage of a class that
    is always in the set is 1 by construction, and its reason says so.
    """
    task, target = predictions.task, predictions.target
    patient = np.unique(predictions.patient.astype(str), return_inverse=True)[1]
    held = sets(predictions.prob, fitted, task.classes)
    size = held.sum(axis=1).astype(np.float64)
    asked = 1 - float(fitted["miscoverage"])
    least = float(sum(bool(fitted["classes"].get(name, {"always": True})["always"]) for name in task.classes))
    span = (least, float(task.n_classes))
    rows = []
    for k, name in enumerate(task.classes):
        entry = fitted["classes"].get(name) or {"always": True, "reason": "the class was not fitted"}
        yes = target[:, k] == 1
        n = len(np.unique(patient[yes]))
        own = replace(row, class_=name, n_positive_patients=n, n_patients=n, n_images=int(yes.sum()))
        note = entry["reason"] if entry["always"] else f"{asked:.0%} asked for"
        absent = "" if n else f"no case has '{name}' in this part"
        covered = replace(own, metric=COVERAGE, reason="" if absent else note)
        who, lost = np.unique(patient[yes]), np.unique(patient[yes & ~held[:, k]])
        rows.append(from_interval(covered, rate(~np.isin(who, lost), who), absent, True))
        rows.append(mean_estimate(replace(own, metric=SET_SIZE), size[yes], patient[yes], span, absent))
    note = f"{int((size == 0).sum())} of {len(size)} sets are empty, {int((size == 1).sum())} hold one class"
    everyone = replace(row, metric=SET_SIZE, n_patients=len(np.unique(patient)), n_images=len(size), reason=note)
    return [*rows, mean_estimate(everyone, size, patient, span)]


def bound(score: np.ndarray, patient: np.ndarray, miscoverage: float) -> tuple[float | None, int]:
    """q_c of one class and the number of its patients: the ⌈(n + 1)(1 - α)⌉-th smallest of their worst scores.

    `score` `(N,)` of cases with the class, `patient` `(N,)`. None where n < 1/α - 1, for then that rank is above n.
    """
    names, who = np.unique(patient, return_inverse=True)
    worst = np.full(len(names), -math.inf)
    np.maximum.at(worst, who, score)
    rank = math.ceil((len(names) + 1) * (1 - miscoverage) - 1e-9)
    return (float(np.sort(worst)[rank - 1]) if rank <= len(names) else None), len(names)


def _of_class(score: np.ndarray, yes: np.ndarray, patient: np.ndarray, alpha: float, name: str) -> dict[str, Any]:
    q, n = bound(score[yes], patient[yes], alpha)
    needed = math.ceil(1 / alpha - 1 - 1e-9)
    reason = f"'{name}' is always in the set: {n} patients with it, and {1 - alpha:.0%} need {needed}"
    always = q is None
    return {"q": q, "n_patients": n, "needed": needed, "always": always, "reason": reason if always else ""}


def _limit(entry: Mapping[str, Any] | None) -> float:
    return math.inf if entry is None or entry["always"] else float(entry["q"])
