"""Arms side by side: paired differences from the baseline, and who wins for which class."""

from __future__ import annotations

from typing import Any

from raresight.report.content import Content
from raresight.report.figures.style import (
    BLUE,
    CYCLE,
    FAINT,
    GREEN,
    HAIR,
    INK,
    MARKERS,
    SOFT,
    Absent,
    Figure,
    canvas,
    to_svg,
)
from raresight.report.tables import Row, comparisons, table
from raresight.report.words import class_name, part_name, percent, points
from raresight.report.words import figure as as_text

MOST = 3
RING = {"boxstyle": "round,pad=0.35", "fc": "none", "ec": BLUE, "lw": 1.1}


def declared(content: Content) -> list[dict[str, Any]]:
    """The comparisons drawn: the declared family on the part shown, else on another part, else recall."""
    for metric in ("recall_at_matched_specificity", "recall"):
        rows = [row for row in content.comparisons if row["metric"] == metric and row.get("class") in content.watched]
        found = [row for row in rows if row.get("part") == content.part] or rows
        if found:
            return found
    return []


def differences(content: Content) -> Figure | Absent:
    rows = declared(content)
    if not rows:
        why = "there is only one arm" if len(content.arms) == 1 else None
        return Absent(f"not computed, because {why}" if why else content.why_missing("compare"))
    arms = list(dict.fromkeys(str(row["arm"]) for row in rows))
    names = [name for name in content.watched if any(row["class"] == name for row in rows)]
    limit = max([abs(float(row[key])) for row in rows for key in ("low", "high") if row.get(key) is not None] or [0.2])
    limit = min(1.0, limit * 1.1)
    drawn = names[:MOST]
    matched = ", at its specificity" if rows[0]["metric"] != "recall" else ""
    with canvas(0.75 + 0.3 * len(arms)) as figure:
        panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, drawn, strict=True):
            axes.axvline(0, color=INK, lw=0.8)
            for y, arm in enumerate(arms):
                row = next((r for r in rows if r["arm"] == arm and r["class"] == name), None)
                _mark(axes, y, row)
            axes.set_xlim(-limit, limit)
            axes.xaxis.set_major_formatter(lambda value, _: points(value))
            axes.locator_params(axis="x", nbins=5)
            axes.grid(axis="x", color=HAIR, lw=0.6)
            axes.set_axisbelow(True)
            axes.set_title(class_name(name), fontsize=8.5, color=BLUE)
            axes.set_yticks(range(len(arms)), arms)
            axes.set_ylim(len(arms) - 0.5, -0.5)
            axes.spines["left"].set_visible(False)
        panels[0].tick_params(axis="y", colors=INK)
        for axes in panels[1:]:
            axes.tick_params(axis="y", labelleft=False)
        label = f"points of sensitivity gained (right) or lost (left) against {content.baseline}{matched}"
        figure.supxlabel(label, fontsize=8.5,
                         color=SOFT)  # fmt: skip
        svg = to_svg(figure)
    sure = [row for row in rows if row.get("p_adjusted") is not None and row["p_adjusted"] < 0.05]
    said = [f"{r['arm']} for {class_name(r['class'])} ({points(r['difference'])} points)" for r in sure]
    part = part_name(str(rows[0].get("part", "")))
    caption = f"Paired on the same patients of the {part}. "
    if said:
        caption += f"Still clear after correction for the number of comparisons: {'; '.join(said)}."
    else:
        caption += "No difference stays clear after correction for the number of comparisons."
    alt = "Differences in sensitivity between each arm and the baseline with 95% intervals. " + caption
    return Figure(svg, alt, caption, comparisons(content, rows))


def _mark(axes, y: int, row: dict[str, Any] | None) -> None:  # type: ignore[no-untyped-def]
    if row is None or row.get("difference") is None:
        axes.text(0.02, y, "not estimable", color=SOFT, va="center", fontsize=7.5, style="italic",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        return
    sure = row.get("p_adjusted") is not None and row["p_adjusted"] < 0.05
    colour = GREEN if sure and row["difference"] > 0 else CYCLE[0] if sure else SOFT
    if row.get("low") is not None:
        axes.plot([row["low"], row["high"]], [y, y], color=colour if sure else FAINT, lw=1.8, solid_capstyle="butt")
    axes.plot([row["difference"]], [y], "o", mfc=colour if sure else "white", mec=colour, ms=5.5, zorder=3)


def winners(content: Content) -> Figure | Absent:
    """The grid of arms against classes: sensitivity in each cell, the highest of each class ringed."""
    arms = [arm for arm in content.arms if any(e.metric == "recall" for e in arm.estimates)]
    if len(arms) < 2:
        return Absent("not computed, because there are fewer than two arms to compare")
    names = content.rarest_first
    best: dict[str, float] = {}
    for name in names:
        values = [e.value for arm in arms if (e := arm.find("recall", name)) is not None and e.value is not None]
        if values:
            best[name] = max(values)
    with canvas(0.6 + 0.34 * len(names)) as figure:
        axes = figure.add_subplot()
        for y, name in enumerate(names):
            for x, arm in enumerate(arms):
                estimate = arm.find("recall", name)
                if estimate is None or estimate.value is None:
                    axes.text(x, y, "–", ha="center", va="center", color=SOFT)
                    continue
                wide = estimate.status == "wide"
                top = estimate.value == best.get(name)
                axes.text(x, y, percent(estimate.value), ha="center", va="center", fontsize=8.5,
                          color=SOFT if wide else INK, weight="bold" if top else "normal",
                          style="italic" if wide else "normal",
                          bbox=RING if top else None)  # fmt: skip
            if y:
                axes.axhline(y - 0.5, color=HAIR, lw=0.6)
        axes.set_xlim(-0.5, len(arms) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xticks(range(len(arms)), [arm.name.replace("_", "\n") for arm in arms])
        axes.set_yticks(range(len(names)), [class_name(name) for name in names])
        axes.xaxis.tick_top()
        axes.tick_params(length=0, colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        svg = to_svg(figure)
    rows = [
        Row((class_name(name), *(as_text(arm.find("recall", name)) for arm in arms)), "" if name in best else "blank")
        for name in names
    ]
    caption = "Highest sensitivity of each class ringed. Without the intervals below, a ring proves nothing."
    alt = "Grid of the sensitivity of every arm for every class, the highest of each class ringed."
    return Figure(svg, alt, caption, table(("Class", *(arm.name for arm in arms)), rows, range(1, 1 + len(arms)),
                                           "Sensitivity with 95% intervals."))  # fmt: skip


__all__ = ["MARKERS", "declared", "differences", "winners"]
