"""The concept count of the seed paper's released code, beside what boxes of the same size hold by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raresight.core.seeds import numpy_rng
from raresight.explain.concepts import concepts, grid_for
from raresight.explain.dissect import firing
from raresight.explain.firing import overlaps, packed, unpacked
from raresight.explain.probe import ProbeSet
from raresight.explain.thresholds import Thresholds, thresholds


@dataclass(frozen=True)
class LegacyCount:
    """How many of U units fire inside each of R masks.

    `row`, `label` `(R,)` image and class, `count` `(R,)` int64 units, `null` `(R,)` their mean number in `draws` places
    of the same mask, `area` `(R,)` the share of the pixels that it covers.
    """

    row: np.ndarray
    label: np.ndarray
    count: np.ndarray
    null: np.ndarray
    area: np.ndarray
    draws: int

    @property
    def excess(self) -> np.ndarray:
        """count - null `(R,)`: units that fire inside because the finding is there, not because the mask is large."""
        return self.count - self.null


def legacy_concept_count(
    activations: np.ndarray,
    probe: ProbeSet,
    q: float = 0.01,
    *,
    draws: int = 20,
    grid: tuple[int, ...] | None = None,
    levels: Thresholds | None = None,
    names: tuple[object, ...] = (),
) -> LegacyCount:
    """Count, image by image and class by class, the units that fire at any pixel of the mask.

    count_r = #{u: A_u ∩ M_r is not empty}, null_r = the mean of the same for M_r moved to uniformly drawn places of
    the same image at which it fits. A large box holds many units whatever they mean: the count grows with its area,
    the excess does not. A mask that spans the image has one place, and an excess of 0.

    The released code's idea, without its defects: thresholds are quantiles over the whole probe, on the native grid,
    rather than over the upsampled batch; units are counted rather than contours, of which a ring has two; and the mask
    is of one class rather than of all that an image has. Its figures are therefore not to be expected.

    `activations` `(N, U, *s)`, `q` the share of positions at which units fire (there 0.01 or 0.04), `grid` as in
    `dissect`. Without masks everything is empty.
    Raises: as `thresholds`. Source: github.com/CAMP-eXplain-AI/imba-explain, read in November 2026.
    """
    native = tuple(activations.shape[2:])
    masks = probe.regions.shape if probe.regions is not None else None
    chosen = grid or (grid_for(native, masks) if masks is not None else native)
    levels = levels or thresholds(activations, q)
    sets = concepts(probe, chosen)
    of = np.flatnonzero(sets.concept < probe.n_classes)
    row, label, bits = sets.row[of], sets.concept[of], sets.bits[of]
    count, null = np.zeros(len(of), dtype=np.int64), np.zeros(len(of))
    for start, fires, area in firing(activations, levels, chosen):
        first, last = np.searchsorted(row, [start, start + len(fires)])
        mine = row[first:last] - start
        count[first:last] = (overlaps(fires, area, mine, bits[first:last]) > 0).sum(axis=1)
        for r in range(first, last):
            rng = numpy_rng("legacy", *names, str(probe.patients[row[r]]), int(row[r]), int(label[r]))
            moved = places(unpacked(bits[r : r + 1], sets.n_pixels).reshape(chosen), draws, rng)
            here = np.full(draws, row[r] - start)
            null[r] = (overlaps(fires, area, here, packed(moved.reshape(draws, -1))) > 0).sum(axis=1).mean()
    return LegacyCount(row, label, count, null, sets.pixels[of] / sets.n_pixels, draws)


def places(mask: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The mask `(*S)` at `draws` places at which it lies wholly inside the image, `(draws, *S)` bool.

    Every offset of its bounding box is equally likely, so a box becomes any box of its shape, and no pixel is lost.
    """
    spans = []
    for axis, size in enumerate(mask.shape):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        spans.append((int(line[0]), int(line[-1]) + 1, size))
    shape = mask[tuple(slice(low, high) for low, high, _ in spans)]
    moved = np.zeros((draws, *mask.shape), dtype=bool)
    corners = np.stack([rng.integers(0, size - (high - low) + 1, draws) for low, high, size in spans], axis=1)
    for d, corner in enumerate(corners):
        moved[d][tuple(slice(c, c + n) for c, n in zip(corner, shape.shape, strict=True))] = shape
    return moved
