"""The severity curve: what each arm is worth as one class grows rarer in training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from raresight.core.severity import BANDS
from raresight.report.figures.style import (
    CYCLE,
    FAINT,
    HAIR,
    INK,
    MARKERS,
    SOFT,
    Absent,
    Figure,
    canvas,
    to_svg,
)
from raresight.report.sweep_tables import AT_90, COST, Result, column_name, figures, priced, shown_part, trained_on
from raresight.report.words import DASH, class_name, many, part_name, percent, plural, share, unit_of

PANELS = (
    ("auprc", "average precision"),
    (AT_90, "sensitivity at 90% specificity"),
    (COST, "expected cost per 1,000, threshold moved"),
)
MOST = len(CYCLE)  # arms in colour beside the baseline; more could not be told apart
SHADES = ("#ffffff", "#fafbfb", "#f3f5f6", "#eceff0", "#e5e8ea")
PANEL_HEIGHT = 1.75
FAR = 1.25  # a line so much above all others would press them together
LABEL_GAP = 0.085  # of a panel's height, at 7.5 points

Estimates = Mapping[tuple[str, str, str, bool], Mapping[str, Any]]


def severity(result: Result) -> Figure | Absent:
    """Three panels, one above the other, over training prevalence on a log scale; one line an arm.

    At most six arms are coloured beside the baseline: those that a verdict names, then those with the highest average
    precision; the others are grey. Bars are 95% intervals, side by side; the band is the baseline's. Filled marks
    differ from the baseline after Holm's correction.
    """
    part = shown_part(result)
    found: Estimates = {
        (e["column"], e["arm"], e["metric"], e["operating_point"] in ("tuned", "frozen")): e
        for e in part["estimates"]
        if e["value"] is not None
    }
    if not any(metric == "auprc" for _, _, metric, _ in found):
        return Absent(f"not computed, because no case of the {part_name(part['part'])} has the class")
    coloured = _coloured(result, part, found)
    columns = result["columns"]
    with canvas(0.75 + PANEL_HEIGHT * len(PANELS)) as figure:
        panels = figure.subplots(len(PANELS), 1, sharex=True)
        for axes, (metric, title) in zip(panels, PANELS, strict=True):
            _bands(axes, columns, named=axes is panels[0])
            labels = _panel(axes, result, part, found, metric, coloured)
            axes.set_title(title, fontsize=8.5, pad=13 if axes is panels[0] else 4)
            axes.grid(axis="y", color=HAIR, lw=0.6)
            axes.set_axisbelow(True)
            axes.locator_params(axis="y", nbins=5)
            if metric == AT_90:
                axes.yaxis.set_major_formatter(lambda value, _: percent(value))
            _direct(axes, labels)
        _ticks(panels[-1], result)
        svg = to_svg(figure)
    caption = _caption(result, part)
    alt = f"Curves of every arm against the share of {class_name(result['class'])} in training. {caption}"
    return Figure(svg, alt, caption, figures(result, part))


def standalone(result: Result) -> str:
    """The drawing as a file of its own; an empty drawing with the reason where there is none."""
    made = severity(result)
    if isinstance(made, Absent):
        text = f'<text x="10" y="25" font-family="sans-serif" font-size="12">{made.why}</text>'
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 40">{text}</svg>\n'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="sans-serif"'
    return re.sub(r"^<svg", f"<svg {spaces}", made.svg) + "\n"


def _coloured(result: Result, part: Mapping[str, Any], found: Estimates) -> list[str]:
    """The arms to tell apart: first those that win somewhere, then the best in average precision."""
    names = [arm["name"] for arm in result["arms"] if arm["name"] != result["baseline"]]
    winners = [name for one in part["verdicts"] for name in one["arms"]]

    def worth(name: str) -> float:
        values = [found[c["name"], name, "auprc", False]["value"] for c in result["columns"]
                  if (c["name"], name, "auprc", False) in found]  # fmt: skip
        return -sum(values) / max(1, len(values))

    ranked = sorted(names, key=lambda name: (name not in winners, worth(name)))
    shown = set(ranked[:MOST])
    return [name for name in names if name in shown]


def _panel(
    axes: Axes,
    result: Result,
    part: Mapping[str, Any],
    found: Estimates,
    metric: str,
    coloured: Sequence[str],
) -> list[tuple[float, str, str]]:
    """Draw one panel; the labels that belong at its right edge: height, text, colour."""
    moved = metric == COST
    columns = result["columns"]
    base = result["baseline"]
    left, right = axes.get_xlim()
    beside = (right / left) ** 0.009  # so much farther right stands the next arm's bar
    clear = {
        (row["column"], row["arm"])
        for row in part["comparisons"]
        if row["metric"] == metric and row["p_adjusted"] is not None and row["p_adjusted"] < 0.05
    }
    labels: list[tuple[float, str, str]] = []

    def points(name: str, at_moved: bool) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        keys = [(column, (column["name"], name, metric, at_moved)) for column in columns]
        return [(column, found[key]) for column, key in keys if key in found]

    def line(name: str, at_moved: bool, label: str, **look: Any) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        at = points(name, at_moved)
        if at:
            axes.plot([c["prevalence"] for c, _ in at], [e["value"] for _, e in at], **look)
            labels.append((at[-1][1]["value"], label, look["color"]))
        return at

    for arm in result["arms"]:
        if arm["name"] not in coloured and arm["name"] != base:
            line(arm["name"], moved, arm["name"], color=FAINT, lw=0.8, zorder=1)
    at = line(base, moved, f"{base}, threshold moved" if moved else base, color=INK, lw=1.8, marker="o", ms=4, zorder=4)
    axes.fill_between([c["prevalence"] for c, _ in at], [e["low"] for _, e in at], [e["high"] for _, e in at],
                      color=INK, alpha=0.09, lw=0, zorder=0.5)  # fmt: skip
    if moved:
        untouched = [e["value"] for _, e in points(base, False)]
        shown = [e["high"] for name in (base, *coloured) for _, e in points(name, True)]
        if untouched and shown and min(untouched) > FAR * max(shown):
            low, high = f"{min(untouched):,.0f}", f"{max(untouched):,.0f}"
            far = low if low == high else f"{low}{DASH}{high}"
            axes.text(0.01, 0.97, f"{base} as it is costs {far}: above this panel", transform=axes.transAxes, va="top",
                      fontsize=7.5, color=SOFT, style="italic")  # fmt: skip
        else:
            line(base, False, f"{base} as it is", color=SOFT, lw=1.2, ls=(0, (4, 2)), zorder=3)
    for i, name in enumerate(coloured):
        colour, marker = CYCLE[i], MARKERS[i]
        at = line(name, moved, name, color=colour, lw=1.2, zorder=3)
        for column, estimate in at:
            x = column["prevalence"] * beside ** (i - (len(coloured) - 1) / 2)
            axes.plot([x, x], [estimate["low"], estimate["high"]], color=colour, lw=1.1, alpha=0.75, zorder=2)
            sure = (column["name"], name) in clear
            axes.plot([x], [estimate["value"]], marker, ms=5, mfc=colour if sure else "white", mec=colour, mew=1.1,
                      zorder=5)  # fmt: skip
    if metric == "auprc" and part["prevalence"] is not None:
        axes.axhline(part["prevalence"], color=FAINT, lw=0.8, ls=":", zorder=1)
        labels.append((part["prevalence"], "a useless score", SOFT))
    return labels


def _bands(axes: Axes, columns: Sequence[Mapping[str, Any]], *, named: bool) -> None:
    """Shades of severity behind the curves, their names above the first panel."""
    left, right = min(c["prevalence"] for c in columns) / 1.25, max(c["prevalence"] for c in columns) * 1.18
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    upper = 1.0
    for (low, name), shade in zip(BANDS, SHADES, strict=True):
        a, b = max(low, left), min(upper, right)
        upper = low
        if b <= a:
            continue
        axes.axvspan(a, b, color=shade, zorder=-2, lw=0)
        if named:
            axes.text((a * b) ** 0.5, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                      color=SOFT, fontsize=7)  # fmt: skip


def _ticks(axes: Axes, result: Result) -> None:
    columns = result["columns"]
    names = [
        f"{column_name(c).replace(', all cases', chr(10) + 'all cases')}\n{trained_on(result, c)}" for c in columns
    ]
    axes.set_xticks([c["prevalence"] for c in columns], names, fontsize=7.5)
    axes.minorticks_off()
    who = plural(unit_of(result["group_by"]))
    axes.set_xlabel(f"share of {class_name(result['class'])} in training (log scale), and the {who} behind it")


def _direct(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would lie on one another."""
    if not labels:
        return
    axes.autoscale_view()
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda one: one[0])
    heights = [(value - low) / (high - low) for value, _, _ in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + LABEL_GAP)
    heights[-1] = min(heights[-1], 1.0)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - LABEL_GAP)
    for (value, text, colour), height in zip(ordered, heights, strict=True):
        at = (value - low) / (high - low)
        axes.annotate(text, xy=(1.0, at), xytext=(1.035, height), xycoords="axes fraction", textcoords="axes fraction",
                      fontsize=7.5, color=SOFT if colour == FAINT else colour, va="center",
                      arrowprops={"arrowstyle": "-", "color": HAIR, "lw": 0.7, "shrinkA": 0, "shrinkB": 0})  # fmt: skip


def _caption(result: Result, part: Mapping[str, Any]) -> str:
    by_name = {column["name"]: column for column in result["columns"]}
    said = [f"at {share(by_name[one['column']]['prevalence'])}: {one['text']}" for one in part["verdicts"]]
    return (
        f"On the {part_name(part['part'])}, mean of {many(len(result['seeds']), 'seed')}, 95% intervals. "
        f"Filled marks: clear of {result['baseline']} after Holm's correction, tested in the first and the last panel. "
        f"{priced(result, part)} {'; '.join(said).capitalize()}."
    )
