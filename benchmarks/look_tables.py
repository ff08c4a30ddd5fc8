"""What `raresight explain` found, as the dated tables of docs/results: used by the studies that look into networks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from look_cells import CELLS, Entry, Found, by_class, change, head, line, own, rows_of, section

SCORES_AND_LOOKS = {
    "auroc": "AUROC",
    "auprc": "Average precision",
    "alignment": "Alignment",
    "alignment_last": "Alignment at the last layer",
    "detectors": "Detectors",
    "d_prime": "d'",
}
T2 = "Adjusted over all rows of table T2 of this kind of map and layer: exploratory, no part of the verdict."
SEEDS = (
    "Means and 95% intervals over seeds alone: nothing in them is about other patients. Of three seeds, half an "
    "interval of an own value is 2.5 standard deviations between them."
)
WITH_OWN = ("alignment", "alignment_last", "detectors")
FLAGGED = ("same score, different model", "better score, worse look")
# What T3 says of the chosen layer by class: metric -> title, and what the number is.
UNITS = {
    "null_detectors": ("Detectors by chance", "By the same rule with masks dealt anew: mean, and 95 of 100 counts."),
    "detectors_beyond_chance": ("Detectors, over seeds alone", ""),
    "detectors_04": ("Units whose overlap is above 0.04", "The published rule of network dissection, without a null."),
    "legacy_concept_count": ("The seed paper's count", "Units that touch the finding, mean of its images."),
    "legacy_excess": ("The seed paper's count beyond chance", "Less the same mask put anywhere in the same image."),
    "best_unit_auroc": ("The best unit's AUROC", "The highest of all units, chosen on the images it is told of."),
    "null_best_unit_auroc": ("The best unit's AUROC by chance", "The highest of all units with labels dealt anew."),
    "best_normalised": ("The best unit's overlap", "IoU over what the areas allow, the highest of all units."),
    "best_excess": ("The best unit's overlap beyond chance", "IoU less its mean with masks dealt anew, the highest."),
    "null_best_excess": ("The best unit's overlap beyond chance, by chance", "The same with masks dealt anew."),
    "null_best_normalised": ("The best unit's overlap by chance", "The highest of all units with masks dealt anew."),
    "units_for_class": ("Units that tell the class by themselves", "Within a false-discovery rate of 5%."),
}
ABLATIONS = {
    "ablation_excess": (
        "Without the 10 best features",
        "AP lost when the class's 10 best features behind the head (not units of the chosen layer) are set to 0, less "
        "that of 10 others; chosen on one half of the patients, judged on the other.",
    ),
    "ablation_detectors": (
        "Without its detectors",
        "AP lost when as many units of the layer as detect the class, those that overlap most with its regions on one "
        "half of the patients, are set to 0, less that of as many others; judged on the other half.",
    ),
}


def look_table(found: Found, title: str, lines: Sequence[str]) -> str:
    """Markdown of one `explain.json`, also of an older look: whatever the findings quote has to be in here."""
    said = [f"# {title}, {date.today().isoformat()}", "", *lines, "", *_what(found)]
    said += section("## Maps that may be read", _gate(found), "How many networks pass the check that maps change when "
                    "weights are drawn anew, layer by layer.")  # fmt: skip
    said += section("## Verdicts", _verdicts(found))
    said += ["", f"## Differences from {found['baseline']}", "", CELLS, "", "Alignment: share of the map inside the "
             "finding, beyond what other patients' masks give."]  # fmt: skip
    for metric, name in SCORES_AND_LOOKS.items():
        said += section(f"### {name}", by_class(found, "verdict", metric=metric))
        if metric in WITH_OWN:
            said += section(f"### {name}, own values", by_class(found, "verdict", alone=True, metric=metric))
    said += _maps(found) + _units(found)
    said += section("## Figures of whole networks, own values", _whole(found, alone=True), SEEDS)
    said += section("## Figures of whole networks, differences", _whole(found, alone=False), SEEDS)
    said += section("## Between networks", _between(found), "CKA: how alike two networks arrange the same images.")
    if found["limits"]:
        said += ["", "## Limits", "", *[f"- {limit[0].upper()}{limit[1:].rstrip('.')}." for limit in found["limits"]]]
    return "\n".join(said) + "\n"


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
        + f". Last layer: {choices.get('last_layer')}. First method: {choices['method']}. "
        f"Chosen on: {choices['chosen_on']}.",
    ]


def _gate(found: Found) -> list[str]:
    """Networks that pass, by arm, layer and kind of map; why others do not; and whether logits follow the maps."""
    rows = [one for one in rows_of(found, "gate", metric="gate") if one["class"] is None]
    places = list(dict.fromkeys((one["layer"], one["method"]) for one in rows))
    at = {(one["arm"], one["layer"], one["method"]): one for one in rows}
    gains = ("deletion_gain", "insertion_gain")
    first = [place for place in places if place[1] == found["choices"]["method"]]
    silent = [f"empty maps, {layer}" for layer, _ in first]
    heads = (f"{layer}, {method}" for layer, method in places)
    said = head(["arm", *heads, *silent, *(name.replace("_", " ") for name in gains)])
    for arm in found["arms"]:
        cells = []
        for place in places:
            one = at.get((arm, *place))
            cells.append("not tried" if one is None or not one["n_seeds"] else f"{_passed(one)} of {one['n_seeds']}")
        of_arm = {name: rows_of(found, "gate", metric=name, arm=arm) for name in gains}
        cells += [_silent(rows_of(found, "gate", metric="empty_maps", arm=arm), *place) for place in first]
        said.append(line([arm, *cells, *(own(one[0]) if one else "-" for one in of_arm.values())]))
    tried = {place: [at[arm, *place] for arm in found["arms"] if (arm, *place) in at] for place in places}
    sums = [f"{sum(map(_passed, some))} of {sum(one['n_seeds'] or 0 for one in some)}" for some in tried.values()]
    said.append(line(["all networks", *sums, *("" for _ in (*first, *gains))]))
    said += [
        "",
        "Gains: logits that go with the map's brightest places and come back with them, beyond a random order. Empty "
        "maps: share of a finding's images in which nothing speaks for it, mean of findings, seed by seed.",
    ]
    failed = {(one["arm"], one["layer"], one["method"]): one for one in rows if one["greyed"]}
    empty = [
        one
        for one in rows_of(found, "alignment", metric="mass_corrected", cases="all")
        if one["greyed"] and one["class"] is not None and (one["arm"], one["layer"], one["method"]) not in failed
    ]
    grey = [f"- Grey: {_about(one)}: {one['reason']}" for one in (*failed.values(), *empty)]
    return [*said, "", *(grey or ["No arm and no class is grey."])] if rows else []


def _silent(rows: list[Entry], layer: str, method: str) -> str:
    of = [one for one in rows if (one["layer"], one["method"]) == (layer, method) and one["value"] is not None]
    return ", ".join(f"{one['value']:.0%}" for one in of) or "-"


def _passed(row: Entry) -> int:
    return round((row["value"] or 0) * (row["n_seeds"] or 0))


def _about(row: Entry) -> str:
    return ", ".join(str(row[key]) for key in ("arm", "class", "layer", "method") if row[key] is not None)


def _verdicts(found: Found) -> list[str]:
    """Of every arm and class: the flag, and whether its own maps beat chance and the usual place."""
    names = [c["name"] for c in found["classes"]]
    at = {(one["metric"], one["arm"], one["class"]): one["verdict"] for one in found["tables"]["verdict"]}
    said = head(["arm", *names])
    for arm in found["arms"]:
        cells = []
        for name in names:
            kinds = [at.get((metric, arm, name)) for metric in ("verdict", "beyond_chance", "beyond_prior")]
            kinds[2] = kinds[2] if kinds[2] == "beyond the anatomical prior" else None
            no_flag = [] if kinds[0] or ("verdict", arm, name) not in at else ["no verdict"]
            cells.append("; ".join([*no_flag, *filter(None, kinds)]) or "no figure")
        said.append(line([arm, *cells]))
    tests = {
        family: sum(one["family"] == family and one["p"] is not None for one in found["tables"]["verdict"])
        for family in ("score", "look")
    }
    rows = [one for one in found["tables"]["verdict"] if one["metric"] == "verdict"]
    notable = [
        f"- {one['arm']}, {one['class']}: **{one['verdict']}**: {one['reason']}"
        for one in rows
        if one["verdict"] in FLAGGED
    ]
    said += ["", f"Adjusted together: {tests['score']} comparisons of scores, {tests['look']} of looks."]
    return [*said, "", *(notable or ["No arm and class is flagged as a different model or a worse look."])]


def _maps(found: Found) -> list[str]:
    """T2: where the maps lie and how many are empty, at the chosen layer and the last one."""
    rows = rows_of(found, "alignment")
    places = list(dict.fromkeys((one["layer"], one["method"]) for one in rows))
    first, method = found["choices"]["layer"], found["choices"]["method"]
    said = []
    for layer, kind in places:
        where = {"layer": layer, "method": kind, "cases": "all"}
        here = f"by {kind.replace('_', '-')} at {layer}"
        if kind != method:  # those of the first stand above
            said += section(f"### Alignment {here}", by_class(found, "alignment", metric="mass_corrected", **where), T2)
        if kind not in (method, "random"):
            alone = by_class(found, "alignment", alone=True, metric="mass_corrected", **where)
            said += section(f"### Alignment {here}, own values", alone)
        said += section(f"### Over the usual place {here}", by_class(found, "alignment", metric="mass_skill", **where))
    for layer in dict.fromkeys(layer for layer, kind in places if kind == method):
        where = {"layer": layer, "method": method, "cases": "all", "metric": "no_evidence"}
        title = f"### Share of maps without any evidence at {layer}"
        said += section(title, by_class(found, "alignment", **where), T2)
        said += section(f"{title}, own values", by_class(found, "alignment", alone=True, **where))
    for cases in ("found", "missed"):
        where = {"metric": "mass_corrected", "method": method, "cases": cases, "layer": first}
        said += section(f"### Alignment where the finding was {cases}", by_class(found, "alignment", **where), T2)
    return said


def _units(found: Found) -> list[str]:
    """T3: what units of the chosen layer answer to, what chance gives, and what the class loses without them."""
    layer = found["choices"]["layer"]
    said = ["", f"## Units of {layer}"] if rows_of(found, "dissection") else []
    for metric, (title, note) in UNITS.items():
        where = {"metric": metric, "layer": layer}
        said += section(f"### {title}, own values", by_class(found, "dissection", alone=True, **where), note)
    for metric, (title, note) in ABLATIONS.items():
        for where_ in dict.fromkeys(one["layer"] for one in rows_of(found, "dissection", metric=metric)):
            where = {"metric": metric, "layer": where_}
            said += section(f"### {title}, own values", by_class(found, "dissection", alone=True, **where), note)
    return said


def _whole(found: Found, *, alone: bool) -> list[str]:
    """Figures down, arms across, of what is said of no class: T4's, and T3's of the chosen layer."""
    layer = found["choices"]["layer"]
    rows = [one for table in ("geometry", "dissection") for one in rows_of(found, table) if one["class"] is None]
    kept = [one for one in rows if one["value"] is not None and one["layer"] in (None, layer) and not one["band"]]
    at = {(one["metric"], one["arm"]): one for one in kept}
    arms = [arm for arm in found["arms"] if alone or arm != found["baseline"]]
    if not kept or not arms:
        return []
    said = head(["figure", *arms])
    for name in dict.fromkeys(one["metric"] for one in kept if alone or "by_chance" not in one["metric"]):
        rest = [at.get((name, arm)) for arm in arms]
        said.append(line([name, *("-" if one is None else own(one) if alone else change(one) for one in rest)]))
    named = {one["arm"]: one["verdict"] for one in rows if one["metric"] == "tail_saturates_at" and one["verdict"]}
    if alone and named:  # a layer has no mean
        said.append(line(["tail_saturates_at", *(named.get(arm, "-") for arm in arms)]))
    return said


def _between(found: Found) -> list[str]:
    """Pairs of arms with the baseline, and each arm with itself (its seeds), layer by layer; then layers of an arm."""
    rows = [one for one in rows_of(found, "between", metric="cka") if one["class"] is None]
    alike = [one for one in rows if one["other_layer"] in (None, one["layer"])]
    layers = list(dict.fromkeys(one["layer"] for one in alike))
    at = {(one["arm"], one["other"], one["layer"]): one for one in alike}
    pairs = [
        (arm, other)
        for arm, other in dict.fromkeys((one["arm"], one["other"]) for one in alike)
        if found["baseline"] in (arm, other) or arm == other
    ]
    said = head(["networks", *layers]) if alike else []
    for arm, other in pairs:
        cells = [at.get((arm, other, layer)) for layer in layers]
        name = f"{arm}, its seeds" if arm == other else f"{arm} and {other}"
        said.append(line([name, *("-" if one is None else own(one) for one in cells)]))
    within = [one for one in rows if one not in alike]
    steps = list(dict.fromkeys((one["layer"], one["other_layer"]) for one in within))
    by_arm = {(one["arm"], one["layer"], one["other_layer"]): one for one in within}
    said += ["", *head(["layers of", *(f"{a} and {b}" for a, b in steps)])] if steps else []
    for arm in found["arms"] if steps else ():
        cells = [by_arm.get((arm, *step)) for step in steps]
        said.append(line([arm, *("-" if one is None else own(one) for one in cells)]))
    return said
