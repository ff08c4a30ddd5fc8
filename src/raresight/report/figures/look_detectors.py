"""Units that detect a class, against the band in which their number lies by chance; the arms side by side."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raresight.report.figures.look_style import arm_title, greyed_caption
from raresight.report.figures.style import BLUE, FAINT, HAIR, SOFT, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.look_rows import Entry, Look, firm, told_value
from raresight.report.tables import Row, Table, table
from raresight.report.words import class_name

ACROSS = 4
CHANCE = "#c9d1d8"
BEYOND, NOT_KNOWN = "beyond chance", "chance was not computed"


def detectors(look: Look) -> Figure | Absent:
    """A dot an arm and class: its detectors in the layer shown; the bar holds 95% of what permuted labels give."""
    there = [arm for arm in look.arms if any(_found(look, arm, name) for name in look.classes)]
    if not there:
        return Absent(look.why_no("dissection"))
    rows, across = -(-len(there) // ACROSS), min(ACROSS, len(there))
    with canvas(0.5 + rows * (0.35 + 0.19 * len(look.classes))) as figure:
        grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
        for axes, arm in zip(grid.flat, there, strict=False):
            for y, name in enumerate(look.classes):
                _mark(axes, look, arm, name, y)
            arm_title(axes, look, arm, 26 if across == ACROSS else 34)
            rows_axis(axes, [class_name(name) for name in look.classes])
            axes.grid(axis="x", color=HAIR, lw=0.6)
            axes.set_axisbelow(True)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlim(left=-0.5)
            axes.tick_params(axis="y", labelleft=there.index(arm) % across == 0)
            axes.tick_params(axis="x", labelbottom=there.index(arm) + across >= len(there))
        for axes in list(grid.flat)[len(there) :]:
            axes.axis("off")
        figure.supxlabel(f"units of {look.layer or 'the last layer'} that detect the class", fontsize=8.5, color=SOFT)
        svg = to_svg(figure)
    caption = (
        "Rarest class first. The grey bar holds 95 of 100 counts that chance gives, its tick their mean; only a dot to "
        "the right of the bar says that the network has units for the class. Hollow: within chance, or too few."
    )
    if all(against_chance(look, arm, name) == NOT_KNOWN for arm in there for name in look.classes):
        caption = "Rarest class first. Hollow: how many detectors chance gives was not computed, so none is called one."
    caption += greyed_caption(look, there)
    return Figure(svg, "Detectors of every class and arm against chance. " + caption, caption, numbers(look, there))


def _found(look: Look, arm: str, class_: str) -> Entry | None:
    return look.find("dissection", "detectors", arm, class_, layer=look.layer) or look.find(
        "dissection", "detectors", arm, class_
    )


def _chance(look: Look, arm: str, class_: str) -> Entry | None:
    return look.find("dissection", "null_detectors", arm, class_, layer=look.layer) or look.find(
        "dissection", "null_detectors", arm, class_
    )


def against_chance(look: Look, arm: str, class_: str) -> str:
    """`beyond chance` where there are more detectors than 97.5 of 100 permutations give; why not, else."""
    row, null = _found(look, arm, class_), _chance(look, arm, class_)
    if row is None or row.get("value") is None or not firm(row):
        return "too few to tell"
    if null is None or null.get("high") is None:
        return NOT_KNOWN
    return BEYOND if float(row["value"]) > float(null["high"]) else "within chance"


def _mark(axes: Axes, look: Look, arm: str, class_: str, y: int) -> None:
    row, null = _found(look, arm, class_), _chance(look, arm, class_)
    if null is not None and null.get("low") is not None and null.get("high") is not None:
        low, high = float(null["low"]), float(null["high"])
        axes.barh(y, max(high - low, 0.15), left=low, height=0.56, color=CHANCE, lw=0, zorder=1)
        if null.get("value") is not None:
            axes.plot([null["value"]] * 2, [y - 0.28, y + 0.28], color=SOFT, lw=0.9, zorder=2)
    if row is None or row.get("value") is None:
        axes.text(0.03, y, "not estimable", color=SOFT, va="center", fontsize=6.5, style="italic",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        return
    colour = FAINT if arm in look.greyed else BLUE
    if row.get("low") is not None and row.get("high") is not None:
        axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.2, zorder=3, solid_capstyle="butt")
    filled = colour if against_chance(look, arm, class_) == BEYOND else "white"
    axes.plot([row["value"]], [y], "o", ms=4.8, mfc=filled, mec=colour, mew=1.1, zorder=4, clip_on=False)


def numbers(look: Look, arms: list[str]) -> Table:
    rows = []
    for name in look.classes:
        for arm in arms:
            row, null = _found(look, arm, name), _chance(look, arm, name)
            above = against_chance(look, arm, name)
            why = look.greyed.get(arm) or str((row or {}).get("reason") or "")
            cells = (class_name(name), arm, told_value(row), told_value(null), above, why)
            rows.append(Row(cells, "wide" if arm in look.greyed or not firm(row) else ""))
    head = ("Class", "Arm", "Detectors", "By chance", "Verdict", "Remark")
    return table(head, rows, (2, 3), "By chance: mean and 95% range over permutations.")
