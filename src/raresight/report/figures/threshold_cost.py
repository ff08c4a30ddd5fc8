"""What each threshold would have cost on the validation part, and what the chosen one then cost on the part shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raresight.core.estimate import Estimate
from raresight.evaluate.ranking import steps
from raresight.report.content import ArmResult, Content
from raresight.report.figures.curves import MOST, Judged, judged_in, thinned
from raresight.report.figures.style import BLUE, FAINT, INK, ORANGE, SOFT, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import DASH, class_name, interval, part_name, percent
from raresight.report.words import figure as as_text

LEAST = 1e-4  # the left end of the threshold axis


@dataclass(frozen=True)
class Price:
    """What a miss of the class is worth in false alarms, whether that was stated, and the prevalence it is met at."""

    missed: float
    stated: bool
    prevalence: float

    def per_1000(self, recall: np.ndarray | float, false_share: np.ndarray | float) -> np.ndarray | float:
        """1000 [π C (1 - Se) + (1 - π)(1 - Sp)], in false alarms."""
        return 1000 * (self.prevalence * self.missed * (1 - recall) + (1 - self.prevalence) * false_share)


def price(content: Content, name: str, one: Judged) -> Price | None:
    """The stated cost of a miss; else (1 - π)/π, at which the least cost is the highest Youden's J. None if absent."""
    base = one.prevalence
    if base is None:
        return None
    prevalence = content.prevalence.get(name, base)
    stated = name in content.missed
    return Price(content.missed[name] if stated else (1 - prevalence) / prevalence, stated, prevalence)


def threshold_cost(content: Content) -> Figure | Absent:
    """False alarms' worth per 1,000 over the threshold on validation, and on test; `Absent` without validation."""
    arm = content.chosen
    if arm is None:
        return Absent(content.why_missing("arms"))
    if arm.validation is None:
        why = content.missing.get("thresholds") or "no thresholds were chosen for this arm; run `raresight tune`"
        return Absent(f"not computed, because {why}")
    names = content.watched[:MOST]
    n = max(len(names), 3)
    with canvas(2.5) as figure:
        panels = figure.subplots(1, n, squeeze=False)[0]
        for empty in panels[len(names) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(class_name(name), fontsize=8.5)
            _draw(content, arm, name, axes)
        panels[0].set_ylabel("cost per 1,000, in false alarms")
        first = panels[0]
        handles = first.plot([], [], color=BLUE, lw=1.6, label=part_name("val"))
        handles += first.plot([], [], color=INK, lw=0.9, ls=(0, (2, 2)), label="threshold chosen there")
        if content.part != "val":
            handles += first.plot([], [], "D", color=ORANGE, ms=5, label=f"achieved: {part_name(content.part)}")
        handles += first.plot([], [], color=FAINT, lw=1.0, label="cheaper of always and never")
        figure.legend(handles=handles, loc="outside upper right", ncols=4)
        svg = to_svg(figure)
    rows = [
        _row(content, arm, name) for name in content.task.classes if name in set(content.watched) | set(arm.thresholds)
    ]
    guessed = [name for name in names if name not in content.missed]
    caption = "The lowest point was chosen on the validation part; nothing was chosen on the part it is judged on. "
    if content.part == "val":
        caption = "The lowest point was chosen on these very patients, so it looks cheaper than it is. "
    if guessed:
        caption += (
            f"No cost was stated for {', '.join(map(class_name, guessed))}: a miss is taken to cost as many false "
            "alarms as there are cases without the class for each with it (Youden)."
        )
    floors = [name for name in names if _record(arm, name).get("floor")]
    if floors:
        caption += f" For {', '.join(class_name(n) for n in floors)} a floor was asked for, and not the lowest cost."
    head = ("Class", "Rule", "Threshold", "Found, validation", "No alarm without it, validation",
            f"Found, {part_name(content.part)}", f"No alarm without it, {part_name(content.part)}")  # fmt: skip
    note = "95% intervals. Validation figures are those that the threshold was chosen by, and flattering."
    alt = f"Cost against the alarm threshold for {', '.join(class_name(n) for n in names)}. "
    return Figure(svg, alt + caption, caption, table(head, rows, (2, 3, 4, 5, 6), note))


def _draw(content: Content, arm: ArmResult, name: str, axes) -> None:  # type: ignore[no-untyped-def]
    assert arm.validation is not None
    one = judged_in(arm.validation, name)
    worth = price(content, name, one)
    if worth is None or not one.estimable:
        axes.text(0.5, 0.5, "not estimable", ha="center", color=SOFT, style="italic", transform=axes.transAxes)
        return
    at = steps(one.target, one.score)
    cost = np.asarray(worth.per_1000(at.tp / at.positives, at.fp / at.negatives))
    x = np.clip(at.score, LEAST, 1)
    rows = thinned(np.log10(x) / 4, cost / max(cost.max(), 1e-9))
    axes.plot(x[rows], cost[rows], color=BLUE, lw=1.6)
    trivial = 1000 * min(worth.prevalence * worth.missed, 1 - worth.prevalence)
    axes.axhline(trivial, color=FAINT, lw=1.0)
    threshold = arm.thresholds.get(name)
    if threshold is not None:
        axes.axvline(max(threshold, LEAST), color=INK, lw=0.9, ls=(0, (2, 2)))
        recall, specificity = arm.find("recall", name), arm.find("specificity", name)
        if content.part != "val" and _known(recall) and _known(specificity):
            assert recall is not None and specificity is not None
            assert recall.value is not None and specificity.value is not None
            reached = float(worth.per_1000(recall.value, 1 - specificity.value))
            axes.plot([max(threshold, LEAST)], [reached], "D", color=ORANGE, ms=5, zorder=4, clip_on=False)
    axes.set_xscale("log")
    axes.set_xlim(LEAST, 1)
    axes.set_xticks([0.0001, 0.01, 1], ["0.01", "1", "100%"])
    axes.minorticks_off()
    axes.set_ylim(0, max(2.2 * trivial, 1.3 * float(cost.min())))
    axes.locator_params(axis="y", nbins=4)
    axes.set_xlabel("alarm from this probability")


def _known(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def _row(content: Content, arm: ArmResult, name: str) -> Row:
    record = _record(arm, name)
    threshold = arm.thresholds.get(name)
    recall, specificity = arm.find("recall", name), arm.find("specificity", name)
    on_val = [record.get(key) for key in ("recall", "specificity")]
    told = [DASH if value is None else _with_bounds(record, key, value)
            for key, value in zip(("recall", "specificity"), on_val, strict=True)]  # fmt: skip
    cells = (
        class_name(name),
        str(record.get("rule", "given")),
        "none" if threshold is None else f"{threshold:.4g}",
        *told,
        as_text(recall),
        as_text(specificity),
    )
    return Row(cells, "blank" if threshold is None else "wide" if record.get("status") == "wide" else "")


def _record(arm: ArmResult, name: str) -> dict[str, Any]:
    found = arm.operating.get("thresholds", {}).get(name)
    return found if isinstance(found, dict) else {}


def _with_bounds(record: dict[str, Any], key: str, value: float) -> str:
    low, high = record.get(f"{key}_low"), record.get(f"{key}_high")
    return f"{percent(value)} ({interval(low, high)})" if low is not None and high is not None else percent(value)
