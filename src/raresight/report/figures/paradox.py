"""The accuracy paradox: answering without looking is often right, and finds no disease."""

from __future__ import annotations

import numpy as np

from raresight.core.estimate import Estimate
from raresight.core.predictions import Predictions
from raresight.evaluate.counts import trivial_accuracy
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import (
    BLUE,
    SOFT,
    Absent,
    Figure,
    canvas,
    interval_mark,
    percent_axis,
    rows_axis,
    to_svg,
)
from raresight.report.tables import Row, mark, table
from raresight.report.words import class_name, percent
from raresight.report.words import figure as as_text

MOST_CLASSES = 3
TRIVIAL = "without looking"


def paradox(content: Content) -> Figure | Absent:
    arms = [arm for arm in content.arms if arm.find("accuracy") is not None]
    if not arms:
        return Absent(
            content.why_missing("arms") if not content.arms else "not computed, because no accuracy was given"
        )
    first = next((arm.predictions[0] for arm in arms if arm.predictions), None)
    trivial = None if first is None else trivial_accuracy(first.target, content.task.kind)
    trivial = None if trivial is None or np.isnan(trivial) else trivial
    present = {n for n in content.watched if (e := arms[0].find("recall", n)) is not None and e.value is not None}
    classes = content.watched[:MOST_CLASSES]
    finds = {name: _found_without_looking(first, name) for name in present}
    default = {"exclusive": "argmax", "independent": "0.5"}[content.task.kind]
    names = [TRIVIAL, *(arm.name for arm in arms)]
    rows = []
    with canvas(0.9 + 0.27 * len(names)) as figure:
        panels = figure.subplots(1, 1 + len(classes), sharey=True, squeeze=False)[0]
        for axes, title in zip(panels, ["accuracy", *(f"finds\n{class_name(n)}" for n in classes)], strict=True):
            axes.set_title(title, fontsize=8.5, color=SOFT if title == "accuracy" else BLUE)
            percent_axis(axes)
            axes.set_xticks([0, 0.5, 1], ["0", "50", "100%"])
        if trivial is not None:
            panels[0].plot([trivial], [0], "X", color=SOFT, ms=7)
        for axes, name in zip(panels[1:], classes, strict=True):
            if name in present:
                axes.plot([finds[name]], [0], "X", color=SOFT, ms=7, clip_on=False, zorder=4)
        for y, arm in enumerate(arms, start=1):
            interval_mark(panels[0], y, _at(arm, default), SOFT)
            for axes, name in zip(panels[1:], classes, strict=True):
                interval_mark(axes, y, _recall(arm.find("recall", name, point=default), arm.find("recall", name)), BLUE)
        rows_axis(panels[0], names)
        for axes in panels[1:]:
            axes.tick_params(axis="y", labelleft=False)
            axes.spines["left"].set_visible(False)
        svg = to_svg(figure)
    zero = [f"{percent(finds[n])} by construction" if n in present else "not estimable" for n in content.watched]
    rows.append(Row((TRIVIAL, "not computed" if trivial is None else f"{percent(trivial)} by construction", *zero)))
    for arm in arms:
        recalls = [_recall(arm.find("recall", n, point=default), arm.find("recall", n)) for n in content.watched]
        cells = (arm.name, as_text(_at(arm, default)), *(as_text(e) for e in recalls))
        rows.append(Row(cells, "wide" if any(mark(e) for e in recalls) else ""))
    caption = "Accuracy says little where disease is rare. "
    if trivial is not None:
        rule = "the commonest class" if content.task.kind == "exclusive" else "the commoner answer for each label"
        caption += f"Whoever always answers {rule} is right in {percent(trivial)} and finds none of the rare ones."
    head = ("Arm", "Accuracy", *(f"Finds {class_name(n)}" for n in content.watched))
    note = "95% intervals. All arms at the default operating point, so that accuracy and sensitivity belong together."
    alt = "Accuracy of each arm beside its sensitivity for the critical classes, and of answering without looking. "
    return Figure(svg, alt + caption, caption, table(head, rows, range(1, 2 + len(content.watched)), note))


def _at(arm: ArmResult, default: str) -> Estimate | None:
    """Accuracy at the default operating point: tuned thresholds raise more alarms, and their accuracy is another."""
    return arm.find("accuracy", point=default) or arm.find("accuracy")


def _recall(at_default: Estimate | None, otherwise: Estimate | None) -> Estimate | None:
    return at_default if at_default is not None else otherwise


def _found_without_looking(predictions: Predictions | None, name: str) -> float:
    """1 for a class that the trivial classifier always names (the commonest, or a label commoner than not), else 0."""
    if predictions is None:
        return 0.0
    share = np.nanmean(predictions.target, axis=0)
    k = predictions.task.index(name)
    return float(share[k] == share.max() if predictions.task.kind == "exclusive" else share[k] > 0.5)
