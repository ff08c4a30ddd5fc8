"""Near duplicates: pictures in two parts that are almost the same, found by hash and verified by thumbnail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

MOST_BITS = 4  # of 64: candidates by difference hash
LEAST_CORRELATION = 0.98  # of 16 x 16 grey thumbnails: verified
MOST_COMPARISONS = 5_000_000_000  # pairs of hashes, some ten seconds; above it only equal hashes are candidates
MOST_CANDIDATES = 200_000
BLOCK = 1 << 22  # hash pairs held in memory at once
AT_ONCE = 1 << 12  # pairs of thumbnails likewise


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs closest first: rows `a`, `b` `(P,)`, `distance` in bits, `correlation` (NaN: not verified)."""

    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray
    correlation: np.ndarray
    method: str


def near_duplicates(
    dhash: np.ndarray, pixels: np.ndarray, place: np.ndarray, thumbnails: np.ndarray | None = None
) -> NearDuplicates:
    """Pairs of rows in two places whose hashes differ in at most 4 of 64 bits and whose thumbnails correlate.

    `dhash` `(N,)` 16 hex digits, blank where the picture was not read; `pixels` `(N,)` hashes of the exact pixels:
    rows that share one are identical, not near, and left out; `place` `(N,)`; `thumbnails` `(N, 16, 16)` or None,
    which leaves candidates unverified. Every pair across places is compared, except where that would be more than
    5e9 comparisons (equal hashes only) or give more than 200,000 candidates (search stops); `method` then says so.
    """
    pairs, method = _candidates(dhash, pixels, place)
    if thumbnails is None:
        correlation = np.full(len(pairs), np.nan)
        method += "; candidates only, not verified on pixels"
    else:
        correlation = _correlation(thumbnails, pairs[:, 0], pairs[:, 1])
        keep = correlation >= LEAST_CORRELATION
        pairs, correlation = pairs[keep], correlation[keep]
        method += f", then correlation of 16 x 16 grey thumbnails at least {LEAST_CORRELATION:g}"
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -np.nan_to_num(correlation), pairs[:, 2]))
    a, b, distance = pairs[order].T
    return NearDuplicates(a, b, distance, correlation[order], method + "; reported, not joined")


def _candidates(dhash: np.ndarray, pixels: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, str]:
    """`(P, 3)` row, row, distance of close hashes across places, and how they were found."""
    read = np.flatnonzero(dhash != "")
    code = np.zeros(len(dhash), dtype=np.uint64)
    code[read] = [int(text, 16) for text in dhash[read]]
    sides = [_by_hash(read[place[read] == name], code) for name in sorted(set(place[read]))]
    n_comparisons = sum(len(left) * len(right) for (left, _), (right, _) in combinations(sides, 2))
    bits = MOST_BITS if n_comparisons <= MOST_COMPARISONS else 0
    method = f"64-bit difference hash within {bits} bits, across parts"
    if bits < MOST_BITS:
        method += f" (equal hashes only: {n_comparisons:.2g} pairs are too many to compare bit by bit)"
    found, n_found = [np.zeros((0, 3), dtype=np.int64)], 0
    for (left, left_rows), (right, right_rows) in combinations(sides, 2):
        for i, j, distance in _close(left, right, bits):
            if n_found >= MOST_CANDIDATES:
                return np.concatenate(found), f"{method}; stopped at {n_found} candidates"
            a, b = (side.ravel() for side in np.meshgrid(left_rows[i], right_rows[j], indexing="ij"))
            near = pixels[a] != pixels[b]
            found.append(np.stack([a, b, np.full(len(a), distance)], axis=1)[near])
            n_found += len(found[-1])
    return np.concatenate(found), method


def _by_hash(rows: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct hashes of `rows`, and the rows behind each."""
    distinct, which = np.unique(code[rows], return_inverse=True)
    ordered = rows[np.argsort(which, kind="stable")]
    return distinct, np.split(ordered, np.cumsum(np.bincount(which))[:-1])


def _close(left: np.ndarray, right: np.ndarray, bits: int) -> Iterator[tuple[int, int, int]]:
    """Pairs of distinct hashes at most `bits` bits apart: (index, index, distance), compared block by block."""
    if bits == 0:
        _, i, j = np.intersect1d(left, right, assume_unique=True, return_indices=True)
        yield from ((int(a), int(b), 0) for a, b in zip(i, j, strict=True))
        return
    step = max(1, BLOCK // len(right))
    for start in range(0, len(left), step):
        apart = np.bitwise_count(left[start : start + step, None] ^ right[None, :])
        for i, j in zip(*np.nonzero(apart <= bits), strict=True):
            yield int(start + i), int(j), int(apart[i, j])


def _correlation(thumbnails: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of thumbnail pairs; two constant pictures correlate at 1 if equal and 0 otherwise."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    result = np.empty(len(a))
    for start in range(0, len(a), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        left, right = (_centred(flat[rows[block]]) for rows in (a, b))
        length = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        result[block] = np.einsum("ij,ij->i", left, right) / np.where(length == 0, 1, length)
    constant = np.ptp(flat, axis=1) == 0
    both, either = constant[a] & constant[b], constant[a] | constant[b]
    return np.where(both, (flat[a, 0] == flat[b, 0]).astype(float), np.where(either, 0.0, result))


def _centred(flat: np.ndarray) -> np.ndarray:
    wide = flat.astype(np.float64)
    return wide - wide.mean(axis=1, keepdims=True)
