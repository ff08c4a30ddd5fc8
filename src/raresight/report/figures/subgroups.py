"""Subgroups: sensitivity of the classes that matter, by age, sex, site or device, and how far the groups differ."""

from __future__ import annotations

from collections.abc import Sequence

from raresight.core.estimate import Estimate
from raresight.evaluate.subgroups import AGAINST, AT_A_POINT, DIFFERENCE
from raresight.report.content import OPERATING_POINTS, Content
from raresight.report.figures.style import (
    SOFT,
    VERMILLION,
    Absent,
    Figure,
    canvas,
    interval_mark,
    percent_axis,
    rows_axis,
    to_svg,
)
from raresight.report.tables import Row, Table, mark, remark, table
from raresight.report.words import POINTS, class_name, figure, metric_name, plural, points, unit_of

NOT_ASKED = (
    "not computed, because no subgroups were asked for (`decision.subgroups` in study.yaml, `score --subgroups`)"
)
MOST_ROWS = 36
HIDDEN = "hidden"


def subgroups(content: Content) -> Figure | Absent:
    """Sensitivity of every watched class in every group that is not hidden, as far as 36 rows go; the rest is in the
    table.
    """
    rows = [e for e in _of_arm(content) if AGAINST not in str(e.subgroup)]
    if not rows:
        return Absent(NOT_ASKED)
    asked = [e for name in content.watched for e in rows if (e.metric, e.class_) == ("recall", name)]
    told = [e for e in asked if not (e.value is None and HIDDEN in e.reason)] or asked
    drawn = told[:MOST_ROWS]
    with canvas(0.7 + 0.24 * max(1, len(drawn))) as made:
        axes = made.add_subplot()
        for y, estimate in enumerate(drawn):
            if estimate.value is None:
                axes.text(0.02, y, _why(estimate), color=SOFT, va="center", fontsize=7.5, style="italic",
                          transform=axes.get_yaxis_transform())  # fmt: skip
            else:
                interval_mark(axes, y, estimate, VERMILLION)
        percent_axis(axes)
        axes.set_xlabel("sensitivity")
        rows_axis(axes, [f"{class_name(str(e.class_))}, {_group(e.subgroup)}" for e in drawn])
        svg = to_svg(made)
    shown = [e for e in drawn if e.value is not None]
    n_hidden = len({(e.class_, e.subgroup) for e in rows if e.value is None and HIDDEN in e.reason})
    caption = f"Sensitivity in {len({e.subgroup for e in rows})} subgroups."
    if shown:
        worst = min(shown, key=lambda e: e.value or 0.0)
        caption += f" Lowest: {class_name(str(worst.class_))}, {_group(worst.subgroup)}, {figure(worst)}."
    if n_hidden:
        caption += f" Of small groups {n_hidden} figures are hidden, to be neither misread nor traced to a person."
    return Figure(
        svg, "Points with 95% intervals, one row a class and group. " + caption, caption, _table(content, rows)
    )


def subgroup_differences(content: Content) -> Figure | Absent:
    """The differences between groups, all of them exploratory, as a table."""
    rows = [e for e in _of_arm(content) if AGAINST in str(e.subgroup) and e.value is not None]
    if not rows:
        return Absent("not computed, because no two groups of one column are large enough to be shown")
    watched = [e for e in rows if e.class_ in content.watched] or rows
    apart = sum(1 for e in watched if (e.low or 0) > 0 or (e.high or 0) < 0)
    caption = (
        f"Exploratory: {len(watched)} differences of the watched classes were looked at, {apart} of whose intervals "
        "leave out 0; one in twenty does so by chance alone."
    )
    cells = [
        Row(
            (
                class_name(str(e.class_)),
                _group(e.subgroup),
                metric_name(e.metric.removesuffix(DIFFERENCE)),
                f"{points(e.value or 0)} ({points(e.low or 0)} to {points(e.high or 0)}) points",
                str(e.n_positive_patients or ""),
            ),
            "wide" if e.status == "wide" else "",
        )
        for e in watched
    ]
    who = plural(unit_of(content.group_by))
    head = ("Class", "Groups", "Figure", "Difference", f"{who.capitalize()} with it in the smaller group")
    note = "95% intervals, not corrected for their number: to form ideas with, not conclusions."
    return Figure("", "", caption, table(head, cells, (3, 4), note))


def _of_arm(content: Content) -> list[Estimate]:
    """The subgroup figures of the arm and seed shown, at the operating point in use and without one."""
    arm = content.chosen
    if arm is None:
        return []
    rows = [e for e in arm.estimates if e.subgroup is not None and e.seed == arm.shown_seed]
    used = next((name for name in OPERATING_POINTS if any(e.operating_point == name for e in rows)), None)
    return [e for e in rows if e.operating_point in (used, None)]


def _table(content: Content, rows: Sequence[Estimate]) -> Table:
    metrics = (*AT_A_POINT, "auroc")
    by_key = {(e.class_, e.subgroup, e.metric): e for e in rows}
    cells = []
    for name in content.rarest_first:
        for group in dict.fromkeys(e.subgroup for e in rows):
            found = [by_key.get((name, group, metric)) for metric in metrics]
            first = found[0]
            if first is None:
                continue
            hidden = first.value is None and HIDDEN in first.reason
            n = "fewer than 10" if hidden else str(first.n_positive_patients or 0)
            n = HIDDEN if hidden and first.reason.startswith(HIDDEN) else n
            told = [HIDDEN if hidden else figure(e) for e in found]
            cells.append(Row((class_name(name), _group(group), n, *told, "" if hidden else remark(first)), mark(first)))
    used = next((e.operating_point for e in rows if e.operating_point), None)
    who = plural(unit_of(content.group_by))
    head = ("Class", "Group", f"{who.capitalize()} with it", *(_titled(m) for m in metrics), "Remark on sensitivity")
    note = (
        f"95% intervals. Alarms at {POINTS.get(str(used), used)}. Groups with fewer than 10 positive {who} are hidden."
    )
    return table(head, cells, range(2, 3 + len(metrics)), note)


def _titled(metric: str) -> str:
    return "AUROC" if metric == "auroc" else metric_name(metric).capitalize()


def _group(subgroup: str | None) -> str:
    """`sex=female` as a reader would say it: `sex female`."""
    return str(subgroup).replace("=", " ", 1).replace("_", " ")


def _why(estimate: Estimate) -> str:
    return HIDDEN if HIDDEN in estimate.reason else "not estimable"
