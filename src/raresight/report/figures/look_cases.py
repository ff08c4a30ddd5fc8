"""Single cases, the arms as columns: the same image, maps on one colour scale, the region, what each arm said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from raresight.report.figures.look_pictures import SIDE, as_rgb, fitted, jpeg, outline, overlaid, stretched
from raresight.report.figures.look_style import greyed_caption
from raresight.report.figures.style import INK, SOFT, Absent, Figure
from raresight.report.look_rows import Look, signed, signs
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, class_name, many

ACROSS, LEAST, GAP = 9, 7, 8
CELL, LINES, RULE, HEAD = SIDE + GAP, 30, 24, 34
HALF = 0.5  # of a map's own highest value, where its outline is drawn

Case = Mapping[str, Any]


def case_grids(look: Look, folder: Path) -> dict[str, Figure | Absent]:
    """Class -> its cases drawn, from `folder/cases.npz`; classes without a case are left out."""
    cases: Sequence[Case] = look.data.get("cases") or []
    path = folder / "cases.npz"
    if not cases or look.without_pictures or not path.exists():
        return {}
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in ("images", "maps", "masks")}
    grids: dict[str, Figure | Absent] = {}
    for name in look.classes:
        mine = [(i, case) for i, case in enumerate(cases) if case["class"] == name and i < len(arrays["images"])]
        if mine:
            grids[name] = _grid(look, name, mine, arrays)
    return grids


def _grid(look: Look, class_: str, cases: Sequence[tuple[int, Case]], arrays: Mapping[str, np.ndarray]) -> Figure:
    n_lines = -(-(len(look.arms) + 1) // ACROSS)
    across = min(ACROSS, len(look.arms) + 1)
    width = max(across, LEAST) * CELL - GAP  # so that two arms are not blown up to the page's width
    block = RULE + n_lines * (HEAD * (n_lines > 1) + SIDE + LINES) + 6
    top = HEAD if n_lines == 1 else 4
    height = top + block * len(cases)
    parts = [f'<svg style="aspect-ratio: {width} / {height}" viewBox="0 0 {width} {height}">']
    if n_lines == 1:
        parts += _heads(look, 0, across, 0)
    for turn, (i, case) in enumerate(cases):
        parts += _row(look, case, arrays, i, top + turn * block, across)
    seeds = sorted({str(case.get("seed")) for _, case in cases})
    caption = (
        f"{class_name(class_).capitalize()}, {many(len(cases), 'case')} picked by rule, none by hand; networks of seed "
        f"{', '.join(seeds)}. Colour is the raw map on one scale for all arms of a case: bright is strong, bare is "
        "nothing. The dotted line surrounds what lies above half of a map's own highest value; the solid line is the "
        "drawn region. Peak: the map's highest value, against the highest of all arms. Look: "
        f"{look.measure}, beyond chance. It can lie far below 0 for a finding smaller than those of other patients, "
        "whose regions would hold more of the same map."
    )
    caption += _what_found_means(look, [case for _, case in cases])
    if look.data.get("dims") == 3:
        caption += " Volumes: one slice is shown, named at each case; the figures are of the whole volume."
    caption += greyed_caption(look)
    alt = f"Saliency maps of every arm for cases of {class_name(class_)}. {caption}"
    return Figure("".join([*parts, "</svg>"]), alt, caption, numbers(look, [case for _, case in cases]))


def _what_found_means(look: Look, cases: Sequence[Case]) -> str:
    """What the line under a picture says: the score against its cut where these are known, else the logit alone."""
    if not any(_ranked((case.get("arms") or {}).get(arm) or {}) for case in cases for arm in look.arms):
        return " Logit: the score before it becomes a probability."
    where = "the validation part" if look.choices.get("chosen_on") == "val" else "other patients"
    return (
        f" Under each picture stands the network's score for the class against its cut. Found: the score reaches the "
        f"cut; missed: it does not. The cut is the network's own for this class, the one at which sensitivity and "
        f"specificity together were highest on {where} (Youden's point), so it need not be 0. Score: the logarithm of "
        "the odds of the class, against all other classes where only one can be right, after what the arm itself does "
        "to scores."
    )


def _ranked(said: Mapping[str, Any]) -> bool:
    return said.get("score") is not None and said.get("cut") is not None


def _verdict(said: Mapping[str, Any]) -> str:
    """`+1.2 < +1.9: missed`; the logit alone where no cut is known."""
    found = {True: "found", False: "missed"}.get(said.get("found"))  # type: ignore[arg-type]
    if found and _ranked(said):
        digits = 1 if round(said["score"], 1) != round(said["cut"], 1) else 2
        score, cut = _figure(said["score"], digits), _figure(said["cut"], digits)
        return f"{score} {'≥' if said['found'] else '<'} {cut}: {found}"
    logit = said.get("logit")
    return (DASH if logit is None else f"logit {_figure(logit)}") + (f", {found}" if found else "")


def _figure(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def _heads(look: Look, line: int, across: int, y: float) -> list[str]:
    parts = []
    named = ["image", *look.arms][line * across : (line + 1) * across]
    for x, name in enumerate(named):
        words = name.split("_") if len(name) > 17 else [name]
        half = (len(words) + 1) // 2
        told = ["_".join(words[:half]), "_".join(words[half:])] if len(words) > 1 else [name]
        colour = SOFT if name in look.greyed else INK
        for n, text in enumerate(told):
            at = y + HEAD - 8 - 13 * (len(told) - 1 - n)
            parts.append(f'<text x="{x * CELL}" y="{at}" font-size="11.5" font-weight="bold" fill="{colour}">'
                         f"{escape(text)}</text>")  # fmt: skip
    return parts


def _row(look: Look, case: Case, arrays: Mapping[str, np.ndarray], i: int, y: float, across: int) -> list[str]:
    slice_told = "" if case.get("slice") is None else f" · slice {case['slice']}, the one with {case['slice_rule']}"
    rule = f"{case['name']} · {case['rule']}: {signs(str(case['why']))}{slice_told}"
    parts = [f'<text x="0" y="{y + 15:g}" font-size="11" fill="{SOFT}">{escape(rule)}</text>']
    picture = fitted(as_rgb(arrays["images"][i]))
    high, wide = picture.shape[:2]
    mask, place = arrays["masks"][i], {name: a for a, name in enumerate(_stored(look))}
    maps = {arm: np.maximum(arrays["maps"][i, place[arm]], 0) for arm in look.arms}
    known = [maps[arm].max() for arm in look.arms if arm not in look.greyed and np.isfinite(maps[arm]).all()]
    top = float(max(known, default=0.0))
    region = outline(stretched(mask.astype(np.float32), 2 * high, 2 * wide), 0.5, wide, high) if mask.any() else ""
    for cell, name in enumerate(["", *look.arms]):
        line, x = cell // across, (cell % across) * CELL
        at = y + RULE + line * (SIDE + LINES)
        if len(look.arms) + 1 > across:
            if cell % across == 0:
                parts += _heads(look, line, across, at + line * HEAD - 4)
            at += (line + 1) * HEAD
        inner, told = _cell(look, case, name, picture, maps.get(name), top, drawn=bool(region))
        drawn = f'<path d="{region}" fill="none" stroke="#000" stroke-width="2.2" stroke-opacity=".55"/>' \
                f'<path d="{region}" fill="none" stroke="#fff" stroke-width="1.1"/>' if region else ""  # fmt: skip
        parts.append(f'<g transform="translate({x:g} {at:g})">{inner}{drawn}{told}</g>')
    return parts


def _stored(look: Look) -> list[str]:
    """The arms in the order of explain.json, which is that of the arrays."""
    return [str(arm["name"]) if isinstance(arm, Mapping) else str(arm) for arm in look.data["arms"]]


def _cell(
    look: Look, case: Case, arm: str, picture: np.ndarray, values: np.ndarray | None, top: float, *, drawn: bool
) -> tuple[str, str]:
    """What lies under the region's outline, and the lines of text below."""
    high, wide = picture.shape[:2]
    size = f'width="{wide}" height="{high}"'
    if not arm:
        lines = [case["name"], "region: " + ("drawn" if drawn else "not drawn")]
        return f'<image {size} href="{jpeg(picture)}"/>', _lines(lines, high)
    said = (case.get("arms") or {}).get(arm) or {}
    first = _verdict(said)
    if values is None or not np.isfinite(values).all():
        return f'<rect {size} fill="#f1f3f4"/>', _lines([first, "no map"], high)
    peak = float(values.max())
    grey = arm in look.greyed
    shown = overlaid(picture, values, top or peak, grey=grey)
    dotted = ""
    if peak > 0:
        path = outline(stretched(values, high, wide), HALF * peak, wide, high)
        dotted = (f'<path d="{path}" fill="none" stroke="#000" stroke-width="1.6" stroke-opacity=".4"/>'
                  f'<path d="{path}" fill="none" stroke="{"#ddd" if grey else "#7fd4ff"}" stroke-width="1" '
                  'stroke-dasharray="1.5 2.2" stroke-linecap="round"/>')  # fmt: skip
    aligned = said.get("alignment")
    second = "not to be read" if grey else "no evidence" if peak <= 0 else f"peak {100 * peak / (top or peak):.0f}%"
    second += "" if grey or aligned is None else f", look {aligned:.2f}".replace("-", "−")
    return f'<image {size} href="{jpeg(shown)}"/>{dotted}', _lines([first, second], high, grey)


def _lines(lines: Sequence[str], high: int, grey: bool = False) -> str:
    slanted = ' font-style="italic"'
    return "".join(
        f'<text x="0" y="{high + 12 * (n + 1)}" font-size="10" fill="{SOFT if grey or n else INK}"'
        f"{slanted if grey and n else ''}>{escape(line)}</text>"
        for n, line in enumerate(lines)
    )


def numbers(look: Look, cases: Sequence[Case]) -> Table:
    rows = []
    for case in cases:
        for arm in look.arms:
            said = (case.get("arms") or {}).get(arm) or {}
            found = {True: "found", False: "missed", None: "not known"}[said.get("found")]
            values = (said.get(key) for key in ("logit", "score", "cut", "alignment"))
            figures = [DASH if value is None else signed(value) for value in values]
            cells = (case["name"], case["rule"], arm, *figures[:3], found, figures[3])
            rows.append(Row(cells, "wide" if arm in look.greyed else ""))
    note = "Pseudonyms; cases_key.csv beside the page tells the cases to those who hold the data."
    return table(("Case", "Picked as", "Arm", "Logit", "Score", "Cut", "Said", "Alignment"), rows, (3, 4, 5, 7), note)


__all__ = ["case_grids", "numbers"]
