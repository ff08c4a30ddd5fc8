"""ROC curves of the classes that matter, once as usual and once with the few false alarms spread out."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from raresight.evaluate.ranking import roc_points
from raresight.report.content import ArmResult, Content
from raresight.report.figures.curves import MOST, compared, judged, look, no_curve, recall_band, square, thinned
from raresight.report.figures.style import BLUE, FAINT, INK, Absent, Figure, canvas, percent_axis, to_svg
from raresight.report.tables import Row, mark, remark, table
from raresight.report.words import class_name
from raresight.report.words import figure as as_text

LEAST_SHARE = 1e-3  # where the logarithmic axis begins; a curve below it is drawn at the edge


def roc(content: Content) -> Figure | Absent:
    """Recall over the share of false alarms, linear and logarithmic, with bands; absent classes have empty panels."""
    arms = compared(content)
    if not arms:
        return Absent(content.why_missing("arms") if not content.arms else "not computed, because there are no scores")
    arm, names = arms[-1], content.watched[:MOST]
    n = max(len(names), 3)
    with canvas(0.75 + 2 * (7.0 / n - 0.05)) as figure:
        panels = figure.subplots(2, n, squeeze=False)
        for empty in panels[:, len(names) :].ravel():
            empty.set_axis_off()
        for column, name in enumerate(names):
            plain, spread = panels[0][column], panels[1][column]
            square(plain)
            _logarithmic(spread)
            plain.set_title(class_name(name), fontsize=8.5)
            plain.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls=(0, (3, 3)))
            chance = np.geomspace(LEAST_SHARE, 1, 30)
            spread.plot(chance, chance, color=FAINT, lw=0.8, ls=(0, (3, 3)))
            if not judged(arm, name).estimable:
                no_curve(plain)
                no_curve(spread)
                continue
            for one in arms:
                _draw(content, one, name, plain, spread)
            _operating_point(arm, name, plain)
            _operating_point(arm, name, spread)
            spread.set_xlabel("of those without: alarms")
        panels[0][0].set_ylabel("of those with it: found")
        panels[1][0].set_ylabel("found (few alarms spread out)")
        first = panels[0][0]
        handles = [first.plot([], [], color=look(content, a)[0], lw=1.6, label=a.name)[0] for a in arms]
        handles += first.plot([], [], "o", color=INK, ms=5, label="where alarms are raised")
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        svg = to_svg(figure)
    rows = [_row(one, name) for name in content.watched for one in arms]
    caption = (
        "Above: as usual. Below: the same curves with false alarms on a logarithmic axis, where rare classes live."
    )
    more = f" {len(content.watched) - MOST} further classes stand in the table." if len(content.watched) > MOST else ""
    head = ("Class", "Arm", "AUROC", "Sensitivity at 90% specificity", "Remark")
    note = "95% intervals. Bands: 95% interval of the share found, threshold by threshold, not of the whole curve."
    alt = f"ROC curves of {', '.join(class_name(n) for n in names)}, on a plain and on a logarithmic axis. "
    return Figure(svg, alt + caption, caption + more, table(head, rows, (2, 3), note))


def _logarithmic(axes: Axes) -> None:
    percent_axis(axes, "y")
    axes.set_xscale("log")
    axes.set_xlim(LEAST_SHARE, 1.05)
    axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1", "1", "10", "100%"])
    axes.minorticks_off()
    axes.set_box_aspect(1)


def _draw(content: Content, arm: ArmResult, name: str, plain: Axes, spread: Axes) -> None:
    one = judged(arm, name)
    if not one.estimable:
        return
    colour, width = look(content, arm)
    share, recall, _ = roc_points(one.target, one.score)
    rows = thinned(share, recall)
    plain.plot(share[rows], recall[rows], color=colour, lw=width)
    floored = np.maximum(share, LEAST_SHARE)
    rows = thinned(np.log10(floored) / 3, recall)
    spread.plot(floored[rows], recall[rows], color=colour, lw=width)
    if arm is content.chosen:
        places, low, high = recall_band(one)
        plain.fill_between(places, low, high, color=BLUE, alpha=0.13, lw=0)
        spread.fill_between(np.maximum(places, LEAST_SHARE), low, high, color=BLUE, alpha=0.13, lw=0)


def _operating_point(arm: ArmResult, name: str, axes: Axes) -> None:
    recall, specificity = arm.find("recall", name), arm.find("specificity", name)
    if recall is None or specificity is None or recall.value is None or specificity.value is None:
        return
    x, y = max(1 - specificity.value, LEAST_SHARE), recall.value
    if recall.low is not None and recall.high is not None:
        axes.plot([x, x], [recall.low, recall.high], color=INK, lw=1.0, zorder=4)
    if specificity.low is not None and specificity.high is not None:
        ends = [max(1 - specificity.high, LEAST_SHARE), max(1 - specificity.low, LEAST_SHARE)]
        axes.plot(ends, [y, y], color=INK, lw=1.0, zorder=4)
    axes.plot([x], [y], "o", color=INK, ms=4.5, zorder=5, clip_on=False)


def _row(arm: ArmResult, name: str) -> Row:
    area, at_90 = arm.find("auroc", name), arm.find("recall_at_specificity_90", name)
    remarks = "; ".join(dict.fromkeys(text for text in (remark(area), remark(at_90)) if text))
    return Row((class_name(name), arm.name, as_text(area), as_text(at_90), remarks), mark(area))
