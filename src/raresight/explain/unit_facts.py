"""What a network's units tell of whole images, which needs no masks; and what the classes lose without their best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raresight.core.files import finite
from raresight.explain.ablate import ablate, linear_forward
from raresight.explain.kept import kept_json
from raresight.explain.legacy import legacy_concept_count
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.unit_auroc import unit_auroc

VERSION = 1
PER_CLASS = 100  # images of a class on which units are judged by labels
WITHOUT_BEST = 10  # units that are set to 0
DRAWS = 20  # other units instead


def label_facts(seen: Seen, probe: ProbeSet, layer: str, kind: str, folder: Path) -> list[dict[str, Any]]:
    """Lines of T3 of the layer: by class `best_unit_auroc`, `units_for_class`, `ablation_excess`, `legacy_excess`.

    The highest AUROC of a unit's mean over space for the class on whole images; how many units tell it within a
    false-discovery rate of 5%; the drop in AP when its 10 best features are set to 0 less that of others (of the
    features behind a linear head); and the seed's concept count in a mask beyond that in the same mask moved elsewhere.
    """

    def make() -> list[dict[str, Any]]:
        rows = probe.balanced(PER_CLASS, "units")
        labels, patients = probe.labels[rows], probe.patients[rows]
        found = unit_auroc(seen.pooled[layer][rows], labels, patients, names=("explain",))
        lines: list[dict[str, Any]] = []
        for k, name in enumerate(probe.classes):
            n = {"class": name, "n_images": int(found.n_images[k]), "n_patients": int(found.n_patients[k])}
            best = found.value[:, k]
            known = best[~np.isnan(best)]
            reason = "" if len(known) else "no image with the class, or none without it"
            top = float(known.max()) if len(known) else None
            lines.append(n | {"metric": "best_unit_auroc", "value": top, "reason": reason})
            count = float((found.p_adjusted[:, k] <= found.level).sum()) if len(known) else None
            lines.append(n | {"metric": "units_for_class", "value": count, "reason": reason})
        return lines + _ablation(seen, probe, rows, kind) + _legacy(seen, probe, layer)

    key = [VERSION, seen.key, layer, kind]
    result: list[dict[str, Any]] = kept_json(folder, "units", key, make)
    return result


def _ablation(seen: Seen, probe: ProbeSet, rows: np.ndarray, kind: str) -> list[dict[str, Any]]:
    if seen.head is None:
        return []
    values = seen.features[rows]
    lost = ablate(
        linear_forward(values, *seen.head),
        values,
        probe.labels[rows],
        probe.patients[rows],
        n=WITHOUT_BEST,
        draws=DRAWS,
        exclusive=kind == "exclusive" and probe.n_classes > 1,
        names=("explain",),
    )
    reason = "fewer than two patients with the class"
    return [
        {
            "metric": "ablation_excess",
            "class": name,
            "value": finite(float(lost.excess[k])),
            "n_patients": int(lost.n_patients[k]),
            "reason": "" if np.isfinite(lost.excess[k]) else reason,
        }
        for k, name in enumerate(probe.classes)
    ]


def _legacy(seen: Seen, probe: ProbeSet, layer: str) -> list[dict[str, Any]]:
    if not len(seen.kept):
        return []
    found = legacy_concept_count(seen.activations[layer], probe.take(seen.kept), names=("explain",))
    lines = []
    for k, name in enumerate(probe.classes):
        mine = found.label == k
        about = {
            "class": name,
            "n_images": int(mine.sum()),
            "reason": "" if mine.any() else "nobody drew where it lies",
        }
        for metric, values in (("legacy_concept_count", found.count), ("legacy_excess", found.excess)):
            lines.append(about | {"metric": metric, "value": float(values[mine].mean()) if mine.any() else None})
    return lines
