"""What follows the frequency of a class: head norm, feature norm and alignment against training images."""

from __future__ import annotations

from math import ceil, log

from matplotlib.axes import Axes

from raresight.report.figures.look_style import arm_look, greyed_caption
from raresight.report.figures.style import FAINT, HAIR, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.look_rows import ALIGNMENT, Look, firm, greyed, layer_name, told_value
from raresight.report.tables import Row, Table, table

PANELS = (
    ("geometry", "head_norm", "length of the class's head weights, over the arm's mean"),
    ("geometry", "feature_norm", "length of its images' features, over the arm's mean"),
    ("verdict", ALIGNMENT, "look: alignment beyond chance"),
)
SLOPES = {"head_norm": "head_norm_slope", "feature_norm": "feature_norm_slope"}
LABEL_GAP = 0.1
NAME_GAP = 0.055
WIDE = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # of ticks where all lengths are near 1


def frequency(look: Look) -> Figure | Absent:
    """Three panels over log training images, a line an arm: lengths relative to the arm's own geometric mean."""
    shown = [panel for panel in PANELS if any(_points(look, arm, *panel[:2]) for arm in look.arms)]
    if not any(look.count(name) for name in look.classes):
        return Absent("not computed, because it is not known how many training images each class has")
    if len(look.classes) < 2:
        return Absent("not computed, because there are fewer than two classes")
    if not shown:
        return Absent(look.why_no("geometry"))
    with canvas(0.5 + 1.85 * len(shown)) as figure:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (source, metric, title) in zip(panels, shown, strict=True):
            _panel(axes, look, source, metric)
            at = f" at {layer_name(look.layer)}" if metric == ALIGNMENT and look.last_layer else ""
            axes.set_title(title + at, fontsize=8.5)
        _ticks(panels[-1], look)
        svg = to_svg(figure)
    caption = (
        "Flat is fair: a line that rises means that rare classes get less of it than common ones. "
        "Beside each line of lengths the slope of their logarithm on that of training images, with the 95% interval "
        "where there is one: 0.1 means 10.5% longer where images are e (2.7) times as many. "
        "Hollow marks: too few patients, or maps that must not be read."
    )
    caption += greyed_caption(look)
    return Figure(svg, "Lines over the frequency of classes, one an arm. " + caption, caption, numbers(look))


def _points(look: Look, arm: str, source: str, metric: str) -> list[tuple[int, float, bool]]:
    """Training images, value and firmness of each class, commonest last; lengths over their geometric mean."""
    found = []
    for name in look.classes:
        row = look.find(source, metric, arm, name)
        if row is not None and row.get("value") is not None and look.count(name) > 0:
            found.append((look.count(name), float(row["value"]), firm(row) and not greyed(row)))
    lengths = [value for _, value, _ in found if value > 0]
    if metric not in SLOPES or len(lengths) < len(found) or not found:
        return found if metric not in SLOPES else []
    mean = 1.0
    for value in lengths:
        mean *= value ** (1 / len(lengths))
    return [(n, value / mean, solid) for n, value, solid in found]


