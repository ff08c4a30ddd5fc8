"""ROC and precision-recall curves of the classes that matter, the arm to deploy over the baseline."""

from __future__ import annotations

import numpy as np

from raresight.evaluate.ranking import pr_points, roc_points
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import BLUE, FAINT, INK, SOFT, Absent, Figure, canvas, percent_axis, to_svg
from raresight.report.tables import Row, mark, remark, table
from raresight.report.words import class_name, share
from raresight.report.words import figure as as_text

MOST = 4
MOST_POINTS = 160


def curves(content: Content) -> Figure | Absent:
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    names = content.watched[:MOST]
    compared = [arm] if content.reference in (None, arm) or not _has(content.reference) else [content.reference, arm]
    n = len(names)
    with canvas(0.75 + 2 * (7.0 / max(n, 3) - 0.05)) as figure:
        panels = figure.subplots(2, max(n, 3), squeeze=False)
        for empty in panels[:, n:].ravel():
            empty.set_axis_off()
        for column, name in enumerate(names):
            roc, pr = panels[0][column], panels[1][column]
            roc.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls=(0, (3, 3)))
            roc.set_title(class_name(name), fontsize=8.5)
            for one in compared:
                colour, width = (BLUE, 1.7) if one is arm else (SOFT, 1.0)
                _draw(one, name, roc, pr, colour, width)
            _operating_point(arm, name, roc, pr)
            base = _prevalence(arm, name)
            if base is not None:
                pr.axhline(base, color=FAINT, lw=0.8, ls=(0, (3, 3)))
                pr.text(0.98, base + 0.02, f"by chance {share(base)}", ha="right", va="bottom", fontsize=7, color=SOFT)
            else:
                for axes in (roc, pr):
                    axes.text(0.5, 0.5, "not estimable", ha="center", color=SOFT, style="italic")
            for axes in (roc, pr):
                percent_axis(axes, "y")
                axes.set_xlim(-0.02, 1.02)
                axes.set_xticks([0, 0.5, 1], ["0", "50", "100%"])
                axes.set_box_aspect(1)
            roc.set_xlabel("of those without: alarms")
            pr.set_xlabel("of those with it: found")
        panels[0][0].set_ylabel("of those with it: found")
        panels[1][0].set_ylabel("of the alarms: right")
        handles = [
            figure.axes[0].plot([], [], color=BLUE if a is arm else SOFT, lw=1.6, label=a.name)[0] for a in compared
        ]
        handles += figure.axes[0].plot([], [], "o", color=INK, ms=5, label="where alarms are raised")
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        svg = to_svg(figure)
    rows = []
    for name in content.watched:
        for one in compared:
            roc_area, ap = one.find("auroc", name), one.find("auprc", name)
            base = _prevalence(one, name)
            rows.append(
                Row(
                    (
                        class_name(name),
                        one.name,
                        as_text(roc_area),
                        as_text(ap),
                        "not estimable" if base is None else share(base),
                        "; ".join(dict.fromkeys(text for text in (remark(roc_area), remark(ap)) if text)),
                    ),
                    mark(roc_area),
                )
            )
    caption = "Read the lower row first: it shows the price of an alarm; the dashed line is what chance would give."
    more = f" {len(content.watched) - MOST} further classes stand in the table." if len(content.watched) > MOST else ""
    head = ("Class", "Arm", "AUROC", "Average precision", "By chance (prevalence)", "Remark")
    alt = f"ROC curves and precision-recall curves of {', '.join(class_name(n) for n in names)}. "
    return Figure(svg, alt + caption, caption + more, table(head, rows, (2, 3, 4), "95% intervals."))


def _has(arm: ArmResult | None) -> bool:
    return arm is not None and bool(arm.predictions)


def _draw(arm: ArmResult, name: str, roc, pr, colour: str, width: float) -> None:  # type: ignore[no-untyped-def]
    predictions = (arm.calibrated or arm.predictions)[0]
    k = predictions.task.index(name)
    target, score = predictions.target[:, k], predictions.prob[:, k]
    fpr, recall, _ = roc_points(target, score)
    if len(fpr):
        rows = thinned(fpr, recall)
        roc.plot(fpr[rows], recall[rows], color=colour, lw=width, drawstyle="default")
    recall, precision, _ = pr_points(target, score)
    if len(recall):
        rows = thinned(recall, precision)
        pr.plot(np.append(0, recall[rows]), np.append(precision[rows][0], precision[rows]), color=colour, lw=width,
                drawstyle="steps-pre")  # fmt: skip


def thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row numbers of at most about `MOST_POINTS` points that keep the curve's shape, the ends among them.

    Points are taken at equal lengths along the curve, so that steep parts keep theirs.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    rows = np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS))
    return np.unique(np.concatenate([[0], np.clip(rows, 0, len(x) - 1), [len(x) - 1]]))


def _operating_point(arm: ArmResult, name: str, roc, pr) -> None:  # type: ignore[no-untyped-def]
    recall, specificity, precision = (arm.find(metric, name) for metric in ("recall", "specificity", "precision"))
    if recall is None or recall.value is None:
        return
    if specificity is not None and specificity.value is not None:
        roc.plot([1 - specificity.value], [recall.value], "o", color=INK, ms=5, zorder=4, clip_on=False)
    if precision is not None and precision.value is not None:
        pr.plot([recall.value], [precision.value], "o", color=INK, ms=5, zorder=4, clip_on=False)


def _prevalence(arm: ArmResult, name: str) -> float | None:
    if not arm.predictions:
        return None
    predictions = arm.predictions[0]
    target = predictions.target[:, predictions.task.index(name)]
    known = target[~np.isnan(target)]
    return float(known.mean()) if len(known) and known.any() else None
