"""The inner loops of `firing`, compiled: the same arithmetic in the same order, so the same bits."""

from __future__ import annotations

import numpy as np

from raresight.core.inner_loops import compiled


@compiled
def _ones(word: np.uint64) -> np.int64:
    """How many bits are set."""
    x = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def fire(
    values: np.ndarray,
    threshold: np.ndarray,
    z_low: np.ndarray,
    z_high: np.ndarray,
    z_share: np.ndarray,
    y_low: np.ndarray,
    y_high: np.ndarray,
    y_share: np.ndarray,
    x_low: np.ndarray,
    x_high: np.ndarray,
    x_share: np.ndarray,
    bits: np.ndarray,
    area: np.ndarray,
) -> None:
    """Fill `bits` `(n, U, words)` and `area` `(n, U)`, both zero, from `values` `(n, U, d, h, w)` float32.

    Lines of the grid are interpolated over the first two axes, and over the last one only where a line has a value
    above the threshold.
    """
    n, units, depth, height, width = values.shape
    line = np.empty(width, np.float64)
    for i in range(n):
        for u in range(units):
            limit = np.float64(threshold[u])
            above = False
            for z in range(depth):
                for y in range(height):
                    for x in range(width):
                        above |= bool(np.float64(values[i, u, z, y, x]) > limit)
            if not above:
                continue
            counted = 0
            for z in range(len(z_low)):
                back, front = values[i, u, z_low[z]], values[i, u, z_high[z]]
                for y in range(len(y_low)):
                    lower, upper = y_low[y], y_high[y]
                    above = False
                    for x in range(width):
                        a, b = np.float64(back[lower, x]), np.float64(back[upper, x])
                        a = a + z_share[z] * (np.float64(front[lower, x]) - a)
                        b = b + z_share[z] * (np.float64(front[upper, x]) - b)
                        line[x] = a + y_share[y] * (b - a)
                        above |= bool(line[x] > limit)
                    if not above:
                        continue
                    first = (z * len(y_low) + y) * len(x_low)
                    for x in range(len(x_low)):
                        left = line[x_low[x]]
                        if left + x_share[x] * (line[x_high[x]] - left) > limit:
                            pixel = first + x
                            bits[i, u, pixel >> 6] |= np.uint64(1) << np.uint64(pixel & 63)
                            counted += 1
            area[i, u] = counted


@compiled
def overlap(bits: np.ndarray, area: np.ndarray, row: np.ndarray, masks: np.ndarray, shared: np.ndarray) -> None:
    """Fill `shared` `(R, U)`; see `firing.overlaps`."""
    for r in range(len(row)):
        i = row[r]
        first, last = _span(masks[r])
        for u in range(bits.shape[1]):
            if area[i, u] == 0:
                continue
            counted = 0
            for w in range(first, last):
                counted += _ones(bits[i, u, w] & masks[r, w])
            shared[r, u] = counted


@compiled
def dealt_overlap(bits: np.ndarray, area: np.ndarray, image: np.ndarray, masks: np.ndarray, shared: np.ndarray) -> None:
    """Add up `shared` `(B, U)`; see `firing.dealt_overlaps`."""
    for r in range(len(masks)):
        first, last = _span(masks[r])
        for b in range(len(image)):
            i = image[b, r]
            for u in range(bits.shape[1]):
                if area[i, u] == 0:
                    continue
                counted = 0
                for w in range(first, last):
                    counted += _ones(bits[i, u, w] & masks[r, w])
                shared[b, u] += counted


@compiled
def _span(mask: np.ndarray) -> tuple[int, int]:
    """The words between which a mask has bits."""
    first, last = 0, len(mask)
    while first < last and mask[first] == 0:
        first += 1
    while last > first and mask[last - 1] == 0:
        last -= 1
    return first, last
