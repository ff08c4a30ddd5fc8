"""Numbers that whole networks have, a line each: what T4 and T6 are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from raresight.explain.tables import Row, fact_rows, row

if TYPE_CHECKING:
    from raresight.explain.look import Look, Looked

VERSION = 4  # of the geometry: 3 fitted lengths of features themselves, not their logarithm
BETWEEN = 2  # of the likeness of networks: 1 knew that of the features behind the head alone
MOST_IMAGES = 500  # on which similarities of networks are computed, one of each patient
MOST_OF_CLASS = 200
MOST_MAPS = 20  # of a class, whose likeness between networks is told
SLOPES = {"log_row_norm": "head_norm_slope", "log_feature_norm": "feature_norm_slope", "bias": "bias_slope"}
SATURATES = "tail_saturates_at"
BY_CHANCE = {"metric": "unit_match_by_chance"}
OF_TRAINING = "images are those of training"
POINTS = {"log_row_norm": "head_norm", "log_feature_norm": "feature_norm"}
COLLAPSE = {"minority_rows": "minority_collapse"}
BESIDE_CHANCE = ("nc1", "nc2_norms", "nc2_angles", "minority_means")  # noise in many dimensions looks collapsed too


def geometry_facts(look: Look, one: Looked) -> list[dict[str, Any]]:
    """Collapse, slopes on frequency, separation of the logits, and what a linear probe reads from each layer.

    `_by_chance` and `_by_chance_low` are the mean and the 5th percentile of the same figure over shuffled labels.
    Counts are of images and patients with the finding; those of `head_norm` are of training images, which it is drawn
    against: the head has not met the images looked at. `remark` is what a reader must know besides.
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
        rests = {"n_images": found.nc1.n_images, "n_patients": found.nc1.n_patients}
        for name in (name for name in BESIDE_CHANCE if name in shuffled):
            low, mean, _ = shuffled[name]
            said.append({"metric": f"{name}_by_chance", "value": mean} | rests)
            said.append({"metric": f"{name}_by_chance_low", "value": low} | rests)
    if counts.any():
        have: dict[str, list[dict[str, Any]]] = {
            "log_row_norm": [{"n_images": int(n), "remark": OF_TRAINING} for n in counts],
            "log_feature_norm": [
                {"n_images": int(n), "n_patients": int(who)}
                for n, who in zip((probe.labels == 1).sum(axis=0), probe.n_positive_patients, strict=True)
            ],
        }
        for name, line in slopes(seen.features, probe.labels, counts, seen.head).items():
            said.append({"metric": SLOPES[name], "value": line.value, "reason": line.reason})
            if name in POINTS:
                said += [
                    {"metric": POINTS[name], "class": probe.classes[k]} | have[name][k] | {"value": float(np.exp(y))}
                    for k, y in enumerate(line.points[:, 1])
                    if np.isfinite(y)
                ]
    for name, apart in zip(probe.classes, separations(seen.logits, probe.labels, probe.patients), strict=True):
        share = f"{100 * apart.matched:.0f}% of its images stand beside others with the same other findings"
        remark = share if apart.stratified.value is not None else ""
        said.append(_fact("d_prime_stratified", apart.stratified) | {"class": name, "remark": remark})
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
    for at, layer in enumerate(found.layers):
        for k, name in enumerate(look.probe.classes):
            place = {"class": name, "layer": labels.get(layer, layer)}
            said.append(place | _fact("probe_ap", found.at(at, k)) | {"se": finite(found.se[at, k])})
    first = None if found.saturates is None else labels.get(found.saturates, found.saturates)
    rests = {"n_images": found.drawn.n_positives, "n_patients": found.drawn.n_positives}
    return [*said, {"metric": SATURATES, "value": None, "layer": first, "reason": found.reason} | rests]


def geometry_rows(
    lines: Sequence[Mapping[str, Any]], *, baseline: str, bands: Mapping[str, str] | None = None
) -> list[Row]:
    """T4 of the lines of all networks (`geometry_facts`).

    As `tables.fact_rows`; remarks, and the standard error over patients of one network's probe, the mean over seeds,
    join the reason. A layer is a name and has no mean: `tail_saturates_at` is a row a network, with `seed` and `layer`,
    and one an arm, with all of them in `verdict`, and with the `layer` where they agree.
    """
    facts = pd.DataFrame([dict(line) for line in lines if line["metric"] != SATURATES])
    rows = fact_rows("geometry", facts, baseline=baseline, bands=bands) if len(facts) else []
    besides: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        besides.setdefault(_key(line), []).append(line)
    for one in rows:
        mine = besides[_key(one)] if one["value"] is not None else []
        errors = [line["se"] for line in mine if line.get("se") is not None]
        error = f"standard error over patients {np.mean(errors):.3f}" if errors else ""
        remark = next((str(line["remark"]) for line in mine if line.get("remark")), "")
        one["reason"] = "; ".join(filter(None, (one["reason"], remark, error)))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["metric"] == SATURATES:
            found.setdefault(str(line["arm"]), []).append(line)
    for arm, seeds in found.items():
        rows += _saturation_rows(arm, seeds, baseline)
    return rows


