"""Does a map lie where the pathology lies? Scores of saliency maps against masks, many rows at a time.

Every score is of one map S >= 0 and one mask M on the same P pixels (or voxels). Values below 0 count as 0. No score
but `iobb` changes when a map is multiplied by a number, so arms whose logits differ in scale can be compared; ties are
shared out fairly, since maps cut off at 0 are mostly ties. A map that is 0 everywhere is a finding, not a gap: it
misses, and `empty` says that it showed no evidence at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from raresight.core.inner_loops import inner_loops
from raresight.explain import alignment_plain

METRICS = ("hit", "iou", "mass", "iobb", "rank", "pixel_ap", "ehr")
COLUMNS = ("hit", "empty", "iou", "inter", "union", "mass", "iobb", "rank", "pixel_ap", "lift", "ehr", "area")
SCORES = ("hit", "inter", "union", "mass", "iobb", "rank", "pixel_ap", "ehr")  # as the inner loops give them
CHUNK = 2**19  # pixels that are sorted at once where several maps are: about 25 MB, whatever the number of rows
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
    NaN. Maps are put in order one at a time, so memory is bounded by their size.
    Raises: `ValueError` where maps and masks are not on one grid.
    Source: pointing game (Zhang et al. 2018, ties ours); relevance mass and rank accuracy (Arras et al. 2022);
    effective heat ratio (Zhang, Khakzar et al. 2021); CheXlocalize (Saporta et al. 2022) for hit rate and IoU.
    """
    if maps.shape != masks.shape:
        raise ValueError(f"maps are {maps.shape} and masks {masks.shape}; resize the maps to the masks first")
    maps, masks = flat(maps), flat(masks) != 0
    scores = np.empty((len(maps), len(SCORES)))
    taus = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(maps),))
    silent, finite = np.ones((2, len(maps)), dtype=bool)
    for row, mask in enumerate(masks):
        values, order = loops().descending(positive(maps[row]))
        loops().own(values, order, mask, taus[row], LEAST_HEAT, QUANTILES, scores[row])
        silent[row], finite[row] = values[0] == 0, np.isfinite(maps[row]).all()
    return _table(scores, masks, taus, silent, finite)


def measure_one(values: np.ndarray, masks: np.ndarray, *, tau: np.ndarray | float = 0.5) -> pd.DataFrame:
    """As `measure`, of one map `(*S)` against each of the masks `(R, *S)`: it is put in order once."""
    values, masks = values.reshape(-1), flat(masks) != 0
    scores = np.empty((len(masks), len(SCORES)))
    taus = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(masks),))
    ranked, order = loops().descending(positive(values))
    for row, mask in enumerate(masks):
        loops().own(ranked, order, mask, taus[row], LEAST_HEAT, QUANTILES, scores[row])
    silent, finite = np.full((2, len(masks)), [[ranked[0] == 0], [np.isfinite(values).all()]])
    return _table(scores, masks, taus, silent, finite)


def positive(maps: np.ndarray) -> np.ndarray:
    """Maps as float32 with values below 0, and those that are not finite, at 0 (and no -0, whose bits differ)."""
    return np.maximum(np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32, copy=False), 0) + 0


@cache
def loops() -> ModuleType:
    """The compiled inner loops, or the plain ones where numba is absent, broken or unwanted; settled once a process."""
    return inner_loops(_compiled, "measuring maps") or alignment_plain


def _table(
    found: np.ndarray, masks: np.ndarray, tau: np.ndarray, silent: np.ndarray, finite: np.ndarray
) -> pd.DataFrame:
    """The table of `measure`, from the scores that the inner loops found, `(R, 8)`."""
    n, pixels = masks.sum(axis=1), masks.shape[1]
    scores = dict(zip(SCORES, found.T, strict=True))
    average_precision, union = scores["pixel_ap"], np.maximum(scores["union"], 1)
    scores |= {"iou": scores["inter"] / union, "lift": average_precision * pixels / np.maximum(n, 1)}
    for name, values in scores.items():
        known = (n > 0) & finite & ~(np.isnan(tau) & (name in ("iou", "inter", "union")))
        scores[name] = np.where(known, values, np.nan)
    scores |= {"empty": silent, "area": n / max(pixels, 1)}
    return pd.DataFrame({name: scores[name] for name in COLUMNS})


def _compiled() -> ModuleType:
    from raresight.explain import alignment_compiled

    tau, scores = np.ones(1), np.empty(15)
    values, order = alignment_compiled.descending(np.ones(1, dtype=np.float32))
    alignment_compiled.own(values, order, tau > 0, 0.5, LEAST_HEAT, QUANTILES, scores[:8])
    alignment_compiled.shares(values, order, tau, tau, LEAST_HEAT, QUANTILES, scores[8:12])
    alignment_compiled.drawn(values, order, order, np.arange(2), np.zeros(1, dtype=np.int64), 0.5, scores[12:])
    return alignment_compiled
