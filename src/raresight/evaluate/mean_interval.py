"""The mean of something that is counted on every case, with an interval that knows patients."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.evaluate.intervals import Interval, opened
from raresight.evaluate.verdict import few, not_estimable

METHOD = "mean, cluster-robust, t quantile"


def mean_interval(values: np.ndarray, patient: np.ndarray, span: tuple[float, float]) -> Interval:
    """The mean over cases, several of which may come from one patient.

    m = Σs_g/N, v = G/(G-1) Σ(s_g - m n_g)²/N² with s_g the sum over the n_g cases of patient g; m ± t(G-1) √v, within
    the `span` of values that are possible. Below 10 patients, or where all cases have one value, the bounds are opened
    by what so few patients cannot exclude (`intervals.opened`, on the scale from one end of the span to the other).

    `values` `(N,)`, `patient` `(N,)` any labels. NaN for no case.
    Source: Cochran, Sampling Techniques (1977), section 9.2 (ratio of cluster totals); Student's t for G - 1.
    """
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, METHOD, 0, 0)
    _, who = np.unique(patient, return_inverse=True)
    images = np.bincount(who).astype(np.float64)
    clusters, mean = len(images), float(np.mean(values))
    residual = np.bincount(who, weights=values) - mean * images
    half = 0.0
    if clusters > 1:
        variance = clusters / (clusters - 1) * float(residual @ residual) / n**2
        half = float(student.ppf(0.975, clusters - 1)) * math.sqrt(variance)
    least, most = span
    width = max(most - least, 1e-300)
    low, high = max(least, mean - half), min(most, mean + half)
    share = [(x - least) / width for x in (mean, low, high)]
    below, above, edge = opened(share[0], share[1], share[2], clusters)
    if edge:
        low, high = least + width * below, least + width * above
    method = f"{METHOD}, opened for few patients" if edge else METHOD
    return Interval(mean, min(low, mean), max(high, mean), method, clusters, n)


def mean_estimate(
    row: Estimate, values: np.ndarray, patient: np.ndarray, span: tuple[float, float], empty: str = ""
) -> Estimate:
    """`mean_interval` as an estimate, `wide` below 10 patients; not estimable, because `empty`, for no case."""
    found = mean_interval(values, patient, span)
    if math.isnan(found.value):
        return not_estimable(replace(row, method=METHOD), empty or "no case to count")
    small = few(row)
    if not small and found.n_patients < FEW_POSITIVE_PATIENTS:
        small = f"{found.n_patients} patients, fewer than {FEW_POSITIVE_PATIENTS}"
    reason = "; ".join(filter(None, [small, row.reason]))
    return replace(
        row, value=found.value, low=found.low, high=found.high, method=found.method,
        status="wide" if small else "ok", reason=reason,
    )  # fmt: skip
