"""What an alarm, and a silence, would mean where the class is rarer or commoner than here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raresight.core.estimate import Estimate
from raresight.evaluate.deployment import over_prevalence
from raresight.evaluate.intervals import Interval
from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import BLUE, GREEN, HAIR, VERMILLION, Absent, Figure, canvas, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, number, percent, share

MOST = 3
LOOKS = ((BLUE, "-", "o"), (VERMILLION, (0, (4, 2)), "s"), (GREEN, (0, (1, 1.2)), "^"))
RANGE = np.geomspace(0.0005, 0.5, 25)
TABLE = (0.001, 0.01, 0.05, 0.2)
PANELS = (("ppv", "alarms that are right"), ("npv", "silences that are right"),
          ("number_needed_to_read", "alarms to read for one case"))  # fmt: skip
MOST_READ = 1000.0


def prevalence(content: Content) -> Figure | Absent:
    """PPV, NPV and number needed to read over prevalence, with bands; an absent class has an empty panel."""
    arm = content.chosen
    if arm is None:
        return Absent(content.why_missing("arms"))
    rates = {name: found for name in content.watched if (found := rates_of(arm, name)) is not None}
    if not rates:
        return Absent("not computed, because sensitivity and specificity of no watched class can be estimated")
    drawn = list(rates)[:MOST]
    with canvas(2.6) as figure:
        panels = figure.subplots(1, 3)
        for axes, (key, title) in zip(panels, PANELS, strict=True):
            for name, (colour, line, marker) in zip(drawn, LOOKS, strict=False):
                places = over_prevalence(*rates[name], RANGE)
                value, low, high = (_column(places, key, end) for end in range(3))
                axes.fill_between(RANGE, low, high, color=colour, alpha=0.13, lw=0)
                axes.plot(RANGE, value, color=colour, ls=line, lw=1.5)
                met = met_at(content, name)
                if met is not None:
                    here = over_prevalence(*rates[name], [met])[0][key]
                    axes.plot([met], [min(_value(here[0]), MOST_READ)], marker, color=colour, ms=5, mec="white",
                              mew=0.7, zorder=4)  # fmt: skip
            axes.set_xscale("log")
            axes.set_xlim(RANGE[0], RANGE[-1])
            axes.set_xticks([0.001, 0.01, 0.1], ["0.1", "1", "10%"])
            axes.minorticks_off()
            axes.grid(color=HAIR, lw=0.6)
            axes.set_title(title, fontsize=8.5)
            if key == "number_needed_to_read":
                axes.set_yscale("log")
                axes.set_ylim(1, MOST_READ)
                axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
                axes.minorticks_off()
            else:
                axes.yaxis.set_major_formatter(lambda v, _: percent(v) if v in (0, 1) else f"{100 * v:.3g}%")
                axes.set_ylim((0, 1.02) if key == "ppv" else (min(0.9, _lowest(rates, drawn)), 1.002))
        figure.supxlabel("share of those examined that have the class (logarithmic)", fontsize=8.5, color="#5c6670")
        for name, (colour, line, marker) in zip(drawn, LOOKS, strict=False):
            panels[0].plot([], [], color=colour, ls=line, marker=marker, ms=5, label=class_name(name))
        figure.legend(loc="outside upper right", ncols=3)
        svg = to_svg(figure)
    rows = [row for name in rates for row in _rows(content, name, rates[name])]
    stated = [name for name in drawn if name in content.prevalence]
    caption = "Sensitivity and specificity are taken as they are here; marks: the prevalence "
    caption += "stated for use where there is one, else that of these data. " if stated else "of these data. "
    caption += "The rarer the class, the fewer alarms are right, whatever the model."
    head = ("Class", "Prevalence", "Alarms that are right (PPV)", "Silences that are right (NPV)",
            "Alarms to read for one case", "Alarms per 1,000", "Missed per 100,000")  # fmt: skip
    note = (
        "Bounds put the intervals of sensitivity and specificity at their worse and better ends together. It is "
        "assumed that both rates stay as they are; in other people they may not."
    )
    alt = f"Predictive values and number needed to read over prevalence for {', '.join(map(class_name, drawn))}. "
    return Figure(svg, alt + caption, caption, table(head, rows, range(1, 7), note))


def rates_of(arm: ArmResult, name: str) -> tuple[Interval, Interval] | None:
    """Sensitivity and specificity with their bounds; None where either is not estimable."""
    found = [_interval(arm.find(metric, name)) for metric in ("recall", "specificity")]
    return None if None in found else (found[0], found[1])  # type: ignore[return-value]


def met_at(content: Content, name: str) -> float | None:
    """The prevalence stated for use, else that of the data."""
    return content.prevalence.get(name, content.share(name))


def _interval(estimate: Estimate | None) -> Interval | None:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return Interval(
        estimate.value, estimate.low, estimate.high, estimate.method, estimate.n_patients, estimate.n_images
    )


def _value(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _column(rows: list[dict[str, Any]], key: str, place: int) -> np.ndarray:
    values = np.array([_value(row[key][place]) for row in rows])
    return np.minimum(values, MOST_READ) if key == "number_needed_to_read" else values


def _lowest(rates: Mapping[str, tuple[Interval, Interval]], drawn: list[str]) -> float:
    ends = [_value(over_prevalence(*rates[name], [0.1])[0]["npv"][1]) for name in drawn]
    return float(np.floor(20 * np.nanmin(ends)) / 20) if np.isfinite(ends).any() else 0.0


def _rows(content: Content, name: str, rates: tuple[Interval, Interval]) -> list[Row]:
    met = met_at(content, name)
    at = sorted({*TABLE, *([met] if met else [])})
    made = []
    for place, row in zip(at, over_prevalence(*rates, at), strict=True):
        which = share(place)
        if place == met:
            which += " (as stated)" if name in content.prevalence else " (these data)"
        cells = [class_name(name), which, *(_told(row[k], percent) for k in ("ppv", "npv"))]
        cells += [_told(row[k], number) for k in ("number_needed_to_read", "alarms_per_1000", "misses_per_100000")]
        made.append(Row(tuple(cells), "strong" if place == met else ""))
    return made


def _told(triple: Any, write: Any) -> str:
    value, low, high = (_value(v) for v in triple)
    if not np.isfinite(value):
        return "not estimable"
    bounds = [write(v) if np.isfinite(v) else "no limit" for v in (low, high)]
    return f"{write(value)} ({bounds[0]} to {bounds[1]})"
