"""Before and after: what correction and calibration did to how many cases the probabilities announce."""

from __future__ import annotations

from raresight.report.content import ArmResult, Content
from raresight.report.figures.style import BLUE, HAIR, INK, SOFT, Absent, Figure, canvas, rows_axis, to_svg
from raresight.report.tables import Row, mark, table
from raresight.report.words import class_name, listing, sentence
from raresight.report.words import figure as as_text

MOST = 14
RATIO, ERROR, BEFORE = "expected_observed_ratio", "ece", "_uncalibrated"
LEFT, RIGHT = 0.1, 10.0


def recalibrated(content: Content) -> Figure | Absent:
    """Expected over observed before and after the calibrator, with intervals; `Absent` where none was fitted."""
    arm = content.chosen
    if arm is None:
        return Absent(content.why_missing("arms"))
    names = [n for n in content.rarest_first if arm.find(RATIO + BEFORE, n) is not None]
    if not names:
        why = content.missing.get("thresholds") or "no calibrator was fitted for this arm; run `raresight tune`"
        return Absent(f"not computed, because {why}")
    drawn = [n for n in names if _values(arm, n) is not None][:MOST]
    with canvas(0.75 + 0.26 * max(len(drawn), 1)) as figure:
        axes = figure.add_subplot()
        axes.axvline(1, color=INK, lw=0.8)
        for y, name in enumerate(drawn):
            before, after, *bounds = _values(arm, name)  # type: ignore[misc]
            axes.plot(bounds, [y, y], color=BLUE, lw=1.4, solid_capstyle="butt", zorder=1)
            axes.plot([before], [y], "o", mfc="white", mec=SOFT, ms=5.5, zorder=2, clip_on=False)
            axes.plot([after], [y], "o", color=BLUE, ms=5.5, zorder=3, clip_on=False)
        axes.set_xscale("log")
        axes.set_xlim(LEFT / 1.1, RIGHT * 1.1)
        axes.set_xticks([0.1, 0.5, 1, 2, 10], ["a tenth", "half", "right", "twice", "ten times"])
        axes.minorticks_off()
        axes.grid(axis="x", color=HAIR, lw=0.6)
        axes.set_xlabel("cases that the probabilities announce, for each that there is")
        rows_axis(axes, [class_name(name) for name in drawn])
        axes.plot([], [], "o", mfc="white", mec=SOFT, ms=5.5, label="as the model gives them")
        axes.plot([], [], "o", color=BLUE, ms=5.5, label="after correction and calibration")
        figure.legend(loc="outside upper right", ncols=2)
        svg = to_svg(figure)
    rows = [
        Row(
            (class_name(n), *(as_text(arm.find(m, n)) for m in (RATIO + BEFORE, RATIO, ERROR + BEFORE, ERROR))),
            mark(arm.find(RATIO, n)),
        )
        for n in names
    ]
    worse = [
        class_name(n) for n in drawn if (v := _values(arm, n)) is not None and abs(_log(v[1])) > abs(_log(v[0])) + 0.1
    ]
    caption = "At the line the probabilities announce as many cases as there are; bars: 95% intervals. "
    caption += f"Calibration made it worse for {listing(worse)}." if worse else ""
    head = ("Class", "Expected / observed before", "after", "ECE before", "after")
    alt = "For every class, expected over observed cases before and after calibration, on a logarithmic axis. "
    return Figure(svg, alt + caption, caption, table(head, rows, (1, 2, 3, 4), _how(arm)))


def _values(arm: ArmResult, name: str) -> tuple[float, float, float, float] | None:
    """The ratio before, after, and the bounds of the latter, kept within the axis."""
    before, after = arm.find(RATIO + BEFORE, name), arm.find(RATIO, name)
    if before is None or after is None or before.value is None or after.value is None:
        return None
    low, high = (after.value if end is None else end for end in (after.low, after.high))
    return tuple(min(max(v, LEFT), RIGHT) for v in (before.value, after.value, low, high))  # type: ignore[return-value]


def _log(value: float) -> float:
    from math import log

    return log(value)


def _how(arm: ArmResult) -> str:
    """Which calibrator, fitted on what, and what it did to the log-loss there."""
    fitted = arm.calibrator
    if not fitted:
        return "95% intervals."
    shifted = fitted.get("shift") is not None and any(abs(value) > 1e-9 for value in fitted["shift"])
    said = f"95% intervals. Method: {fitted.get('method', 'not recorded')}"
    said += ", after the class balance of training was taken out" if shifted and "prior" not in said else ""
    loss = [fitted.get(f"log_loss_{when}") for when in ("before", "after")]
    if None not in loss:
        said += f"; log-loss there {loss[0]:.3g} before, {loss[1]:.3g} after"
    said += f". {sentence(fitted['reason'])[:-1]}" if fitted.get("reason") else ""
    tried = [
        f"{one['method']} {one['log_loss']:.3g}"
        if one.get("log_loss") is not None
        else f"{one['method']} not tried ({one['reason']})"
        for one in fitted.get("candidates") or []
    ]
    return said + (f". Candidates by cross-fitted log-loss: {'; '.join(tried)}." if tried else ".")
