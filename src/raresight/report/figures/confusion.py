"""What is taken for what: the matrix of true and called classes, and the costly confusions ranked."""

from __future__ import annotations

import numpy as np

from raresight.core.predictions import Predictions
from raresight.evaluate.counts import confusion_matrix, decide
from raresight.report.answers import shown_predictions
from raresight.report.content import Content
from raresight.report.figures.style import INK, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, percent, plural, unit_of

LARGEST = 16


def confusion(content: Content) -> Figure | Absent:
    arm = content.chosen
    shown = None if arm is None else shown_predictions(arm)
    if arm is None or shown is None:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    if content.task.kind != "exclusive":
        return Absent("not computed, because labels are independent: an image can have several findings at once")
    if content.task.n_classes > LARGEST:
        return Absent(f"not computed, because {content.task.n_classes} classes do not fit a page")
    predictions = shown[0]
    alarm = decide(predictions.prob, "exclusive")
    counts = confusion_matrix(predictions.target, alarm).astype(int)
    patients = _patients(predictions, alarm)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    k = content.task.n_classes
    order = [content.task.index(name) for name in content.rarest_first]
    names = [class_name(content.task.classes[i]) for i in order]
    codes = [content.task.classes[i].replace("_", " ") for i in order]
    one = unit_of(content.group_by)
    with canvas(0.9 + 0.48 * k) as figure:
        axes = figure.add_subplot()
        for y, i in enumerate(order):
            for x, j in enumerate(order):
                value = share[i, j]
                if np.isnan(value):
                    continue
                depth = float(value) ** 0.7
                tint = (0, 114, 178) if i == j else (213, 94, 0)
                axes.add_patch(_cell(x, y, tuple(1 - depth * (1 - c / 255) * 0.9 for c in tint)))
                if counts[i, j]:
                    ink = "white" if depth > 0.62 else INK
                    axes.text(x, y - 0.14, percent(value), ha="center", va="center", color=ink, fontsize=8.5)
                    axes.text(x, y + 0.24, f"{counts[i, j]}", ha="center", va="center", color=ink, fontsize=6.8)
            if not total[i, 0]:
                axes.text(k / 2 - 0.5, y, "no case with it: not estimable", ha="center", va="center", color=SOFT,
                          style="italic", fontsize=8)  # fmt: skip
        axes.set_xlim(-0.5, k - 0.5)
        axes.set_ylim(k - 0.5, -0.5)
        axes.set_xticks(range(k), codes, rotation=0 if max(map(len, codes)) < 9 else 40, ha="center")
        axes.set_yticks(range(k), names)
        axes.tick_params(length=0, colors=INK)
        axes.xaxis.tick_top()
        axes.set_xlabel("called", loc="left")
        axes.xaxis.set_label_position("top")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_ylabel("truly")
        svg = to_svg(figure)
    rows = []
    for i in order:
        cells = [
            f"{percent(share[i, j])}: {counts[i, j]} ({patients[i, j]})" if total[i, 0] else "not estimable"
            for j in order
        ]
        rows.append(Row((class_name(content.task.classes[i]), *cells), "" if total[i, 0] else "blank"))
    caption = (
        f"Each row adds to 100% of the {plural(content.unit)} that truly have the class; small figures count them. "
        f"Called is the most probable class{' after calibration' if arm.calibrated else ''}, whatever the alarm "
        "thresholds say."
    )
    note = f"Share of the row: {plural(content.unit)} (distinct {plural(one)}). Most probable class, arm {arm.name}."
    alt = "Matrix of true classes against called classes, each row in percent. " + caption
    head = ("Truly", *(f"called {name}" for name in names))
    return Figure(svg, alt, caption, table(head, rows, range(1, k + 1), note))


def _patients(predictions: Predictions, alarm: np.ndarray) -> np.ndarray:
    """Distinct independent units in each cell, `(K, K)`."""
    k = predictions.task.n_classes
    target, patient = predictions.target, predictions.patient.astype(str)
    cells = np.zeros((k, k), dtype=int)
    for i in range(k):
        for j in range(k):
            cells[i, j] = len(np.unique(patient[(target[:, i] == 1) & alarm[:, j]]))
    return cells


def _cell(x: int, y: int, colour: tuple[float, ...]):  # type: ignore[no-untyped-def]
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, edgecolor="#eceef0", lw=0.5)
