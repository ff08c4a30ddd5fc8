"""The cases that are shown, picked by rule, with their images, maps and outlines for figure F2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.core.files import replacing
from raresight.explain.alignment import resized
from raresight.explain.cases import pick_cases
from raresight.explain.chance import corrected
from raresight.explain.told import calls

if TYPE_CHECKING:
    from raresight.explain.look import Look

ARRAYS = "cases.npz"


def cases(look: Look, greyed: Mapping[str, str], out: Path, *, pictures: bool = True) -> list[dict[str, Any]]:
    """Pick the cases of every class, write `cases.npz` into `out`, and return what explain.json says of them.

    `images` `(n, H, W, C)` uint8, `maps` `(n, A, h, w)` not scaled, `masks` `(n, H, W)` bool, False where none is
    drawn. Of a volume the slice along its first axis is shown that holds most of the finding, or of the map.
    Without `pictures` the cases are picked and no array is written.
    """
    (out / ARRAYS).unlink(missing_ok=True)
    if not all(one.layer for one in look.looked):
        return []
    rows = _rows(look)
    if not len(rows):
        return []
    picked = pick_cases(
        rows, classes=look.probe.classes, arms=look.arms, baseline=look.baseline, greyed=greyed, names=("explain",)
    )
    if not pictures:
        return picked
    images, maps, masks = [], [], []
    assert look.probe.cases is not None
    place = {str(case): i for i, case in enumerate(look.probe.cases)}
    for case in picked:
        row, k = place[case["case"]], look.probe.classes.index(case["class"])
        image = look.probe.pixels(np.array([row]))[0]
        stack = _together([_map(look, arm, int(case["seed"]), row, k) for arm in look.arms])
        mask = _mask(look, row, k, image.shape[1:])
        if image.ndim == 4:
            image, stack, mask = _sliced(image, stack, mask, case)
        images.append(np.round(np.clip(np.moveaxis(image, 0, -1), 0, 1) * 255).astype(np.uint8))
        maps.append(stack)
        masks.append(mask)
    if picked:
        with replacing(out / ARRAYS) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, images=np.stack(images), maps=np.stack(maps), masks=np.stack(masks))
    return picked


def _rows(look: Look) -> pd.DataFrame:
    """A line for every network and finding of the first kind of map; of all positives where nothing is drawn."""
    if len(look.rows):
        rows = look.rows[(look.rows["method"] == look.methods[0]) & (look.rows["layer"] == look.layer)]
        return rows.assign(alignment=corrected(rows["mass"].to_numpy(), rows["mass_0"].to_numpy()), drawn=True)
    probe, tables = look.probe, []
    assert probe.cases is not None
    regions = probe.regions
    drawn = set() if regions is None else set(zip(regions.row.tolist(), regions.label.tolist(), strict=True))
    for one in look.looked:
        for k, name in enumerate(probe.classes):
            mine = np.flatnonzero(probe.labels[:, k] == 1)
            tables.append(
                pd.DataFrame(
                    {
                        "arm": one.network.arm,
                        "seed": one.network.seed,
                        "class": name,
                        "case": probe.cases[mine].astype(str),
                        "patient": probe.patients[mine].astype(str),
                        "logit": one.seen.logits[mine, k].astype(float),
                        **calls(look, one, mine, np.full(len(mine), k)),
                        "alignment": np.nan,
                        "drawn": [(row, k) in drawn for row in mine.tolist()],
                    }
                )
            )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _map(look: Look, arm: str, seed: int, row: int, k: int) -> np.ndarray:
    """The arm's map by its network of this seed, or by its first where it has none of it."""
    mine = [one for one in look.looked if one.network.arm == arm]
    one = next((one for one in mine if one.network.seed == seed), mine[0])
    return np.array(one.seen.maps[(one.layer, look.methods[0])][row, k])


def _together(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps of all arms, `(A, *s)`: on the finest of their grids, where these differ."""
    grid = tuple(np.max([one.shape for one in maps], axis=0).tolist())
    return np.stack([resized(one[None], grid)[0] for one in maps])


def _mask(look: Look, row: int, k: int, shape: tuple[int, ...]) -> np.ndarray:
    regions = look.probe.regions
    if regions is None:
        return np.zeros(shape, dtype=bool)
    at = np.flatnonzero((regions.row == row) & (regions.label == k))
    return regions.masks(at)[0] if len(at) else np.zeros(shape, dtype=bool)


def _sliced(
    image: np.ndarray, maps: np.ndarray, mask: np.ndarray, case: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One slice of the volume, its maps' slice that lies there, and its mask's; `case` is told which."""
    depth = image.shape[1]
    if mask.any():
        at, rule = int(mask.sum(axis=(1, 2)).argmax()), "most of the region"
    else:
        part = int(maps[0].sum(axis=(1, 2)).argmax())
        at, rule = int((part + 0.5) * depth / maps.shape[1]), "most of the baseline's map"
    case |= {"slice": at, "slice_rule": rule}
    return image[:, at], maps[:, min(int((at + 0.5) * maps.shape[1] / depth), maps.shape[1] - 1)], mask[at]
