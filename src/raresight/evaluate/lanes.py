"""The bootstrap's inner loops, compiled: a row of resamples side by side is one lane of integers.

A block of resamples is `(G, B)` uint8: how often each of G patients is drawn in each of B resamples. Whatever an image
adds, it adds to all resamples of the block at once, from one contiguous row, so the compiler turns the loops over `b`
into vector instructions. `lanes_plain` does the same without a compiler, and gives the same numbers to the last bit.

Compiled code is kept beside this file, or in the user's cache where the installation is read-only; where neither can be
written, it is compiled anew in each process. `NUMBA_CACHE_DIR` names another place.
"""

from __future__ import annotations

import numpy as np

from raresight.core.inner_loops import compiled

NAME = "compiled by numba"


@compiled
def multiplicities(drawn: np.ndarray, n: int) -> np.ndarray:
    """How often each of n patients stands in each row of `drawn` `(B, T)` int32, `(n, B)` uint8.

    Raises: `OverflowError` where one is drawn more than 255 times.
    """
    lanes, length = drawn.shape
    rows = np.zeros((lanes, n), np.uint8)
    full = False
    for b in range(lanes):
        row = rows[b]
        for t in range(length):
            g = drawn[b, t]
            full |= row[g] == 255
            row[g] += 1
    if full:
        raise OverflowError("a patient was drawn more than 255 times")
    turned = np.empty((n, lanes), np.uint8)
    for first in range(0, n, 64):  # 64 rows at a time stay in the cache while they are turned
        for b in range(lanes):
            for g in range(first, min(first + 64, n)):
                turned[g, b] = rows[b, g]
    return turned


@compiled
def settled(
    weight: np.ndarray,
    drawn: np.ndarray,
    stratum: np.ndarray,
    excess: np.ndarray,
    anew: np.ndarray,
    resample: np.ndarray,
) -> np.ndarray:
    """Multiplicities less the last `excess[s, b]` draws of each stratum, plus draws `anew`; a new `(G, B)` array.

    `drawn` `(B, T)` int32 as counted in `weight`, `stratum` `(G,)` int32 in 0..S-1, `excess` `(S, B)` int32, and
    patients `anew` `(F,)` that are added to the columns `resample` `(F,)`, both int64.
    """
    changed = weight.copy()
    left = excess.copy()
    for b in range(drawn.shape[0]):
        open_ = left[:, b].sum()
        t = drawn.shape[1] - 1
        while open_ > 0:
            g = drawn[b, t]
            s = stratum[g]
            if left[s, b] > 0:
                left[s, b] -= 1
                changed[g, b] -= 1
                open_ -= 1
            t -= 1
    for i in range(len(anew)):
        changed[anew[i], resample[i]] += 1
    return changed


@compiled
def totals(cells: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Counts of every resample, `cells @ weight`: `(C, G)` int64 >= 0 with `(G, B)` uint8 gives `(C, B)` int64."""
    n, lanes = cells.shape[0], weight.shape[1]
    sums = np.zeros((n, lanes), np.int64)
    narrow = np.zeros(lanes, np.int32)  # twice as many lanes in a register, as long as nothing can overflow
    for c in range(n):
        room = 2**31 - 1
        for g in range(cells.shape[1]):
            value = cells[c, g]
            if value == 0:
                continue
            row = weight[g]
            if 255 * value > 2**31 - 1:
                for b in range(lanes):
                    sums[c, b] += value * np.int64(row[b])
                continue
            if 255 * value > room:
                for b in range(lanes):
                    sums[c, b] += narrow[b]
                    narrow[b] = 0
                room = 2**31 - 1
            room -= 255 * value
            step = np.int32(value)
            for b in range(lanes):
                narrow[b] += step * np.int32(row[b])
        for b in range(lanes):
            sums[c, b] += narrow[b]
            narrow[b] = 0
    return sums


@compiled
def walk(
    hit_at: np.ndarray,
    hit: np.ndarray,
    tied_at: np.ndarray,
    tied: np.ndarray,
    passed_at: np.ndarray,
    passed: np.ndarray,
    weight: np.ndarray,
    allowed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Walk down the scores of one class, all resamples abreast; see `ranked.Ranked` for the stops.

    Stop m has the positives `hit[hit_at[m]:hit_at[m+1]]`, the negatives tied with them, and the negatives passed since
    the stop before: positions of patients, int32. Returns, each `(B,)`: positives met (int64); twice the pairs lost,
    Σ d_m (fp before + fp after) (int64); Σ d_m tp/(tp + fp) (float64); and, `(S, B)` int64, the positives met while
    false alarms are at most `allowed` `(S, B)` int64.
    """
    lanes = weight.shape[1]
    tp, fp = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
    here, before = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
    lost, gained = np.zeros(lanes, np.int64), np.zeros(lanes, np.float64)
    found = np.zeros((len(allowed), lanes), np.int64)
    for m in range(len(hit_at) - 1):
        for j in range(passed_at[m], passed_at[m + 1]):
            row = weight[passed[j]]
            for b in range(lanes):
                fp[b] += row[b]
        for b in range(lanes):
            before[b] = fp[b]
            here[b] = 0
        for j in range(tied_at[m], tied_at[m + 1]):
            row = weight[tied[j]]
            for b in range(lanes):
                fp[b] += row[b]
        for j in range(hit_at[m], hit_at[m + 1]):
            row = weight[hit[j]]
            for b in range(lanes):
                here[b] += row[b]
        for b in range(lanes):
            tp[b] += here[b]
            lost[b] += np.int64(here[b]) * (np.int64(before[b]) + np.int64(fp[b]))
            seen = np.float64(tp[b]) + np.float64(fp[b])
            gained[b] += np.float64(here[b]) * np.float64(tp[b]) / max(seen, 1.0)
        for s in range(len(allowed)):
            for b in range(lanes):
                if fp[b] <= allowed[s, b]:
                    found[s, b] += here[b]
    return tp.astype(np.int64), lost, gained, found
