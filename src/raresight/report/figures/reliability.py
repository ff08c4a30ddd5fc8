"""Does a probability of 20% mean one in five? Curves only where enough patients have the class."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from raresight.core.estimate import Estimate
from raresight.evaluate.calibration_verdict import RARE, RULE, Verdict, calibration_verdicts
from raresight.evaluate.reliability import reliability as reliability_points
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import (
    BLUE,
    FAINT,
    HAIR,
    INK,
    SOFT,
    VERMILLION,
    Absent,
    Figure,
    canvas,
    percent_axis,
    to_svg,
)
from raresight.report.tables import Row, table
from raresight.report.words import class_name, listing
from raresight.report.words import figure as as_text

MOST = 4
RUG = 80
TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99)
NAMES = ("0.01%", "0.1%", "1%", "10%", "50%", "90%", "99%")
HIGHEST = 0.998

Points = tuple[list[dict[str, Any]], str]


def reliability(content: Content) -> Figure | Absent:
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    predictions = (arm.calibrated or arm.predictions)[0]
    target, prob = predictions.target, predictions.prob
    found = {
        name: reliability_points(target[:, k], prob[:, k], predictions.patient)
        for k, name in enumerate(content.task.classes)
    }
    verdicts = calibration_verdicts(e for e in arm.estimates if e.seed == arm.shown_seed)
    names = content.watched[:MOST]
    shown = [p["mean_prob"] for name in names for p in found[name][0]]
    rare = any((content.share(name) or 1) < RARE for name in names)
    lowest = float(min(max(TICKS[0], 10 ** np.floor(np.log10(min(shown)))), 0.01)) if rare and shown else None
    rows_of_panels = -(-len(names) // 2)
    with canvas(0.25 + 3.3 * rows_of_panels) as figure:
        panels = figure.subplots(rows_of_panels, 2, squeeze=False).ravel()
        for empty in panels[len(names) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            k = content.task.index(name)
            _panel(axes, found[name], target[:, k], prob[:, k], lowest)
            poor = name in verdicts and verdicts[name].state == "poor"
            title = class_name(name) + (": poorly calibrated" if poor else "")
            axes.set_title(title, color=VERMILLION if poor else INK, pad=12)
            ratio, slope = arm.find("expected_observed_ratio", name), arm.find("calibration_slope", name)
            told = ("expected / observed", as_text(ratio), "slope", as_text(slope))
            _lines(axes, told, 0.98, 0.06, ha="right", color=INK)
        for axes in panels[: len(names) : 2]:
            axes.set_ylabel("share that has it")
        svg = to_svg(figure)
    caption = _caption(content, verdicts, lowest is not None)
    rows = [_row(arm, name, *found[name], verdicts.get(name)) for name in content.rarest_first]
    state = "after calibration" if arm.calibrated else "as given, without calibration"
    note = (
        f"Probabilities {state}. Expected / observed: 1 is right, above 1 it cries wolf. Slope: 1 is right, below 1 "
        f"probabilities are too extreme. Calibration error: read it beside what chance alone would give. {RULE}"
    )
    head = ("Class", "Expected / observed", "Slope", "Calibration error (by chance)", "Verdict", "Probability → share")
    alt = "Reliability curves of the critical classes. "
    return Figure(svg, alt + caption, caption, table(head, rows, (1, 2, 3), note))


def _panel(axes: Axes, found: Points, target: np.ndarray, prob: np.ndarray, lowest: float | None) -> None:
    """The diagonal, the null band, points with intervals; ticks above for cases with the class, below for the others.

    On log-odds from `lowest` to 99.8%, where one is given; what lies beyond is drawn at the edge.
    """
    points, reason = found
    axes.set_box_aspect(1)
    axes.set_xlabel("probability given")
    floor, top = (0.0, 1.0) if lowest is None else (lowest, HIGHEST)
    if lowest is None:
        percent_axis(axes, "x")
        percent_axis(axes, "y")
        axes.set_ylim(-0.02, 1.02)
    else:
        axes.set_xscale("logit")
        axes.set_yscale("logit")
        inside = [i for i, tick in enumerate(TICKS) if tick >= lowest]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([TICKS[i] for i in inside], [NAMES[i] for i in inside])
            axis.set_minor_locator(NullLocator())
        axes.set_xlim(floor, top)
        axes.set_ylim(floor, top)
        axes.grid(color=HAIR, lw=0.6)
    axes.plot([floor, top], [floor, top], color=FAINT, lw=0.9, ls=(0, (3, 3)), zorder=1)
    across = axes.get_xaxis_transform()
    for label, (start, end), colour in ((0, (0.0, 0.03), SOFT), (1, (1.015, 1.045), BLUE)):
        scores = prob[target == label]
        if len(scores):
            marks = np.unique(np.quantile(scores, np.linspace(0, 1, min(RUG, len(scores)))))
            axes.vlines(np.clip(marks, floor, top), start, end, transform=across, color=colour, lw=0.5, clip_on=False)
    if not points:
        told = textwrap.wrap("no curve: " + reason, 26)
        _lines(axes, told, 0.04, 0.8, ha="left", color=SOFT, style="italic")
        return
    given, seen, low, high, null_low, null_high = (
        np.clip([p[key] for p in points], floor, top)
        for key in ("mean_prob", "observed", "low", "high", "null_low", "null_high")
    )
    axes.fill_between(given, null_low, null_high, color=FAINT, alpha=0.35, lw=0, zorder=2)
    axes.plot(given, seen, color=BLUE, lw=1.0, marker="o", ms=4, zorder=4, clip_on=False)
    for x, start, end in zip(given, low, high, strict=True):
        axes.plot([x, x], [start, end], color=BLUE, lw=1.3, zorder=3)


def _lines(axes: Axes, lines: Sequence[str], x: float, bottom: float, **style: Any) -> None:
    """Lines of text, each set by itself: a reader's font is not the one that a block would be measured in."""
    for i, line in enumerate(reversed(lines)):
        axes.text(x, bottom + 0.055 * i, line, transform=axes.transAxes, va="bottom", fontsize=8, zorder=6, **style)


