"""The tables T2 to T6 as a page shows them: the rows over all seeds, and where the others lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raresight.report.look_rows import MEASURES, Entry, Look, told_difference, told_value
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, class_name, p_value

NAMED = {
    "alignment": ("T2", "Alignment with the drawn regions", "T2_alignment"),
    "dissection": ("T3", "What units detect", "T3_dissection"),
    "geometry": ("T4", "Geometry of the features", "T4_geometry"),
    "gate": ("T5", "The check of the maps", "T5_gate"),
    "between": ("T6", "Arms against each other", "T6_between"),
}
METRICS = MEASURES | {
    "no_evidence": "empty maps",
    "null_detectors": "detectors by chance",
    "probe_ap": "probe average precision",
    "head_norm": "length of head weights",
    "feature_norm": "length of features",
    "head_norm_slope": "slope of head length on frequency",
    "feature_norm_slope": "slope of feature length on frequency",
    "bias_slope": "slope of bias on frequency",
    "d_prime": "d′",
    "d_prime_stratified": "d′ within label strata",
    "cka": "CKA",
    "gate": "share of networks whose maps pass",
    "deletion_gain": "logit lost with what the map shows, beyond a random order",
    "insertion_gain": "logit won with what the map shows, beyond a random order",
    "map_spearman": "maps alike (Spearman)",
    "nc1": "NC1",
    "nc1_by_chance": "NC1 over shuffled labels",
    "nc1_by_chance_low": "NC1 over shuffled labels, 5th percentile",
    "nc2_norms": "NC2, lengths",
    "nc2_norms_by_chance": "NC2, lengths over shuffled labels",
    "nc2_norms_by_chance_low": "NC2, lengths over shuffled labels, 5th percentile",
    "nc2_angles": "NC2, angles",
    "nc2_angles_by_chance": "NC2, angles over shuffled labels",
    "nc2_angles_by_chance_low": "NC2, angles over shuffled labels, 5th percentile",
    "nc3": "NC3",
}
SUFFIXES = {"_corrected": ", beyond chance", "_skill": ", over the usual place"}
MOST_ROWS = 240


def look_tables(look: Look) -> dict[str, Table]:
    """Title -> table, those with rows; at most 240 rows each, of the layer and method that are shown, pooled first."""
    made = {}
    for name, (number, title, file) in NAMED.items():
        rows = [row for row in look.rows(name) if row.get("seed") is None] or look.rows(name)
        chosen = [row for row in rows if _shown(look, row)] or rows
        if chosen:
            made[f"{number} {title}"] = _table(look, chosen, file, len(rows))
    return made


def made_how(look: Look) -> Table:
    """The choices behind the figures, and what they were made on."""
    told = [(str(key).replace("_", " "), _plain(value)) for key, value in look.choices.items() if value is not None]
    inputs = look.data.get("inputs") or {}
    told += [(f"input {key}", _plain(value)) for key, value in inputs.items()] if isinstance(inputs, Mapping) else []
    told += [("layers", ", ".join(look.layers)), ("seeds", ", ".join(map(str, look.seeds)))]
    return table(("Choice", "Value"), told)


def metric_told(name: str) -> str:
    for suffix, words in SUFFIXES.items():
        if name.endswith(suffix):
            return METRICS.get(name.removesuffix(suffix), name.removesuffix(suffix).replace("_", " ")) + words
    return METRICS.get(name, name.replace("_", " "))


def _shown(look: Look, row: Entry) -> bool:
    method, cases = row.get("method"), row.get("cases") or "all"
    chosen = look.choices.get("method")
    return cases == "all" and (method is None or chosen is None or method == chosen)


def _table(look: Look, rows: list[Entry], file: str, total: int) -> Table:
    place = {name: i for i, name in enumerate(look.classes)}
    ordered = sorted(rows, key=lambda row: (str(row.get("metric")), place.get(str(row.get("class")), -1)))
    made = []
    for row in ordered[:MOST_ROWS]:
        arm = str(row.get("arm")) + (f" and {row['other']}" if row.get("other") else "")
        why = look.greyed.get(str(row.get("arm"))) or str(row.get("reason") or "")
        value = str(row["verdict"]) if row.get("verdict") else told_value(row)
        cells = (
            metric_told(str(row.get("metric"))),
            class_name(str(row["class"])) if row.get("class") else DASH,
            arm,
            str(row.get("layer") or DASH),
            value,
            DASH if row.get("difference") is None else told_difference(row),
            p_value(row.get("p_adjusted")),
            DASH if row.get("n_patients") is None else str(row["n_patients"]),
            why,
        )
        made.append(Row(cells, "wide" if row.get("greyed") or row.get("value") is None else ""))
    note = f"{min(len(ordered), MOST_ROWS)} of {total} rows; all in tables/{file}.csv."
    head = (
        "Figure",
        "Class",
        "Arm",
        "Layer",
        "Value (95% interval)",
        "Difference",
        "p after Holm",
        "Patients",
        "Remark",
    )
    return table(head, made, (4, 5, 6, 7), note)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return f"{len(value)} values, in explain.json"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(_plain(one) for one in value) if isinstance(value, list | tuple) else str(value)
