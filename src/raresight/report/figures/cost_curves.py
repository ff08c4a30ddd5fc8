"""Cost curve and Brier curve: what the model's errors cost, whatever a miss is worth and however rare the class is."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from raresight.evaluate.cost_curves import brier_curve, cost_curve, lower_envelope, weight_of_misses
from raresight.report.content import Content
from raresight.report.figures.curves import MOST, Judged, judged, no_curve, thinned
from raresight.report.figures.style import BLUE, FAINT, GREEN, HAIR, INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name

DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))
AT = (0.1, 0.25, 0.5, 0.75, 0.9)


def cost_curves(content: Content) -> Figure | Absent:
    """Cost over the weight of misses, both in [0, 1], per watched class; a class that is absent has an empty panel."""
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no scores")
    names = content.watched[:MOST]
    n = max(len(names), 3)
    rows: list[Row] = []
    with canvas(2.8) as figure:
        panels = figure.subplots(1, n, squeeze=False)[0]
        for empty in panels[len(names) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(class_name(name), fontsize=8.5)
            one = judged(arm, name)
            if not one.estimable:
                no_curve(axes)
                rows.append(Row((class_name(name), *["not estimable"] * 4), "blank"))
                continue
            rows += _draw(axes, name, one, arm.thresholds.get(name), _stated(content, name))
        panels[0].set_ylabel("cost, of the dearest possible")
        first = panels[0]
        handles = first.plot([], [], color=BLUE, lw=1.6, label="threshold where alarms are raised")
        handles += first.plot([], [], color=GREEN, lw=1.3, ls=DASHED, label="threshold set by the cost (Brier curve)")
        handles += first.plot([], [], color=SOFT, lw=1.0, ls=DOTTED, label="best threshold in hindsight")
        handles += first.plot([], [], color=FAINT, lw=1.1, label="cheaper of always and never")
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        figure.supxlabel("weight of misses: 0 only false alarms count, 1 only misses do", fontsize=8.5, color=SOFT)
        svg = to_svg(figure)
    caption = (
        "Below the grey roof the model is cheaper than always or never alarming. The line is good in a range of costs "
        "only; the Brier curve is what the probabilities could do if the threshold followed the cost. No threshold "
        "gets below the dotted line, which knows the labels. A vertical line marks the price and prevalence stated."
    )
    head = ("Class", "Weight of misses", "Threshold where alarms are raised", "Threshold set by the cost",
            "Always or never")  # fmt: skip
    note = (
        "Weight x = π C / (π C + 1 - π) for a miss that costs C false alarms at prevalence π; cost x (1 - sensitivity) "
        "+ (1 - x)(1 - specificity). Points of curves, without intervals: those stand with the thresholds above."
    )
    alt = f"Cost curves and Brier curves of {', '.join(class_name(n) for n in names)}. "
    return Figure(svg, alt + caption, caption, table(head, rows, (1, 2, 3, 4), note))


def _stated(content: Content, name: str) -> float | None:
    """The weight of misses that follows from the price and the prevalence that were stated; None without either."""
    missed, prevalence = content.missed.get(name), content.prevalence.get(name)
    return None if missed is None or prevalence is None else float(weight_of_misses(prevalence, missed))


def _draw(axes: Axes, name: str, one: Judged, threshold: float | None, stated: float | None) -> list[Row]:
    roof = np.minimum(AT, 1 - np.asarray(AT))
    axes.plot([0, 0.5, 1], [0, 0.5, 0], color=FAINT, lw=1.1)
    free = brier_curve(one.target, one.score)
    rows = thinned(*free)
    axes.plot(free[0][rows], free[1][rows], color=GREEN, lw=1.3, ls=DASHED)
    axes.plot(*lower_envelope(one.target, one.score), color=SOFT, lw=1.0, ls=DOTTED)
    if stated is not None:
        axes.axvline(stated, color=INK, lw=0.8)
    fixed = None
    if threshold is not None:
        fixed = cost_curve(one.target, one.score, threshold)
        axes.plot(*fixed, color=BLUE, lw=1.6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 0.55)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.grid(color=HAIR, lw=0.6)
    axes.tick_params(axis="y", colors=INK)
    return [
        Row((class_name(name), f"{x:g}", "no threshold" if fixed is None else f"{np.interp(x, *fixed):.3f}",
             f"{np.interp(x, *free):.3f}", f"{top:.3f}"))
        for x, top in zip(AT, roof, strict=True)
    ]  # fmt: skip
