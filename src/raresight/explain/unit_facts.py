"""What a network's units tell of whole images, which needs no masks; and what the classes lose without their best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raresight.core.files import finite
from raresight.explain.ablate import ablate, linear_forward
from raresight.explain.dissected import NOBODY
from raresight.explain.kept import kept_json
from raresight.explain.legacy import legacy_concept_count
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.unit_auroc import unit_auroc

VERSION = 3
PER_CLASS = 100  # images of a class on which units are judged by labels
WITHOUT_BEST = 10  # units that are set to 0
DRAWS = 20  # other units instead
UNTOLD = "no image with the class, or none without it"
ONE_PATIENT = "all images are one patient's: there is nobody to deal the labels among"


def label_facts(
    seen: Seen, probe: ProbeSet, layer: str, kind: str, folder: Path
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Lines of T3 of the layer: by class `best_unit_auroc`, `units_for_class`, `ablation_excess`, `legacy_excess`.

    The highest AUROC of a unit's mean over space for the class on whole images; how many units tell it within a
    false-discovery rate of 5%; the drop in AP when its 10 best features are set to 0 less that of others (of the
    features behind a linear head: their layer is `features`); and the seed's concept count in a mask beyond that in the
    same mask moved elsewhere. Beside the lines `(200, K)`, the highest AUROC of a unit in each dealing of the labels.
    """

    def make() -> dict[str, Any]:
        rows = probe.balanced(PER_CLASS, "units")
        labels, patients = probe.labels[rows], probe.patients[rows]
        found = unit_auroc(seen.pooled[layer][rows], labels, patients, names=("explain",))
        lines: list[dict[str, Any]] = []
        for k, name in enumerate(probe.classes):
            n = {"class": name, "n_images": int(found.n_images[k]), "n_patients": int(found.n_patients[k])}
            best = found.value[:, k]
            known = best[~np.isnan(best)]
            reason = "" if len(known) else UNTOLD
            top = float(known.max()) if len(known) else None
            lines.append(n | {"metric": "best_unit_auroc", "value": top, "reason": reason})
            reason = reason or ("" if found.draws[k] else ONE_PATIENT)
            count = None if reason else float((found.p_adjusted[:, k] <= found.level).sum())
            lines.append(n | {"metric": "units_for_class", "value": count, "reason": reason})
        lines += _ablation(seen, probe, rows, kind) + _legacy(seen, probe, layer)
        return {
            "lines": lines,
            "top": [[finite(value) for value in dealing] for dealing in found.top.round(6).tolist()],
        }

    key = [VERSION, seen.key, layer, kind]
    result = kept_json(folder, "units", key, make)
    return result["lines"], np.array(result["top"], dtype=np.float64)


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
            "layer": "features",
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
    kept = probe.take(seen.kept)
    found = legacy_concept_count(seen.activations[layer], kept, names=("explain",))
    lines = []
    for k, name in enumerate(probe.classes):
        mine = found.label == k
        about = {
            "class": name,
            "n_images": int(mine.sum()),
            "n_patients": len(np.unique(kept.patients[found.row[mine]])),
            "reason": "" if mine.any() else NOBODY,
        }
        for metric, values in (("legacy_concept_count", found.count), ("legacy_excess", found.excess)):
            lines.append(about | {"metric": metric, "value": float(values[mine].mean()) if mine.any() else None})
    return lines
