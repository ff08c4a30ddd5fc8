"""Concepts as sets of pixels: where the masks of a probe lie on a grid, and in which images that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raresight.explain.firing import packed
from raresight.explain.probe import ProbeSet, Regions

ANY = "\u222a"  # the union of all classes; none is called so
FINER = 8  # a grid is at most so many times as fine as the units' own, as 7 -> 56 in the published dissections


@dataclass(frozen=True)
class Concepts:
    """C sets of pixels over N images: one for each class, and `any`, their union, where there are several classes.

    `row`, `concept` `(R,)` int64 are the image and the concept of R masks, sorted by image; `bits` `(R, words)` uint64
    their pixels on `grid` `(*S)`, 64 a word, and `pixels` `(R,)` int64 how many they are. `known` `(N, C)` bool says in
    which images the concept's pixels are known:

    - a mask says where they are, whatever the label;
    - an image with label 0 has none;
    - an image with label 1 and no mask, or with an unknown label, is left out of that concept;
    - `any` is known where every class is.
    """

    names: tuple[str, ...]
    grid: tuple[int, ...]
    row: np.ndarray
    concept: np.ndarray
    bits: np.ndarray
    pixels: np.ndarray
    known: np.ndarray

    @property
    def n_pixels(self) -> int:
        """Pixels of one image on the grid."""
        return int(np.prod(self.grid))

    @property
    def n_annotated(self) -> np.ndarray:
        """Images with a mask of each concept, `(C,)`."""
        return np.bincount(self.concept, minlength=len(self.names))

    @property
    def prevalence(self) -> np.ndarray:
        """The share of pixels inside each concept; see `share_inside`."""
        return share_inside(self.concept, self.pixels, self.known, self.n_pixels)


def concepts(probe: ProbeSet, grid: tuple[int, ...]) -> Concepts:
    """The concepts of a probe on a grid `(*S)`, which has as many axes as the probe's masks.

    A pixel of the grid is inside where at least half of its area is. A mask that fills half of no pixel keeps the one
    that it fills most: a small lesion does not vanish. The union joins the masks of images in which every class is
    known.
    Absent class: a class without a mask has no row; without any mask `row` is empty and only `known` says anything.
    """
    regions = probe.regions
    n, k = probe.labels.shape
    names = probe.classes + ((ANY,) if k > 1 else ())
    known = np.zeros((n, len(names)), dtype=bool)
    known[:, :k] = probe.labels == 0
    if regions is None or not len(regions):
        known[:, k:] = known[:, :k].all(axis=1, keepdims=True)
        none = np.zeros(0, dtype=np.int64)
        bits = np.zeros((0, (int(np.prod(grid)) + 63) // 64), dtype=np.uint64)
        return Concepts(names, tuple(grid), none, none, bits, none, known)
    known[regions.row, regions.label] = True
    known[:, k:] = known[:, :k].all(axis=1, keepdims=True)
    row, concept, bits = regions.row, regions.label, on_grid(regions, grid)
    if len(names) > k:
        images, place = np.unique(regions.row, return_inverse=True)
        union = np.zeros((len(images), bits.shape[1]), dtype=np.uint64)
        np.bitwise_or.at(union, place, bits)
        kept = known[images, k]
        images, union = images[kept], union[kept]
        row = np.concatenate([row, images])
        concept = np.concatenate([concept, np.full(len(images), k)])
        bits = np.concatenate([bits, union])
    order = np.lexsort([concept, row])
    bits = bits[order]
    pixels = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return Concepts(names, tuple(grid), row[order], concept[order], bits, pixels, known)


def share_inside(concept: np.ndarray, pixels: np.ndarray, known: np.ndarray, n_pixels: int) -> np.ndarray:
    """The share of the pixels of known images inside each concept, `(C,)` in [0, 1].

    Σ|M| / (n_pixels · known images). `concept`, `pixels` `(R,)` are the concept and the size of R masks, `known`
    `(N, C)` as in `Concepts`, `n_pixels` those of one image. Absent class: 0 without a mask, NaN where it is known in
    no image.
    """
    inside = np.bincount(concept, weights=pixels, minlength=known.shape[1])
    everywhere = known.sum(axis=0) * float(n_pixels)
    return np.divide(inside, everywhere, out=np.full(len(inside), np.nan), where=everywhere > 0)


def grid_for(native: tuple[int, ...], masks: tuple[int, ...]) -> tuple[int, ...]:
    """The grid `(*S)` on which units and masks are compared: 8 times the units' own, and no finer than the masks.

    `native` `(*s)` and `masks` `(*S')`, axis by axis. Raises: `ValueError` where they differ in the number of axes.
    """
    return tuple(min(FINER * n, m) for n, m in zip(native, masks, strict=True))


def on_grid(regions: Regions, grid: tuple[int, ...]) -> np.ndarray:
    """R >= 1 masks on a grid as bits, `(R, words)` uint64: where at least half of a pixel is inside, or the fullest.

    Raises: `ValueError` where the grid and the masks differ in the number of axes, or there is no mask.
    """
    found = []
    size = max(1, (1 << 23) // int(np.prod(regions.shape)))
    for start in range(0, len(regions), size):
        share = regions.masks(slice(start, start + size)).astype(np.float32)
        for axis, (fine, coarse) in enumerate(zip(regions.shape, grid, strict=True), start=1):
            if fine != coarse:
                share = np.moveaxis(np.moveaxis(share, axis, -1) @ covering(fine, coarse), -1, axis)
        flat = share.reshape(len(share), -1)
        inside = flat >= 0.5 - 1e-6
        none = np.flatnonzero(~inside.any(axis=1))
        inside[none, flat[none].argmax(axis=1)] = True
        found.append(packed(inside))
    return np.concatenate(found)


def covering(fine: int, coarse: int) -> np.ndarray:
    """The share of each of `coarse` equal intervals that each of `fine` ones covers, `(fine, coarse)` float32.

    Both divide the same line; columns sum to 1.
    """
    edges, cuts = np.arange(fine + 1) / fine, np.arange(coarse + 1) / coarse
    shared = np.minimum(edges[1:, None], cuts[None, 1:]) - np.maximum(edges[:-1, None], cuts[None, :-1])
    return (np.maximum(shared, 0.0) * coarse).astype(np.float32)
