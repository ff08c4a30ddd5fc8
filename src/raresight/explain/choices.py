"""What is chosen before anything is measured, on validation alone: images, layer, and where a map is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.seeds import numpy_rng
from raresight.explain.alignment import resized
from raresight.explain.chance import corrected
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen
from raresight.explain.tau import choose_tau

MOST_REGIONS = 200  # annotated images of a class: intervals hardly narrow beyond, and a common class would cost most
MOST_DISSECTED = 100  # of a class among the images whose units are judged, so that common concepts are no larger
MOST_WITHOUT = 100  # images without any finding beside them, on which units may fire for nothing
DEFAULT_TAU = 0.5


def few_regions(probe: ProbeSet, most: int = MOST_REGIONS) -> np.ndarray:
    """Positions of at most `most` regions of each class, one a patient before a second of any; sorted, `(r,)`."""
    if probe.regions is None:
        return np.empty(0, dtype=np.int64)
    chosen: list[int] = []
    for k in range(probe.n_classes):
        mine = np.flatnonzero(probe.regions.label == k)
        mine = numpy_rng("regions", probe.classes[k]).permutation(mine)
        seen: dict[object, int] = {}
        turns = []
        for at in mine:
            patient = probe.patients[probe.regions.row[at]]
            turns.append(seen.get(patient, 0))
            seen[patient] = turns[-1] + 1
        chosen += [int(at) for at in mine[np.argsort(turns, kind="stable")[:most]]]
    return np.array(sorted(chosen), dtype=np.int64)


def rows_kept(probe: ProbeSet) -> np.ndarray:
    """The images whose activations are kept: of at most 100 regions a class, and some without any finding; sorted.

    None without regions: units are then judged by their means over space.
    """
    which = few_regions(probe, MOST_DISSECTED)
    if probe.regions is None or not len(which):
        return np.empty(0, dtype=np.int64)
    without = np.flatnonzero((probe.labels == 0).all(axis=1))
    drawn = numpy_rng("images without findings").permutation(without)[:MOST_WITHOUT]
    return np.unique(np.concatenate([probe.regions.row[which], drawn])).astype(np.int64)


def halves(patients: np.ndarray) -> np.ndarray:
    """0 or 1 for each patient, `(N,)`, drawn by name: whoever shares a patient shares the half."""
    names, place = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    side = np.zeros(len(names), dtype=np.int64)
    side[numpy_rng("halves of the patients").permutation(len(names))[: len(names) // 2]] = 1
    return side[place]


def maps_of(seen: Seen, probe: ProbeSet, which: np.ndarray, layer: str, method: str) -> np.ndarray:
    """The maps of some regions, each of its own class, on the grid of the masks: `(r, *S)` float32."""
    assert probe.regions is not None
    stored = seen.maps[(layer, method)]
    return resized(np.asarray(stored[probe.regions.row[which], probe.regions.label[which]]), probe.regions.shape)


@dataclass(frozen=True)
class Cuts:
    """Where maps are cut into inside and outside: (arm, method, class, half) -> share of a map's largest value.

    `half` is 0 or 1 where both halves of the patients were cut by what the other half showed, else -1. `origin` says in
    words where each came from.
    """

    share: dict[tuple[str, str, str, int], float] = field(default_factory=dict)
    origin: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    crossed: bool = False

    def of(self, arm: str, method: str, name: str, side: np.ndarray) -> np.ndarray:
        """The cut of every region of a class, `(r,)`; `side` `(r,)` the half that its patient is in."""
        if not self.crossed:
            return np.full(len(side), self.share[(arm, method, name, -1)])
        return np.array([self.share[(arm, method, name, int(half))] for half in side])

    def as_rows(self) -> list[dict[str, Any]]:
        return [
            {"arm": arm, "method": method, "class": name, "tau": tau, "from": self.origin[(arm, method, name, half)]}
            | ({"half": half} if half >= 0 else {})
            for (arm, method, name, half), tau in self.share.items()
        ]


def choose_cuts(
    seen: Mapping[str, Sequence[Seen]], probe: ProbeSet, layer: str, methods: Sequence[str], *, crossed: bool
) -> Cuts:
    """The cut of every arm, kind of map and class: the best mean overlap with the masks of `probe`, seeds together.

    `crossed`: `probe` is also what is measured, so each half of the patients is cut by what the other half showed. A
    class that nobody annotated there takes the median of the arm's other classes; where there is none, 0.5.
    """
    cuts = Cuts(crossed=crossed)
    which = few_regions(probe)
    if probe.regions is None or not len(which):
        for arm in seen:
            for method in methods:
                for name in probe.classes:
                    for half in (0, 1) if crossed else (-1,):
                        cuts.share[(arm, method, name, half)] = DEFAULT_TAU
                        cuts.origin[(arm, method, name, half)] = "nothing is annotated on validation"
        return cuts
    side = halves(probe.patients)[probe.regions.row[which]]
    label = probe.regions.label[which]
    for arm, seeds in seen.items():
        for method in methods:
            found: dict[tuple[int, int], float] = {}
            for k in range(probe.n_classes):
                of_class = np.flatnonzero(label == k)
                maps = [maps_of(one, probe, which[of_class], layer, method) for one in seeds]
                masks = probe.regions.masks(which[of_class])
                for half in (0, 1) if crossed else (-1,):
                    shown = side[of_class] != half  # the other half, or everybody
                    taken = [some[shown] for some in maps]
                    found[k, half] = choose_tau(np.concatenate(taken), np.concatenate([masks[shown]] * len(taken)))
            for (k, half), mine in found.items():
                key = (arm, method, probe.classes[k], half)
                # Of this half alone: the cuts of the other one were chosen on these very patients.
                others = [tau for (_, of_half), tau in found.items() if of_half == half and not np.isnan(tau)]
                if not np.isnan(mine):
                    cuts.share[key] = mine
                    cuts.origin[key] = "validation" + (", the other half of the patients" if crossed else "")
                else:
                    cuts.share[key] = float(np.median(others)) if others else DEFAULT_TAU
                    cuts.origin[key] = "the arm's other classes" if others else "nothing is annotated on validation"
    return cuts


def choose_layer(rows: pd.DataFrame) -> tuple[str, dict[str, float]]:
    """The layer whose maps lie best on the findings, and every layer's figure.

    Equation: argmax over layers of the mean over classes of corrected(mean mass, mean mass_0), over all rows of the
    baseline's networks on validation; the deepest of equals. Rows: columns `layer`, `class`, `mass`, `mass_0`, layers
    shallow to deep. Ranges: figures at most 1. Absent class: it has no part; a layer without any has none.
    """
    figures: dict[str, float] = {}
    for layer, some in rows.groupby("layer", sort=False):
        both = some.dropna(subset=["mass", "mass_0"]).groupby("class", sort=False)[["mass", "mass_0"]].mean()
        if len(both):
            figures[str(layer)] = float(np.nanmean(corrected(both["mass"].to_numpy(), both["mass_0"].to_numpy())))
    best = max(reversed(list(figures)), key=lambda name: figures[name], default="")
    return best, figures