def _panel(axes: Axes, look: Look, source: str, metric: str) -> None:
    if metric in SLOPES:
        axes.set_yscale("log")
        axes.axhline(1, color=SOFT, lw=0.7, ls=(0, (3, 2)), zorder=0)
    else:
        axes.axhline(0, color=SOFT, lw=0.7, ls=(0, (3, 2)), zorder=0)
    ends: list[tuple[float, str, str]] = []
    for arm in look.arms:
        points = _points(look, arm, source, metric)
        if not points:
            continue
        colour, marker = arm_look(look, arm)
        base = arm == look.baseline
        axes.plot([n for n, _, _ in points], [value for _, value, _ in points], color=colour, lw=1.8 if base else 1.1,
                  ls=(0, (2, 2)) if arm in look.greyed else "-", zorder=4 if base else 2)  # fmt: skip
        for n, value, solid in points:
            axes.plot([n], [value], marker, ms=4.5 if solid else 4, mfc=colour if solid else "white", mec=colour,
                      mew=1.0, zorder=5 if base else 3)  # fmt: skip
        ends.append((points[-1][1], f"{arm}{_slope(look, arm, metric)}", SOFT if colour == FAINT else colour))
    axes.set_xscale("log")
    axes.grid(axis="y", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    if metric in SLOPES:
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        low, high = axes.get_ylim()
        axes.set_yticks(_lengths(low, high))
        axes.set_ylim(low, high)
        axes.minorticks_off()
    _names(axes, ends)


def _lengths(low: float, high: float) -> list[float]:
    """Ticks between the ends of an axis of lengths, three at least where there is room for them."""
    wide = [tick for tick in WIDE if low <= tick <= high]
    if high / low >= 1.6 and len(wide) > 2:
        return wide
    for step in STEPS:
        near = [round(n * step, 6) for n in range(ceil(low / step), int(high / step) + 1)]
        if len(near) > 2:
            return near
    return wide


def _slope(look: Look, arm: str, metric: str) -> str:
    row = look.find("geometry", SLOPES[metric], arm) if metric in SLOPES else None
    return "" if row is None or row.get("value") is None else f" {told_value(row).replace(' (no interval)', '')}"


def _names(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would lie on one another."""
    axes.autoscale_view()
    ordered = sorted(ends, key=lambda one: one[0])
    to_parts = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    at = [float(to_parts.transform((right, value))[1]) for value, _, _ in ordered]
    heights = list(at)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + LABEL_GAP)
    if heights:
        heights[-1] = min(heights[-1], 1.02)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - LABEL_GAP)
    for (_, text, colour), start, height in zip(ordered, at, heights, strict=True):
        axes.annotate(text, xy=(1.0, start), xytext=(1.035, height), xycoords="axes fraction", fontsize=7,
                      textcoords="axes fraction", color=colour, va="center",
                      arrowprops={"arrowstyle": "-", "color": HAIR, "lw": 0.7, "shrinkA": 1, "shrinkB": 0,
                                  "relpos": (0, 0.5)})  # fmt: skip


def _ticks(axes: Axes, look: Look) -> None:
    """Every class with its count, slanted, moved apart where the counts are close."""
    named = [name for name in look.classes if look.count(name) > 0]
    left, right = look.count(named[0]) / 1.25, look.count(named[-1]) * 1.25
    axes.set_xlim(left, right)
    axes.set_xticks([look.count(name) for name in named], [""] * len(named))
    axes.minorticks_off()
    at = [log(look.count(name) / left) / log(right / left) for name in named]
    spread = list(at)
    for i in range(1, len(spread)):
        spread[i] = max(spread[i], spread[i - 1] + NAME_GAP)
    over = max(0.0, spread[-1] - 0.99)
    for i in range(len(spread) - 1, -1, -1):
        spread[i] = min(spread[i], (0.99 if i == len(spread) - 1 else spread[i + 1] - NAME_GAP)) if over else spread[i]
    for name, start, place in zip(named, at, spread, strict=True):
        axes.annotate(look.called(name), xy=(start, 0), xytext=(place, -0.1), xycoords="axes fraction", fontsize=7,
                      textcoords="axes fraction", rotation=32, rotation_mode="anchor", ha="right", va="center",
                      color=INK, arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.7, "relpos": (1, 0.5),
                      "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    axes.text(0.5, -0.62, "class, and its training images (log scale)", transform=axes.transAxes, ha="center",
              color=SOFT)  # fmt: skip


def numbers(look: Look) -> Table:
    rows = []
    for arm in look.arms:
        slopes = [told_value(look.find("geometry", name, arm)) for name in (*SLOPES.values(), "bias_slope")]
        collapse = told_value(look.find("geometry", "minority_collapse", arm))
        rows.append(Row((arm, *slopes, collapse), "wide" if arm in look.greyed else ""))
    head = ("Arm", "Slope of head length", "Slope of feature length", "Slope of bias (logits)", "Minority collapse")
    note = (
        "Slopes on the natural logarithm of training images. Of lengths it is that of their logarithm: 0.1 means 10.5% "
        "longer where images are e (2.7) times as many. Of the bias: 0.1 means that 0.1 is added to the logit there."
    )
    return table(head, rows, (1, 2, 3, 4), note)
