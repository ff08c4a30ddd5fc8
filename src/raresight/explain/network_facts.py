"""Numbers that whole networks have, a line each: what T4 and T6 are made from."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.core.files import finite
from raresight.core.seeds import numpy_rng
from raresight.explain.choices import maps_of
from raresight.explain.cka import cka_matrix, one_per_patient
from raresight.explain.collapse import by_chance, collapse
from raresight.explain.dprime import separations
from raresight.explain.matching import match
from raresight.explain.measured import Measured
from raresight.explain.overlap import spearman
from raresight.explain.probe import bands
from raresight.explain.separability import separability
from raresight.explain.slopes import slopes

if TYPE_CHECKING:
    from raresight.explain.look import Look, Looked

VERSION = 2  # of the geometry: 1 took the rare classes by their place among the counts
MOST_IMAGES = 500  # on which similarities of networks are computed, one of each patient
MOST_OF_CLASS = 200
MOST_MAPS = 20  # of a class, whose likeness between networks is told
SLOPES = {"log_row_norm": "head_norm_slope", "feature_norm": "feature_norm_slope", "bias": "bias_slope"}
POINTS = {"log_row_norm": "head_norm", "feature_norm": "feature_norm"}
COLLAPSE = {"minority_rows": "minority_collapse"}
BESIDE_CHANCE = ("nc1", "nc2_norms", "nc2_angles", "minority_means")  # noise in many dimensions looks collapsed too


def geometry_facts(look: Look, one: Looked) -> list[dict[str, Any]]:
    """Collapse, slopes on frequency, separation of the logits, and what a linear probe reads from each layer.

    `_by_chance` and `_by_chance_low` are the mean and the 5th percentile of the same figure over shuffled labels.
    """
    seen, probe = one.seen, look.probe
    counts = np.array([look.counts.get(name, 0) for name in probe.classes], dtype=float)
    band = bands(probe.classes, look.counts)
    tail = np.array([band[name] == "tail" for name in probe.classes]) if band else None
    rows = None if seen.head is None else seen.head[0]
    about: dict[str, Any] = {"tail": tail, "patients": probe.patients, "names": ("explain",)}
    found = collapse(seen.features, probe.labels, kind=look.kind, rows=rows, **about)
    said = [_fact(COLLAPSE.get(name, name), value) for name, value in found.figures().items()]
    if found.nc1.value is not None:
        shuffled = by_chance(seen.features, probe.labels, kind=look.kind, **about)
        for name in (name for name in BESIDE_CHANCE if name in shuffled):
            low, mean, _ = shuffled[name]
            said += [{"metric": f"{name}_by_chance", "value": mean}, {"metric": f"{name}_by_chance_low", "value": low}]
    if counts.any():
        for name, line in slopes(seen.features, probe.labels, counts, seen.head).items():
            said.append({"metric": SLOPES[name], "value": line.value, "reason": line.reason})
            if name in POINTS:
                said += [
                    {"metric": POINTS[name], "class": probe.classes[k]}
                    | {"value": float(np.exp(y) if name == "log_row_norm" else y)}
                    for k, y in enumerate(line.points[:, 1])
                    if np.isfinite(y)
                ]
    for name, apart in zip(probe.classes, separations(seen.logits, probe.labels, probe.patients), strict=True):
        said.append(_fact("d_prime_stratified", apart.stratified) | {"class": name})
    said += _probes(look, one, tail)
    network = {"arm": one.network.arm, "seed": one.network.seed}
    return [network | line | {"value": finite(line["value"])} for line in said]


def _probes(look: Look, one: Looked, tail: np.ndarray | None) -> list[dict[str, Any]]:
    """AP of a linear probe on each layer's means over space; layers are told by the baseline's names."""
    names, shared = one.seen.names, look.looked[0].seen.names
    labels = dict(zip(reversed(names), reversed(shared), strict=False))
    found = separability(
        one.seen.pooled, look.probe.labels, look.probe.patients, tail=tail, drawn=look.drawn, names=("explain",)
    )
    said: list[dict[str, Any]] = []
    for layer, of_layer in zip(found.layers, found.ap, strict=True):
        for k, name in enumerate(look.probe.classes):
            value = float(of_layer[k])
            reason = found.drawn.reasons[k] or ("" if np.isfinite(value) else "the layer cannot be probed")
            line = {
                "metric": "probe_ap",
                "class": name,
                "layer": labels.get(layer, layer),
                "value": value,
                "reason": reason,
            }
            said.append(line | {"n_images": len(found.drawn.rows[k]), "n_patients": len(found.drawn.rows[k])})
    at = None if found.saturates is None else list(found.layers).index(found.saturates)
    return [*said, {"metric": "tail_saturates_at", "value": at, "reason": found.reason}]


def between_facts(look: Look) -> pd.DataFrame:
    """How alike networks are: two arms by their seeds in pairs, and the seeds of one arm as the yardstick.

    `cka` of the features behind the head, over all images and over each class's, and `map_spearman` of the maps of
    regions, each between `arm` and `other`.
    """
    probe = look.probe
    everyone = numpy_rng("similar images").permutation(one_per_patient(probe.patients, "similar"))[:MOST_IMAGES]
    lines = _alike(look, np.sort(everyone), None)
    for k, name in enumerate(probe.classes):
        rows = np.flatnonzero(probe.labels[:, k] == 1)
        rows = rows[one_per_patient(probe.patients[rows], "similar", name)] if len(rows) else rows
        lines += _alike(look, rows[:MOST_OF_CLASS], name)
    return pd.DataFrame(lines + _maps_alike(look) + _matched(look))


def _pairs(look: Look) -> list[tuple[str, str, int, int, int]]:
    """Arm, other arm, a number of the pair, and both networks' places: same seeds across arms, all pairs within one."""
    place = {(one.network.arm, one.network.seed): i for i, one in enumerate(look.looked)}
    seeds: dict[str, list[int]] = {}
    for arm, seed in place:
        seeds.setdefault(arm, []).append(seed)
    found = []
    for arm in look.arms:
        for turn, (a, b) in enumerate(combinations(sorted(seeds[arm]), 2)):
            found.append((arm, arm, turn, place[arm, a], place[arm, b]))
    for arm, other in combinations(look.arms, 2):
        for seed in sorted(set(seeds[arm]) & set(seeds[other])):
            found.append((arm, other, seed, place[arm, seed], place[other, seed]))
    return found


