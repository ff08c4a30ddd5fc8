"""Score against look: one arrow a class, from the baseline to an arm; the arms side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raresight.report.figures.look_style import (
    apart,
    arm_title,
    few_seeds_caption,
    greyed_caption,
    greyed_classes_caption,
    rarity_colour,
    rarity_norm,
    rarity_scale,
    wrapped,
)
from raresight.report.figures.style import FAINT, HAIR, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.look_rows import (
    ALIGNMENT,
    SCORE,
    Look,
    firm,
    firm_difference,
    greyed,
    layer_name,
    sure,
    told_difference,
    told_patients,
    told_reason,
    told_value,
    untrusted_difference,
)
from raresight.report.tables import Row, Table, table
from raresight.report.words import class_name, many

ACROSS = 3
LABEL = (0.055, 0.085)  # of a panel's width and height, one digit at 7 points
SHORT = 0.1  # an arrow so short, in parts of the panel, has no direction to the eye

Place = tuple[float, float]


def score_and_alignment(look: Look) -> Figure | Absent:
    """AUROC to the right, alignment with the drawn regions upwards; with one arm, where its classes lie."""
    places = {arm: _places(look, arm) for arm in look.arms}
    if not any(places.values()):
        return Absent(look.why_no("alignment"))
    panels = look.others or look.arms
    rows = -(-(len(panels) + 1) // ACROSS)
    everything = [place for found in places.values() for place in found.values()]
    with canvas(0.3 + 1.95 * rows) as figure:
        grid = figure.subplots(rows, ACROSS, squeeze=False)
        flat = list(grid.flat)
        for axes, arm in zip(flat, panels, strict=False):
            _limits(axes, everything)
            _arrows(axes, look, arm, places)
            arm_title(axes, look, arm)
            first_in_row = panels.index(arm) % ACROSS == 0
            axes.tick_params(labelleft=first_in_row, labelsize=7)
            axes.set_xlabel("score: AUROC", fontsize=7.5, color=SOFT)
            if first_in_row:
                told = wrapped(f"look: {look.measure}, beyond chance", 28)
                axes.set_ylabel(told, fontsize=7.5, color=SOFT)
        _legend(flat[len(panels)], look, places)
        for axes in flat[len(panels) + 1 :]:
            axes.axis("off")
        svg = to_svg(figure)
    caption = (
        f"Each arrow is a class, from {look.baseline} to the arm; the darker, the rarer in training. Right: better "
        "score. Up: the maps lie on the drawn regions more than other patients' regions explain (the line at 0). "
        "Filled heads: score or look differ from the baseline, still clearly when all comparisons are counted (Holm's "
        "correction); hollow heads: neither does. Crosses: too few patients."
        if look.others
        else "Each mark is a class; the darker, the rarer in training. The line at 0 is chance. "
        "Crosses: too few patients."
    )
    if look.last_layer:
        shown, last = layer_name(look.layer), layer_name(look.last_layer)
        caption += f" Look here is of the maps of {shown}; that of {last} stands in the next figure."
    if any(_alone(look, arm, name) for arm in look.others for name in places[arm]):
        caption += (
            f" A dot without an arrow: maps of {look.baseline} that failed the check leave no difference to show."
        )
    caption += few_seeds_caption(look) + greyed_caption(look) + greyed_classes_caption(look, ALIGNMENT)
    return Figure(svg, "Arrows of score against alignment for every arm and class. " + caption, caption, numbers(look))


def _places(look: Look, arm: str) -> dict[str, Place]:
    found = {}
    for name in look.classes:
        x, y = (look.value("verdict", metric, arm, name) for metric in (SCORE, ALIGNMENT))
        if x is not None and y is not None:
            found[name] = (x, y)
    return found


def _alone(look: Look, arm: str, class_: str) -> bool:
    """Whether the arm's own maps may be read, but those of the baseline failed, so that there is no difference."""
    row = look.find("verdict", ALIGNMENT, arm, class_)
    return untrusted_difference(row) and not greyed(row) and arm not in look.greyed


def _limits(axes: Axes, everything: Sequence[Place]) -> None:
    for values, ends, axis in (
        ([x for x, _ in everything], axes.set_xlim, axes.xaxis),
        ([*(y for _, y in everything), 0.0], axes.set_ylim, axes.yaxis),
    ):
        low, high = min(values), max(values)
        room = 0.1 * (high - low) or 0.05
        above = 1.8 if axis is axes.yaxis else 1.0  # numbers stand above the highest arrows
        ends(low - room, high + above * room)
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(lambda value, _: f"{value:.2f}".replace("-", "−"))
    axes.axhline(0, color=SOFT, lw=0.7, ls=(0, (3, 2)), zorder=0)
    axes.grid(color=HAIR, lw=0.5)
    axes.set_axisbelow(True)


