"""What the classes of one network lose without their detectors, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raresight.explain.ablate import ablate, hooked_forward, tail_forward
from raresight.explain.dissect import Dissection
from raresight.explain.dissected import NOBODY, NOT_DEALT, per_image
from raresight.explain.kept import kept_json
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.unit_null import UnitNull

VERSION = 1
DRAWS = 5  # as many other living units instead; each is a pass over the images
NO_DETECTOR = "no detector"
TOO_FEW = "fewer than two patients with a region of the class, or none without the class"


def ablated(
    seen: Seen,
    probe: ProbeSet,
    layer: str,
    kind: str,
    found: Dissection,
    null: UnitNull,
    model: Callable[[], nn.Module],
    folder: Path,
) -> list[dict[str, Any]]:
    """Lines of T3 of a layer: by class `ablation_detectors`, whether its ranking rests on the units that detect it.

    Equation: AP(all units) - AP(B at 0), less the mean of the same for 5 sets of as many other living units; through
    all that follows the layer (`tail_forward`, else `hooked_forward`), on the images that were dissected. B are as many
    units as the null found detectors of the class (at most half of the living): how many is taken from all images,
    which ones from their IoU on the other half of the patients alone (`ablate`), so no unit is chosen on an image that
    it is judged on.
    Range: [-1, 1]; about 0 where the head uses others, or where others would do.
    Absent class: None where it has no detector, or no two patients. The network is made only where there is something
    to measure; a class with a detector costs 6 passes of the images through what follows the layer.
    Source: Zhou et al., arXiv:1806.02891 (ablation of the units that go with a class); halves and control are our own.
    """
    classes = np.flatnonzero(found.named)
    sizes = np.where(null.dealt, null.detectors.count, 0)[classes]

    def make() -> list[dict[str, Any]]:
        kept = probe.take(seen.kept)
        excess = np.full(len(classes), np.nan)
        if sizes.any():
            inter, union, has = per_image(found, classes)

            def overlap(rows: np.ndarray) -> np.ndarray:
                above, below = (each[rows].sum(axis=0, dtype=np.float64) for each in (inter, union))
                iou = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
                return np.where(has[rows].any(axis=0), iou, np.nan)

            net, activations = model(), seen.activations[layer]
            forward = tail_forward(net, layer, activations, kept.pixels) or hooked_forward(net, layer, kept.pixels)
            excess = ablate(
                forward,
                seen.pooled[layer][seen.kept],
                kept.labels,
                kept.patients,
                n=sizes,
                draws=DRAWS,
                choose=overlap,
                exclusive=kind == "exclusive" and probe.n_classes > 1,
                names=("explain", "detectors"),
            ).excess
        lines = []
        for i, c in enumerate(classes):
            yes = kept.labels[:, i] == 1
            measured = bool(np.isfinite(excess[i]))
            untold = NOT_DEALT if found.n_annotated[c] else NOBODY
            why = TOO_FEW if sizes[i] else NO_DETECTOR if null.dealt[c] else untold
            lines.append(
                {
                    "metric": "ablation_detectors",
                    "class": found.concepts[c],
                    "value": float(excess[i]) if measured else None,
                    "n_images": int(yes.sum()),
                    "n_patients": len(np.unique(kept.patients[yes])),
                    "reason": "" if measured else why,
                }
            )
        return lines

    key = [VERSION, seen.key, layer, kind, found.thresholds.q, null.detectors.concept.tolist()]
    result: list[dict[str, Any]] = kept_json(folder, "ablation", key, make)
    return result
