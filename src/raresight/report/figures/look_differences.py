"""Differences of every arm from the baseline in score and look, class by class, beside the spread of seeds."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raresight.report.figures.look_style import few_seeds_caption, greyed_caption, greyed_classes_caption
from raresight.report.figures.style import CYCLE, FAINT, GREEN, HAIR, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.look_rows import (
    ALIGNMENT,
    LAST,
    Look,
    firm_difference,
    layer_name,
    signed,
    signs,
    sure,
    told_difference,
    untrusted_difference,
)
from raresight.report.tables import Row, Table, table
from raresight.report.words import class_name, listing, p_value

COLUMNS = {
    "auroc": "AUROC",
    "auprc": "average\nprecision",
    ALIGNMENT: "alignment",
    LAST: "alignment,\nlast layer",
    "detectors": "detectors",
    "d_prime": "d′",
}
MOST_LINES = 72  # of a figure; the classes that do not fit stand in the table
YARDSTICK = "#e4e8eb"
NOTE = (
    "95% intervals. p after Holm: how often a difference this large would come by chance, raised for the number of "
    "comparisons. Bold: below 0.05, with three seeds an arm or more."
)


def look_differences(look: Look) -> Figure | Absent:
    """A column a measure, a block a class; bars are 95% intervals, the band is the spread of the baseline's seeds."""
    if not look.others:
        return Absent("not computed, because there is only one arm")
    shown = [m for m in COLUMNS if any(_difference(look, m, arm, name) for arm in look.others for name in look.classes)]
    if not shown:
        return Absent(look.why_no("verdict"))
    block = len(look.others) + 1
    names = look.classes[: max(1, MOST_LINES // block)]
    lines: list[tuple[str, str]] = []
    for name in names:
        lines += [(name, ""), *((name, arm) for arm in look.others)]
    with canvas(0.7 + 0.142 * len(lines)) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, shown, strict=True):
            _column(axes, look, metric, lines)
        told = [arm or look.called(name) for name, arm in lines]
        panels[0].set_yticks(range(len(lines)), told, fontsize=7)
        for label, (_, arm) in zip(panels[0].get_yticklabels(), lines, strict=True):
            label.set_color(FAINT if arm in look.greyed else INK)
            label.set_weight("bold" if not arm else "normal")
        for axes in panels[1:]:
            axes.tick_params(axis="y", labelleft=False)
        figure.supxlabel(f"lost (left) or gained (right) against {look.baseline}", fontsize=8.5, color=SOFT)
        svg = to_svg(figure)
    left_out = len(look.classes) - len(names)
    band = (
        f"The grey band is one standard deviation between the seeds of {look.baseline} alone: a difference inside it "
        "may be chance in training. "
    )
    caption = (
        f"Paired on the same patients, rarest class first. {band if _banded(look, shown, names) else ''}Filled: still "
        "clear when "
        "all comparisons of the study are counted (Holm's correction); hollow: not; a cross: too few patients for an "
        "interval." + (f" {left_out} commoner classes stand in the table." if left_out else "")
    )
    caption += (
        few_seeds_caption(look) + _where(look, shown) + greyed_caption(look) + greyed_classes_caption(look, ALIGNMENT)
    )
    caption += _grey_at_last(look, names)
    return Figure(svg, "Differences in score and look from the baseline. " + caption, caption, numbers(look, shown))


def _banded(look: Look, shown: list[str], names: list[str]) -> bool:
    """Whether the spread between the baseline's seeds is drawn anywhere."""
    rows = (look.find("verdict", metric, arm, name) for metric in shown for arm in look.others for name in names)
    return any(row is not None and row.get("spread") is not None and row.get("difference") is not None for row in rows)


def _where(look: Look, shown: list[str]) -> str:
    """What alignment is, and at which layers it was measured."""
    if ALIGNMENT not in shown:
        return ""
    shown_at = layer_name(look.layer)
    said = f" Alignment: {look.measure}, beyond chance; “alignment” alone is of the maps that are shown, of {shown_at}"
    if LAST not in shown or not look.last_layer:
        return said + "."
    return (
        f"{said}, “last layer” of {layer_name(look.last_layer)}, the last maps before the score. These are coarser, "
        f"and can show that the score leans on something else where those of {shown_at} do not."
    )


def _grey_at_last(look: Look, names: list[str]) -> str:
    """Whose maps failed the check at the last layer alone."""
    failed = [arm for arm in look.arms if arm not in look.greyed and any(_failed(look, LAST, arm, n) for n in names)]
    if look.baseline in failed:
        return (
            f" Grey in the column of the last layer: maps of {look.baseline}, which all others are compared with, "
            "failed the check there (T5)."
        )
    if failed:
        return f" Grey in the column of the last layer alone: maps of {listing(failed)} failed the check there (T5)."
    return ""


def _grey(look: Look, metric: str, arm: str, class_: str) -> bool:
    """Whether maps that the difference rests on failed the check: the arm's or the baseline's."""
    if untrusted_difference(look.find("verdict", metric, arm, class_)):
        return True
    return any(one in look.greyed or _failed(look, metric, one, class_) for one in (arm, look.baseline))


def _failed(look: Look, metric: str, arm: str, class_: str) -> bool:
    return bool((look.find("verdict", metric, arm, class_) or {}).get("greyed"))


def _difference(look: Look, metric: str, arm: str, class_: str) -> float | None:
    row = look.find("verdict", metric, arm, class_)
    return None if row is None or row.get("difference") is None else float(row["difference"])


def _column(axes: Axes, look: Look, metric: str, lines: list[tuple[str, str]]) -> None:
    reach = 0.0
    for y, (name, arm) in enumerate(lines):
        if not arm:
            axes.axhline(y - 0.5, color=HAIR, lw=0.7, zorder=0)
            continue
        row = look.find("verdict", metric, arm, name)
        if row is None or row.get("difference") is None:
            axes.text(0.03, y, "not estimable", fontsize=6, color=SOFT, style="italic", va="center", zorder=4,
                      transform=axes.get_yaxis_transform(), bbox={"fc": "white", "ec": "none", "pad": 0.5})  # fmt: skip
            continue
        spread, value = row.get("spread"), float(row["difference"])
        if spread is not None:
            axes.barh(y, 2 * float(spread), left=-float(spread), height=1.0, color=YARDSTICK, lw=0, zorder=0.5)
        clear, grey = sure(row), _grey(look, metric, arm, name)
        colour = FAINT if grey else (GREEN if value > 0 else CYCLE[0]) if clear else SOFT
        if not firm_difference(row):
            axes.plot([value], [y], "x", ms=3.6, mew=0.9, color=FAINT if grey else SOFT, zorder=3)
            reach = max(reach, abs(value))
            continue
        if row.get("diff_low") is not None and row.get("diff_high") is not None:
            axes.plot(
                [row["diff_low"], row["diff_high"]], [y, y], color=colour, lw=1.3, zorder=2, solid_capstyle="butt"
            )
            reach = max(reach, abs(float(row["diff_low"])), abs(float(row["diff_high"])))
        axes.plot(
            [value], [y], "o", ms=3.6, mew=0.9, mec=colour, zorder=3, mfc=colour if clear and not grey else "white"
        )
        reach = max(reach, abs(value))
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    axes.set_xlim(-1.08 * (reach or 1), 1.08 * (reach or 1))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color=HAIR, lw=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.set_title(COLUMNS[metric], fontsize=8)


def _tick(value: float) -> str:
    return "0" if value == 0 else f"{value:+.3g}".replace("-", "−")


def numbers(look: Look, shown: list[str]) -> Table:
    rows = []
    for name in look.classes:
        for arm in look.others:
            for metric in shown:
                row = look.find("verdict", metric, arm, name)
                if row is None:
                    continue
                spread = row.get("spread")
                n = row.get("diff_n_patients")
                why = look.greyed.get(arm) or signs(str(row.get("diff_reason") or ""))
                yardstick = "–" if spread is None else signed(float(spread))[1:]
                p = p_value(row.get("p_adjusted"))
                patients = "–" if n is None else str(n)
                cells = (
                    class_name(name),
                    arm,
                    COLUMNS[metric].replace("\n", " "),
                    told_difference(row),
                    p,
                    yardstick,
                    patients,
                    why,
                )
                weak = _grey(look, metric, arm, name) or not firm_difference(row)
                mark = "wide" if weak else "strong" if sure(row) else ""
                rows.append(Row(cells, mark))
    head = ("Class", "Arm", "Measure", "Difference", "p after Holm", "Spread of seeds", "Patients", "Remark")
    return table(head, rows, (3, 4, 5, 6), NOTE)
