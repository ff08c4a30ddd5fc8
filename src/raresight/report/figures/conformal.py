"""Conformal sets: how often the set of classes that the model cannot rule out holds the true one, class by class."""

from __future__ import annotations

from raresight.report.content import Content
from raresight.report.figures.style import (
    BLUE,
    INK,
    Absent,
    Figure,
    canvas,
    interval_mark,
    percent_axis,
    rows_axis,
    to_svg,
)
from raresight.report.tables import Row, mark, remark, table
from raresight.report.words import class_name, listing
from raresight.report.words import figure as as_text

COVERAGE, SIZE = "conformal_coverage", "conformal_set_size"


def conformal(content: Content) -> Figure | Absent:
    """Coverage and mean size of the sets per class, as judged on the part shown; `Absent` without fitted sets."""
    arm = content.chosen
    if arm is None:
        return Absent(content.why_missing("arms"))
    names = [n for n in content.rarest_first if arm.find(COVERAGE, n) is not None]
    if not names:
        if arm.operating.get("conformal") and content.part == "val":
            return Absent(
                "not computed, because sets are judged on other patients than those they were fitted on; open the test "
                "part with `raresight evaluate --part test`"
            )
        why = content.missing.get("thresholds") or "no sets were fitted for this arm; run `raresight tune`"
        return Absent(f"not computed, because {why}")
    fitted = arm.operating.get("conformal") or {}
    target = 1 - float(fitted.get("miscoverage", _miscoverage(content)))
    sizes = [e.value for n in names if (e := arm.find(SIZE, n)) is not None and e.value is not None]
    with canvas(0.85 + 0.28 * len(names)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        left.axvline(target, color=INK, lw=0.9, ls=(0, (3, 3)))
        for y, name in enumerate(names):
            interval_mark(left, y, arm.find(COVERAGE, name), BLUE)
            interval_mark(right, y, arm.find(SIZE, name), BLUE)
        percent_axis(left)
        left.set_title("patients whose sets all hold it", fontsize=8.5)
        right.set_title("classes in the set", fontsize=8.5)
        right.set_xlim(0, max([*sizes, 1.0]) * 1.25)
        right.locator_params(axis="x", nbins=5)
        rows_axis(left, [class_name(n) for n in names])
        right.tick_params(axis="y", labelleft=False)
        svg = to_svg(figure)
    rows = [
        Row(
            (class_name(n), as_text(arm.find(COVERAGE, n)), as_text(arm.find(SIZE, n)), remark(arm.find(COVERAGE, n))),
            mark(arm.find(COVERAGE, n)),
        )
        for n in names
    ]
    short = [
        class_name(n) for n in names if (e := arm.find(COVERAGE, n)) is not None and e.high is not None
        and e.high < target
    ]  # fmt: skip
    caption = f"The dashed line is what was promised: {100 * target:.0f}%. "
    caption += (
        f"Clearly less is reached for {listing(short)}." if short else "No class falls clearly short of it, as far as "
        "its patients can show."
    )  # fmt: skip
    always = [class_name(n) for n, one in (fitted.get("classes") or {}).items() if one.get("always")]
    held = f" Always in the set, for want of patients: {listing(always)}." if always else ""
    head = ("Class", "Patients whose sets all hold it", "Classes in the set, when it is there", "Remark")
    alt = "Coverage and size of the conformal sets of every class, with intervals. "
    return Figure(
        svg,
        alt + caption,
        caption,
        table(head, rows, (1, 2), "95% intervals; fitted on the validation part only." + held),
    )


def _miscoverage(content: Content) -> float:
    return content.config.decision.miscoverage if content.config is not None else 0.1
