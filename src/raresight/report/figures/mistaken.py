"""Confusions ranked: which rare or critical class is taken for which commoner one, how often, and at what harm."""

from __future__ import annotations

from typing import Any

from raresight.evaluate.confusions import confusions
from raresight.report.answers import shown_predictions
from raresight.report.content import Content
from raresight.report.figures.style import FAINT, VERMILLION, Absent, Figure, canvas, percent_axis, rows_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import DASH, class_name, interval, number, percent, plural, unit_of

MOST = 8
WIDE = 0.30
PALE, DARK = "#f0d3c2", "#5c2a05"


def mistaken(content: Content) -> Figure | Absent:
    arm = content.chosen
    shown = None if arm is None else shown_predictions(arm)
    if arm is None or shown is None:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    found = confusions(shown[0], costs={"missed": content.missed, "matrix": content.matrix})
    if not found:
        return Absent("not computed, because no case of a rarer class was taken for a commoner one")
    drawn = found[:MOST]
    with canvas(0.6 + 0.28 * len(drawn)) as figure:
        axes = figure.add_subplot()
        for y, row in enumerate(drawn):
            wide = row["high"] - row["low"] > WIDE
            axes.barh(y, row["rate"], height=0.5, color=PALE if wide else VERMILLION, lw=0)
            axes.plot([row["low"], row["high"]], [y, y], color=FAINT if wide else DARK, lw=1.2)
        percent_axis(axes)
        axes.set_xlabel("share of the class that is called the other")
        rows_axis(axes, [f"{class_name(row['true'])} → {_said(row)}" for row in drawn])
        svg = to_svg(figure)
    who = plural(unit_of(content.group_by))
    rows = [
        Row(
            (
                class_name(row["true"]),
                _said(row),
                f"{percent(row['rate'])} ({interval(row['low'], row['high'])})",
                f"{row['n_images']} of {row['n_true_images']}",
                f"{row['n_patients']} of {row['n_true_patients']}",
                "not given" if row["cost"] is None else f"{row['cost']:g}",
                _harm(row),
            ),
            "wide" if row["high"] - row["low"] > WIDE else "",
        )
        for row in found[: 2 * MOST]
    ]
    order = "share times cost" if any(row["cost"] for row in found) else "share; no costs were given"
    caption = (
        f"{class_name(drawn[0]['true']).capitalize()} taken for {_said(drawn[0])} comes first. Ordered by {order}."
    )
    head = ("Truly", "Called", "How often", plural(content.unit).capitalize(), who.capitalize(), "Cost", "Cost a case")
    note = "Costs in false alarms; a case is one of the class. " if any(row["cost"] for row in found) else ""
    note += f"95% intervals. At the default operating point, arm {arm.name}. Pale: too wide to conclude from."
    alt = "Bars of the confusions of rarer with commoner classes, with 95% intervals. " + caption
    return Figure(svg, alt, caption, table(head, rows, (2, 3, 4, 5, 6), note))


def _harm(row: dict[str, Any]) -> str:
    return DASH if row["harm"] is None else f"{number(row['harm'])} ({interval(row['harm_low'], row['harm_high'], '')})"


def _said(row: dict[str, Any]) -> str:
    return "nothing at all" if row["predicted"] is None else class_name(row["predicted"])
