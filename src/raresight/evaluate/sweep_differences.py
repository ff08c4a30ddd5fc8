"""Arms of a sweep against the baseline at the same training prevalence, and a hybrid against the sum of its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.evaluate.bootstrap import percentile
from raresight.evaluate.intervals import loosened, reach
from raresight.evaluate.permutation import holm
from raresight.evaluate.ranking import RECALL_AT_90
from raresight.evaluate.sweep import COST, FIGURES, Column, Figure, Judged

MOVED = "baseline, threshold moved"
DECLARED: tuple[Figure, ...] = (("auprc", None), (COST, "moved"))
COMPOSED: tuple[Figure, ...] = (("auprc", None), (RECALL_AT_90, None), (COST, "moved"))
LOWER_IS_BETTER = {COST}

# One signed term of a contrast: sign, column, arm, figure.
Term = tuple[int, Column, str, Figure]


def differences(judged: Judged, baseline: str) -> list[dict[str, Any]]:
    """Arm minus baseline, both at the same operating point, for every column and figure, with intervals.

    Besides, the baseline at its moved threshold minus the baseline as it is, under the arm name `baseline, threshold
    moved`. Family `primary`, adjusted by Holm over all of these together: AUPRC and the expected cost at the moved
    threshold, of every arm at every prevalence, and the expected cost of moving the baseline's threshold. So an arm
    has to beat the baseline with its threshold moved, not the untouched one. All else is exploratory.

    p: from the bootstrap's standard error, 2 Φ(-|d|/se), and not below what its tails say where they hold a resample.
    None where fewer than 10 patients have the class: nothing is ranked on so few.
    """
    rows = []
    for column in judged.columns:
        for arm in column.runs:
            if arm == baseline:
                continue
            for figure in FIGURES:
                terms: list[Term] = [(1, column, arm, figure), (-1, column, baseline, figure)]
                rows.append(_row(judged, column, arm, figure, terms, figure in DECLARED))
        for metric, point in FIGURES:
            if point == "moved":
                terms = [(1, column, baseline, (metric, "moved")), (-1, column, baseline, (metric, "default"))]
                rows.append(_row(judged, column, MOVED, (metric, point), terms, metric == COST))
    family = [row for row in rows if row["family"] == "primary" and row["p"] is not None]
    for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
        row["p_adjusted"] = adjusted
    return [row | {"baseline": baseline} for row in rows]


def interactions(judged: Judged, hybrids: Mapping[str, tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """Is a hybrid more than the sum of its parts: [hybrid - plain] - Σ [part - plain], per column and figure.

    `hybrids` maps an arm to the arm without any method on the same network, and to the arms that have one of its
    methods each. (Against a plain arm on another network, what training the head anew does would count once in the
    hybrid and once in every part.) `better` is the sign of a gain; `says` puts
    into words where the interval lies. Exploratory: not adjusted for their number.
    """
    rows = []
    for column in judged.columns:
        for hybrid, (plain, parts) in hybrids.items():
            for figure in COMPOSED:
                terms: list[Term] = [(1, column, hybrid, figure), (-1, column, plain, figure)]
                for part in parts:
                    terms += [(-1, column, part, figure), (1, column, plain, figure)]
                row = _row(judged, column, hybrid, figure, terms, False)
                row["interaction"] = row.pop("difference")
                rows.append(row | {"plain": plain, "parts": list(parts), "says": _says(row, row["interaction"])})
    return rows


def across(judged: Judged, baseline: str) -> list[dict[str, Any]]:
    """Does an arm's gain depend on severity: its difference from the baseline here minus that with all cases.

    One row a thinned column, arm and declared figure; the last column is the one with all cases. Exploratory.
    """
    rows = []
    *thinned, whole = judged.columns
    for column in thinned:
        for arm in column.runs:
            if arm == baseline:
                continue
            for figure in DECLARED:
                terms: list[Term] = [(1, column, arm, figure), (-1, column, baseline, figure)]
                terms += [(-1, whole, arm, figure), (1, whole, baseline, figure)]
                rows.append(_row(judged, column, arm, figure, terms, False) | {"against": whole.name})
    return rows


def _row(
    judged: Judged, column: Column, arm: str, figure: Figure, terms: Sequence[Term], declared: bool
) -> dict[str, Any]:
    metric, point = figure
    value = float(sum(sign * judged.value(where, name, what) for sign, where, name, what in terms))
    row: dict[str, Any] = {
        "arm": arm,
        "part": judged.common.part,
        "class": judged.cls,
        "column": column.name,
        "training_prevalence": column.prevalence,
        "metric": metric,
        "operating_point": judged.points[point],
        "difference": None,
        "low": None,
        "high": None,
        "p": None,
        "p_adjusted": None,
        "family": "primary" if declared else "exploratory",
        "n_patients": judged.common.n_patients,
        "n_positive_patients": judged.n_positive,
        "n_seeds": judged.n_seeds,
        "seed_noise": "resampled" if judged.n_seeds > 1 else "unknown",
        "better": "lower" if metric in LOWER_IS_BETTER else "higher",
        "status": "not_estimable",
        "reason": judged.why_not(metric, point),
    }
    if math.isnan(value):
        return row
    drawn = np.sum([sign * judged.draws(where, name, what) for sign, where, name, what in terms], axis=0)
    low, high, _ = percentile(drawn)
    if math.isnan(low):
        return row | {"reason": "no resample can be estimated"}
    small = judged.n_positive < FEW_POSITIVE_PATIENTS
    alike = high - low <= 1e-12
    reasons = [f"{judged.n_positive} positive patients, fewer than {FEW_POSITIVE_PATIENTS}"] if small else []
    p: float | None = _p(value, drawn)
    if small or alike:
        behind = max(1, judged.n_negative if metric == "specificity" else judged.n_positive)
        far = reach(behind) * (1000 * judged.at_prevalence * judged.missed if metric == COST else 1.0)
        low, high = loosened(value, low, high, far, far)
        p = 1.0 if alike and not small else None
        reasons += ["no patient tells them apart"] if alike else []
    return row | {
        "difference": value,
        "low": min(low, value),
        "high": max(high, value),
        "p": p,
        "status": "wide" if small else "ok",
        "reason": "; ".join(reasons),
    }


def _p(value: float, drawn: np.ndarray) -> float:
    defined = drawn[~np.isnan(drawn)]
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else 0.0
    wald = 2 * float(norm.sf(abs(value) / error)) if error > 0 else 1.0
    tail = int(min(np.sum(defined <= 0), np.sum(defined >= 0)))
    return min(1.0, max(wald, 2 * tail / len(defined)))


def _says(row: Mapping[str, Any], value: float | None) -> str:
    if value is None or row["status"] != "ok":
        return "cannot be resolved with so few patients" if row["status"] == "wide" else "not estimable"
    gains = [-row["high"], -row["low"]] if row["better"] == "lower" else [row["low"], row["high"]]
    if gains[0] > 0:
        return "more than the sum of its parts"
    return "less than the sum of its parts" if gains[1] < 0 else "not told apart from the sum of its parts"
