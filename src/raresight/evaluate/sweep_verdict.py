"""What a sweep shows at each training prevalence, in one sentence, and no more than it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.evaluate.sweep import COST
from raresight.evaluate.sweep_differences import MOVED

LEVEL = 0.05
TOO_FEW = "cannot be resolved with so few patients"
NAMES = {"auprc": "AUPRC", COST: "expected cost per 1,000 at the moved threshold"}


def verdicts(
    columns: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], *, n_positive: int, baseline: str, cls: str
) -> list[dict[str, Any]]:
    """One entry a column: `column training_prevalence outcome arms text`.

    `outcome` is `arms` (those named beat the baseline after Holm, in AUPRC or in expected cost with both thresholds
    moved), `threshold` (none does, and moving the baseline's threshold lowers its expected cost), `nothing` (not even
    that) or `unresolved` (under 10 patients with the class are judged, or fewer than 2 were trained on in some seed).
    `columns` hold `name`, `prevalence`, `n_positive_groups` (one a seed), `rows` are those of `differences`.
    """
    return [_verdict(column, rows, n_positive, baseline, cls) for column in columns]


def _verdict(
    column: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], n_positive: int, baseline: str, cls: str
) -> dict[str, Any]:
    entry = {"column": column["name"], "training_prevalence": column["prevalence"], "arms": []}
    if n_positive < FEW_POSITIVE_PATIENTS:
        are = "is" if n_positive == 1 else "are"
        text = f"{TOO_FEW}: {n_positive} with {cls} {are} judged, fewer than {FEW_POSITIVE_PATIENTS}"
        return entry | {"outcome": "unresolved", "text": text}
    fewest = min(column["n_positive_groups"])
    if fewest < 2:
        return entry | {"outcome": "unresolved", "text": f"{TOO_FEW}: training held {fewest} with {cls} in some seed"}
    here = [row for row in rows if row["column"] == column["name"] and _clear(row) and _gain(row)]
    winners: dict[str, list[Mapping[str, Any]]] = {}
    for row in here:
        if row["arm"] != MOVED:
            winners.setdefault(row["arm"], []).append(row)
    moved = any(row["arm"] == MOVED for row in here)
    if winners:
        said = [f"{arm} ({'; '.join(map(_told, found))})" for arm, found in winners.items()]
        verb = "beats" if len(said) == 1 else "beat"
        return entry | {"outcome": "arms", "arms": list(winners), "text": f"{', '.join(said)} {verb} {baseline}"}
    if moved:
        (row,) = (row for row in here if row["arm"] == MOVED)
        text = f"nothing beats moving the threshold: {_figures(row)} false alarms per 1,000"
        return entry | {"outcome": "threshold", "text": text}
    text = f"nothing beats {baseline}, nor is moving its threshold shown to help"
    return entry | {"outcome": "nothing", "text": text}


def _clear(row: Mapping[str, Any]) -> bool:
    return row["family"] == "primary" and row["p_adjusted"] is not None and row["p_adjusted"] < LEVEL


def _gain(row: Mapping[str, Any]) -> bool:
    return row["difference"] < 0 if row["better"] == "lower" else row["difference"] > 0


def _told(row: Mapping[str, Any]) -> str:
    return f"{NAMES[row['metric']]} {_figures(row)}"


def _figures(row: Mapping[str, Any]) -> str:
    """The difference and its interval."""
    digits = 1 if row["metric"] == COST else 3
    return f"{row['difference']:+.{digits}f}, {row['low']:+.{digits}f} to {row['high']:+.{digits}f}"
