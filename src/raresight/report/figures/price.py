"""The price of finding more: extra alarms for each extra case found, against the baseline, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.predictions import Predictions
from raresight.evaluate.bootstrap import blocks
from raresight.evaluate.counts import decide
from raresight.report.answers import shown_predictions
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import (
    BLUE,
    CYCLE,
    FAINT,
    HAIR,
    INK,
    MARKERS,
    Absent,
    Figure,
    canvas,
    to_svg,
)
from raresight.report.tables import Row, table
from raresight.report.words import class_name, number

RESAMPLES = 400
MOST = 3


@dataclass(frozen=True)
class Price:
    """Against the baseline: cases found more per 100 with the class, alarms more per 1,000 examined, with bounds.

    `ratio` is extra alarms for each extra case, as value, low, high; None where it is not clear that more are found.
    """

    found: tuple[float, float, float]
    alarms: tuple[float, float, float]
    ratio: tuple[float, float, float] | None


def price(content: Content) -> Figure | Absent:
    """Found more of 100 against alarms more per 1,000, arm less baseline; `Absent` without a second arm."""
    reference = content.reference
    others = [arm for arm in content.arms if arm is not reference and arm.predictions]
    if reference is None or not reference.predictions or not others:
        return Absent("not computed, because there is only one arm" if content.arms else content.why_missing("arms"))
    names = content.watched
    found = {
        (arm, name): one
        for name in names
        for arm, one in prices(reference, others, name, content.prevalence.get(name)).items()
    }
    drawn = names[:MOST]
    with canvas(2.75) as figure:
        panels = figure.subplots(1, max(len(drawn), 3), squeeze=False)[0]
        for empty in panels[len(drawn) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, drawn, strict=False):
            axes.axhline(0, color=INK, lw=0.7)
            axes.axvline(0, color=INK, lw=0.7)
            for number_, arm in enumerate(others):
                one = found[arm.name, name]
                if one is None:
                    continue
                colour, marker = _look(content, arm, number_)
                axes.plot([one.alarms[1], one.alarms[2]], [one.found[0]] * 2, color=FAINT, lw=1.0, zorder=1)
                axes.plot([one.alarms[0]] * 2, [one.found[1], one.found[2]], color=FAINT, lw=1.0, zorder=1)
                axes.plot([one.alarms[0]], [one.found[0]], marker, color=colour, ms=6, zorder=3)
            axes.set_title(class_name(name), fontsize=8.5)
            axes.grid(color=HAIR, lw=0.5)
            axes.set_axisbelow(True)
            axes.locator_params(nbins=5)
        panels[0].set_ylabel("found more, of 100 with it")
        figure.supxlabel(f"alarms more per 1,000 examined, against {reference.name}", fontsize=8.5, color="#5c6670")
        for number_, arm in enumerate(others):
            colour, marker = _look(content, arm, number_)
            panels[0].plot([], [], marker, color=colour, ms=5.5, label=arm.name)
        figure.legend(loc="outside upper right", ncols=min(6, len(others)))
        svg = to_svg(figure)
    rows = [_row(arm.name, name, found[arm.name, name]) for name in names for arm in others]
    clear = [(f, key) for key, f in found.items() if f is not None and f.ratio is not None]
    caption = "Up: more are found. Right: more alarms to read. "
    if clear:
        cheapest, (arm_name, name) = min(clear, key=lambda pair: pair[0].ratio[0])  # type: ignore[index]
        assert cheapest.ratio is not None
        caption += (
            f"The cheapest clear gain: {arm_name} for {class_name(name)}, {number(cheapest.ratio[0])} extra alarms for "
            "each extra case."
        )
    else:
        caption += "For no arm is it clear that more are found, so no price can be given."
    head = ("Class", "Arm", "Found more, of 100 with it", "Alarms more, per 1,000", "Extra alarms per extra case")
    note = (
        f"Against {reference.name}, first seed of each, paired on the same patients; 95% percentile intervals of "
        f"{RESAMPLES} resamples of patients. No price where it is not clear that more are found."
    )
    alt = "Extra cases found against extra alarms, for every arm. "
    return Figure(svg, alt + caption, caption, table(head, rows, (2, 3, 4), note))


def prices(
    reference: ArmResult, arms: Sequence[ArmResult], name: str, prevalence: float | None = None
) -> dict[str, Price | None]:
    """The price of each arm for one class; None where the class, or its absence, is absent, or the cases differ.

    With Δf the difference in recall and Δs that in the share of false alarms among those without the class, extra
    alarms per 1,000 are 1000 (π Δf + (1 - π) Δs), and the ratio is (π Δf + (1 - π) Δs) / (π Δf). Patients are drawn
    within "has the class" and "has not", the same ones for every arm; π stays as it is in the data, or as stated.
    """
    made: dict[str, Price | None] = {arm.name: None for arm in arms}
    base = _alarms(reference, name)
    if base is None:
        return made
    other, alarm_reference = base
    target = other.target[:, other.task.index(name)]
    known = ~np.isnan(target)
    positive = target[known] == 1
    if not positive.any() or positive.all():
        return made
    patient = pd.factorize(other.patient[known].astype(str))[0]

    def per_patient(weight: np.ndarray) -> np.ndarray:
        return np.bincount(patient, weights=weight, minlength=int(patient.max()) + 1)

    sums = [per_patient(positive.astype(float)), per_patient((~positive).astype(float))]
    judged = []
    for arm in arms:
        ours = _alarms(arm, name)
        if ours is None or not np.array_equal(ours[0].cases, other.cases):
            continue
        more = ours[1][known].astype(float) - alarm_reference[known].astype(float)
        sums += [per_patient(more * positive), per_patient(more * ~positive)]
        judged.append(arm.name)
    pi = float(positive.mean()) if prevalence is None else prevalence
    stacked = np.stack(sums)
    drawn = np.concatenate([stacked @ weight for weight in blocks(sums[0] > 0, RESAMPLES, "price", name)], axis=1)
    for place, arm_name in enumerate(judged):
        rows = [2 + 2 * place, 0, 3 + 2 * place, 1]
        made[arm_name] = _priced(_figures(stacked[rows].sum(axis=1), pi), _figures(drawn[rows], pi))
    return made


def _priced(point: Any, drawn: Any) -> Price:
    """Point values with the percentiles of their resamples."""
    bounded: list[Any] = [
        (float(value), *(float(end) for end in np.nanquantile(values, [0.025, 0.975])))
        if not np.isnan(values).all()
        else (float(value), np.nan, np.nan)
        for value, values in zip(point, drawn, strict=True)
    ]
    found, alarms, ratio = bounded
    return Price(found, alarms, ratio if found[1] > 0 else None)


def _figures(sums: np.ndarray, pi: float) -> tuple[Any, Any, Any]:
    """Found more per 100 with the class, alarms more per 1,000, extra alarms for each extra case (NaN without one)."""
    more_found, positives, more_false, negatives = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        found, false = np.divide(more_found, positives), np.divide(more_false, negatives)
        alarms = pi * found + (1 - pi) * false
        return 100 * found, 1000 * alarms, np.where(found > 0, alarms / np.where(found > 0, pi * found, 1), np.nan)


def _alarms(arm: ArmResult, name: str) -> tuple[Predictions, np.ndarray] | None:
    shown = shown_predictions(arm)
    if shown is None:
        return None
    predictions, thresholds = shown
    k = predictions.task.index(name)
    if name in thresholds:
        return predictions, predictions.prob[:, k] >= thresholds[name]
    if thresholds:
        return None  # the arm is judged at thresholds, and this class has none
    return predictions, decide(predictions.prob, predictions.task.kind)[:, k]


def _look(content: Content, arm: ArmResult, position: int) -> tuple[str, str]:
    if arm is content.chosen:
        return BLUE, "o"
    return CYCLE[position % len(CYCLE)], MARKERS[position % len(MARKERS)]


def _row(arm: str, name: str, one: Price | None) -> Row:
    if one is None:
        return Row((class_name(name), arm, *["not estimable"] * 3), "blank")
    told = [f"{v[0]:+.1f} ({v[1]:+.1f} to {v[2]:+.1f})".replace("-", "−") for v in (one.found, one.alarms)]
    ratio = "no clear gain" if one.ratio is None else "{} ({} to {})".format(*(number(v) for v in one.ratio))
    return Row((class_name(name), arm, *told, ratio), "" if one.ratio is not None else "wide")
