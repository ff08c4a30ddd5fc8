"""Which rare class is taken for which common one, worst first."""

from __future__ import annotations

from typing import Any

import numpy as np

from raresight.core.predictions import Predictions
from raresight.evaluate.cost import cost_array
from raresight.evaluate.cost_matrix import cost_matrix
from raresight.evaluate.counts import decide
from raresight.evaluate.intervals import rate

MOST_CASES = 20


def confusions(predictions: Predictions, *, costs: Any = None) -> list[dict[str, Any]]:
    """Cases of one class for which another, commoner one was said instead, ranked by harm.

    Rows: `true predicted n_images n_patients rate low high n_true_images n_true_patients prevalence critical cost
    harm harm_low harm_high cases`. `rate` is the share of the true class's images at the default operating point that
    alarm for `predicted` and not for `true`, with the cluster-adjusted interval. For independent labels an image counts
    only where `predicted` is known to be absent; `predicted: null` is a case for which nothing was said. `cost` is that
    of the pair in the cost matrix where one is given (`cost_matrix`), else what missing the true class costs;
    `harm` = rate x cost with the bounds of the rate times the cost, in false alarms a case of the true class, None
    without a cost. `true` runs over the critical classes and over those rarer than `predicted`. `cases` are the first
    `MOST_CASES` ids, the surest of the wrong answer first.

    Order: harm, then critical classes, then rate, then rarity. Pairs that never happen are left out; so is an absent
    class.
    """
    task, target = predictions.task, predictions.target
    alarm, patient = (
        decide(predictions.prob, task.kind),
        np.unique(predictions.patient.astype(str), return_inverse=True)[1],
    )
    cases, prob = predictions.cases, predictions.prob
    missed, matrix = cost_array(costs, task.classes), cost_matrix(costs, task.classes)
    prevalence = [float(np.mean(y[~np.isnan(y)] == 1)) if (~np.isnan(y)).any() else 0.0 for y in target.T]
    rows = []
    for i, true in enumerate(task.classes):
        relevant = target[:, i] == 1
        if not relevant.any():
            continue
        silent = ~alarm[:, i]
        said: list[tuple[str | None, np.ndarray]] = [
            (name, alarm[:, j] & (target[:, j] == 0))
            for j, name in enumerate(task.classes)
            if j != i and (true in task.critical or prevalence[i] < prevalence[j])
        ]
        if task.kind == "independent":
            said.append((None, np.asarray(~alarm.any(axis=1))))
        for predicted, instead in said:
            wrong = silent & instead
            found = rate(wrong[relevant], patient[relevant])
            if not found.value > 0:
                continue
            price = missed[i] if matrix is None or predicted is None else matrix[i, task.index(predicted)]
            cost = None if np.isnan(price) else float(price)
            # Sure of the wrong class, or, where nothing was said, sure that it is not the right one.
            sure = -prob[:, i] if predicted is None else prob[:, task.index(predicted)]
            order = np.flatnonzero(relevant & wrong)
            order = order[np.argsort(-sure[order], kind="stable")][:MOST_CASES]
            rows.append(
                {
                    "true": true,
                    "predicted": predicted,
                    "n_images": int(wrong[relevant].sum()),
                    "n_patients": len(np.unique(patient[relevant & wrong])),
                    "rate": found.value,
                    "low": found.low,
                    "high": found.high,
                    "n_true_images": found.n_images,
                    "n_true_patients": found.n_patients,
                    "prevalence": prevalence[i],
                    "critical": true in task.critical,
                    "cost": cost,
                    **{
                        name: None if cost is None else share * cost
                        for name, share in (("harm", found.value), ("harm_low", found.low), ("harm_high", found.high))
                    },
                    "cases": [str(case) for case in cases[order]],
                }
            )
    return sorted(rows, key=_worst_first)


def _worst_first(row: dict[str, Any]) -> tuple[float, bool, float, float]:
    return -(row["harm"] or 0.0), not row["critical"], -row["rate"], row["prevalence"]
