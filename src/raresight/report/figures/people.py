"""Who is in each part: shares of age, sex, site and device side by side, so that a part that differs is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from raresight.report.content import Content
from raresight.report.figures.style import BLUE, INK, ORANGE, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import many, part_name, percent, plural, unit_of

LOOKS = {"train": (INK, "o", "white"), "val": (ORANGE, "s", ORANGE), "test": (BLUE, "D", BLUE)}
MOST = 3


def people(content: Content) -> Figure | Absent:
    """Age, sex, site per part: shares in per cent, or median and quartiles; `Absent` where the table has none."""
    if content.people is None:
        return Absent(content.why_missing("people"))
    parts, columns = list(content.people["parts"]), content.people["columns"]
    drawn = columns[:MOST]
    lines = max(len(c["values"]) if c["kind"] == "counted" else len(parts) for c in drawn)
    with canvas(0.8 + 0.24 * max(lines, 3)) as figure:
        panels = figure.subplots(1, len(drawn), squeeze=False)[0]
        for axes, column in zip(panels, drawn, strict=True):
            axes.set_title(_words(column["name"]), fontsize=8.5)
            if column["kind"] == "counted":
                _shares(axes, column, parts, content.people["units"])
            else:
                _ranges(axes, column, parts)
        for name in parts:
            colour, marker, fill = LOOKS[name]
            panels[0].plot([], [], marker, color=colour, mfc=fill, ms=5, label=part_name(name))
        figure.legend(loc="outside upper right", ncols=3)
        svg = to_svg(figure)
    who = unit_of(content.group_by)
    rows = [row for column in columns for row in _rows(column, parts, content.people["units"])]
    head = ("Column", "Value", *(f"{part_name(p).capitalize()}" for p in parts))
    caption = f"Shares of the {plural(who)} of each part. Marks that lie apart mean that the parts differ."
    note = (
        f"{plural(who).capitalize()}, each once for every value that it has; numbers as median (quartiles) over "
        f"{plural(who)}. " + ", ".join(f"{part_name(p)}: {many(content.people['units'][p], who)}" for p in parts) + "."
    )
    alt = f"Shares of {', '.join(_words(c['name']) for c in drawn)} in each part. "
    return Figure(svg, alt + caption, caption, table(head, rows, range(2, 2 + len(parts)), note))


def _shares(axes: Axes, column: Mapping[str, Any], parts: list[str], units: Mapping[str, int]) -> None:
    values = column["values"]
    for part in parts:
        colour, marker, fill = LOOKS[part]
        x = [row["parts"][part] / max(units[part], 1) for row in values]
        axes.plot(x, range(len(values)), marker, color=colour, mfc=fill, ms=4.5, alpha=0.9, clip_on=False)
    axes.set_xlim(0, None)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.locator_params(axis="x", nbins=4)
    rows_axis(axes, [_short(row["value"]) for row in values])


def _ranges(axes: Axes, column: Mapping[str, Any], parts: list[str]) -> None:
    for y, part in enumerate(parts):
        one = column["summary"][part]
        if one["median"] is None:
            continue
        colour, marker, fill = LOOKS[part]
        axes.plot([one["low"], one["high"]], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
        axes.plot([one["median"]], [y], marker, color=colour, mfc=fill, ms=5)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("median and quartiles")
    rows_axis(axes, [part_name(part).removesuffix(" part") for part in parts])


def _rows(column: Mapping[str, Any], parts: list[str], units: Mapping[str, int]) -> list[Row]:
    name = _words(column["name"])
    if column["kind"] == "counted":
        return [
            Row(
                (
                    name,
                    row["value"],
                    *(f"{row['parts'][p]:,} ({percent(row['parts'][p] / max(units[p], 1))})" for p in parts),
                )
            )
            for row in column["values"]
        ]
    told, rest = [], []
    for part in parts:
        one = column["summary"][part]
        told.append(
            "not recorded" if one["median"] is None else f"{one['median']:g} ({one['low']:g} to {one['high']:g})"
        )
        rest.append(f"{one['unknown']:,} of {one['known'] + one['unknown']:,}")
    return [Row((name, "median (quartiles)", *told)), Row((name, "not recorded", *rest))]


def _words(column: str) -> str:
    return column.replace("_", " ")


def _short(value: str) -> str:
    return value if len(value) <= 18 else value[:16] + "…"
