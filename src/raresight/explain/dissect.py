"""Network dissection: which units fire where the pathology lies, fairly for common and for rare concepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raresight.explain.concepts import ANY, concepts, grid_for, share_inside
from raresight.explain.firing import Lattice, fired, overlaps
from raresight.explain.probe import ProbeSet
from raresight.explain.thresholds import Thresholds, thresholds

DETECTOR = 0.04  # the published rule: a unit whose best IoU is above is a detector
BITS = 1 << 25  # bytes of one chunk's bits


@dataclass(frozen=True)
class Overlaps:
    """Sums over images, in pixels, from which everything about overlap follows; each `(..., U, C)`.

    With A the pixels where a unit fires and M those of a concept: `shared` = Σ|A ∩ M|, `fired` = Σ|A| over the images
    in which the concept is known, `inside` = Σ|M|. Images may count with weights: with how often a bootstrap drew each,
    these are the sums of that resample.
    """

    shared: np.ndarray
    fired: np.ndarray
    inside: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Σ|A ∩ M| / Σ|A ∪ M| in [0, 1]; 0 for a unit that never fires, NaN for a concept without a pixel."""
        return _ratio(self.shared, self.fired + self.inside - self.shared, self.inside)

    @property
    def ceiling(self) -> np.ndarray:
        """The largest IoU that areas of these sizes allow, min(Σ|A|, Σ|M|) / max(Σ|A|, Σ|M|) in [0, 1].

        0 for a unit that never fires, NaN for a concept without a pixel.
        """
        return _ratio(np.minimum(self.fired, self.inside), np.maximum(self.fired, self.inside), self.inside)

    @property
    def normalised(self) -> np.ndarray:
        """IoU / ceiling in [0, 1]: 1 where the smaller area lies in the larger.

        0 for a unit that never fires, NaN for a concept without a pixel.
        """
        iou, ceiling = self.iou, self.ceiling
        return np.divide(iou, ceiling, out=np.where(np.isnan(iou), np.nan, 0.0), where=ceiling > 0)


@dataclass(frozen=True)
class Dissection:
    """Where U units fire, against C concepts, in N images: counts per image, so that patients can be resampled.

    `concepts` C names, the classes and then `any`, their union; `native` `(*s)` the units' own grid, `grid` `(*S)` that
    of the pixels; `area` `(N, U)` int32 the pixels at which a unit fires, `row`, `concept` `(R,)` image and concept of
    each mask,
    `shared` `(R, U)` int32 the pixels of that mask at which the unit fires, `inside` `(R,)` int64 the mask's pixels,
    `known` `(N, C)` bool in which images the concept's pixels are known (see `Concepts`).
    """

    concepts: tuple[str, ...]
    thresholds: Thresholds
    native: tuple[int, ...]
    grid: tuple[int, ...]
    area: np.ndarray
    row: np.ndarray
    concept: np.ndarray
    shared: np.ndarray
    inside: np.ndarray
    known: np.ndarray

    @property
    def n_units(self) -> int:
        """Units of the layer, U."""
        return self.area.shape[1]

    @property
    def dead(self) -> np.ndarray:
        """Units that fire nowhere, `(U,)` bool; see `Thresholds`."""
        return self.thresholds.dead

    @property
    def named(self) -> np.ndarray:
        """The concepts that are classes, `(C,)` bool: all but the union of them."""
        last = len(self.concepts) > 1 and self.concepts[-1] == ANY
        return np.arange(len(self.concepts)) < len(self.concepts) - last

    @property
    def n_annotated(self) -> np.ndarray:
        """Images with a mask of each concept, `(C,)`."""
        return np.bincount(self.concept, minlength=len(self.concepts))

    @property
    def prevalence(self) -> np.ndarray:
        """The share of pixels inside each concept; see `share_inside`."""
        return share_inside(self.concept, self.inside, self.known, int(np.prod(self.grid)))

    @property
    def nominal_ceiling(self) -> np.ndarray:
        """min(q, p) / max(q, p) `(C,)`: the largest IoU of a unit that fires in exactly q of the pixels."""
        p, q = self.prevalence, self.thresholds.q
        return np.minimum(p, q) / np.maximum(p, q)

    def overlaps(self, weight: np.ndarray | None = None) -> Overlaps:
        """Sums over the images, each `(U, C)`; `weight` `(N,)` says how often each counts, `(B, N)` gives `(B, U, C)`.

        Without weights, or with whole ones, the sums are exact.
        """
        if weight is None:
            weight = np.ones(len(self.area))
        weight = np.asarray(weight, dtype=np.float64)
        several = np.atleast_2d(weight)
        size = (len(several), self.n_units, len(self.concepts))
        shared, inside, alight = np.zeros(size), np.zeros(size), np.zeros(size)
        for c in range(len(self.concepts)):
            of = self.concept == c
            mine = several[:, self.row[of]]
            shared[:, :, c] = mine @ self.shared[of].astype(np.float64)
            inside[:, :, c] = (mine @ self.inside[of].astype(np.float64))[:, None]
            known = self.known[:, c]
            alight[:, :, c] = several[:, known] @ self.area[known].astype(np.float64)
        if weight.ndim == 1:
            shared, inside, alight = shared[0], inside[0], alight[0]
        return Overlaps(shared, alight, inside)

    @property
    def iou(self) -> np.ndarray:
        """`(U, C)`; see `Overlaps.iou`."""
        return self.overlaps().iou

    @property
    def ceiling(self) -> np.ndarray:
        """`(U, C)`; see `Overlaps.ceiling`."""
        return self.overlaps().ceiling

    @property
    def normalised(self) -> np.ndarray:
        """`(U, C)`; see `Overlaps.normalised`."""
        return self.overlaps().normalised


