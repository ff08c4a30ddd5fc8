"""Which classes are poorly calibrated, which are not, and of which too few patients say nothing either way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from raresight.core.estimate import Estimate
from raresight.core.severity import BANDS

FAIR_LOW, FAIR_HIGH = 0.8, 1.25
RARE = BANDS[1][0]  # below it an imbalance is moderate or worse
RULE = (
    "Poorly calibrated: the interval of expected / observed lies wholly outside 0.8 to 1.25, or the calibration error "
    "is above what chance makes of a right model and the interval of the slope lies wholly outside 0.8 to 1.25."
)


@dataclass(frozen=True)
class Verdict:
    """`poor`, `fair`, or `unknown` where the interval of expected/observed is too wide to say, and the reason."""

    state: Literal["poor", "fair", "unknown"]
    reason: str


def calibration_verdicts(rows: Iterable[Estimate], *, suffix: str = "") -> dict[str, Verdict]:
    """The verdict of every class whose `expected_observed_ratio` is among `rows`, by `RULE`, in their order.

    `rows` of one arm and one seed, without subgroups; `suffix` "_uncalibrated" judges the probabilities as given. Fair
    is a class whose ratio's interval lies within 0.5 to 2, and which is not poor; an absent class is unknown.
    """
    found = {(row.class_, row.metric): row for row in rows if row.class_ is not None and row.subgroup is None}
    verdicts = {}
    for (name, metric), ratio in found.items():
        if metric == f"expected_observed_ratio{suffix}" and name is not None:
            of = {m: found.get((name, m + suffix)) for m in ("calibration_slope", "ece", "ece_null")}
            verdicts[name] = _verdict(ratio, of["calibration_slope"], of["ece"], of["ece_null"])
    return verdicts


def poorly_calibrated(rows: Iterable[Estimate], *, suffix: str = "", rarer_than: float = RARE) -> dict[str, str]:
    """Classes with a prevalence below `rarer_than` (1: all) that are poorly calibrated by `RULE`, and in what way.

    `rows` as in `calibration_verdicts`. An absent class is never among them: nothing is known of it.
    """
    rows = list(rows)
    prevalence = {row.class_: row.prevalence for row in rows if row.metric == f"expected_observed_ratio{suffix}"}
    return {
        name: verdict.reason
        for name, verdict in calibration_verdicts(rows, suffix=suffix).items()
        if verdict.state == "poor" and (share := prevalence[name]) is not None and share < rarer_than
    }


def _verdict(ratio: Estimate, slope: Estimate | None, error: Estimate | None, null: Estimate | None) -> Verdict:
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return Verdict("unknown", ratio.reason)
    if ratio.low > FAIR_HIGH:
        return Verdict("poor", f"it expects {ratio.value:.1f} times as many cases as there are")
    if ratio.high < FAIR_LOW:
        return Verdict("poor", f"it expects only {100 * ratio.value:.0f}% of the cases that there are")
    above = error is not None and null is not None and (error.value or 0) > (null.high or 0)
    if above and slope is not None and slope.low is not None and slope.high is not None:
        how = "extreme" if slope.high < FAIR_LOW else "timid" if slope.low > FAIR_HIGH else ""
        if how:
            return Verdict("poor", f"its probabilities are too {how} (slope {slope.value:.2f})")
    if ratio.low < 0.5 or ratio.high > 2:
        return Verdict("unknown", f"{ratio.n_positive_patients} positive patients are too few to say")
    return Verdict("fair", "")
