"""One network's units against the findings, layer by layer, kept as counts per image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raresight.explain.dissect import Dissection, detectors, dissect
from raresight.explain.kept import kept_arrays
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.thresholds import Thresholds
from raresight.explain.unit_null import UnitNull, unit_null

VERSION = 2
NULL_VERSION = 3
LEVEL = 0.05  # the false-discovery rate among the units of a layer and concept
NULL = ("iou", "ceiling", "mean", "high", "p", "p_adjusted", "draws", "named", "counts", "top_excess", "top_normalised")
NOBODY = "nobody drew where it lies"
NOT_DEALT = "no region was drawn, or all images are one patient's: there is nothing to deal the masks among"
ARRAYS = ("area", "row", "concept", "shared", "inside", "known")


def dissected(seen: Seen, probe: ProbeSet, layer: str, q: float, folder: Path) -> Dissection:
    """The dissection of a layer on the images whose activations were kept; counts lie in `folder`."""
    kept = probe.take(seen.kept)
    position = seen.names.index(layer)

    def make() -> dict[str, np.ndarray]:
        found = dissect(seen.activations[layer], kept, q)
        arrays = {name: getattr(found, name) for name in ARRAYS}
        arrays |= {f"level {name}": np.asarray(value) for name, value in vars(found.thresholds).items()}
        return arrays | {
            "concepts": np.array(found.concepts),
            "native": np.array(found.native),
            "grid": np.array(found.grid),
        }

    held = kept_arrays(folder, f"dissection-{position}", [VERSION, seen.key, layer, q], make)
    value, share = held["level value"], held["level share"]
    return Dissection(
        tuple(map(str, held["concepts"])),
        Thresholds(value, share, float(held["level q"]), int(held["level n_positions"])),
        tuple(map(int, held["native"])),
        tuple(map(int, held["grid"])),
        **{name: held[name] for name in ARRAYS},
    )


def beyond_chance(seen: Seen, probe: ProbeSet, layer: str, found: Dissection, folder: Path) -> UnitNull:
    """What chance gives the layer's units on the same images with masks dealt anew; kept in `folder`."""
    position = seen.names.index(layer)

    def make() -> dict[str, np.ndarray]:
        null = unit_null(seen.activations[layer], probe.take(seen.kept), found, names=("explain",))
        return {name: np.asarray(getattr(null, name)) for name in NULL}

    held = kept_arrays(folder, f"null-{position}", [NULL_VERSION, seen.key, layer, found.thresholds.q], make)
    return UnitNull(**{name: held[name] for name in NULL}, among="known", level=LEVEL)


def unit_facts(found: Dissection, null: UnitNull | None, patients: np.ndarray) -> list[dict[str, Any]]:
    """Numbers of one layer of one network: lines of T3 without arm, seed and layer.

    By class: `best_normalised`, the highest IoU over what the areas allow, and with a null `best_excess`, the highest
    IoU beyond chance, and `detectors_beyond_chance`; of the layer: `concepts` (classes with a detector), `detecting`
    (share of units with a class), `dead` (share that never fires). `patients` `(N,)` of the dissected images; counted
    are those with a region of the class. Where masks cannot be dealt anew there is no null to be beyond: None, not 0.
    """
    said: list[dict[str, Any]] = []
    for c in np.flatnonzero(found.named):
        mine = patients[found.row[found.concept == c]]
        about = {"class": found.concepts[c], "n_images": len(mine), "n_patients": len(np.unique(mine))}
        reason = "" if len(mine) else NOBODY
        said.append(about | {"metric": "best_normalised", "value": _best(found.normalised[:, c]), "reason": reason})
        if null is not None:
            reason = reason or ("" if null.dealt[c] else NOT_DEALT)
            count = None if reason else float(null.detectors.count[c])
            said.append(about | {"metric": "best_excess", "value": _best(null.excess[:, c]), "reason": reason})
            said.append(about | {"metric": "detectors_beyond_chance", "value": count, "reason": reason})
    units = detectors(found) if null is None else null.detectors
    judged = found.n_annotated > 0 if null is None else null.dealt
    some = bool(judged[found.named].any())
    about = {"reason": "" if some else NOBODY if null is None else NOT_DEALT}
    said.append(about | {"metric": "concepts", "value": float(units.unique) if some else None})
    said.append(about | {"metric": "detecting", "value": float(units.share) if some else None})
    said.append({"metric": "dead", "value": float(np.mean(found.dead))})
    return said


def _best(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else None


def per_image(found: Dissection, concepts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersections and unions of every image, `(N, U, C)` float32, and which images have a mask, `(N, C)` bool.

    0 in both where the concept's pixels are not known in the image.
    """
    chosen = np.arange(len(found.concepts)) if concepts is None else np.asarray(concepts)
    n, u = found.area.shape
    inter = np.zeros((n, u, len(chosen)), dtype=np.float32)
    union = np.zeros((n, u, len(chosen)), dtype=np.float32)
    has = np.zeros((n, len(chosen)), dtype=bool)
    for i, c in enumerate(chosen):
        of = found.concept == c
        known = found.known[:, c]
        union[known, :, i] = found.area[known]
        inter[found.row[of], :, i] = found.shared[of]
        union[found.row[of], :, i] += found.inside[of][:, None] - found.shared[of]
        has[found.row[of], i] = True
    return inter, union, has
