"""Of 100 with the class: a field of dots that a patient could count, with the interval underneath."""

from __future__ import annotations

from raresight.report.answers import ClassAnswer
from raresight.report.figures.style import BLUE, INK, VERMILLION

STEP, RADIUS, ROWS = 11.0, 4.0, 5


def icon_array(answer: ClassAnswer, unit: str) -> str:
    """An SVG of 100 dots, filled column by column: found solid, missed open; a bracket spans the 95% interval."""
    if answer.found is None:
        return ""
    found = round(answer.found.value)
    width = 100 // ROWS * STEP
    alt = (
        f"Of 100 {unit} with {answer.label}, {found} are found and {100 - found} missed; "
        f"the 95% interval for those found runs from {answer.found.low:.0f} to {answer.found.high:.0f}."
    )
    dots = []
    for i in range(100):
        x, y = (i // ROWS + 0.5) * STEP, (i % ROWS + 0.5) * STEP
        if i < found:
            dots.append(f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS:g}" fill="{BLUE}"/>')
        else:
            ring = f'fill="none" stroke="{VERMILLION}" stroke-width="1.6"'
            dots.append(f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS - 0.8:g}" {ring}/>')
    low, high, mid = (value / 100 * width for value in (answer.found.low, answer.found.high, answer.found.value))
    y = ROWS * STEP + 6
    path = f"M{low:.1f} {y - 3.5:g}v7M{low:.1f} {y:g}H{high:.1f}M{high:.1f} {y - 3.5:g}v7"
    bracket = f'<path d="{path}" stroke="{INK}" stroke-width="1.2" fill="none"/>'
    point = f'<circle cx="{mid:.1f}" cy="{y:g}" r="2.4" fill="{INK}"/>'
    size = f'viewBox="-2 -1 {width + 4:g} {y + 6:g}"'
    return f'<svg class="icons" role="img" aria-label="{_escaped(alt)}" {size}>{"".join(dots)}{bracket}{point}</svg>'


def _escaped(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
