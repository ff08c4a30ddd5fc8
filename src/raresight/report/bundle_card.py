"""The first page of a bundle's folder: what was frozen, for what, and what validation showed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raresight.core.estimate import Estimate


def bundle_card(facts: Mapping[str, Any], estimates: Sequence[Estimate]) -> str:
    """What a reader of the folder should know first, in plain words."""
    decision, network = facts["decision"], facts["network"]
    before = "before the test part was opened"
    if facts["openings_before"]:
        before = f"AFTER the test part had been opened {facts['openings_before']} times"
    lines = [
        f"# {facts['arm']['name']}, frozen {facts['frozen'][:10]}",
        "",
        f"Intended use: {facts['intended_use'] or 'not stated (`intended_use:` in study.yaml)'}",
        "",
        f"Frozen {before}. Seeds: {', '.join(map(str, facts['seeds']))}; {len(network['members'])} network(s), "
        f"{network['backbone']}. Images: {facts['image']['resize']}. A decision is about one {decision['unit']}.",
        "",
        "Figures of the validation part, on which thresholds were chosen: somewhat too good.",
        "",
        "| class | sensitivity | specificity | patients with it |",
        "|---|---|---|---|",
    ]
    for name in facts["task"]["classes"]:
        rows = [_find(estimates, metric, name) for metric in ("recall", "specificity")]
        patients = rows[0].n_positive_patients if rows[0] is not None else 0
        lines.append(f"| {name} | {_told(rows[0])} | {_told(rows[1])} | {patients} |")
    quick = ["", "A quick trial: not for conclusions."] if facts["study"]["quick"] else []
    return "\n".join([*lines, *quick, "", "Not shown: that it works elsewhere, or that it helps anybody.", ""])


def _find(estimates: Sequence[Estimate], metric: str, name: str) -> Estimate | None:
    rows = (
        e for e in estimates if (e.metric, e.class_, e.operating_point, e.subgroup) == (metric, name, "tuned", None)
    )
    return next(rows, None)


def _told(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return "not estimable"
    return f"{100 * estimate.value:.0f}% ({100 * estimate.low:.0f}–{100 * estimate.high:.0f}%)"
