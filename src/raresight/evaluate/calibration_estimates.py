"""The calibration figures of one class as estimates: expected/observed first, then line, curve and bins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import sparse

from raresight.core.estimate import Estimate, Status
from raresight.evaluate.bootstrap import blocks, percentile
from raresight.evaluate.calibration import ECE_BINS, ece, equal_mass_bins, expected_observed
from raresight.evaluate.calibration_curve import Curve
from raresight.evaluate.calibration_line import LINE, calibration_intercept, calibration_slope
from raresight.evaluate.intervals import Interval, rate
from raresight.evaluate.null_band import DRAWS, drawn_positives, patient_correlation
from raresight.evaluate.verdict import few, judged, not_estimable

UNCALIBRATED = "_uncalibrated"
METRICS = ("expected_observed_ratio", "calibration_intercept", "calibration_slope", "ici", "ece", "ece_null")
RESAMPLES_OF_CURVE = 400
WIDE_LINE = 0.5
BOOTSTRAP = "patient bootstrap, percentile"
NULL = f"labels drawn from the probabilities themselves, {DRAWS} draws, images of a patient as alike as in the data"


def calibration_estimates(
    base: Estimate,
    y: np.ndarray,
    prob: np.ndarray,
    patient: np.ndarray,
    *,
    resamples: int,
    names: tuple[object, ...],
    before: np.ndarray | None = None,
) -> list[Estimate]:
    """Calibration of one class: six rows for `prob`, and six more, `_uncalibrated`, for `before` where it is given.

    `expected_observed_ratio` Σp/Σy with the interval of the prevalence; `calibration_intercept` (0 is right) and
    `calibration_slope` (1 is right) by maximum likelihood, clustered by patients; `ici` mean |s(p) - p| with a
    bootstrap of patients, at most 400 resamples; `ece` over 10 bins of equal mass with `resamples`; `ece_null`, its
    median and 95% range were the model right, which the reason of `ece` and `ici` tells as well. Both errors are biased
    upwards, for a right model has more than 0 by chance, so neither is to be read without that range.

    `base` is the row of the class (`n_positive_patients` among it), `y` `(N,)` of 0, 1 or NaN (left out), `prob` and
    `before` `(N,)` in [0, 1], `patient` `(N,)` any labels; `names` seed the draws. An absent class is not estimable in
    every row. `wide`: fewer than 10 positive patients, or a line's interval wider than ±0.5, or ±0.15 of an error.

    Raises: nothing.
    Source: Van Calster et al., BMC Medicine 17 (2019) 230; `calibration_line`, `calibration_curve`, `null_band`.
    """
    asked = {"": prob} if before is None else {"": prob, UNCALIBRATED: before}
    known = ~np.isnan(y)
    if not (y[known] == 1).any():
        absent = f"no case has '{base.class_}' in this part"
        return [not_estimable(replace(base, metric=name + end), absent) for end in asked for name in METRICS]
    _, who = np.unique(patient[known], return_inverse=True)
    observed = y[known].astype(np.float64)
    judged_ones = {end: _Judged(observed, p[known], who) for end, p in asked.items()}
    drawn = _resampled(judged_ones, observed, who, resamples, names)
    rows = []
    for end, one in judged_ones.items():
        null_ece, null_ici = one.null(*names, "calibration")
        line = [
            _line(replace(base, metric=f"calibration_intercept{end}"), *calibration_intercept(observed, one.prob, who)),
            _line(replace(base, metric=f"calibration_slope{end}"), *calibration_slope(observed, one.prob, who)),
        ]
        index, error = drawn[end]
        rows += [
            _balance(replace(base, metric=f"expected_observed_ratio{end}"), one),
            *line,
            _error(replace(base, metric=f"ici{end}"), one.curve.index(), index, null_ici, "smooth curve"),
            _error(replace(base, metric=f"ece{end}"), one.ece, error, null_ece, f"{ECE_BINS} bins of equal mass"),
            _null_row(replace(base, metric=f"ece_null{end}"), null_ece),
        ]
    return rows


class _Judged:
    """Known labels and one set of probabilities of them, with their bins and smooth curve; `who` counts patients."""

    def __init__(self, y: np.ndarray, prob: np.ndarray, who: np.ndarray) -> None:
        self.y, self.prob, self.who = y, prob, who
        self.bins, self.curve = equal_mass_bins(prob), Curve(y, prob)
        self.ece = ece(y, prob)

    def gaps(self, n_patients: int) -> sparse.csr_matrix:
        """Σ(p - y) of every bin and patient, sparse `(10, G)`: the bins stay those of the data in every resample."""
        return sparse.csr_matrix((self.prob - self.y, (self.bins, self.who)), shape=(ECE_BINS, n_patients))

    def null(self, *names: object) -> tuple[np.ndarray, np.ndarray]:
        """ECE and index, each `(D,)`, of labels drawn from the probabilities themselves."""
        correlation = patient_correlation(self.curve, self.who)
        places = [self.bins, self.curve.place]
        in_bins, in_places = drawn_positives(self.prob, self.who, places, correlation, *names)
        expected = np.bincount(self.bins, weights=self.prob, minlength=len(in_bins))
        return np.abs(expected[:, None] - in_bins).sum(axis=0) / len(self.y), self.curve.null_index(in_places)


def _resampled(
    ones: dict[str, _Judged], y: np.ndarray, who: np.ndarray, resamples: int, names: tuple[object, ...]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The index of the first resamples and the ECE of all, by what is judged, on the same resamples of patients."""
    images = np.bincount(who).astype(np.float64)
    has = np.bincount(who, weights=y) > 0
    gaps = {end: one.gaps(len(images)) for end, one in ones.items()}
    indices = {end: one.curve.index_of(who, len(images)) for end, one in ones.items()}
    errors: dict[str, list[np.ndarray]] = {end: [] for end in ones}
    curves: dict[str, list[np.ndarray]] = {end: [] for end in ones}
    done = 0
    for block in blocks(has, resamples, *names):
        weight = block.astype(np.float64)
        seen = np.maximum(images @ weight, 1.0)
        for end in ones:
            errors[end].append(np.abs(gaps[end] @ weight).sum(axis=0) / seen)
            if done < RESAMPLES_OF_CURVE:
                curves[end].append(indices[end](weight[:, : RESAMPLES_OF_CURVE - done]))
        done += weight.shape[1]
    nothing = [np.zeros(0)]
    return {end: (np.concatenate(curves[end] or nothing), np.concatenate(errors[end] or nothing)) for end in ones}


