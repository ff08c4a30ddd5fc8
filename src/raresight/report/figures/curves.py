"""What the curves over all thresholds share: whose curves, how many points, and bands around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from raresight.core.predictions import Predictions
from raresight.evaluate.intervals import rate
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import BLUE, SOFT, percent_axis

MOST = 3
MOST_POINTS = 160
BAND_POINTS = 24


@dataclass(frozen=True)
class Judged:
    """One class of one arm, unknown labels left out: `positive`, `score`, `patient` (integers), each `(N,)`."""

    positive: np.ndarray
    score: np.ndarray
    patient: np.ndarray

    @property
    def prevalence(self) -> float | None:
        return float(self.positive.mean()) if self.positive.any() else None

    @property
    def estimable(self) -> bool:
        return bool(self.positive.any() and not self.positive.all())

    @property
    def target(self) -> np.ndarray:
        return self.positive.astype(float)


def compared(content: Content) -> list[ArmResult]:
    """The arm shown, last so that it is drawn on top, and the baseline where there is another."""
    arm, reference = content.chosen, content.reference
    if arm is None or not arm.predictions:
        return []
    return [arm] if reference in (None, arm) or not reference.predictions else [reference, arm]  # type: ignore[union-attr]


def judged(arm: ArmResult, name: str) -> Judged:
    """The class in the arm's first seed, calibrated where it is."""
    return judged_in((arm.calibrated or arm.predictions)[0], name)


def judged_in(predictions: Predictions, name: str) -> Judged:
    k = predictions.task.index(name)
    target = predictions.target[:, k]
    known = ~np.isnan(target)
    patient = pd.factorize(predictions.patient.astype(str))[0]
    return Judged(target[known] == 1, predictions.prob[known, k], patient[known])


def look(content: Content, arm: ArmResult) -> tuple[str, float]:
    """Colour and line width: the arm shown stands out."""
    return (BLUE, 1.7) if arm is content.chosen else (SOFT, 1.0)


def band_thresholds(one: Judged) -> np.ndarray:
    """Thresholds spread evenly over the scores of the positives, highest first, where a band is worked out."""
    return np.unique(np.quantile(one.score[one.positive], np.linspace(0, 1, BAND_POINTS)))[::-1]


def recall_band(one: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, and the bounds of recall, at each of the `band_thresholds`; the interval of a rate."""
    places, low, high = [], [], []
    for threshold in band_thresholds(one):
        alarm = one.score >= threshold
        found = rate(alarm[one.positive], one.patient[one.positive])
        places.append(float(alarm[~one.positive].mean()))
        low.append(found.low)
        high.append(found.high)
    return np.array(places), np.array(low), np.array(high)


def precision_band(one: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, and the bounds of precision, at each of the `band_thresholds`."""
    places, low, high = [], [], []
    for threshold in band_thresholds(one):
        alarm = one.score >= threshold
        right = rate(one.positive[alarm], one.patient[alarm])
        places.append(float(alarm[one.positive].mean()))
        low.append(right.low)
        high.append(right.high)
    return np.array(places), np.array(low), np.array(high)


def thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row numbers of at most about `MOST_POINTS` points that keep the curve's shape, the ends among them.

    Points are taken at equal lengths along the curve, so that steep parts keep theirs.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    rows = np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS))
    return np.unique(np.concatenate([[0], np.clip(rows, 0, len(x) - 1), [len(x) - 1]]))


def square(axes: Axes) -> None:
    """Both axes from 0% to 100%, equally long."""
    percent_axis(axes, "y")
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "50", "100%"])
    axes.set_box_aspect(1)


def no_curve(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not estimable", ha="center", va="center", color=SOFT, style="italic", transform=axes.transAxes)
