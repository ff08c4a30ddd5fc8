"""Does a map lie where the pathology lies? Scores of saliency maps against masks, many rows at a time.

Every score is of one map S >= 0 and one mask M on the same P pixels (or voxels). Values below 0 count as 0. No score
but `iobb` changes when a map is multiplied by a number, so arms whose logits differ in scale can be compared; ties are
shared out fairly, since maps cut off at 0 are mostly ties. A map that is 0 everywhere is a finding, not a gap: it
misses, and `empty` says that it showed no evidence at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

METRICS = ("hit", "iou", "mass", "iobb", "rank", "pixel_ap", "ehr")
CHUNK = 2**19  # pixels that are sorted at once: about 25 MB of arrays, whatever the number of rows
QUANTILES = 10  # steps of the effective heat ratio, so 11 points
LEAST_HEAT = 0.1  # share of a map's largest value below which the effective heat ratio takes no pixel


def resized(maps: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Maps of a network's coarse grid on the grid of the masks.

    Equation: (bi/tri)linear interpolation with pixel centres aligned (`align_corners=False`), so that cell i of 7
    covers pixels 32 i to 32 i + 31 of 224; where no axis grows, the mean over each new cell: nothing small is skipped.
    Shapes: maps `(R, *s)`, grid `(*S)` -> `(R, *S)` float32. Ranges: within those of the map it comes from. Values are
    not scaled. Absent class: no rows give no rows.
    """
    grid = tuple(int(n) for n in grid)
    if tuple(maps.shape[1:]) == grid or len(maps) == 0:
        return np.asarray(maps, dtype=np.float32).reshape(len(maps), *grid)
    source = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    shrinks = all(new <= old for new, old in zip(grid, maps.shape[1:], strict=True))
    how = "area" if shrinks else {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    turned = functional.interpolate(source, size=grid, mode=how, align_corners=None if shrinks else False)
    return turned[:, 0].numpy()


def cells(masks: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """How many cells of a map's own grid each finding is large: area share times number of cells.

    Below 1, the map cannot show the finding's outline at all and a low overlap says nothing about the network.
    Shapes: masks `(R, *S)`, grid `(*s)` of the map before it was resized -> `(R,)` in [0, cells of the grid].
    """
    return flat(masks).mean(axis=1) * float(np.prod(grid)) if len(masks) else np.zeros(0)


def flat(rows: np.ndarray) -> np.ndarray:
    """`(R, *S)` as `(R, P)`."""
    return rows.reshape(len(rows), int(np.prod(rows.shape[1:])))


@dataclass(frozen=True)
class Descending:
    """The values of some maps from the largest down, and where each group of equal values ends.

    `values` `(r, P)` float32 >= 0; `ends` `(r, P)`: how many pixels have at least this value.
    """

    values: np.ndarray

    @cached_property
    def ends(self) -> np.ndarray:
        r, p = self.values.shape
        last = np.ones((r, p), dtype=bool)
        np.not_equal(self.values[:, 1:], self.values[:, :-1], out=last[:, :-1])
        place = np.where(last, np.arange(1, p + 1, dtype=np.int32), np.int32(p))
        return np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]

    @cached_property
    def empty(self) -> np.ndarray:
        return self.values[:, 0] == 0

    @cached_property
    def heat(self) -> np.ndarray:
        """Values as shares of each map's largest, 0 for a map without any, `(r, P)` float64."""
        top = self.values[:, :1].astype(np.float64)
        return self.values / np.where(top > 0, top, 1.0)

    def above(self, share: np.ndarray | float) -> np.ndarray:
        """How many pixels reach `share` of their map's largest value and are not 0, `(r,)`; none where share is NaN."""
        bar = (np.asarray(share, dtype=np.float64) * self.values[:, 0]).astype(np.float32)
        return ((self.values >= bar[:, None]) & (self.values > 0)).sum(axis=1)

    def linear(self, inside: np.ndarray) -> dict[str, np.ndarray]:
        """The scores that are linear in the mask, so that a mean of masks gives the mean of the scores.

        `inside` `(r, P)`, in the order of `values`: 0 or 1, or the share of masks that hold the pixel.
        """
        within = np.cumsum(self.heat * inside, axis=1)
        first = self.ends[:, 0]
        leading = np.cumsum(inside, axis=1, dtype=np.float64)
        rows = np.arange(len(first))
        kept = self.above(LEAST_HEAT)
        ratio = []
        for step in range(QUANTILES + 1):
            quantile = kept - 1 - -(-(kept - 1) * step // QUANTILES)  # the first value not below the quantile
            count = self.ends[rows, np.maximum(quantile, 0)]
            ratio.append(within[rows, count - 1] / count)
        heat_ratio = (np.sum(ratio, axis=0) - (ratio[0] + ratio[-1]) / 2) / QUANTILES
        total = self.heat.sum(axis=1)
        return {
            "hit": np.where(self.empty, 0.0, leading[rows, first - 1] / first),
            "mass": np.where(self.empty, 0.0, within[:, -1] / np.where(self.empty, 1.0, total)),
            "ehr": np.where(self.empty, 0.0, heat_ratio),
        }


def measure(maps: np.ndarray, masks: np.ndarray, *, tau: np.ndarray | float = 0.5) -> pd.DataFrame:
    """Scores every map against its own mask; one row per map.

    Equation: with n = |M| and m = max S,

    - `hit`: share of the pixels that reach m which lie in M (ties averaged); 0 for an empty map.
    - `iou`: |A and M| / |A or M| with A = {S >= tau m, S > 0}; `inter` and `union` are its two counts of pixels.
    - `mass`: sum of S in M / sum of S; 0 for an empty map.
    - `iobb`: mean of S / m over M; 0 for an empty map. It grows with a map that is large everywhere.
    - `rank`: share of the n largest pixels of S that lie in M, in expectation over the order of ties.
    - `pixel_ap`: average precision of S as a score for M, tied pixels entering together (as scikit-learn's);
      `lift`: pixel_ap / area. A constant map scores `area`, and lift 1.
    - `ehr`: effective heat ratio, the integral over q in [0, 1] of r(q) = (sum of S/m in M over S >= t_q) /
      #{S >= t_q}, where t_q is the q-quantile of the values S/m >= 0.1; 11 points, trapezoid. 0 for an empty map.
    - `empty`: the map is 0 everywhere. `area`: n / P.

    Shapes: maps `(R, *S)` (values below 0 count as 0), masks `(R, *S)` bool, tau a number or `(R,)`, in (0, 1]; NaN
    leaves `iou` out.
    Ranges: all in [0, 1] and higher is better aligned, but for `lift` (>= 0) and the counts.
    Absent class: no rows give an empty table; a mask without a pixel, or a map with a value that is not finite, gives
    NaN. Memory is bounded by a chunk of rows.
    Raises: `ValueError` where maps and masks are not on one grid.
    Source: pointing game (Zhang et al. 2018, ties ours); relevance mass and rank accuracy (Arras et al. 2022);
    effective heat ratio (Zhang, Khakzar et al. 2021); CheXlocalize (Saporta et al. 2022) for hit rate and IoU.
    """
    if maps.shape != masks.shape:
        raise ValueError(f"maps are {maps.shape} and masks {masks.shape}; resize the maps to the masks first")
    maps, masks = flat(maps), flat(masks)
    taus = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(maps),))
    step = max(1, CHUNK // max(maps.shape[1], 1))
    starts = range(0, max(len(maps), 1), step)
    parts = [_measured(maps[s : s + step], masks[s : s + step], taus[s : s + step]) for s in starts]
    return pd.concat(parts, ignore_index=True)


def positive(maps: np.ndarray) -> np.ndarray:
    """Maps as float32 with values below 0, and those that are not finite, at 0 (and no -0, whose bits differ)."""
    return np.maximum(np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32, copy=False), 0) + 0


