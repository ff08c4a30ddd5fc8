"""Do two maps show the same? Rank correlation, structural similarity, and overlap of the brightest pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch.nn import functional

from raresight.explain.alignment import flat, positive

WINDOW = 7
STEADY = (0.01**2, 0.03**2)  # Wang et al. 2004: C1 and C2 for values in [0, 1]
TOP = 0.1


def overlap(a: np.ndarray, b: np.ndarray, *, share: float = TOP) -> pd.DataFrame:
    """How alike two maps of one image and class are, row by row: of two arms, two seeds or two methods.

    `spearman`, `ssim` (see there) and `top_iou`: intersection over union of the brightest `share` of the pixels of each
    map (with all that tie with the last of them; pixels of 0 are never among them).
    Shapes: two maps `(R, *S)`. Ranges: [-1, 1], [-1, 1], [0, 1].
    Absent class: no rows give no rows. Where both maps are empty all is NaN: two networks without evidence do not agree
    on a place. Where one is, `spearman` is NaN and `top_iou` 0.
    """
    x, y = positive(flat(a)), positive(flat(b))
    silent = ~(x.any(axis=1) | y.any(axis=1))
    first, second = _brightest(x, share), _brightest(y, share)
    both, either = (first & second).sum(axis=1), (first | second).sum(axis=1)
    table = pd.DataFrame({"spearman": spearman(x, y), "ssim": ssim(a, b), "top_iou": both / np.maximum(either, 1)})
    table.loc[silent] = np.nan
    return table


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation of two maps over their pixels, ties at their mean rank; NaN where either map is constant.

    Shapes: two maps `(R, *S)` -> `(R,)` in [-1, 1]. Source: Spearman 1904; as scipy's `spearmanr`.
    """
    if len(a) == 0:
        return np.zeros(0)
    x, y = (rankdata(flat(maps), axis=1) for maps in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(spread > 0, (x * y).sum(axis=1) / np.where(spread > 0, spread, 1.0), np.nan)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of two maps, each as shares of its own largest value; 2D and 3D.

    Equation: mean over windows of (2 m_a m_b + C1)(2 c + C2) / ((m_a^2 + m_b^2 + C1)(v_a + v_b + C2)), m, v and c the
    mean, sample variance and covariance in a flat window of 7 (the largest odd number that fits, on smaller grids),
    C1 = .0001, C2 = .0009; windows that reach over the border are left out.
    Shapes: two maps `(R, *S)` -> `(R,)` in [-1, 1]; 1 for equal maps, two empty ones among them.
    Source: Wang et al. 2004, eq. 13, with the flat window and sample covariance that scikit-image takes by default.
    """
    if len(a) == 0:
        return np.zeros(0)
    sides = a.shape[1:]
    window = min(WINDOW, *sides)
    window -= 1 - window % 2
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(sides)]

    def mean(values: torch.Tensor) -> torch.Tensor:
        return pool(values[:, None], window, 1)[:, 0].flatten(1)

    x, y = (_heat(maps) for maps in (a, b))
    n = window ** len(sides)
    sample = n / max(n - 1, 1)
    mx, my = mean(x), mean(y)
    vx, vy, c = sample * (mean(x * x) - mx**2), sample * (mean(y * y) - my**2), sample * (mean(x * y) - mx * my)
    c1, c2 = STEADY
    similar = (2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return similar.mean(dim=1).numpy()


def _heat(maps: np.ndarray) -> torch.Tensor:
    values = torch.from_numpy(positive(maps).astype(np.float64))
    top = values.flatten(1).max(dim=1).values.reshape(-1, *[1] * (values.ndim - 1))
    return values / torch.where(top > 0, top, 1.0)


def _brightest(values: np.ndarray, share: float) -> np.ndarray:
    count = max(1, int(np.ceil(share * values.shape[1] - 1e-9)))
    bar = np.partition(values, -count, axis=1)[:, -count]
    return (values >= bar[:, None]) & (values > 0)
