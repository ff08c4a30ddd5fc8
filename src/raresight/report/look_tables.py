"""The tables T2 to T6 as a page shows them: the rows over all seeds, and where the others lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raresight.report.look_rows import (
    MEASURES,
    Entry,
    Look,
    told_difference,
    told_patients,
    told_reason,
    told_value,
    untrusted_difference,
)
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
    "detectors": "detectors (overlap beyond chance)",
    "detectors_04": "detectors (IoU above 0.04)",
    "detectors_beyond_chance": "detectors, network by network",
    "null_detectors": "detectors by chance",
    "ablation_detectors": "AP lost without the detectors, beyond other units",
    "ablation_excess": "AP lost without the 10 best features, beyond others",
    "units_for_class": "units that tell the class on whole images",
    "best_unit_auroc": "AUROC of the best unit",
    "best_excess": "best unit, IoU beyond chance",
    "best_normalised": "best unit, IoU over what areas allow",
    "null_best_unit_auroc": "AUROC of the best unit by chance",
    "null_best_excess": "best unit by chance, IoU beyond chance",
    "null_best_normalised": "best unit by chance, IoU over what areas allow",
    "legacy_concept_count": "published count of units",
    "legacy_excess": "published count, beyond boxes moved elsewhere",
    "concepts": "classes with a detector",
    "detecting": "share of units that detect a class",
    "dead": "share of units that never fire",
    "minority_collapse": "cosine among the rarest classes' head rows",
    "minority_means": "cosine among the rarest classes' feature means",
    "minority_means_by_chance": "cosine among feature means over shuffled labels",
    "minority_means_by_chance_low": "cosine among feature means over shuffled labels, 5th percentile",
    "unit_match": "units alike (correlation with the partner)",
    "unit_match_unseen": "units alike, on patients not matched on",
    "unit_match_by_chance": "units alike by chance",
    "probe_ap": "probe average precision",
    "tail_saturates_at": "layer where the rarest classes come apart",
    "head_norm": "length of head weights",
    "feature_norm": "length of features",
    "head_norm_slope": "slope of head length on frequency",
    "feature_norm_slope": "slope of feature length on frequency",
    "bias_slope": "slope of bias on frequency",
    "d_prime": "d′",
    "d_prime_stratified": "d′ within label strata",
    "cka": "CKA",
    "gate": "check with random weights",
    "empty_maps": "share of empty maps",
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
# What a reader needs before the names in a table mean anything.
EXPLAINED = {
    "alignment": "Beyond chance: less what other patients' regions of the class would give; 1 is the most. Over "
    "the usual place: less what a map of where such findings lie on average gives. At the last layer before the "
    "score only the share inside is measured.",
    "dissection": "A unit is one channel of a layer. Excess: what a unit or a count has over what chance gives; "
    "of ablation, the average precision that a class loses without its own units, less that without as many others.",
    "geometry": "Features are what the network hands to its last layer, the head, which has a row of weights for each "
    "class. NC1 to NC3 (neural collapse) say how far images of a class have shrunk to one point: the nearer to 0, the "
    "further. Slopes are on the logarithm of training images: those of lengths of "
    "their logarithm (0.1: 10.5% longer where images are e times as many), that of the bias in logits.",
    "gate": "The weights are made random from the head down; maps that hardly change by that do not show what was "
    "learnt, and fail. Each kind of map is checked at each layer that is measured. Logit: the score before it becomes "
    "a probability.",
    "between": "CKA says how alike two networks arrange the same images, from 0 to 1; an arm beside itself is the mean "
    "over pairs of its seeds. Spearman: whether two maps put the places of an image in the same order.",
}
KINDS = {"grad_cam": "Grad-CAM", "hires_cam": "HiResCAM", "cam": "CAM"}
SUFFIXES = {"_corrected": ", beyond chance", "_skill": ", over the usual place"}
CHOICES = {
    "layer": "layer that is shown",
    "layer_from": "how that layer was chosen",
    "layer_scores": "alignment by layer",
    "last_layer": "last layer before the score",
    "alignment": "measure of alignment",
    "method": "kind of map",
    "tau": "where maps are cut for the overlap",
    "q": "share of places where a unit counts as answering",
    "chosen_on": "images that choices were made on",
}
MOST_ROWS = 240


def look_tables(look: Look) -> dict[str, Table]:
    """Title -> table, those with rows; at most 240 rows each, of the layer and method that are shown, pooled first."""
    made = {}
    for name, (number, title, file) in NAMED.items():
        rows = [row for row in look.rows(name) if row.get("seed") is None] or look.rows(name)
        chosen = [row for row in rows if _shown(look, row)] or rows
        if chosen:
            made[f"{number} {title}"] = _table(look, name, chosen, file, len(rows))
    return made


def made_how(look: Look) -> Table:
    """The choices behind the figures, and what they were made on."""
    told = [(CHOICES.get(key, str(key).replace("_", " ")), _told(key, value)) for key, value in look.choices.items()
            if value is not None]  # fmt: skip
    inputs = look.data.get("inputs") or {}
    told += [(f"input {key}", _plain(value)) for key, value in inputs.items()] if isinstance(inputs, Mapping) else []
    told += [("layers", ", ".join(look.layers)), ("seeds", ", ".join(map(str, look.seeds)))]
    return table(("Choice", "Value"), told)


def _told(key: str, value: Any) -> str:
    named = MEASURES if key == "alignment" else KINDS if key == "method" else {}
    return named.get(str(value)) or _plain(value)


def metric_told(name: str) -> str:
    for suffix, words in SUFFIXES.items():
        if name.endswith(suffix):
            return METRICS.get(name.removesuffix(suffix), name.removesuffix(suffix).replace("_", " ")) + words
    return METRICS.get(name, name.replace("_", " "))


def _shown(look: Look, row: Entry) -> bool:
    if row.get("metric") == "cka" and row.get("other_layer"):
        return False  # layer by layer: a figure shows it, and these rows would crowd out the others
    method, cases = row.get("method"), row.get("cases") or "all"
    chosen = look.choices.get("method")
    return cases == "all" and (method is None or chosen is None or method == chosen or row.get("metric") == "gate")


def _table(look: Look, name: str, rows: list[Entry], file: str, total: int) -> Table:
    place = {name: i for i, name in enumerate(look.classes)}

    def order(row: Entry) -> tuple[bool, str, int]:
        """The check itself first, then by measure and class."""
        metric = str(row.get("metric"))
        return metric != "gate", metric, place.get(str(row.get("class")), -1)

    ordered = sorted(rows, key=order)
    made = []
    for row in ordered[:MOST_ROWS]:
        arm = str(row.get("arm")) + (f" and {row['other']}" if row.get("other") else "")
        why = look.greyed.get(str(row.get("arm"))) or told_reason(row)
        value = str(row["verdict"]) if row.get("verdict") else told_value(row)
        cells = (
            metric_told(str(row.get("metric"))),
            class_name(str(row["class"])) if row.get("class") else DASH,
            arm,
            _layer(row, name),
            value,
            _difference(row),
            p_value(row.get("p_adjusted")),
            told_patients(row),
            why,
        )
        made.append(Row(cells, "wide" if row.get("greyed") or row.get("value") is None else ""))
    note = f"{EXPLAINED[name]} {min(len(ordered), MOST_ROWS)} of {total} rows; all in tables/{file}.csv."
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


def _difference(row: Entry) -> str:
    """The difference; in a row that may be read, but for the baseline's maps, that it may not."""
    if row.get("difference") is None:
        return DASH
    return "not to be read" if untrusted_difference(row) and not row.get("greyed") else told_difference(row)


def _layer(row: Entry, table: str) -> str:
    """The layer, or the two that are compared; where kinds of maps stand beside each other, the kind too."""
    if table == "between" and row.get("other_layer") not in (None, row.get("layer")):
        return f"{row['layer']} and {row['other_layer']}"
    method = str(row.get("method") or "") if table == "gate" else ""
    return ", ".join(part for part in (str(row.get("layer") or ""), KINDS.get(method, method)) if part) or DASH


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return f"{len(value)} values, in explain.json"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(_plain(one) for one in value) if isinstance(value, list | tuple) else str(value)
