"""Per class: how many are found, and how many alarms are right, each with its interval."""

from __future__ import annotations

from raresight.report.answers import positives
from raresight.report.content import Content
from raresight.report.figures.style import (
    BLUE,
    GREEN,
    SOFT,
    Absent,
    Figure,
    canvas,
    interval_mark,
    percent_axis,
    rows_axis,
    to_svg,
)
from raresight.report.tables import per_class
from raresight.report.words import class_name, many, unit_of


def forest(content: Content) -> Figure | Absent:
    arm = content.chosen
    if arm is None or not any(e.metric == "recall" for e in arm.estimates):
        return Absent(content.why_missing("arms") if arm is None else "not computed, because no threshold was given")
    names = content.rarest_first
    who = unit_of(content.group_by)
    with canvas(0.6 + 0.3 * len(names)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, metric, colour, marker, title in (
            (left, "recall", BLUE, "o", "of those with it, found (sensitivity)"),
            (right, "precision", GREEN, "D", "of the alarms, right (precision)"),
        ):
            for y, name in enumerate(names):
                interval_mark(axes, y, arm.find(metric, name), colour, marker)
            axes.set_title(title, fontsize=8.5, color=colour)
            percent_axis(axes)
        for y, name in enumerate(names):
            recall = arm.find("recall", name)
            if recall is not None:
                right.text(1.06, y, many(positives(recall), who), va="center", fontsize=7.5, color=SOFT)
        rows_axis(left, [class_name(name) for name in names])
        rows_axis(right, [class_name(name) for name in names])
        right.tick_params(axis="y", labelleft=False)
        svg = to_svg(figure)
    numbers = per_class(content, ("recall", "precision", "specificity", "f1", "auroc", "auprc"))
    caption = f"Arm {arm.name}, rarest class first. Open marks with grey lines: too wide to conclude from."
    alt = "Sensitivity and precision of every class with 95% intervals. " + caption
    return Figure(svg, alt, caption, numbers)
