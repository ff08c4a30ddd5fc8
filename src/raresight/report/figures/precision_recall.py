"""Precision against recall with what chance gives, and the same as gain over chance."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from raresight.core.estimate import Estimate
from raresight.evaluate.ranking import pr_points
from raresight.report.content import ArmResult, Content
from raresight.report.figures.curves import (
    MOST,
    compared,
    judged,
    look,
    no_curve,
    precision_band,
    square,
    thinned,
)
from raresight.report.figures.style import BLUE, FAINT, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, mark, remark, table
from raresight.report.words import class_name, number, share
from raresight.report.words import figure as as_text


def precision_recall(content: Content) -> Figure | Absent:
    """Precision over recall with the prevalence as its floor, and both as gain; absent classes have empty panels."""
    arms = compared(content)
    if not arms:
        return Absent(content.why_missing("arms") if not content.arms else "not computed, because there are no scores")
    arm, names = arms[-1], content.watched[:MOST]
    n = max(len(names), 3)
    with canvas(0.75 + 2 * (7.0 / n - 0.05)) as figure:
        panels = figure.subplots(2, n, squeeze=False)
        for empty in panels[:, len(names) :].ravel():
            empty.set_axis_off()
        for column, name in enumerate(names):
            plain, gain = panels[0][column], panels[1][column]
            square(plain)
            square(gain)
            plain.set_title(class_name(name), fontsize=8.5)
            base = judged(arm, name).prevalence
            if base is None or not judged(arm, name).estimable:
                no_curve(plain)
                no_curve(gain)
                continue
            plain.axhline(base, color=FAINT, lw=0.8, ls=(0, (3, 3)))
            plain.text(0.98, base + 0.02, f"by chance {share(base)}", ha="right", va="bottom", fontsize=7, color=SOFT)
            for one in arms:
                _draw(content, one, name, plain, gain)
            _operating_point(arm, name, base, plain, gain)
            plain.set_xlabel("of those with it: found")
            gain.set_xlabel("gain in those found")
        panels[0][0].set_ylabel("of the alarms: right")
        panels[1][0].set_ylabel("gain in alarms that are right")
        first = panels[0][0]
        handles = [first.plot([], [], color=look(content, a)[0], lw=1.6, label=a.name)[0] for a in arms]
        handles += first.plot([], [], "o", color=INK, ms=5, label="where alarms are raised")
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        svg = to_svg(figure)
    rows = [_row(one, name) for name in content.watched for one in arms]
    caption = (
        "Above: the price of an alarm; the dashed line is what chance would give. Below: both axes as the gain over "
        "chance (0 = no better, 100% = perfect), which makes rare and common classes comparable."
    )
    more = f" {len(content.watched) - MOST} further classes stand in the table." if len(content.watched) > MOST else ""
    head = ("Class", "Arm", "Average precision", "By chance (prevalence)", "Gain over chance", "Times chance", "Remark")
    note = "95% intervals; gain and times chance at the prevalence of the part. Bands: 95%, threshold by threshold."
    alt = f"Precision-recall and precision-recall-gain curves of {', '.join(class_name(n) for n in names)}. "
    return Figure(svg, alt + caption, caption + more, table(head, rows, (2, 3, 4, 5), note))


def gained(value: np.ndarray, base: float) -> np.ndarray:
    """Precision or recall as gain over chance: (v - π) / ((1 - π) v); negative below chance, 1 where perfect.

    Source: Flach & Kull, NeurIPS 2015, equation 4.
    """
    v = np.asarray(value, dtype=float)
    return np.divide(v - base, (1 - base) * v, out=np.full_like(v, -np.inf), where=v > 0)


def _draw(content: Content, arm: ArmResult, name: str, plain: Axes, gain: Axes) -> None:
    one = judged(arm, name)
    if not one.estimable or one.prevalence is None:
        return
    colour, width = look(content, arm)
    recall, precision, _ = pr_points(one.target, one.score)
    rows = thinned(recall, precision)
    plain.plot(np.append(0, recall[rows]), np.append(precision[rows][0], precision[rows]), color=colour, lw=width,
               drawstyle="steps-pre")  # fmt: skip
    x, y = gained(recall, one.prevalence), gained(precision, one.prevalence)
    inside = (x >= 0) & (y >= 0)
    if inside.any():
        x, y = x[inside], y[inside]
        rows = thinned(x, y)
        gain.plot(x[rows], y[rows], color=colour, lw=width)
    if arm is content.chosen:
        places, low, high = precision_band(one)
        plain.fill_between(places, low, high, color=BLUE, alpha=0.13, lw=0)


def _operating_point(arm: ArmResult, name: str, base: float, plain: Axes, gain: Axes) -> None:
    recall, precision = arm.find("recall", name), arm.find("precision", name)
    if recall is None or precision is None or recall.value is None or precision.value is None:
        return
    plain.plot([recall.value], [precision.value], "o", color=INK, ms=4.5, zorder=5, clip_on=False)
    x, y = (float(gained(np.array(e.value), base)) for e in (recall, precision))
    if x >= 0 and y >= 0:
        gain.plot([x], [y], "o", color=INK, ms=4.5, zorder=5, clip_on=False)


def _row(arm: ArmResult, name: str) -> Row:
    ap, base = arm.find("auprc", name), judged(arm, name).prevalence
    known = "not estimable" if base is None else share(base)
    cells = (class_name(name), arm.name, as_text(ap), known, *_over_chance(ap, base), remark(ap))
    return Row(cells, mark(ap))


def _over_chance(ap: Estimate | None, base: float | None) -> tuple[str, str]:
    if ap is None or ap.value is None or base is None or base >= 1:
        return "not estimable", "not estimable"
    values = [v for v in (ap.value, ap.low, ap.high) if v is not None]
    gain = [f"{(v - base) / (1 - base):.2f}" for v in values]
    lift = [number(v / base) for v in values]
    return tuple(f"{v[0]} ({v[1]}–{v[2]})" if len(v) == 3 else f"{v[0]} (no interval)" for v in (gain, lift))  # type: ignore[return-value]