def _arrows(axes: Axes, look: Look, arm: str, places: dict[str, dict[str, Place]]) -> None:
    heads: list[tuple[int, Place, Place, str]] = []
    for i, name in look.numbered():
        end, start = places[arm].get(name), places[look.baseline].get(name)
        if end is None:
            continue
        rows = [look.find("verdict", metric, arm, name) for metric in (SCORE, ALIGNMENT)]
        grey = arm in look.greyed or greyed(rows[1])
        colour = FAINT if grey else rarity_colour(look, name)
        if _alone(look, arm, name):
            start = None
        if not all(firm(row) and (start is None or firm_difference(row)) for row in rows):
            axes.plot(*end, "x", ms=4.5, mew=1.0, color=FAINT if grey else SOFT, zorder=3)
        elif start is None or arm == look.baseline:
            axes.plot(*end, "o", ms=5, color=colour, zorder=3)
        else:
            filled = any(sure(row) for row in rows) and not grey
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8,
                     "fc": colour if filled else "white"}  # fmt: skip
            axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=3)
            axes.plot(*start, "o", ms=2.2, color=colour, zorder=3)
        heads.append((i, start or end, end, SOFT if grey else INK))
    marks = [_in_parts(axes, end) for _, _, end, _ in heads]
    beside = apart([_beyond(axes, start, end) for _, start, end, _ in heads], LABEL, marks=marks)
    for (i, _, _, colour), at in zip(heads, beside, strict=True):
        axes.text(*at, str(i), transform=axes.transAxes, fontsize=7, color=colour, ha="center", va="center", zorder=5)


def _in_parts(axes: Axes, place: Place) -> Place:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return (place[0] - left) / (right - left), (place[1] - low) / (high - low)


def _beyond(axes: Axes, start: Place, end: Place) -> Place:
    """Just beyond the head of an arrow, in parts of the panel; above an arrow that is too short to point anywhere."""
    (x0, y0), (x1, y1) = _in_parts(axes, start), _in_parts(axes, end)
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    if length < SHORT:
        return (x0 + x1) / 2 + 0.02, max(y0, y1) + 0.085
    return x1 + 0.045 * (x1 - x0) / length, y1 + 0.065 * (y1 - y0) / length


def _legend(axes: Axes, look: Look, places: dict[str, dict[str, Place]]) -> None:
    """Which number is which class, how many trained it, and which classes could not be placed."""
    axes.axis("off")
    step = min(0.105, 0.8 / max(1, len(look.classes)))
    for i, name in look.numbered():
        y = 0.96 - step * (i - 1)
        row = look.find("verdict", ALIGNMENT, look.baseline, name)
        told = look.called(name)
        if name not in places[look.baseline]:
            told += ", not placed"
        elif not firm(row):
            n = (row or {}).get("n_patients")
            told += f", {many(n, 'patient')}" if n is not None else ", few patients"
        axes.text(0.03, y, str(i), transform=axes.transAxes, fontsize=7, weight="bold", va="center", ha="center",
                  color=rarity_colour(look, name))  # fmt: skip
        axes.text(0.09, y, told, transform=axes.transAxes, fontsize=7, va="center", color=INK)
    if len({look.count(name) for name in look.classes}) > 1:
        inset = axes.inset_axes((0.04, 0.09, 0.7, 0.035))
        norm, scale = rarity_norm(look), rarity_scale()
        edges = np.geomspace(norm.vmin or 1, norm.vmax or 1, 33)  # drawn as lines: no picture stands in the page
        inset.barh(0, np.diff(edges), left=edges[:-1], color=scale(norm(np.sqrt(edges[:-1] * edges[1:]))), height=1)
        inset.set(xscale="log", xlim=(edges[0], edges[-1]), yticks=[])
        inset.spines[:].set_visible(False)
        inset.tick_params(labelsize=6.5, length=0)
        ends = [look.count(look.classes[0]), look.count(look.classes[-1])]
        inset.set_xticks(ends, [f"{n:,}" for n in ends])
        inset.minorticks_off()
        inset.set_in_layout(False)
        inset.set_xlabel("training images (log scale)", fontsize=6.5)


def numbers(look: Look) -> Table:
    """A row an arm and class: both figures and both differences."""
    rows = []
    for name in look.classes:
        for arm in look.arms:
            score, seen = (look.find("verdict", metric, arm, name) for metric in (SCORE, ALIGNMENT))
            differ = ["baseline"] * 2 if arm == look.baseline else [told_difference(score), told_difference(seen)]
            grey = arm in look.greyed or greyed(seen)
            mark = "wide" if grey or not firm(seen) else "strong" if sure(score) or sure(seen) else ""
            if _alone(look, arm, name):
                differ[1] = "not to be read"
            rows.append(
                Row(
                    (class_name(name), arm, told_value(score), differ[0], told_value(seen), differ[1],
                     told_patients(seen), look.greyed.get(arm) or told_reason(seen)),
                    mark,
                )
            )  # fmt: skip
    head = ("Class", "Arm", "AUROC", "Difference", f"Alignment ({look.measure})", "Difference", "Patients", "Remark")
    return table(head, rows, (2, 3, 4, 5, 6), "95% intervals over patients. Bold: clear after Holm's correction.")