@dataclass(frozen=True)
class Detectors:
    """Which units detect what.

    `concept` `(U,)` int64, the class that each unit detects, as a column of the concepts, or -1; `count` `(C,)`
    detectors of each concept (of the union, all units that pass for it, whatever else they detect); `unique` how many
    classes have any; `share` of the units that detect a class, in [0, 1].
    """

    concept: np.ndarray
    count: np.ndarray
    unique: int
    share: float


def dissect(
    activations: np.ndarray,
    probe: ProbeSet,
    q: float = 0.005,
    *,
    grid: tuple[int, ...] | None = None,
    levels: Thresholds | None = None,
    pruned: bool = True,
) -> Dissection:
    """Where a layer's units fire, counted against the masks of a probe.

    Equation: IoU_uc = Σ_i |A_iu ∩ M_ic| / Σ_i |A_iu ∪ M_ic| over the images in which concept c's pixels are known, with
    A the pixels where the upsampled unit is above its threshold T_u and M those of the concept. For a unit that fires
    in the share q of the pixels and a concept of the share p it cannot exceed min(q, p) / max(q, p): raw IoU says how
    rare a concept is before it says how well it is detected. So divide by what the areas allow (`normalised`), and see
    `unit_null` for what chance allows.

    Shapes: `activations` `(N, U, *s)` float16 or float32, a memory map too, of one to three spatial axes: the probe's
    images in their order; compared as float32. `grid` `(*S)` defaults to 8 times the native grid, no finer than the
    masks (the native grid without masks). `levels` are thresholds fixed elsewhere (of the part where choices are made),
    and `q` then does nothing. Not `pruned`, every image and unit is upsampled; the counts are the same. Memory: a chunk
    of activations and its bits, 32 MiB each, and the counts.
    Ranges: `q` in (0, 1); counts in pixels of the grid.
    Absent class: a concept without a mask has IoU NaN.
    Raises: `ConfigError` RS-C47 for `q`, RS-R49 where activations are not finite (neither is checked with `levels`);
    `ValueError` for other shapes.
    Source: Bau et al., CVPR 2017, section 2.2; the ceiling is our own.
    """
    if len(activations) != len(probe) or not 3 <= activations.ndim <= 5:
        raise ValueError(f"activations {activations.shape} of {len(probe)} images: (N, U, *s) is asked for")
    native = tuple(activations.shape[2:])
    masks = probe.regions.shape if probe.regions is not None else None
    chosen = grid or (grid_for(native, masks) if masks is not None else native)
    levels = levels or thresholds(activations, q)
    sets = concepts(probe, chosen)
    n_units = activations.shape[1]
    area = np.zeros((len(probe), n_units), dtype=np.int32)
    shared = np.zeros((len(sets.row), n_units), dtype=np.int32)
    for start, bits, counted in firing(activations, levels, chosen, pruned=pruned):
        area[start : start + len(bits)] = counted
        first, last = np.searchsorted(sets.row, [start, start + len(bits)])
        shared[first:last] = overlaps(bits, counted, sets.row[first:last] - start, sets.bits[first:last])
    return Dissection(sets.names, levels, native, chosen, area, sets.row, sets.concept, shared, sets.pixels, sets.known)


def firing(
    activations: np.ndarray, levels: Thresholds, grid: tuple[int, ...], *, pruned: bool = True
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Where units fire on a grid, in chunks of images in their order.

    Each chunk is the row of its first image, bits `(n, U, words)` uint64 and areas `(n, U)` in pixels. Arguments as in
    `dissect`.
    """
    lattice = Lattice(tuple(activations.shape[2:]), tuple(grid))
    each = max(activations[0].size * 4, activations.shape[1] * lattice.n_words * 8) if len(activations) else 1
    size = max(1, BITS // max(1, each))
    for start in range(0, len(activations), size):
        chunk = np.asarray(activations[start : start + size], dtype=np.float32)
        yield start, *fired(chunk, levels.value, lattice, pruned=pruned)


def detectors(dissection: Dissection, *, least: float = DETECTOR, score: np.ndarray | None = None) -> Detectors:
    """Units whose best class has a score above `least`: by default raw IoU above 0.04, the published rule.

    A unit detects the class of its highest score (the first of equals), if that is above `least`. `score` `(U, C)` may
    be another one, such as `dissection.normalised`. Biased by prevalence where it is raw IoU: kept for comparison with
    published counts.
    Absent class: it has the score NaN, and no detector. Source: Bau et al., CVPR 2017, section 2.2.
    """
    given = dissection.iou if score is None else score
    return assigned(np.where(np.isnan(given), -np.inf, given), given > least, dissection.named)


def assigned(score: np.ndarray, passed: np.ndarray, named: np.ndarray) -> Detectors:
    """Each unit given to the class of its highest score among those that it `passed`.

    `score` (no NaN where passed) and `passed` bool are `(U, C)`, `named` `(C,)` bool says which concepts are classes. A
    unit that passed for no class detects none.
    """
    among = np.where(passed & named, score, -np.inf)
    best = among.argmax(axis=1) if among.size else np.zeros(len(among), dtype=np.int64)
    concept = np.where((passed & named).any(axis=1), best, -1).astype(np.int64)
    count = np.bincount(concept[concept >= 0], minlength=passed.shape[1])
    count = np.where(named, count, passed.sum(axis=0))
    return Detectors(concept, count, int((count[named] > 0).sum()), float((concept >= 0).mean()) if len(score) else 0.0)


def _ratio(over: np.ndarray, under: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=inside > 0)
