"""The scores of `alignment` and `chance` for one map in numpy: what `alignment_compiled` does, to the last bit.

Sums run over a map from its largest value down, one pixel after another (`cumsum`, not `sum`), so that a compiled loop
can take the same ones.
"""

from __future__ import annotations

import numpy as np


def descending(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a map `(P,)` float32, none below 0, from the largest down, and the pixels `(P,)` that hold them.

    Pixels of equal value stand in their own order.
    """
    keys = (np.uint32(0x7FFFFFFF) - values.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()  # the bits of a float that is not negative sort like the float; faster than an argsort
    order = (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return values[order], order


def own(
    values: np.ndarray,
    order: np.ndarray,
    mask: np.ndarray,
    tau: float,
    least: float,
    quantiles: int,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(8,)` with `hit inter union mass iobb rank pixel_ap ehr` of a map against its mask.

    `values` and `order` `(P,)` as `descending` gives them, `mask` `(P,)` bool. The effective heat ratio takes
    `quantiles` steps over what reaches `least` of the largest value.
    """
    inside, ends = mask[order], _ends(values)
    found = np.cumsum(inside, dtype=np.int64)  # mask pixels up to each place
    n = found[-1]
    filled = max(n, 1)

    above = _above(values, tau)
    inter = found[above - 1] if above else 0

    bar = values[filled - 1]  # the n-th largest value; it may be shared by pixels beyond the n-th
    over, upto = int((values > bar).sum()), ends[filled - 1]
    sure = found[over - 1] if over else 0
    shared = (found[upto - 1] - sure) * (filled - over) / (upto - over)

    average_precision = np.cumsum(found[ends - 1] / ends * inside)[-1] / filled
    covered = np.cumsum(_heat(values) * inside)[-1] / filled
    hit, mass, ehr = _linear(values, inside, least, quantiles)
    scores[:] = hit, inter, above + n - inter, mass, covered, (sure + shared) / filled, average_precision, ehr


def shares(
    values: np.ndarray,
    order: np.ndarray,
    inside: np.ndarray,
    of_area: np.ndarray,
    least: float,
    quantiles: int,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(4,)` with the means of `hit mass iobb ehr`, the scores that are linear in the mask, over masks.

    `inside` `(P,)` is the mean of the masks, `of_area` `(P,)` that of each mask as a share of its area.
    """
    hit, mass, ehr = _linear(values, inside[order], least, quantiles)
    scores[:] = hit, mass, np.cumsum(_heat(values) * of_area[order])[-1], ehr


def drawn(
    values: np.ndarray,
    order: np.ndarray,
    places: np.ndarray,
    offsets: np.ndarray,
    which: np.ndarray,
    tau: float,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(3,)` with the means of `iou rank pixel_ap` over the masks in `which`, at least one.

    Mask j's pixels are `places[offsets[j]:offsets[j + 1]]`, at least one. All three scores follow from one number per
    pixel of a mask: how many pixels of the map have at least its value.
    """
    ends = _ends(values)
    reached = np.empty(len(order), dtype=np.int64)
    reached[order] = ends
    above = _above(values, tau)
    scores[:] = 0.0
    for j in which:
        mine = np.sort(reached[places[offsets[j] : offsets[j + 1]]])
        n = len(mine)
        over, upto = int((values > values[n - 1]).sum()), ends[n - 1]
        inter, sure, sooner = np.searchsorted(mine, (above, over, upto), side="right")
        found = np.searchsorted(mine, mine, side="right")  # mask pixels with at least this value
        shared = (sooner - sure) * (n - over) / (upto - over)
        scores += inter / (above + n - inter), (sure + shared) / n, np.cumsum(found / mine)[-1] / n
    scores /= len(which)


def _linear(values: np.ndarray, inside: np.ndarray, least: float, quantiles: int) -> tuple[float, float, float]:
    """`hit`, `mass` and `ehr`, linear in the mask; `inside` `(P,)` in the order of `values`, 0 or 1 or a mean of it."""
    if values[0] == 0:
        return 0.0, 0.0, 0.0
    ends, heat = _ends(values), _heat(values)
    within = np.cumsum(heat * inside)
    kept = _above(values, least)
    ratio = []
    for step in range(quantiles + 1):
        quantile = kept - 1 - -(-(kept - 1) * step // quantiles)  # the first value not below the quantile
        count = ends[quantile]
        ratio.append(within[count - 1] / count)
    heat_ratio = (np.cumsum(ratio)[-1] - (ratio[0] + ratio[-1]) / 2) / quantiles
    leading = np.cumsum(inside, dtype=np.float64)[ends[0] - 1]
    return leading / ends[0], within[-1] / np.cumsum(heat)[-1], heat_ratio


def _ends(values: np.ndarray) -> np.ndarray:
    """How many pixels have at least each value, `(P,)`: where its group of equal values ends."""
    stops = np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1
    return np.repeat(stops, np.diff(stops, prepend=0))


def _heat(values: np.ndarray) -> np.ndarray:
    """Values as shares of the largest, 0 for a map without any, `(P,)` float64."""
    top = values[0].astype(np.float64)
    return values / (top if top > 0 else np.float64(1))


def _above(values: np.ndarray, share: float) -> int:
    """How many pixels reach `share` of the largest value and are not 0; none where `share` is NaN."""
    bar = np.float32(np.float64(share) * values[0])
    return int(((values >= bar) & (values > 0)).sum())
