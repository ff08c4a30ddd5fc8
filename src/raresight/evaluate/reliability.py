"""The points of a reliability curve, with what chance makes of a right model around each."""

from __future__ import annotations

from typing import Any

import numpy as np

from raresight.evaluate.calibration import FEWEST_POSITIVE_PATIENTS
from raresight.evaluate.calibration_curve import Curve
from raresight.evaluate.intervals import rate
from raresight.evaluate.null_band import DRAWS, drawn_positives, patient_correlation


def reliability(
    target: np.ndarray, prob: np.ndarray, patient: np.ndarray, *, bins: int = 8, draws: int = DRAWS
) -> tuple[list[dict[str, Any]], str]:
    """Points of a reliability curve of one class, over bins that hold equally many positives, and why there are none.

    Each point: `mean_prob`, `observed`, `low`, `high` (cluster-adjusted), `null_low`, `null_high` (95% range of
    `observed` over `draws` draws of labels from the probabilities themselves, see `null_band`), `n_images`,
    `n_positives`. `target` `(N,)` of 0, 1 or NaN (left out), `prob` `(N,)`, `patient` `(N,)` any labels. No curve for
    under 20 positive patients, an absent class among them: `([], reason)`; the reason is empty otherwise.

    Raises: nothing.
    Source: Bröcker & Smith, Weather and Forecasting 22 (2007) 651, on bands of a right forecast.
    """
    known = ~np.isnan(target)
    y, p = target[known] == 1, prob[known]
    _, who = np.unique(patient[known], return_inverse=True)
    positive_patients = len(np.unique(who[y]))
    if positive_patients < FEWEST_POSITIVE_PATIENTS:
        return [], f"{positive_patients} positive patients; a reliability curve needs {FEWEST_POSITIVE_PATIENTS}"
    bins = max(2, min(bins, positive_patients // 10))
    cuts = np.unique(np.quantile(p[y], np.arange(1, bins) / bins))
    place = np.unique(np.searchsorted(cuts, p, side="right"), return_inverse=True)[1]
    correlation = patient_correlation(Curve(y.astype(np.float64), p), who)
    (drawn,) = drawn_positives(p, who, [place], correlation, "reliability", draws=draws)
    null_low, null_high = np.quantile(drawn / np.bincount(place)[:, None], [0.025, 0.975], axis=1)
    points = []
    for b in range(len(drawn)):
        here = place == b
        observed = rate(y[here], who[here])
        points.append(
            {
                "mean_prob": float(p[here].mean()),
                "observed": observed.value,
                "low": observed.low,
                "high": observed.high,
                "null_low": float(null_low[b]),
                "null_high": float(null_high[b]),
                "n_images": int(here.sum()),
                "n_positives": int(y[here].sum()),
            }
        )
    return points, ""
