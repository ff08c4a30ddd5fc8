"""Units that detect a class, beside what chance and the published rule would call so; the arms side by side."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raresight.report.figures.look_style import arm_title, greyed_caption
from raresight.report.figures.style import BLUE, FAINT, HAIR, SOFT, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.look_rows import Entry, Look, firm, layer_name, told_value
from raresight.report.tables import Row, Table, table
from raresight.report.words import class_name

ACROSS = 4
CHANCE = "#c9d1d8"
BEYOND = "beyond chance"
# Counts of units that are beyond chance already, the best first: by regions, else by labels.
COUNTS = {"detectors": "overlap with the class's regions", "units_for_class": "tell images with the class from others"}
PUBLISHED = "detectors_04"  # IoU above 0.04, whatever chance gives


def detectors(look: Look) -> Figure | Absent:
    """A dot an arm and class: its detectors in the layer shown, the published rule's count, and the band of chance."""
    metric = _metric(look)
    if metric is None:
        return Absent(look.why_no("dissection"))
    there = [arm for arm in look.arms if any(_found(look, metric, arm, name) for name in look.classes)]
    rows, across = -(-len(there) // ACROSS), min(ACROSS, len(there))
    with canvas(0.5 + rows * (0.35 + 0.19 * len(look.classes))) as figure:
        grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
        for axes, arm in zip(grid.flat, there, strict=False):
            for y, name in enumerate(look.classes):
                _mark(axes, look, metric, arm, name, y)
            arm_title(axes, look, arm, 26 if across == ACROSS else 34)
            rows_axis(axes, [class_name(name) for name in look.classes])
            axes.grid(axis="x", color=HAIR, lw=0.6)
            axes.set_axisbelow(True)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.tick_params(axis="y", labelleft=there.index(arm) % across == 0)
            axes.tick_params(axis="x", labelbottom=there.index(arm) + across >= len(there))
        for axes in list(grid.flat)[len(there) :]:
            axes.axis("off")
        grid.flat[0].set_xlim(left=-0.5)  # of all panels, and only here: the right end is then what they hold together
        where = layer_name(look.layer) or "the last layer"
        figure.supxlabel(f"units of {where} that {COUNTS[metric]}", fontsize=8.5, color=SOFT)
        svg = to_svg(figure)
    caption = _caption(look, metric, there) + greyed_caption(look, there)
    return Figure(svg, "Detectors of every class and arm. " + caption, caption, numbers(look, metric, there))


def against_chance(look: Look, metric: str, arm: str, class_: str) -> str:
    """`beyond chance` where a network has one or more on average, and more than 97.5 of 100 dealings of the masks give.

    Each unit was tested before, at a false-discovery rate of 5%: with nothing to detect, 95 of 100 networks have none,
    and the band of the mean over seeds often ends at 0. A single unit in one of three seeds is above that, though one
    in seven such trios would have one by luck; so less than one a network is never beyond chance.
    """
    row, null = _found(look, metric, arm, class_), _banded(look, arm, class_)
    if row is None or row.get("value") is None or not firm(row):
        return "too few to tell"
    most = 0.0 if null is None else float(null["high"])
    return BEYOND if float(row["value"]) >= 1 and float(row["value"]) > most else "within chance"


def _metric(look: Look) -> str | None:
    for metric in COUNTS:
        if any(_found(look, metric, arm, name) for arm in look.arms for name in look.classes):
            return metric
    return None


def _found(look: Look, metric: str, arm: str, class_: str) -> Entry | None:
    """The row of the layer that is shown, else of the only one there is."""
    found = look.find("dissection", metric, arm, class_, layer=look.layer)
    return found or look.find("dissection", metric, arm, class_)


def _banded(look: Look, arm: str, class_: str) -> Entry | None:
    """What chance gives, where that could be counted."""
    found = _found(look, "null_detectors", arm, class_)
    return found if found and found.get("low") is not None and found.get("high") is not None else None


def _caption(look: Look, metric: str, arms: list[str]) -> str:
    said = "Rarest class first. "
    if any(_banded(look, arm, name) for arm in arms for name in look.classes):
        said += (
            "A dot is the mean over seeds, its line the 95% interval. The grey bar is chance: 95 of 100 counts of the "
            "same units when the drawn regions are shuffled among the images, its tick their mean; it is often no "
            "wider than the tick, at 0. A filled dot lies above it and is one unit or more."
        )
    else:
        said += (
            "Each unit was tested against chance at a false-discovery rate of 5%, so that with nothing of a class to "
            "detect 95 of 100 networks have no such unit; a filled dot is one or more."
        )
    if metric == "units_for_class":
        said += " By labels of whole images, since nobody drew regions."
    if any(_found(look, PUBLISHED, arm, name) for arm in arms for name in look.classes):
        said += (
            " Open squares: the rule in use elsewhere, overlap (IoU) above 0.04, which large regions meet by "
            "themselves."
        )
    return said + " Hollow dots: within chance, or too few patients."


def _mark(axes: Axes, look: Look, metric: str, arm: str, class_: str, y: int) -> None:
    row, null = _found(look, metric, arm, class_), _banded(look, arm, class_)
    if null is not None:
        low, high = float(null["low"]), float(null["high"])
        axes.barh(y, max(high - low, 0.15), left=low, height=0.56, color=CHANCE, lw=0, zorder=1)
        if null.get("value") is not None:
            axes.plot([null["value"]] * 2, [y - 0.28, y + 0.28], color=SOFT, lw=0.9, zorder=2)
    rule = _found(look, PUBLISHED, arm, class_)
    if rule is not None and rule.get("value") is not None:
        axes.plot([rule["value"]], [y], "s", ms=4.2, mfc="none", mec=FAINT, mew=1.0, zorder=2, clip_on=False)
    if row is None or row.get("value") is None:
        axes.text(0.03, y, "not estimable", color=SOFT, va="center", fontsize=6.5, style="italic",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        return
    colour = FAINT if arm in look.greyed else BLUE
    if row.get("low") is not None and row.get("high") is not None:
        axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.2, zorder=3, solid_capstyle="butt")
    filled = colour if against_chance(look, metric, arm, class_) == BEYOND else "white"
    axes.plot([row["value"]], [y], "o", ms=4.8, mfc=filled, mec=colour, mew=1.1, zorder=4, clip_on=False)


def numbers(look: Look, metric: str, arms: list[str]) -> Table:
    rows = []
    for name in look.classes:
        for arm in arms:
            row = _found(look, metric, arm, name)
            others = [told_value(_found(look, other, arm, name)) for other in ("null_detectors", PUBLISHED)]
            why = look.greyed.get(arm) or str((row or {}).get("reason") or "")
            cells = (class_name(name), arm, told_value(row), *others, against_chance(look, metric, arm, name), why)
            rows.append(Row(cells, "wide" if arm in look.greyed or not firm(row) else ""))
    head = ("Class", "Arm", "Units", "By chance", "By the published rule", "Verdict", "Remark")
    note = (
        "Means over seeds. By chance: mean and 95% range with the regions shuffled among the images, where that was "
        "counted."
    )
    return table(head, rows, (2, 3, 4), note)
