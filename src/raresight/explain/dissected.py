"""One network's units against the findings, layer by layer, kept as counts per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raresight.explain.dissect import Dissection, dissect
from raresight.explain.kept import kept_arrays
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.thresholds import Thresholds

VERSION = 1
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
