"""The explorer as the page holds it: words, a table of the starting points for readers without scripts or on paper."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from raresight.report.content import Content
from raresight.report.explorer import explorer_data, figures
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, many, part_name, share

RATES = {
    "recall": "Sensitivity (recall)",
    "specificity": "Specificity",
    "ppv": "Alarms that are right (PPV)",
    "npv": "Silence that is right (NPV)",
}
CONSEQUENCES = {
    "alarms_per_1000": "Alarms per 1,000",
    "misses_per_100000": "Missed per 100,000",
    "number_needed_to_read": "Alarms to read per case found",
    "net_benefit": "Net benefit per 1,000",
    "expected_cost": "Expected cost per 1,000",
}


def explorer_view(content: Content) -> dict[str, Any] | None:
    """What the template `explorer.html` shows; None where no predictions are at hand."""
    data = explorer_data(content)
    if data is None:
        return None
    left_out = data["arms_left_out"]
    mark = data["mark_name"]
    return {
        "lead": _lead(content, mark),
        "several": len(data["arms"]) > 1,
        "mark": f"the {mark}",
        "note": f"{many(left_out, 'arm')} of this study left out here." if left_out else "",
        "heading": f"At the {mark}, class by class" if _marked(data) else "At a threshold of 0.5, class by class",
        "tables": starting_points(data),
        "names": RATES | CONSEQUENCES,
        "json": embedded(data),
        "script": script(),
    }


@cache
def script() -> Markup:
    """explorer.js as it stands in the page."""
    return Markup((Path(__file__).parent / "explorer.js").read_text(encoding="utf-8"))


def script_hash() -> str:
    """What the page's content security policy lets run: this script, to the byte, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


def embedded(data: Mapping[str, Any]) -> Markup:
    """The data as JSON that no text in it can break out of a script element with."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def starting_points(data: Mapping[str, Any]) -> tuple[Table, Table]:
    """Every class of the arm shown where its sliders start: how well it tells apart, and what follows in use."""
    arm = data["arms"][0]
    told: list[Sequence[str] | Row] = []
    used: list[Sequence[str] | Row] = []
    reasons: list[str] = []
    for named, record in zip(data["classes"], arm["classes"], strict=True):
        label = named["label"]
        if "why" in record:
            told.append(_blank(label, 1 + len(RATES)))
            used.append(_blank(label, 2 + len(CONSEQUENCES)))
            reasons.append(f"{label}: {record['why']}")
            continue
        found = figures(record, record["start"], record["prevalence"], record["cost"])
        told.append((label, f"{record['positive_patients']:,}", *(in_words(key, found[key]) for key in RATES)))
        rare = share(record["prevalence"]) + ("" if record["prevalence_stated"] else ", in these data")
        worth = f"{record['cost']:g}" + ("" if record["cost_stated"] else ", nobody said")
        used.append((label, rare, worth, *(in_words(key, found[key]) for key in CONSEQUENCES)))
    seed = "" if arm["seed"] is None else f", seed {arm['seed']}"
    here = f"Arm {arm['name']}{seed}. 95% intervals. PPV and NPV at the prevalence of the next table."
    here += f" Not estimable: {'; '.join(reasons)}." if reasons else ""
    both = "Intervals rest on those of sensitivity and specificity; prevalence and costs are taken as known."
    with_it = f"{data['who'].capitalize()} with it"
    return (
        table(("Class", with_it, *RATES.values()), told, range(1, 2 + len(RATES)), here),
        table(("Class", "Prevalence", "A miss, in false alarms", *CONSEQUENCES.values()), used,
              range(1, 3 + len(CONSEQUENCES)), both),
    )  # fmt: skip


def _blank(label: str, cells: int) -> Row:
    return Row((label, "not estimable", *[DASH] * (cells - 1)), "blank")


def in_words(key: str, triple: Sequence[float | None]) -> str:
    """`80.0% (70.1% to 88.2%)`, as explorer.js writes it but for the spaces."""
    value, low, high = triple
    if value is None:
        return "not estimable"
    write = _share if key in RATES else _count
    lower = "" if low is None else f"{write(low)}\u00a0to\u00a0"  # no line ends inside an interval
    return f"{write(value)} ({lower}{'unbounded' if high is None else write(high)})"


def _share(value: float) -> str:
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 < value < 1:
        return ">99.9%"
    return f"{100 * value:.1f}%"


def _count(value: float) -> str:
    size, sign = abs(value), "−" if value < 0 else ""
    if 0 < size < 0.05:
        return f"{sign}<0.1"
    return sign + (f"{size:.1f}" if size < 9.95 else f"{size:,.0f}")


def _marked(data: Mapping[str, Any]) -> bool:
    return any(record.get("frozen") is not None for record in data["arms"][0]["classes"])


def _lead(content: Content, mark: str) -> str:
    moved = "Move the threshold, the prevalence and what a miss costs; every figure follows, with its interval."
    if content.part == "val":
        return f"On the {part_name('val')}, where thresholds may be chosen, and look better than they are. {moved}"
    return (
        f"On the {part_name(content.part)}. {moved} Only the {mark} may be reported: a threshold picked by its figures "
        "on these patients looks better than it is."
    )
