"""Which units are shown, and the images that excite them most, for figure F6."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raresight.core.files import finite, replacing
from raresight.explain.dissected import beyond_chance, dissected
from raresight.explain.matching import match
from raresight.explain.unit_auroc import auroc_of_units

if TYPE_CHECKING:
    from raresight.explain.look import Look, Looked

ARRAYS = "units.npz"
MOST, PATCHES = 8, 4
SHARE = 3  # a patch's side is a third of the image's


def units_shown(look: Look, q: float, out: Path, *, pictures: bool = True) -> list[dict[str, Any]]:
    """The baseline's best unit for each class, the rarest first, and what each arm has in its place.

    The unit with the highest overlap beyond chance among those that detect the class; without masks the one whose mean
    tells the class best (AUROC). An arm's partner is found by correlation over the probe's images (`matching.match`,
    one to one), networks of one seed. Writes `units.npz` with `patches` `(M, A, T, h, w, C)` uint8: around the place of
    the highest activation of the T images that excite the unit most (whole images where no activations were kept).
    Volumes are not shown; without `pictures` no array is written.
    """
    (out / ARRAYS).unlink(missing_ok=True)
    first = _of_first_seed(look)
    if "dissect" not in look.tasks or not all(one.layer for one in first) or len(first[0].seen.layers[0].grid) != 2:
        return []
    base = first[0]
    best = _detectors(look, base, q) if len(base.seen.kept) else _tellers(look, base)
    order = sorted(best, key=lambda name: look.counts.get(name, 0))[:MOST]
    if not order:
        return []
    partner: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for one in first[1:]:
        found = match(
            base.seen.pooled[base.layer],
            one.seen.pooled[one.layer],
            shared_initialisation=False,
            patients=look.probe.patients,
            draws=1,
            names=("explain",),
        )
        partner[one.network.arm] = (found.partner, found.correlation)
    said, rows = [], []
    for name in order:
        unit, strength = best[name]
        arms: dict[str, Any] = {}
        patches = []
        for one in first:
            mine, quality = unit, None
            if one is not base:
                partners, correlation = partner[one.network.arm]
                mine, quality = int(partners[unit]), finite(float(correlation[unit]))
            about = {"unit": mine if mine >= 0 else None, "quality": quality}
            arms[one.network.arm] = about | (strength if one is base else {})
            if pictures:
                patches.append(_patches(look, one, mine))
        said.append({"class": name, "layer": look.layer, "seed": base.network.seed, "arms": arms})
        rows.append(patches)
    if not pictures:
        return said
    with replacing(out / ARRAYS) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, patches=np.array(rows))
    return said


def _of_first_seed(look: Look) -> list[Looked]:
    """One network of each arm, in the arms' order: of the baseline's first seed where the arm has it."""
    seed = min(one.network.seed for one in look.looked if one.network.arm == look.baseline)
    found = []
    for arm in look.arms:
        mine = [one for one in look.looked if one.network.arm == arm]
        found.append(next((one for one in mine if one.network.seed == seed), mine[0]))
    return found


def _detectors(look: Look, base: Looked, q: float) -> dict[str, tuple[int, dict[str, float]]]:
    found = dissected(base.seen, look.probe, base.layer, q, look.home(base.network))
    null = beyond_chance(base.seen, look.probe, base.layer, found, look.home(base.network))
    best: dict[str, tuple[int, dict[str, float]]] = {}
    for c in np.flatnonzero(found.named):
        units = np.flatnonzero(null.detectors.concept == c)
        if len(units):
            unit = int(units[np.argmax(null.corrected[units, c])])
            best[found.concepts[c]] = (unit, {"iou_over_ceiling": float(found.normalised[unit, c])})
    return best


def _tellers(look: Look, base: Looked) -> dict[str, tuple[int, dict[str, float]]]:
    best = {}
    for k, name in enumerate(look.probe.classes):
        known = ~np.isnan(look.probe.labels[:, k])
        values = auroc_of_units(base.seen.pooled[base.layer][known], look.probe.labels[known, k] == 1)
        if not np.isnan(values).all():
            unit = int(np.nanargmax(values))
            best[name] = (unit, {"auroc": float(values[unit])})
    return best


def _patches(look: Look, one: Looked, unit: int) -> np.ndarray:
    """`(T, h, w, C)` uint8; black where there are fewer images, or no unit."""
    side = look.probe.pixels(np.array([0])).shape[2:]
    kept = one.seen.kept
    size = tuple(max(1, n // SHARE) for n in side) if len(kept) else side
    channels = look.probe.pixels(np.array([0])).shape[1]
    patches = np.zeros((PATCHES, *size, channels), dtype=np.uint8)
    if unit < 0:
        return patches
    if len(kept):
        values = np.asarray(one.seen.activations[one.layer][:, unit], dtype=np.float32)
        order = np.argsort(-values.reshape(len(values), -1).max(1), kind="stable")[:PATCHES]
        rows = kept[order]
    else:
        rows = np.argsort(-one.seen.pooled[one.layer][:, unit], kind="stable")[:PATCHES]
    for t, row in enumerate(rows):
        image = np.moveaxis(look.probe.pixels(np.array([row]))[0], 0, -1)
        if len(kept):
            place = np.unravel_index(int(values[order[t]].argmax()), values.shape[1:])
            corner = [
                int(np.clip((p + 0.5) * n / g - s / 2, 0, n - s))
                for p, n, g, s in zip(place, side, values.shape[1:], size, strict=True)
            ]
            image = image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
        patches[t] = np.round(np.clip(image, 0, 1) * 255)
    return patches
