"""Confusions ranked: which rare or critical class is taken for which commoner one, how often, and at what harm."""

from __future__ import annotations


from raresight.evaluate.counts import confusion_matrix, decide
from raresight.evaluate.intervals import rate
from raresight.report.answers import shown_predictions
from raresight.report.content import Content
from raresight.report.figures.style import FAINT, VERMILLION, Absent, Figure, canvas, percent_axis, rows_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, percent, plural, unit_of

MOST = 8
WIDE = 0.15


def mistaken(content: Content) -> Figure | Absent:
    """For exclusive labels: shares of a class that are called a commoner class, ordered by share × cost of a miss."""
    arm = content.chosen
    shown = None if arm is None else shown_predictions(arm)
    if arm is None or shown is None:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    if content.task.kind != "exclusive":
        return Absent("not computed, because labels are independent: one finding does not stand in for another")
    predictions = shown[0]
    alarm, target = decide(predictions.prob, "exclusive"), predictions.target
    counts = confusion_matrix(target, alarm)
    total = counts.sum(axis=1)
    costs = {} if content.config is None else content.config.costs.missed
    found = []
    for i, name in enumerate(content.task.classes):
        for j, other in enumerate(content.task.classes):
            rarer = total[i] < total[j] or name in content.task.critical
            if i != j and total[i] > 0 and counts[i, j] > 0 and rarer:
                rows = target[:, i] == 1
                interval = rate(alarm[rows, j], predictions.patient[rows])
                found.append((interval.value * costs.get(name, 1.0), name, other, int(counts[i, j]), interval))
    if not found:
        return Absent("not computed, because no case of a rarer class was taken for a commoner one")
    found.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    drawn = found[:MOST]
    with canvas(0.6 + 0.28 * len(drawn)) as figure:
        axes = figure.add_subplot()
        for y, (_, _, _, _, interval) in enumerate(drawn):
            wide = interval.high - interval.low > 2 * WIDE
            axes.barh(y, interval.value, height=0.5, color=VERMILLION if not wide else "#f0d3c2", lw=0)
            axes.plot([interval.low, interval.high], [y, y], color=FAINT if wide else "#5c2a05", lw=1.2)
        percent_axis(axes)
        axes.set_xlabel("share of the class that is called the other")
        rows_axis(axes, [f"{class_name(a)} → {class_name(b)}" for _, a, b, _, _ in drawn])
        svg = to_svg(figure)
    one = unit_of(content.group_by)
    rows_out = [
        Row(
            (
                class_name(a),
                class_name(b),
                f"{percent(v.value)} ({percent(v.low).removesuffix('%')}–{percent(v.high)})",
                str(n),
                f"{v.n_patients}",
                f"{costs[a]:g}" if a in costs else "not given",
            ),
            "wide" if v.high - v.low > 2 * WIDE else "",
        )
        for _, a, b, n, v in found[: 2 * MOST]
    ]
    order = "share times the cost of a miss" if costs else "share; no costs were given"
    caption = f"{class_name(drawn[0][1]).capitalize()} taken for {class_name(drawn[0][2])} comes first. Ordered by {order}."
    head = ("Truly", "Called", "How often", plural(content.unit).capitalize(), f"{plural(one).capitalize()} with it",
            "Cost of a miss")  # fmt: skip
    alt = "Bars of the confusions of rarer with commoner classes, with 95% intervals. " + caption
    note = f"95% intervals. Called: the most probable class. Pale: too wide to conclude from. Arm {arm.name}."
    return Figure(svg, alt, caption, table(head, rows_out, (2, 3, 4, 5), note))



