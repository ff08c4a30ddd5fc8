"""What `raresight explain` found, as the dated tables of docs/results: used by the studies that look into networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

Found = Mapping[str, Any]


def look_table(found: Found, title: str, lines: Sequence[str]) -> str:
    """Markdown of one `explain.json`: what was looked at, the gate, verdicts, differences, dissection, geometry."""
    said = [f"# {title}, {date.today().isoformat()}", "", *lines, "", *_what(found)]
    said += [
        "",
        "## Maps that may be read",
        "",
        "An arm's maps must change when its weights are drawn anew; an arm that fails is greyed in every table.",
        "",
        *_gate(found),
        "",
        "## Verdicts",
        "",
        *_verdicts(found),
        "",
        f"## Differences from {found['baseline']}",
        "",
        "Mean over seeds, 95% interval over seeds and patients; bold where the adjusted p is below 0.05. First line: "
        "the baseline's own value. Alignment: share of the map inside the finding, beyond what other patients' masks "
        "give.",
    ]
    for metric, name in (
        ("auroc", "AUROC"),
        ("auprc", "Average precision"),
        ("alignment", "Alignment"),
        ("alignment_last", "Alignment at the last layer"),
        ("detectors", "Detectors"),
        ("d_prime", "d'"),
    ):
        by_class = _by_class(found, "verdict", {"metric": metric})
        said += ["", f"### {name}", "", *by_class] if by_class else []
    methods = sorted({row["method"] for row in found["tables"]["alignment"] if row["method"] not in (None, "random")})
    layer = found["choices"]["layer"]
    for method in [*methods, "random"]:
        wanted = {"metric": "mass_corrected", "method": method, "cases": "all", "layer": layer}
        said += ["", f"### Alignment by {method.replace('_', '-')}", ""]
        said += _by_class(found, "alignment", wanted)
        skill = _by_class(found, "alignment", wanted | {"metric": "mass_skill"})
        said += ["", "Over the prior:", "", *skill] if skill else []
    if methods:
        wanted = {"metric": "no_evidence", "method": methods[0], "cases": "all", "layer": layer}
        said += ["", "### Share of maps without any evidence", "", *_by_class(found, "alignment", wanted)]
    for cases in ("found", "missed"):
        wanted = {"metric": "mass_corrected", "method": methods[0], "cases": cases, "layer": layer} if methods else {}
        said += ["", f"### Alignment where the finding was {cases}", "", *_by_class(found, "alignment", wanted)]
    said += ["", "## Figures of whole networks", "", *_whole(found), "", "## Between networks", "", *_between(found)]
    if found["limits"]:
        said += ["", "## Limits", "", *[f"- {limit[0].upper()}{limit[1:].rstrip('.')}." for limit in found["limits"]]]
    return "\n".join(said) + "\n"


def cell(row: Mapping[str, Any], prefix: str = "", digits: int = 3) -> str:
    """`value (low to high)` of a row, or of its difference; a dash where there is none."""
    value, low, high = (row["value"], row["low"], row["high"]) if not prefix else (
        row["difference"], row["diff_low"], row["diff_high"]
    )  # fmt: skip
    if value is None:
        return "-"
    sign = "+" if prefix else ""
    if low is None or high is None:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def _what(found: Found) -> list[str]:
    choices = found["choices"]
    classes = ", ".join(
        f"{c['name']} {c['n_images']:,} images of {c['n_patients']:,} ({c.get('n_measured', 0)} measured with a region)"
        for c in found["classes"]
    )
    return [
        f"Part: {found['part']}, {found['n_images']:,} images of {found['n_patients']:,} patients (or lesions); "
        f"{len(found['arms'])} arms, seeds {', '.join(map(str, found['seeds']))}. Positives: {classes}.",
        "",
        f"Layer of the maps: {choices['layer']} ({choices['layer_from']}); scores of the layers: "
        + (", ".join(f"{name} {score:.3f}" for name, score in choices["layer_scores"].items()) or "none")
        + f". Last layer: {choices['last_layer']}. First method: {choices['method']}. "
        f"Chosen on: {choices['chosen_on']}.",
    ]


def _gate(found: Found) -> list[str]:
    rows = [row for row in found["tables"]["gate"] if row["metric"] == "gate" and row["seed"] is None]
    gains: dict[str, dict[str, list[float]]] = {}
    for row in found["tables"]["gate"]:
        if row["metric"] in ("deletion_gain", "insertion_gain") and row["value"] is not None:
            gains.setdefault(row["arm"], {}).setdefault(row["metric"], []).append(row["value"])
    said = [
        "| arm | layer | method | gate | deletion and insertion beyond a random order, logits, mean of seeds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        first = (row["layer"], row["method"]) == (found["choices"]["layer"], found["choices"]["method"])
        mine = gains.get(row["arm"], {}) if first else {}
        told = ", ".join(f"{sum(v) / len(v):+.3f}" for v in mine.values()) or "-"
        said.append(
            f"| {row['arm']} | {row['layer']} | {row['method']} | {row['verdict']} {row['reason'] or ''} | {told} |"
        )
    return said


def _verdicts(found: Found) -> list[str]:
    names = [c["name"] for c in found["classes"]]
    rows = {(r["arm"], r["class"]): r for r in found["tables"]["verdict"] if r["metric"] == "verdict"}
    chance = {(r["arm"], r["class"]): r for r in found["tables"]["verdict"] if r["metric"] == "beyond_chance"}
    said = ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for arm in found["arms"]:
        cells = []
        for name in names:
            flag = rows.get((arm, name), {}).get("verdict") if (arm, name) in rows else ""
            looks = chance.get((arm, name), {}).get("verdict") or "no figure"
            cells.append(f"{flag + '; ' if flag else ''}{looks}")
        said.append(f"| {arm} | " + " | ".join(cells) + " |")
    notable = [
        f"- {arm}, {name}: **{row['verdict']}**: {row['reason']}"
        for (arm, name), row in rows.items()
        if row["verdict"] in ("same score, different model", "better score, worse look")
    ]
    return [*said, "", *(notable or ["No arm and class is flagged as a different model or a worse look."])]


def _by_class(found: Found, table: str, wanted: Mapping[str, Any]) -> list[str]:
    rows = [
        row
        for row in found["tables"][table]
        if all(row[key] == value for key, value in wanted.items()) and row["seed"] is None
    ]
    names = [c["name"] for c in found["classes"] if any(row["class"] == c["name"] for row in rows)]
    if any(row["class"] is None for row in rows):
        names.append("macro")
    if not rows or not names:
        return []
    at = {(row["arm"], row["class"] or "macro"): row for row in rows}
    digits = 1 if wanted.get("metric") == "detectors" else 3
    said = ["| arm | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for arm in found["arms"]:
        cells = []
        for name in names:
            row = at.get((arm, name))
            text = "-" if row is None else cell(row, "" if arm == found["baseline"] else "difference", digits)
            shown = row is not None and arm != found["baseline"] and (row["p_adjusted"] or 1) < 0.05
            cells.append(f"**{text}**" if shown and text != "-" else text)
        said.append(f"| {arm} | " + " | ".join(cells) + " |")
    return said


def _whole(found: Found) -> list[str]:
    rows = [
        r for t in ("geometry", "dissection") for r in found["tables"][t] if r["class"] is None and r["seed"] is None
    ]
    layer = found["choices"]["layer"]
    kept = [r for r in rows if r["value"] is not None and r["layer"] in (None, layer) and not r["band"]]
    names = list(dict.fromkeys(r["metric"] for r in kept))
    at = {(r["metric"], r["arm"]): r for r in kept}
    said = [
        "Mean (95% over seeds).",
        "",
        "| figure | " + " | ".join(found["arms"]) + " |",
        "|---|" + "---|" * len(found["arms"]),
    ]
    for name in names:
        cells = [cell(at[(name, arm)]) if (name, arm) in at else "-" for arm in found["arms"]]
        said.append(f"| {name} | " + " | ".join(cells) + " |")
    return said


def _between(found: Found) -> list[str]:
    rows = [
        r
        for r in found["tables"]["between"]
        if r["metric"] in ("cka", "map_spearman") and r["class"] is None and r["other"] and not r["other_layer"]
    ]
    said = ["| networks | cka |", "|---|---|"]
    for row in rows:
        if row["metric"] == "cka" and found["baseline"] in (row["arm"], row["other"]):
            said.append(f"| {row['arm']} and {row['other']} | {cell(row)} |")
    return said
