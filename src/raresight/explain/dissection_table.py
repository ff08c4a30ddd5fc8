"""T3: what the units of every network detect, layer by layer, arms side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.explain.ablated import ablated
from raresight.explain.arm_rows import Sides, detector_rows
from raresight.explain.dissect import DETECTOR
from raresight.explain.dissected import NOT_DEALT, beyond_chance, dissected, per_image, unit_facts
from raresight.explain.draws import Draws
from raresight.explain.null_counts import band
from raresight.explain.ranked_pairs import detector_figures
from raresight.explain.tables import Row, fact_rows, row
from raresight.explain.unit_facts import label_facts
from raresight.explain.unit_null import UnitNull

if TYPE_CHECKING:
    from raresight.explain.look import Look

SELECTED = "units are chosen on all images and a resample can only lose some: the interval leans low"
BY_CHANCE = "mean, and 95 of 100 counts, that dealing the masks anew gives"
TOP_MASKS = "the highest of all units with masks dealt anew: mean, and 95 of 100 dealings"
TOP_LABELS = "the highest of all units with labels dealt anew among patients: mean, and 95 of 100 dealings"
LABELS_NOT_DEALT = "no image with the class, none without it, or all images are one patient's"
# What a figure by chance says, and why there is none.
BESIDE = {
    "detectors": (BY_CHANCE, NOT_DEALT),
    "best_excess": (TOP_MASKS, NOT_DEALT),
    "best_normalised": (TOP_MASKS, NOT_DEALT),
    "best_unit_auroc": (TOP_LABELS, LABELS_NOT_DEALT),
}
HIGHEST = "the highest of all units, which is high by chance too"


def dissection_table(look: Look, sides: Sides, q: float) -> tuple[list[Row], list[Row]]:
    """Detectors of the chosen layer with differences, and all of T3.

    A unit of the chosen layer detects a class where its overlap is beyond the 95th percentile of masks dealt anew,
    within a false-discovery rate of 5%; `null_detectors` says how many the same rule finds with masks dealt anew (the
    band of the mean over networks, and no test); `detectors_04` counts by the published rule, IoU above 0.04, in every
    layer. The highest of many units is high by chance too: `null_best_unit_auroc`, `null_best_excess` and
    `null_best_normalised` say how high, with labels or masks dealt anew. `ablation_detectors`: whether a class's
    ranking rests on its detectors (`ablated`). A network without a layer at the chosen one's place is judged by its
    shallowest there, as its maps are.
    """
    if "dissect" not in look.tasks or not all(one.layer for one in look.looked):
        return [], []
    facts, said = _by_labels(look, sides)
    whole: dict[str, Any] = {"baseline": look.baseline, "bands": sides.bands}
    if not all(len(one.seen.kept) for one in look.looked):
        return [], said + _cautioned(fact_rows("dissection", pd.DataFrame(facts), **whole))
    names = look.looked[0].seen.names
    kept = look.probe.patients[look.looked[0].seen.kept]
    of_units = Sides(sides.baseline, Draws(kept, names=("units",)), sides.bands, {})
    for back in range(-len(names), 0):
        chosen = names[back] == look.layer
        counts: dict[str, dict[str, dict[int, Any]]] = {}
        chance: dict[str, list[UnitNull]] = {}
        concepts: tuple[str, ...] = ()
        for one in look.looked:
            if -back > len(one.seen.names) and not chosen:
                continue
            layer, home = one.layer if chosen else one.seen.names[back], look.home(one.network)
            look.progress.say(f"units of {layer}: {one.network.arm}, seed {one.network.seed}")
            found = dissected(one.seen, look.probe, layer, q, home)
            classes = np.flatnonzero(found.named)
            concepts = tuple(found.concepts[c] for c in classes)
            null = beyond_chance(one.seen, look.probe, layer, found, home) if chosen else None
            inter, union, has = per_image(found, classes)
            rules: dict[str, dict[str, Any]] = {"detectors_04": {"threshold": DETECTOR}}
            if null is not None:
                least = np.where(null.detector, null.high, np.inf)
                by = {"threshold": least, "chance": null.mean, "ceiling": null.ceiling}
                rules["detectors"] = {name: values[:, classes] for name, values in by.items()}
                rules["detectors"]["has"] = has & null.dealt[classes]  # else nothing can be beyond, which is no 0
                chance.setdefault(one.network.arm, []).append(null)
            for metric, rule in rules.items():
                figures = detector_figures(inter, union, kept, of_units.draws, **({"has": has} | rule))
                counts.setdefault(metric, {}).setdefault(one.network.arm, {})[one.network.seed] = figures
            network = {"arm": one.network.arm, "seed": one.network.seed, "layer": names[back]}
            facts += [network | line for line in unit_facts(found, null, kept)]
            if null is not None:
                lost = ablated(one.seen, look.probe, layer, look.kind, found, null, one.network.make, home)
                facts += [network | line for line in lost]
        for metric, by_arm in counts.items():
            caution = SELECTED if metric == "detectors" else ""
            said += detector_rows(by_arm, concepts, of_units, layer=names[back], metric=metric, caution=caution)
        for arm, nulls in chance.items():
            figures = next(iter(counts["detectors"][arm].values()))
            about = {name: vars(figure) for name, figure in zip(concepts, figures, strict=True)}
            dealings = {
                "detectors": [null.counts for null in nulls],
                "best_excess": [null.top_excess for null in nulls],
                "best_normalised": [null.top_normalised for null in nulls],
            }
            for metric, each in dealings.items():
                said += _null_rows(metric, each, about, arm=arm, layer=names[back], sides=of_units)
    said += _cautioned(fact_rows("dissection", pd.DataFrame(facts), **whole))
    return [row for row in said if row["layer"] == look.layer and row["metric"] == "detectors"], said


def _by_labels(look: Look, sides: Sides) -> tuple[list[dict[str, Any]], list[Row]]:
    """What units tell of whole images: lines, and rows of how high the best unit is by chance."""
    facts: list[dict[str, Any]] = []
    tops: dict[str, list[np.ndarray]] = {}
    for one in look.looked:
        network = {"arm": one.network.arm, "seed": one.network.seed, "layer": look.layer}
        lines, top = label_facts(one.seen, look.probe, one.layer, look.kind, look.home(one.network))
        facts += [network | line for line in lines]
        tops.setdefault(one.network.arm, []).append(top)
    about = {line["class"]: line for line in facts if line["metric"] == "best_unit_auroc"}
    rows: list[Row] = []
    for arm, nulls in tops.items():
        rows += _null_rows("best_unit_auroc", nulls, about, arm=arm, layer=look.layer, sides=sides)
    return facts, rows


def _null_rows(
    metric: str,
    nulls: Sequence[np.ndarray],
    about: Mapping[str, Mapping[str, Any]],
    *,
    arm: str,
    layer: str,
    sides: Sides,
) -> list[Row]:
    """What chance gives an arm, `nulls` `(200, C)` of each network; `about` their first C' <= C: class -> what it has.

    That is its `n_images` and `n_patients`.
    """
    found = band(nulls)
    reason, absent = BESIDE[metric]
    said = []
    for c, (name, has) in enumerate(about.items()):
        there = bool(np.isfinite(found.mean[c]))
        said.append(
            row(
                table="dissection", metric=f"null_{metric}", arm=arm, baseline=sides.baseline, layer=layer,
                band=sides.bands.get(name), value=found.mean[c], low=found.low[c], high=found.high[c],
                n_images=has["n_images"], n_patients=has["n_patients"], n_seeds=len(nulls),
                status="ok" if there else "absent", reason=reason if there else absent, **{"class": name},
            )
        )  # fmt: skip
    return said


def _cautioned(rows: list[Row]) -> list[Row]:
    """With a word beside every figure that is the highest of many."""
    for one in rows:
        if one["metric"].startswith("best_") and one["value"] is not None:
            one["reason"] = "; ".join(filter(None, (one["reason"], HIGHEST)))
    return rows
