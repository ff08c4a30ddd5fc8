"""Decision curves: is it better to go by the model, to alarm for everybody, or for nobody?"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from raresight.evaluate.net_benefit import decision_curve as curve_of
from raresight.report.content import Content
from raresight.report.figures.curves import MOST, judged, no_curve
from raresight.report.figures.style import BLUE, HAIR, INK, SOFT, VERMILLION, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, percent

ODDS = (2, 5, 10, 20, 50, 100)  # false alarms that one found case is worth, for the table


def decision_curve(content: Content) -> Figure | Absent:
    """Net benefit in cases per 1,000 over the alarm probability; an absent class has an empty panel."""
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no scores")
    names = content.watched[:MOST]
    n = max(len(names), 3)
    rows: list[Row] = []
    better: list[str] = []
    with canvas(2.6) as figure:
        panels = figure.subplots(1, n, squeeze=False)[0]
        for empty in panels[len(names) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(class_name(name), fontsize=8.5)
            one = judged(arm, name)
            if not one.estimable or one.prevalence is None:
                no_curve(axes)
                rows.append(Row((class_name(name), *["not estimable"] * 5), "blank"))
                continue
            pi = content.prevalence.get(name, one.prevalence)
            thresholds = _thresholds(pi)
            found = curve_of(one.target, one.score, one.patient, thresholds, prevalence=pi)
            _draw(axes, found, pi)
            rows += [_row(name, row) for row in found if _odds(row["threshold"]) in ODDS]
            if any(row["low"] > max(row["treat_all"], 0.0) for row in found):
                better.append(class_name(name))
        panels[0].set_ylabel("net benefit, cases per 1,000")
        first = panels[0]
        handles = first.plot([], [], color=BLUE, lw=1.6, label=f"by the model ({arm.name})")
        handles += first.plot([], [], color=VERMILLION, lw=1.1, ls=(0, (4, 2)), label="alarm for everybody")
        handles += first.plot([], [], color=INK, lw=0.9, label="alarm for nobody")
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        figure.supxlabel("alarm from this probability, that is, when one found case is worth so many false alarms",
                         fontsize=8.5, color=SOFT)  # fmt: skip
        svg = to_svg(figure)
    caption = "Where the curve lies above both lines, going by the model is better than going by a rule. "
    caption += (
        f"Clearly so, at some threshold, for {', '.join(better)}."
        if better
        else "Nowhere is that clear, with intervals."
    )
    head = ("Class", "A found case is worth", "By the model", "Everybody", "Nobody", "")
    state = "calibrated" if arm.calibrated else "as given: an uncalibrated probability makes the curve mean little"
    note = (
        "Net benefit in found cases per 1,000 examined, false alarms counted off; 95% intervals made of those of "
        "sensitivity and specificity. "
        f"Probabilities {state}. Differences at different thresholds are not comparable with one another."
    )
    alt = f"Decision curves of {', '.join(class_name(n) for n in names)} with both rules. "
    return Figure(svg, alt + caption, caption, table(head, rows, (2, 3, 4), note))


def _thresholds(prevalence: float) -> np.ndarray:
    """From a tenth of the prevalence up to an even chance, and the odds of the table among them."""
    spread = np.geomspace(max(prevalence / 10, 5e-4), 0.5, 24)
    return np.unique(np.concatenate([spread, [1 / (1 + odds) for odds in ODDS]]))


def _odds(threshold: float) -> int:
    odds = (1 - threshold) / threshold
    return round(odds) if abs(odds - round(odds)) < 1e-6 else -1


def _draw(axes: Axes, found: list[dict], prevalence: float) -> None:  # type: ignore[type-arg]
    x = [row["threshold"] for row in found]
    model, everybody = ([1000 * row[key] for row in found] for key in ("net_benefit", "treat_all"))
    low, high = ([1000 * row[key] for row in found] for key in ("low", "high"))
    axes.axhline(0, color=INK, lw=0.9)
    axes.fill_between(x, low, high, color=BLUE, alpha=0.13, lw=0)
    axes.plot(x, model, color=BLUE, lw=1.6)
    axes.plot(x, everybody, color=VERMILLION, lw=1.1, ls=(0, (4, 2)))
    axes.set_xscale("log")
    axes.set_xlim(min(x), max(x))
    ticks = [odds for odds in (1000, 100, 10, 1) if 1 / (1 + odds) >= min(x)]
    axes.set_xticks([1 / (1 + odds) for odds in ticks], [f"{odds:,}" for odds in ticks])
    axes.minorticks_off()
    axes.set_ylim(-350 * prevalence, 1080 * prevalence)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="y", color=HAIR, lw=0.6)


def _row(name: str, row: dict) -> Row:  # type: ignore[type-arg]
    worth = f"{_odds(row['threshold'])} false alarms (from {percent(row['threshold'])})"
    bounds = f" ({1000 * row['low']:.1f} to {1000 * row['high']:.1f})"
    told = f"{1000 * row['net_benefit']:.1f}{bounds}".replace("-", "−")
    rule = max(row["treat_all"], 0.0)
    verdict = "the model is clearly better" if row["low"] > rule else (
        "a rule is clearly better" if row["high"] < rule else "not clear"
    )  # fmt: skip
    return Row((class_name(name), worth, told, f"{1000 * row['treat_all']:.1f}".replace("-", "−"), "0", verdict))