def _saturation_rows(arm: str, lines: Sequence[Mapping[str, Any]], baseline: str) -> list[Row]:
    """Where the rare classes come apart: of the arm, then of each of its networks."""
    lines = sorted(lines, key=lambda line: int(line["seed"]))
    rests = {"table": "geometry", "arm": arm, "baseline": baseline, "metric": SATURATES}
    networks = [
        row(
            **rests, seed=line["seed"], layer=line["layer"], verdict=line["layer"], n_images=line["n_images"],
            n_patients=line["n_patients"], status="ok" if line["layer"] else "absent", reason=line["reason"],
        )
        for line in lines
    ]  # fmt: skip
    layers = [line["layer"] for line in lines]
    told = ", ".join(f"seed {line['seed']}: {line['layer'] or 'none'}" for line in lines)
    reasons = dict.fromkeys(line["reason"] for line in lines if line["reason"])
    together = row(
        **rests, layer=layers[0] if len(set(layers)) == 1 else None, verdict=told if any(layers) else None,
        n_images=lines[0]["n_images"], n_patients=lines[0]["n_patients"], n_seeds=len(lines),
        status="ok" if any(layers) else "absent", reason="; ".join(reasons),
    )  # fmt: skip
    return [together, *networks]


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(name) or None for name in ("arm", "metric", "class", "layer"))


def between_facts(look: Look) -> pd.DataFrame:
    """How alike networks are: two arms by their seeds in pairs, and the seeds of one arm as the yardstick.

    `cka` of the features before the head, over all images and over each class's, and `map_spearman` of the maps of
    regions, each between `arm` and `other`. `cka` of each layer's means over space stands beside it, between networks
    with the layer as `layer` and `other_layer`, and between two layers of one network with `arm` as `other`. Layers go
    by the baseline's names, counted from the deepest; those that it has none for are left out.
    """
    probe = look.probe
    everyone = numpy_rng("similar images").permutation(one_per_patient(probe.patients, "similar"))[:MOST_IMAGES]
    everyone = np.sort(everyone)
    lines = _alike(look, everyone, None) + _alike_by_layer(look, everyone)
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


def _alike_by_layer(look: Look, rows: np.ndarray) -> list[dict[str, Any]]:
    """Every layer between networks, then the layers of each network among themselves, shallow to deep."""
    shared = look.looked[0].seen.names
    pooled = [
        dict(zip(reversed(shared), (one.seen.pooled[name][rows] for name in reversed(one.seen.names)), strict=False))
        for one in look.looked
    ]
    patients = len(np.unique(look.probe.patients[rows]))
    lines: list[dict[str, Any]] = []

    def told(found: Measured, arm: str, other: str, turn: int, layer: str, other_layer: str) -> None:
        place = {"arm": arm, "other": other, "seed": turn, "class": None, "layer": layer, "other_layer": other_layer}
        lines.append(place | _fact("cka", found) | {"n_images": len(rows), "n_patients": patients})

    for layer in shared:
        there = [i for i, of_layer in enumerate(pooled) if layer in of_layer]
        matrix = cka_matrix([pooled[i][layer] for i in there], names=("explain", layer))
        for arm, other, turn, a, b in _pairs(look):
            if a in there and b in there:
                told(matrix.at(there.index(a), there.index(b)), arm, other, turn, layer, layer)
    for one, of_layer in zip(look.looked, pooled, strict=True):
        names = [layer for layer in shared if layer in of_layer]
        if len(names) < 2:
            continue
        matrix = cka_matrix([of_layer[layer] for layer in names], names=("explain", "layers"))
        for a, b in combinations(range(len(names)), 2):
            told(matrix.at(a, b), one.network.arm, one.network.arm, one.network.seed, names[a], names[b])
    return lines


def _matched(look: Look) -> list[dict[str, Any]]:
    """How well the units of the chosen layer can be paired with the baseline's: `unit_match`, held out `_unseen`, and
    `_by_chance` the same on shuffled images.

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
            lines.append(place | _fact("unit_match", found.quality) | BY_CHANCE | {"value": finite(found.chance[0])})
    return lines


def _maps_alike(look: Look) -> list[dict[str, Any]]:
    """Spearman of two networks' maps of the same findings, the mean over a class's regions."""
    regions = look.probe.regions
    if regions is None or not all(one.layer for one in look.looked):
        return []
    lines: list[dict[str, Any]] = []
    for k in np.unique(regions.label[look.which]):
        name = look.probe.classes[k]
        mine = look.which[regions.label[look.which] == k][:MOST_MAPS]
        maps = [maps_of(one.seen, look.probe, mine, one.layer, look.methods[0]) for one in look.looked]
        for arm, other, turn, a, b in _pairs(look):
            both = spearman(maps[a], maps[b])
            told = ~np.isnan(both)
            patients = len(np.unique(look.probe.patients[regions.row[mine[told]]]))
            both = both[told]
            lines.append(
                {
                    "arm": arm, "other": other, "seed": turn, "class": name, "layer": look.layer,
                    "method": look.methods[0], "metric": "map_spearman", "n_images": len(both), "n_patients": patients,
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
