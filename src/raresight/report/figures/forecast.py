"""The precision forecast: what each part could show at all, known before any training."""

from __future__ import annotations

from raresight.report.content import Content
from raresight.report.figures.style import (
    BLUE,
    FAINT,
    ORANGE,
    SOFT,
    Absent,
    Figure,
    canvas,
    percent_axis,
    rows_axis,
    to_svg,
)
from raresight.report.tables import Row, table
from raresight.report.words import class_name, interval, listing, part_name, percent, unit_of

TOO_WIDE = 0.15


def forecast(content: Content) -> Figure | Absent:
    if content.audit is None:
        return Absent(content.why_missing("audit"))
    known = {row["name"]: row.get("forecast") for row in content.audit["classes"]}
    if not any(known.values()):
        if content.outside:
            return Absent(content.why_missing("forecast"))
        return Absent("not computed, because the audit holds no forecast; run `raresight audit` again")
    who = unit_of(content.group_by)
    names = [name for name in content.rarest_first if known.get(name)]
    rows = []
    with canvas(0.75 + 0.36 * len(names)) as figure:
        axes = figure.add_subplot()
        for y, name in enumerate(names):
            for part, shift, colour in (("val", -0.17, ORANGE), ("test", 0.17, BLUE)):
                one = known[name][part]
                if one["recall_low"] is None:
                    axes.text(0.0, y + shift, f"no {who} with it", fontsize=7, color=SOFT, va="center", style="italic")
                else:
                    wide = one["halfwidth"] > TOO_WIDE
                    axes.plot([one["recall_low"], one["recall_high"]], [y + shift] * 2, lw=4 if not wide else 2,
                              color=colour, alpha=1 if not wide else 0.75, solid_capstyle="butt")  # fmt: skip
                rows.append(_row(name, part, one))
        axes.plot([], [], color=ORANGE, lw=4, label=part_name("val"))
        axes.plot([], [], color=BLUE, lw=4, label=part_name("test"))
        axes.axvline(0.8, color=FAINT, lw=0.8, ls=(0, (3, 3)), zorder=0)
        percent_axis(axes)
        axes.set_xlabel("where sensitivity could lie, if 80% are found")
        rows_axis(axes, [class_name(name) for name in names])
        figure.legend(loc="outside upper right", ncols=2)
        svg = to_svg(figure)
    weak = [n for n in names if (half := known[n]["test"]["halfwidth"]) is None or half > TOO_WIDE]
    caption = "The longer the bar, the less the part can show, whatever the model. Thin bars: wider than ±15 points. "
    if weak:
        caption += f"Too wide on the test part for {listing([class_name(n) for n in weak])}."
    head = ("Class", "Part", f"{who.capitalize()}s with it", "If 80% are found", "If none is missed: at least",
            "Smallest gain it can show")  # fmt: skip
    note = "Gain: difference in sensitivity between two arms, found with power 80% at a two-sided 5%."
    return Figure(svg, "Bars of the expected width of each class's sensitivity interval. " + caption, caption,
                  table(head, rows, (2, 3, 4, 5), note))  # fmt: skip


def _row(name: str, part: str, one: dict[str, float | None]) -> Row:
    n = one["n_positive_patients"] or 0
    gain, least = one["smallest_gain"], one["lower_bound_if_none_missed"]
    return Row(
        (
            class_name(name),
            part_name(part),
            f"{n:.0f}",
            interval(one["recall_low"], one["recall_high"]) or "not estimable",
            "not estimable" if least is None else percent(least),
            "none, however large" if gain is None else f"{100 * gain:.0f} points",
        ),
        "blank" if not n else "wide" if (one["halfwidth"] or 0) > TOO_WIDE else "",
    )
