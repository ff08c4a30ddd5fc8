"""The images that excite the same unit most, arm by arm: what each arm made of one detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from raresight.report.figures.look_pictures import as_rgb, fitted, jpeg
from raresight.report.figures.look_style import greyed_caption
from raresight.report.figures.style import INK, SOFT, Absent, Figure
from raresight.report.look_rows import Look
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, class_name

MOST_UNITS, MOST_PATCHES, LEAST = 8, 4, 6
PATCH, GAP, HEAD, NAME, LINE = 54, 3, 34, 118, 26
CELL = 2 * PATCH + GAP + 9
POOR = 0.5  # correlation below which two units are not called the same

Unit = Mapping[str, Any]


def units(look: Look, folder: Path) -> Figure | Absent:
    """A row a unit of the baseline that detects a class, a column an arm: its matched unit's strongest images."""
    found: Sequence[Unit] = look.data.get("units") or []
    path = folder / "units.npz"
    if not found or not path.exists():
        why = "no unit of the baseline detects a class, or units were not dissected"
        return Absent(f"not computed, because {look.without_places if look.placeless else why}")
    with np.load(path) as stored:
        patches = stored["patches"]
    found = found[: min(MOST_UNITS, len(patches))]
    order = [str(arm["name"]) if isinstance(arm, Mapping) else str(arm) for arm in look.data["arms"]]
    block = 2 * PATCH + GAP + LINE + 8
    width, height = NAME + CELL * max(LEAST, len(look.arms)), HEAD + block * len(found)
    parts = [f'<svg style="aspect-ratio: {width} / {height}" viewBox="0 0 {width} {height}">']
    for x, arm in enumerate(look.arms):
        lines = arm.rsplit("_", 1) if len(arm) > 17 else [arm]
        for n, text in enumerate(lines):
            y = HEAD - 8 - 13 * (len(lines) - 1 - n)
            parts.append(f'<text x="{NAME + x * CELL}" y="{y}" font-size="11.5" font-weight="bold" '
                         f'fill="{SOFT if arm in look.greyed else INK}">{escape(text)}</text>')  # fmt: skip
    for m, unit in enumerate(found):
        y = HEAD + m * block
        for n, text in enumerate((class_name(str(unit["class"])), str(unit.get("layer") or ""))):
            parts.append(f'<text x="0" y="{y + 14 + 14 * n}" font-size="{11 if not n else 9.5}" '
                         f'fill="{SOFT if n else INK}">{escape(text)}</text>')  # fmt: skip
        for x, arm in enumerate(look.arms):
            parts += _cell(unit, arm, patches[m, order.index(arm)], NAME + x * CELL, y, arm in look.greyed)
    caption = (
        f"The images that excite one unit most. Each row starts from a unit of {look.baseline} that detects the class; "
        "r is the correlation of the other arm's matched unit with it over the probe's images. Pale, below "
        f"{POOR:g}: no unit of that arm does the same. What a unit detects is named by a human; this only shows it."
    )
    caption += greyed_caption(look)
    alt = "The strongest images of matched units in every arm. " + caption
    return Figure("".join([*parts, "</svg>"]), alt, caption, numbers(look, found))


def _cell(unit: Unit, arm: str, patches: np.ndarray, x: float, y: float, grey: bool) -> list[str]:
    mine = (unit.get("arms") or {}).get(arm) or {}
    quality = mine.get("quality")
    if mine.get("unit") is None:
        return [f'<text x="{x}" y="{y + 14}" font-size="10" fill="{SOFT}" font-style="italic">no unit</text>']
    poor = quality is not None and quality < POOR
    parts = [f'<g opacity="{0.4 if poor or grey else 1}">']
    for t, patch in enumerate(patches[:MOST_PATCHES]):
        if not patch.any():
            continue
        picture = as_rgb(patch)
        if grey:
            picture = np.repeat(picture.mean(-1, keepdims=True), 3, axis=-1)
        at = f'x="{x + (t % 2) * (PATCH + GAP):g}" y="{y + (t // 2) * (PATCH + GAP):g}"'
        parts.append(f'<image {at} width="{PATCH}" height="{PATCH}" preserveAspectRatio="xMidYMid slice" '
                     f'href="{jpeg(fitted(picture, PATCH))}"/>')  # fmt: skip
    told = f"unit {mine['unit']}" + ("" if quality is None else f", r {quality:.2f}".replace("-", "−"))
    told = "not to be read" if grey else told + (": no match" if poor else "")
    below = y + 2 * PATCH + GAP + 13
    return [*parts, f'</g><text x="{x}" y="{below:g}" font-size="9.5" fill="{SOFT}">{escape(told)}</text>']


def numbers(look: Look, found: Sequence[Unit]) -> Table:
    rows = []
    for unit in found:
        for arm in look.arms:
            mine = (unit.get("arms") or {}).get(arm) or {}
            strength = mine.get("iou_over_ceiling", mine.get("auroc"))
            figures = [DASH if value is None else f"{value:.2f}" for value in (mine.get("quality"), strength)]
            number = mine.get("unit")
            cells = (class_name(str(unit["class"])), str(unit.get("layer") or DASH), arm,
                     DASH if number is None else str(number), *figures)  # fmt: skip
            rows.append(Row(cells, "wide" if arm in look.greyed else ""))
    head = ("Class", "Layer", "Arm", "Unit", "Correlation with the baseline's unit", "Strength as a detector")
    return table(head, rows, (3, 4, 5), "Strength: IoU over its ceiling, or AUROC where nobody drew regions.")