def _alike(look: Look, rows: np.ndarray, name: str | None) -> list[dict[str, Any]]:
    matrix = cka_matrix([one.seen.features[rows] for one in look.looked], names=("explain", name))
    patients = len(np.unique(look.probe.patients[rows]))
    lines = []
    for arm, other, turn, a, b in _pairs(look):
        found = matrix.at(a, b)
        said = _fact("cka", found) | {"n_images": len(rows), "n_patients": patients}
        lines.append({"arm": arm, "other": other, "seed": turn, "class": name, "layer": "features"} | said)
    return lines


def _matched(look: Look) -> list[dict[str, Any]]:
    """How well the units of the chosen layer can be paired with the baseline's: `unit_match` and, held out, `_unseen`.

    Pairs of the baseline with each arm of the same seed, and of its own seeds: pairing is what costs most here.
    """
    lines: list[dict[str, Any]] = []
    if not all(one.layer for one in look.looked):
        return lines
    for arm, other, turn, a, b in _pairs(look):
        if look.baseline in (arm, other):
            pair = [look.looked[i].seen.pooled[look.looked[i].layer] for i in (a, b)]
            found = match(*pair, shared_initialisation=False, patients=look.probe.patients, draws=1, names=("explain",))
            place = {"arm": arm, "other": other, "seed": turn, "layer": look.layer}
            lines.append(place | _fact("unit_match", found.quality))
            lines.append(place | _fact("unit_match_unseen", found.held_out))
    return lines


def _maps_alike(look: Look) -> list[dict[str, Any]]:
    """Spearman of two networks' maps of the same findings, the mean over a class's regions."""
    regions = look.probe.regions
    if regions is None or not all(one.layer for one in look.looked):
        return []
    lines: list[dict[str, Any]] = []
    for k in np.unique(regions.label[look.which]):
        mine = look.which[regions.label[look.which] == k][:MOST_MAPS]
        maps = [maps_of(one.seen, look.probe, mine, one.layer, look.methods[0]) for one in look.looked]
        for arm, other, turn, a, b in _pairs(look):
            both = spearman(maps[a], maps[b])
            both = both[~np.isnan(both)]
            lines.append(
                {
                    "arm": arm, "other": other, "seed": turn, "class": look.probe.classes[k], "layer": look.layer,
                    "method": look.methods[0], "metric": "map_spearman", "n_images": len(both),
                    "value": float(both.mean()) if len(both) else None,
                    "reason": "" if len(both) else "no two maps that are not empty",
                }
            )  # fmt: skip
    return lines


def _fact(metric: str, found: Measured) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": found.value,
        "n_images": found.n_images,
        "n_patients": found.n_patients,
        "reason": found.reason,
    }