def _caption(content: Content, verdicts: dict[str, Verdict], stretched: bool) -> str:
    told = "On the dashed line, probabilities mean what they say; in the grey band, chance explains the distance. "
    told += "Ticks: scores of cases with the class (above) and without (below). "
    told += "Both axes are drawn in log-odds, which spreads out what is rare. " if stretched else ""
    poor = [name for name in content.rarest_first if name in verdicts and verdicts[name].state == "poor"]
    for which, names in (
        ("Poorly calibrated among the rare classes", [n for n in poor if (content.share(n) or 1) < RARE]),
        ("Poorly calibrated among the others", [n for n in poor if (content.share(n) or 1) >= RARE]),
    ):
        if names:
            told += f"{which}: {'; '.join(f'{class_name(n)} ({verdicts[n].reason})' for n in names)}. "
    unknown = [class_name(n) for n in content.rarest_first if n in verdicts and verdicts[n].state == "unknown"]
    return told + (f"Too few patients to say for {listing(unknown)}." if unknown else "")


def _row(arm: ArmResult, name: str, points: Sequence[dict[str, Any]], reason: str, verdict: Verdict | None) -> Row:
    error, null = arm.find("ece", name), arm.find("ece_null", name)
    curve = "; ".join(
        f"{_share(p['mean_prob'])} → {_share(p['observed'])} ({_share(p['low'])}–{_share(p['high'])})" for p in points
    )
    word = {"poor": "poorly calibrated: ", "unknown": "cannot be said: "}.get(verdict.state, "") if verdict else ""
    cells = (
        class_name(name),
        as_text(arm.find("expected_observed_ratio", name)),
        as_text(arm.find("calibration_slope", name)),
        _small(error) + (f" ({null.low:.2g}–{null.high:.2g})" if null is not None and null.value is not None else ""),
        word + verdict.reason if verdict else "not computed",
        curve or f"no curve: {reason}",
    )
    return Row(cells, "" if points else "blank")


def _small(error: Estimate | None) -> str:
    """An error of a rare class with the digits that it needs, `0.0021`, and its interval."""
    if error is None or error.value is None:
        return as_text(error)
    return f"{error.value:.2g}, {error.low:.2g}–{error.high:.2g}"


def _share(value: float) -> str:
    return f"{100 * value:.2g}%" if value < 0.1 else f"{100 * value:.0f}%"
