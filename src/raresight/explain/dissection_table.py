"""T3: what the units of every network detect, layer by layer, arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.explain.arm_rows import Sides, detector_rows
from raresight.explain.dissect import DETECTOR
from raresight.explain.dissected import beyond_chance, dissected, per_image, unit_facts
from raresight.explain.draws import Draws, Figure
from raresight.explain.null_counts import band
from raresight.explain.ranked_pairs import detector_figures
from raresight.explain.tables import Row, fact_rows, row
from raresight.explain.unit_facts import label_facts

if TYPE_CHECKING:
    from raresight.explain.look import Look

SELECTED = "units are chosen on all images and a resample can only lose some: the interval leans low"
BY_CHANCE = "mean, and 95 of 100 counts, that dealing the masks anew gives"
NOT_DEALT = "no region was drawn, or all images are one patient's: there is nothing to deal the masks among"


def dissection_table(look: Look, sides: Sides, q: float) -> tuple[list[Row], list[Row]]:
    """Detectors of the chosen layer with differences, and all of T3.

    A unit of the chosen layer detects a class where its overlap is beyond the 95th percentile of masks dealt anew,
    within a false-discovery rate of 5%; `null_detectors` says how many the same rule finds with masks dealt anew (the
    band of the mean over networks, and no test); `detectors_04` counts by the published rule, IoU above 0.04, in every
    layer. A network without a layer at the chosen one's place is judged by its shallowest there, as its maps are.
    """
    if "dissect" not in look.tasks or not all(one.layer for one in look.looked):
        return [], []
    by_labels = [
        {"arm": one.network.arm, "seed": one.network.seed, "layer": look.layer} | line
        for one in look.looked
        for line in label_facts(one.seen, look.probe, one.layer, look.kind, look.home(one.network))
    ]
    whole: dict[str, Any] = {"baseline": look.baseline, "bands": sides.bands}
    if not all(len(one.seen.kept) for one in look.looked):
        return [], fact_rows("dissection", pd.DataFrame(by_labels), **whole)
    names = look.looked[0].seen.names
    kept = look.probe.patients[look.looked[0].seen.kept]
    of_units = Sides(sides.baseline, Draws(kept, names=("units",)), sides.bands, {})
    said: list[Row] = []
    facts: list[dict[str, Any]] = []
    for back in range(-len(names), 0):
        chosen = names[back] == look.layer
        counts: dict[str, dict[str, dict[int, Any]]] = {}
        chance: dict[str, list[np.ndarray]] = {}
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
                dealt = np.isfinite(null.high).any(axis=0)[classes]  # else nothing can be beyond chance, which is no 0
                rules["detectors"]["has"] = has & dealt
                chance.setdefault(one.network.arm, []).append(null.counts[:, classes])
            for metric, rule in rules.items():
                figures = detector_figures(inter, union, kept, of_units.draws, **({"has": has} | rule))
                counts.setdefault(metric, {}).setdefault(one.network.arm, {})[one.network.seed] = figures
            network = {"arm": one.network.arm, "seed": one.network.seed, "layer": names[back]}
            facts += [network | line for line in unit_facts(found, null)]
        for metric, by_arm in counts.items():
            caution = SELECTED if metric == "detectors" else ""
            said += detector_rows(by_arm, concepts, of_units, layer=names[back], metric=metric, caution=caution)
        for arm, nulls in chance.items():
            about = next(iter(counts["detectors"][arm].values()))
            said += _null_rows(nulls, about, concepts, arm=arm, layer=names[back], sides=of_units)
    said += fact_rows("dissection", pd.DataFrame(facts + by_labels), **whole)
    return [row for row in said if row["layer"] == look.layer and row["metric"] == "detectors"], said


def _null_rows(
    nulls: Sequence[np.ndarray], about: Sequence[Figure], concepts: Sequence[str], *, arm: str, layer: str, sides: Sides
) -> list[Row]:
    """One arm's counts by chance, `nulls` `(200, K)` of each network; `about` K figures that count the patients."""
    found = band(nulls)
    said = []
    for c, name in enumerate(concepts):
        there = bool(np.isfinite(found.mean[c]))
        said.append(
            row(
                table="dissection", metric="null_detectors", arm=arm, baseline=sides.baseline, layer=layer,
                band=sides.bands.get(name), value=found.mean[c], low=found.low[c], high=found.high[c],
                n_images=about[c].n_images, n_patients=about[c].n_patients, n_seeds=len(nulls),
                status="ok" if there else "absent", reason=BY_CHANCE if there else NOT_DEALT, **{"class": name},
            )
        )  # fmt: skip
    return said
