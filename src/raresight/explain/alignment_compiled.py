"""The inner loops of `alignment` and `chance`, compiled: the same sums in the same order as in `alignment_plain`.

Pixels of one value enter together, so a map is walked group by group, from its largest value down.
"""

from __future__ import annotations

import numpy as np

from raresight.core.inner_loops import compiled

DIGIT = 11  # bits that one pass of the sort looks at: three passes for the 31 bits of a float that is not negative


@compiled
def descending(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `alignment_plain.descending`: such floats sort like their bits, by counting, a digit at a time."""
    pixels = len(values)
    keys = np.uint32(0x7FFFFFFF) - values.view(np.uint32)
    order = np.arange(pixels).astype(np.int32)
    spare_keys, spare_order = np.empty_like(keys), np.empty_like(order)
    first = np.empty(1 << DIGIT, np.int64)
    for shift in (0, DIGIT, 2 * DIGIT):
        first[:] = 0
        for key in keys:
            first[(key >> shift) & ((1 << DIGIT) - 1)] += 1
        start = 0
        for digit in range(len(first)):
            held = first[digit]
            first[digit] = start
            start += held
        for i in range(pixels):
            digit = (keys[i] >> shift) & ((1 << DIGIT) - 1)
            at = first[digit]
            first[digit] = at + 1
            spare_keys[at] = keys[i]
            spare_order[at] = order[i]
        keys, spare_keys = spare_keys, keys
        order, spare_order = spare_order, order
    return (np.uint32(0x7FFFFFFF) - keys).view(np.float32), order


@compiled
def own(
    values: np.ndarray,
    order: np.ndarray,
    mask: np.ndarray,
    tau: float,
    least: float,
    quantiles: int,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(8,)`; see `alignment_plain.own`."""
    pixels = len(values)
    n = 0
    for i in range(pixels):
        n += mask[i]
    filled = max(n, 1)
    above = _above(values, tau)
    place, ratio = _quantiles(_above(values, least), quantiles), np.empty(quantiles + 1, np.float64)
    top = np.float64(values[0]) if values[0] > 0 else 1.0
    hit = sure = shared = average_precision = within = total = 0.0
    found = inter = 0
    step = quantiles
    start = 0
    while start < pixels:
        heat = np.float64(values[start]) / top
        end, held = start, 0
        while end < pixels and values[end] == values[start]:
            held += mask[order[end]]
            end += 1
        if heat > 0:
            for _ in range(end - start):
                total += heat
            for _ in range(held):
                within += heat
        if start < filled <= end:
            sure, shared = np.float64(found), held * (filled - start) / (end - start)
        found += held
        precision = found / end
        for _ in range(held):
            average_precision += precision
        if start == 0:
            hit = precision
        if end <= above:
            inter = found
        while step >= 0 and place[step] < end:
            ratio[step] = within / end
            step -= 1
        start = end
    empty = values[0] == 0
    scores[0] = 0.0 if empty else hit
    scores[1] = inter
    scores[2] = above + n - inter
    scores[3] = 0.0 if empty else within / total
    scores[4] = within / filled
    scores[5] = (sure + shared) / filled
    scores[6] = average_precision / filled
    scores[7] = 0.0 if empty else _trapezoid(ratio)


@compiled
def shares(
    values: np.ndarray,
    order: np.ndarray,
    inside: np.ndarray,
    of_area: np.ndarray,
    least: float,
    quantiles: int,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(4,)`; see `alignment_plain.shares`."""
    place, ratio = _quantiles(_above(values, least), quantiles), np.empty(quantiles + 1, np.float64)
    top = np.float64(values[0]) if values[0] > 0 else 1.0
    hit = leading = within = total = covered = 0.0
    step = quantiles
    start, pixels = 0, len(values)
    while start < pixels:
        heat = np.float64(values[start]) / top
        end = start
        while end < pixels and values[end] == values[start]:
            pixel = order[end]
            if start == 0:
                leading += inside[pixel]
            if heat > 0:
                total += heat
                within += heat * inside[pixel]
                covered += heat * of_area[pixel]
            end += 1
        if start == 0:
            hit = leading / end
        while step >= 0 and place[step] < end:
            ratio[step] = within / end
            step -= 1
        start = end
    empty = values[0] == 0
    scores[0] = 0.0 if empty else hit
    scores[1] = 0.0 if empty else within / total
    scores[2] = covered
    scores[3] = 0.0 if empty else _trapezoid(ratio)


@compiled
def drawn(
    values: np.ndarray,
    order: np.ndarray,
    places: np.ndarray,
    offsets: np.ndarray,
    which: np.ndarray,
    tau: float,
    scores: np.ndarray,
) -> None:
    """Fill `scores` `(3,)`; see `alignment_plain.drawn`.

    A mask's pixels are put in order by counting: how many hold each place in the map's order, and a bit for each place
    that is held, so that places without any are passed over 64 at a time.
    """
    pixels = len(values)
    first = np.empty(pixels, np.int32)  # by place: where its group of equal values begins
    group = np.empty(pixels, np.int32)  # by pixel: the same
    last = np.empty(pixels, np.int32)  # by where a group begins: where it ends
    start = 0
    while start < pixels:
        end = start
        while end < pixels and values[end] == values[start]:
            first[end] = start
            group[order[end]] = start
            end += 1
        last[start] = end
        start = end
    above = _above(values, tau)
    count = np.zeros(pixels, np.int32)
    held = np.zeros((pixels + 63) // 64, np.uint64)
    scores[:] = 0.0
    for j in which:
        n = offsets[j + 1] - offsets[j]
        for at in range(offsets[j], offsets[j + 1]):
            start = group[places[at]]
            count[start] += 1
            held[start >> 6] |= np.uint64(1) << np.uint64(start & 63)
        border = first[n - 1]
        found = inter = sure = reached = 0
        average_precision = 0.0
        for w in range(len(held)):
            word = held[w]
            held[w] = np.uint64(0)
            while word:
                start = (w << 6) + _lowest(word)
                word &= word - np.uint64(1)
                c, end = count[start], last[start]
                count[start] = 0
                found += c
                precision = found / end
                for _ in range(c):
                    average_precision += precision
                if end <= above:
                    inter = found
                if start < border:
                    sure = found
                elif start == border:
                    reached = c
        shared = reached * (n - border) / (last[border] - border)
        scores[0] += inter / (above + n - inter)
        scores[1] += (sure + shared) / n
        scores[2] += average_precision / n
    scores /= len(which)


@compiled
def _above(values: np.ndarray, share: float) -> int:
    """How many of the values, from the largest down, reach a share of the largest and are not 0."""
    bar = np.float32(share * np.float64(values[0]))
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] >= bar and values[middle] > 0:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _quantiles(kept: int, parts: int) -> np.ndarray:
    """Of `kept` values from the largest down, the place of the first one that is not below each quantile."""
    place = np.empty(parts + 1, np.int64)
    for step in range(parts + 1):
        place[step] = max(kept - 1 - -(-(kept - 1) * step // parts), 0)
    return place


@compiled
def _trapezoid(ratio: np.ndarray) -> float:
    summed = 0.0
    for value in ratio:
        summed += value
    return (summed - (ratio[0] + ratio[-1]) / 2) / (len(ratio) - 1)


@compiled
def _lowest(word: np.uint64) -> np.int64:
    """Which bit is the lowest that is set."""
    below = (word & (~word + np.uint64(1))) - np.uint64(1)
    x = below - ((below >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