def _balance(row: Estimate, one: _Judged) -> Estimate:
    observed = rate(one.y == 1, one.who)
    mean, small = float(one.prob.mean()), few(row)
    return replace(
        row,
        value=expected_observed(one.y, one.prob),
        low=mean / observed.high,
        high=mean / observed.low,
        method=f"prevalence: {observed.method}",
        status="wide" if small else "ok",
        reason=small,
    )


def _line(row: Estimate, interval: Interval, reason: str) -> Estimate:
    row = replace(row, method=LINE)
    if reason:
        return not_estimable(row, reason)
    half = (interval.high - interval.low) / 2
    reasons = [few(row), f"interval of ±{half:.2f}, wider than ±{WIDE_LINE}" if half > WIDE_LINE else ""]
    told = "; ".join(filter(None, reasons))
    status: Status = "wide" if told else "ok"
    return replace(row, value=interval.value, low=interval.low, high=interval.high, status=status, reason=told)


def _error(row: Estimate, value: float, drawn: np.ndarray, null: np.ndarray, how: str) -> Estimate:
    row = replace(row, method=f"{BOOTSTRAP}, {len(drawn)} resamples; {how}, biased upwards")
    low, high, _ = percentile(drawn)
    if math.isnan(low):
        return not_estimable(row, "no resample was asked for")
    # A resample repeats cases, which makes an error larger: its percentiles may leave the value itself out.
    band = f"{_range(null)} by chance, were the model right"
    return judged(replace(row, value=value, low=min(low, value), high=max(high, value), reason=band), True)


def _null_row(row: Estimate, null: np.ndarray) -> Estimate:
    low, middle, high = np.quantile(null, [0.025, 0.5, 0.975])
    return replace(row, value=float(middle), low=float(low), high=float(high), method=NULL)


def _range(null: np.ndarray) -> str:
    low, high = np.quantile(null, [0.025, 0.975])
    return f"{low:.2g} to {high:.2g}"
