"""How training went: loss, and the validation score that chose the checkpoint."""

from __future__ import annotations

from typing import Any

from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import BLUE, CYCLE, HAIR, INK, MARKERS, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import metric_name


def training(content: Content) -> Figure | Absent:
    arms = [arm for arm in content.arms if arm.events and arm.events[0]]
    if not arms:
        why = "no training history lies in the study" if content.config else content.why_missing("training")
        return Absent(why if why.startswith("not") else f"not computed, because {why}")
    rule = next((str(e["rule"]) for arm in arms for e in arm.events[0] if e.get("rule")), "score")
    with canvas(2.7) as figure:
        left, right = figure.subplots(1, 2)
        for arm, (colour, marker, width) in zip(arms, _looks(content, arms), strict=True):
            for axes, key in ((left, "loss"), (right, "score")):
                known = [(e["step"], e[key]) for e in arm.events[0] if e.get(key) is not None]
                if known:
                    axes.plot(*zip(*known, strict=True), color=colour, lw=width, label=arm.name)
            best = _best(arm)
            if best is not None and best.get("score") is not None:
                right.plot([best["step"]], [best["score"]], marker, color=colour, ms=6, mec="white", mew=0.8, zorder=3)
        left.set_title("loss on the training part", fontsize=8.5)
        right.set_title(f"{metric_name(rule)} on the validation part", fontsize=8.5)
        for axes in (left, right):
            axes.set_xlabel("optimiser steps")
            axes.grid(axis="y", color=HAIR, lw=0.6)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
        svg = to_svg(figure)
    rows = []
    for arm in content.arms:
        for position, events in enumerate(arm.events):
            best, last = _best(arm, position), events[-1] if events else {}
            seed = arm.seeds[position] if position < len(arm.seeds) else position
            rows.append(
                Row(
                    (
                        arm.name,
                        str(seed),
                        f"{last.get('steps', last.get('step', 0)):,}" if events else "no history",
                        "–" if last.get("loss") is None else f"{last['loss']:.3f}",
                        "–" if best is None else f"{best['step']:,}",
                        "–" if best is None or best.get("score") is None else f"{best['score']:.3f} (no interval)",
                    )
                )
            )
    caption = (
        "The mark shows the checkpoint that was kept. Losses of different arms are not comparable with one another."
    )
    head = ("Arm", "Seed", "Steps", "Last loss", "Step kept", f"{metric_name(rule)} there")
    alt = "Training loss and validation score of every arm against optimiser steps. "
    return Figure(svg, alt + caption, caption, table(head, rows, (1, 2, 3, 4, 5)))


def _looks(content: Content, arms: list[ArmResult]) -> list[tuple[str, str, float]]:
    looks, others = [], 0
    for arm in arms:
        if content.chosen is not None and arm.name == content.chosen.name:
            looks.append((BLUE, "o", 2.0))
        elif arm.name == content.baseline:
            looks.append((INK, "o", 1.2))
        else:
            looks.append((CYCLE[others % len(CYCLE)], MARKERS[others % len(MARKERS)], 1.1))
            others += 1
    return looks


def _best(arm: ArmResult, position: int = 0) -> dict[str, Any] | None:
    kept = [event for event in arm.events[position] if event.get("best")]
    return kept[-1] if kept else None
