"""Tables: the numbers behind every figure, and those that stand alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raresight.core.estimate import Estimate
from raresight.evaluate.counts import DEFAULT_POINT
from raresight.report.answers import positives
from raresight.report.content import Content
from raresight.report.words import (
    DASH,
    POINTS,
    class_name,
    figure,
    interval,
    many,
    metric_name,
    number,
    p_value,
    percent,
    points,
    share,
    unit_of,
)

SAID_ONCE = {"the threshold was chosen on this same part: optimistic"}  # page one and the limitations say it
STATUS = {"ok": "", "wide": "too wide to conclude from", "not_estimable": "not estimable"}


@dataclass(frozen=True)
class Row:
    """Cells as text; `mark` is a CSS class (`wide`, `blank`, `strong`) that says how far the row can be trusted."""

    cells: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A head and rows; columns listed in `numeric` are set flush right."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: frozenset[int] = frozenset()
    note: str = ""


def table(
    head: Sequence[str], rows: Iterable[Sequence[str] | Row], numeric: Iterable[int] = (), note: str = ""
) -> Table:
    made = tuple(row if isinstance(row, Row) else Row(tuple(row)) for row in rows)
    return Table(tuple(head), made, frozenset(numeric), note)


def mark(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "blank"
    return "wide" if estimate.status == "wide" else ""


def remark(estimate: Estimate | None) -> str:
    """Why a figure should not be read, or not far."""
    if estimate is None:
        return "not computed"
    words = STATUS[estimate.status]
    reason = "; ".join(part for part in estimate.reason.split("; ") if part and part not in SAID_ONCE)
    return f"{words}: {reason}" if words and reason else words or reason


def behind(content: Content, estimate: Estimate | None) -> str:
    """`93 lesions, 223 images`: what a figure rests on."""
    if estimate is None:
        return DASH
    who = unit_of(content.group_by)
    if who == estimate.unit or estimate.n_images == estimate.n_patients:
        return many(estimate.n_patients, who)
    return f"{many(estimate.n_patients, who)}, {many(estimate.n_images, 'image')}"


def per_class(content: Content, metrics: Sequence[str]) -> Table:
    """Every class of the arm shown: figures with intervals, what they rest on, and what is wrong with them."""
    arm = content.chosen
    rows = []
    who = unit_of(content.group_by)
    for name in content.rarest_first:
        found = [None if arm is None else arm.find(metric, name) for metric in metrics]
        first = next((e for e in found if e is not None), None)
        n = DASH if first is None else many(positives(first), who)
        notes = "; ".join(
            dict.fromkeys(f"{metric_name(m)}: {remark(e)}" for m, e in zip(metrics, found, strict=True) if remark(e))
        )
        worst = "blank" if any(mark(e) == "blank" for e in found[:1]) else "wide" if any(mark(e) for e in found) else ""
        rows.append(Row((class_name(name), n, *(figure(e) for e in found), notes), worst))
    head = (
        "Class",
        "With the class",
        *(metric_name(m).capitalize() if m != "auroc" else "AUROC" for m in metrics),
        "Remark",
    )
    used = next((e.operating_point for e in arm.estimates if e.operating_point), None) if arm else None
    first = arm.find("recall", content.task.classes[0]) if arm else None
    used = first.operating_point if first is not None else used
    note = f"95% intervals. Alarms at {POINTS.get(str(used), used)}." if used else "95% intervals."
    return table(head, rows, range(1, 2 + len(metrics)), note)


def macro(content: Content) -> Table:
    """Every arm: macro figures with intervals, over how many classes, and the range over seeds."""
    metrics = ("balanced_accuracy", "macro_f1", "macro_auroc", "macro_auprc", "accuracy", "expected_cost")
    shown = [m for m in metrics if any(arm.find(m) is not None for arm in content.arms)]
    default = DEFAULT_POINT[content.task.kind]
    rows = []
    remarks: dict[str, None] = {}
    for arm in content.arms:
        cells = []
        for metric in shown:
            estimate = arm.find(metric, point=default) or arm.find(metric)
            cells.append(figure(estimate))
            if estimate is not None and estimate.reason:
                remarks.setdefault(f"{metric_name(metric)}: {estimate.reason}")
        strong = "strong" if content.chosen is not None and arm.name == content.chosen.name else ""
        rows.append(Row((arm.name, *cells), strong))
    head = ("Arm", *(metric_name(m)[0].upper() + metric_name(m)[1:] for m in shown))
    note = f"95% intervals, alarms at {POINTS[default]}. A class that is not estimable enters no mean. "
    several = [arm.shown_seed for arm in content.arms if arm.shown_seed is not None and len(arm.seeds) > 1]
    note += f"Of several seeds the lowest is shown ({min(several)}); all stand below. " if several else ""
    note += "; ".join(remarks) + "." if remarks else ""
    return table(head, rows, range(1, 1 + len(shown)), note)


def comparisons(content: Content, rows: Sequence[dict[str, object]]) -> Table:
    """Paired differences from the baseline: declared ones with Holm's correction, the others exploratory."""
    made = []
    for row in rows:
        metric = str(row["metric"])
        difference, low, high = (row.get(key) for key in ("difference", "low", "high"))
        if isinstance(difference, int | float):
            as_points = metric in {
                "recall",
                "recall_at_matched_specificity",
                "recall_at_specificity_90",
                "precision",
                "specificity",
                "accuracy",
                "balanced_accuracy",
            }
            write = points if as_points else lambda value: f"{value:+.3f}".replace("-", "−")
            text = write(float(difference))
            if isinstance(low, int | float) and isinstance(high, int | float):
                text += f" ({write(float(low))} to {write(float(high))})"
            text += " points" if as_points else ""
        else:
            text = "not estimable"
        adjusted = row.get("p_adjusted")
        made.append(
            Row(
                (
                    str(row["arm"]),
                    class_name(str(row["class"])) if row.get("class") else "all classes",
                    metric_name(metric),
                    text,
                    p_value(_number(row.get("p"))),
                    p_value(_number(adjusted)) if adjusted is not None else "exploratory",
                    f"{row.get('n_patients') or DASH}",
                    str(row.get("reason") or ""),
                ),
                "strong" if isinstance(adjusted, int | float) and adjusted < 0.05 else "",
            )
        )
    who = unit_of(content.group_by)
    head = ("Arm", "Class", "Figure", "Difference from the baseline", "p", "p after Holm", f"n ({who}s)", "Remark")
    return table(head, made, (3, 4, 5, 6), "95% intervals. Bold: still below 0.05 after Holm's correction.")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


__all__ = ["Row", "Table", "behind", "comparisons", "interval", "macro", "mark", "number", "per_class", "percent",
           "points", "remark", "share", "table"]  # fmt: skip