def _measured(maps: np.ndarray, masks: np.ndarray, tau: np.ndarray) -> pd.DataFrame:
    sorted_maps, inside = _descending(positive(maps), masks)
    ends, rows, p = sorted_maps.ends, np.arange(len(maps)), maps.shape[1]
    found = np.cumsum(inside, axis=1, dtype=np.int32)
    n = found[:, -1]
    filled = np.maximum(n, 1)

    above = sorted_maps.above(tau)
    inter = np.where(above > 0, found[rows, above - 1], 0)
    union = above + n - inter

    bar = sorted_maps.values[rows, filled - 1]  # the n-th largest value; it may be shared by pixels beyond the n-th
    over, upto = (sorted_maps.values > bar[:, None]).sum(axis=1), ends[rows, filled - 1]
    sure = np.where(over > 0, found[rows, over - 1], 0)
    shared = (found[rows, upto - 1] - sure) * (filled - over) / (upto - over)

    precision = np.take_along_axis(found, ends - 1, axis=1) / ends
    average_precision = (precision * inside).sum(axis=1) / filled
    scores = sorted_maps.linear(inside)
    table = pd.DataFrame(
        {
            "hit": scores["hit"],
            "empty": sorted_maps.empty,
            "iou": inter / np.maximum(union, 1),
            "inter": inter.astype(np.float64),
            "union": union.astype(np.float64),
            "mass": scores["mass"],
            "iobb": (sorted_maps.heat * inside).sum(axis=1) / filled,
            "rank": (sure + shared) / filled,
            "pixel_ap": average_precision,
            "lift": average_precision * p / filled,
            "ehr": scores["ehr"],
            "area": n / max(p, 1),
        }
    )
    table.loc[np.isnan(tau), ["iou", "inter", "union"]] = np.nan
    measured = [*METRICS, "inter", "union", "lift"]
    table.loc[(n == 0) | ~np.isfinite(maps).all(axis=1), measured] = np.nan
    return table


def _descending(maps: np.ndarray, masks: np.ndarray) -> tuple[Descending, np.ndarray]:
    """Maps sorted from the largest value down, and whether each sorted pixel lies in the mask.

    The bits of a float that is not negative sort like the float, and its sign bit is free: shifted out, it makes room
    for the mask's bit, so one sort of integers carries both (about half the time of an argsort and two gathers).
    """
    keys = (maps.view(np.uint32) << np.uint32(1)) | (masks != 0).astype(np.uint32)
    keys.sort(axis=1)
    keys = keys[:, ::-1]
    return Descending((keys >> np.uint32(1)).view(np.float32)), (keys & np.uint32(1)).astype(bool)
