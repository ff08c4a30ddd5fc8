"""Does a probability of 20% mean one in five? Curves only where enough patients have the class."""

from __future__ import annotations

from raresight.evaluate.reliability import reliability as reliability_points
from raresight.report.content import Content
from raresight.report.figures.style import BLUE, FAINT, SOFT, Absent, Figure, canvas, percent_axis, to_svg
from raresight.report.tables import Row, table
from raresight.report.words import class_name, listing
from raresight.report.words import figure as as_text

MOST = 4


def reliability(content: Content) -> Figure | Absent:
    arm = content.chosen
    if arm is None or not arm.predictions:
        return Absent(content.why_missing("arms") if arm is None else "not computed, because there are no predictions")
    predictions = (arm.calibrated or arm.predictions)[0]
    target, prob = predictions.target, predictions.prob
    found = {}
    for name in content.task.classes:
        k = content.task.index(name)
        found[name] = reliability_points(target[:, k], prob[:, k], predictions.patient)
    names = content.watched[:MOST]
    n = max(len(names), 3)
    with canvas(0.3 + 7.0 / n) as figure:
        panels = figure.subplots(1, n, squeeze=False)[0]
        for empty in panels[len(names) :]:
            empty.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            points, reason = found[name]
            axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls=(0, (3, 3)))
            axes.set_title(class_name(name), fontsize=8.5)
            if points:
                x, y = [p["mean_prob"] for p in points], [p["observed"] for p in points]
                axes.plot(x, y, color=BLUE, lw=1.0, marker="o", ms=3.5)
                for p in points:
                    axes.plot([p["mean_prob"]] * 2, [p["low"], p["high"]], color=BLUE, lw=1.2)
            else:
                axes.text(
                    0.5, 0.5, _wrapped(reason), ha="center", va="center", color=SOFT, fontsize=7.5, style="italic"
                )
            percent_axis(axes, "y")
            axes.set_xlim(-0.02, 1.02)
            axes.set_xticks([0, 0.5, 1], ["0", "50", "100%"])
            axes.set_box_aspect(1)
            axes.set_xlabel("probability given")
        panels[0].set_ylabel("share that has it")
        svg = to_svg(figure)
    rows = []
    for name in content.rarest_first:
        points, reason = found[name]
        ratio = arm.find("expected_observed_ratio", name)
        curve = "; ".join(
            f"{100 * p['mean_prob']:.0f}% → {100 * p['observed']:.0f}% ({100 * p['low']:.0f}–{100 * p['high']:.0f}%)"
            for p in points
        )
        error = as_text(arm.find("ece", name))
        rows.append(Row((class_name(name), as_text(ratio), error, curve or f"no curve: {reason}"),
                        "" if points else "blank"))  # fmt: skip
    off = [
        class_name(name)
        for name in content.rarest_first
        if (e := arm.find("expected_observed_ratio", name)) is not None and e.low is not None and e.high is not None
        and not e.low <= 1 <= e.high
    ]  # fmt: skip
    caption = "On the dashed line, probabilities mean what they say. "
    caption += f"Expected and observed numbers disagree for {listing(off)}." if off else ""
    state = "after calibration" if arm.calibrated else "as given, without calibration"
    note = (
        f"Probabilities {state}. Expected / observed: 1 is right, above 1 it cries wolf. Small ECE alone proves little."
    )
    head = ("Class", "Expected / observed", "ECE", "Probability given → share that has it")
    return Figure(
        svg, "Reliability curves of the critical classes. " + caption, caption, table(head, rows, (1, 2), note)
    )


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap("no curve: " + text, 22))
