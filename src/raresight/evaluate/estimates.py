"""All estimates of one set of predictions: each with its interval, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate import cost
from raresight.evaluate.arrays import as_predictions
from raresight.evaluate.class_estimates import class_estimates
from raresight.evaluate.decision_estimates import decision_estimates
from raresight.evaluate.layout import Layout
from raresight.evaluate.macro_estimates import macro_estimates


def estimate(
    predictions: Predictions,
    *,
    calibrated: Predictions | None = None,
    thresholds: Any = None,
    operating: str = "tuned",
    unit: str = "image",
    costs: Any = None,
    decisions: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Per-class and macro estimates at the default operating point and, where thresholds are given, at those.

    Per class: `recall precision specificity npv f1 alarms_per_1000` (and `ppv_at_prevalence` where a deployment
    prevalence is given) at each operating point; `auroc auprc recall_at_specificity_90` and the six of
    `calibration_estimates`, `expected_observed_ratio` first. Macro: `accuracy` with `trivial_accuracy`
    beside it, `balanced_accuracy macro_f1 macro_auroc macro_auprc`, and with costs `expected_cost`,
    `trivial_expected_cost`. At thresholds exclusive classes are judged one against the rest, a case may alarm
    for several, and accuracy and balanced accuracy are not given. What decisions mean in deployment and what they cost
    (`net_benefit number_needed_to_read expected_cost_matrix` and others) is in `decision_estimates`; `decisions`, the
    content of `thresholds.json`, adds `conformal_coverage conformal_set_size` and the figures of referral.

    `predictions` gives rankings and the default operating point; `calibrated` (default: the same) the probabilities
    that `thresholds` (class -> probability) and the calibration figures refer to. Status `wide`: a share's interval is
    wider than 0.30 in all, or fewer than 10 positive patients stand behind a figure that needs them. An absent class is
    `not_estimable` with the reason, and macro figures say over how many classes they run.
    """
    given = Layout(predictions, calibrated or predictions, thresholds, operating, unit, costs, resamples, seed)
    rows = class_estimates(given) + macro_estimates(given)
    return rows + decision_estimates(
        predictions,
        calibrated or predictions,
        thresholds,
        costs,
        rows=rows,
        decisions=decisions,
        operating=operating,
        unit=unit,
        resamples=resamples,
        names=(seed, predictions.part),
    )


def from_arrays(
    y: Any, p: Any, *, groups: Any, classes: Sequence[str], kind: str = "exclusive", costs: Any = None
) -> list[Estimate]:
    """`estimate` for plain arrays: labels and probabilities `(N, K)`, patient ids `(N,)`; see `as_predictions`."""
    cost.check_costs(costs, classes)
    return estimate(as_predictions(y, p, groups=groups, classes=classes, kind=kind), costs=costs)
