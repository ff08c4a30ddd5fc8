"""Where to cut a map into inside and outside: a share of its largest value, chosen on validation or by the map."""

from __future__ import annotations

import numpy as np

from raresight.explain.alignment import CHUNK, flat, positive

SHARES = tuple(round(0.2 + 0.05 * i, 2) for i in range(13))


def choose_tau(maps: np.ndarray, masks: np.ndarray) -> float:
    """The share of a map's largest value that cuts a class's maps into the best overlap with their masks.

    Equation: argmax over tau in {.20, .25, ..., .80} of mean_i |A_i and M_i| / |A_i or M_i|, A_i = {S_i >= tau max S_i,
    S_i > 0}; the smallest tau where several are best. An empty map counts with 0.
    Shapes: maps `(R, *S)`, masks `(R, *S)` of one class and one arm, from images that are not scored with this tau.
    Ranges: .2 to .8. Absent class: NaN where there is no row (then take `otsu`, or leave IoU out).
    Source: threshold tuning of CheXlocalize (Saporta et al. 2022); per arm, since arms differ in the scale of maps.
    """
    if len(maps) == 0:
        return float("nan")
    maps, masks = positive(flat(maps)), flat(masks) != 0
    shares = np.array(SHARES)
    overlap = np.zeros(len(shares))
    for values, mask in zip(maps, masks, strict=True):
        bars = (shares * float(values.max())).astype(np.float32)
        lowest = np.where(values > 0, np.searchsorted(bars, values, side="right"), 0)  # how many shares a pixel reaches
        reached = np.bincount(lowest, minlength=len(shares) + 1)
        inside = np.bincount(lowest[mask], minlength=len(shares) + 1)
        size, inter = (counts[::-1].cumsum()[::-1][1:] for counts in (reached, inside))
        overlap += inter / np.maximum(size + mask.sum() - inter, 1)
    return float(shares[np.argmax(np.round(overlap, 12))])


def otsu(maps: np.ndarray) -> np.ndarray:
    """The cut that separates each map's own values best, as a share of its largest value: no validation needed.

    Equation: argmax over cuts t between distinct values of w_0 w_1 (mu_1 - mu_0)^2, w the shares and mu the means of
    the values below t and from t up; exact, over all cuts, without bins. The share is t / max S.
    Shapes: maps `(R, *S)` -> `(R,)`, made for `measure(..., tau=otsu(maps))`. Ranges: (0, 1]; 1 for a constant map.
    Source: Otsu 1979, eq. 14.
    """
    maps = positive(flat(maps))
    step = max(1, CHUNK // max(maps.shape[1], 1))
    parts = [_cut(np.sort(maps[s : s + step], axis=1)) for s in range(0, len(maps), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _cut(values: np.ndarray) -> np.ndarray:
    r, p = values.shape
    below = np.arange(1, p) / p
    sums = np.cumsum(values, axis=1, dtype=np.float64)
    total = sums[:, -1:]
    gap = (total - sums[:, :-1]) / (p * (1 - below)) - sums[:, :-1] / (p * below)
    between = np.where(values[:, 1:] > values[:, :-1], below * (1 - below) * gap**2, -1.0)
    best = between.argmax(axis=1) if p > 1 else np.zeros(r, dtype=np.int64)
    chosen = values[np.arange(r), np.minimum(best + 1, p - 1)]
    top = values[:, -1].astype(np.float64)
    varied = top > values[:, 0]
    return np.where(varied, chosen / np.where(top > 0, top, 1.0), 1.0)
