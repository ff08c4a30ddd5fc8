"""Detectors beyond chance: a unit's overlap with a concept against its overlap with the same masks on other images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raresight.explain.concepts import concepts
from raresight.explain.dealt import FIRST, benjamini_hochberg, exchanged, tested
from raresight.explain.dissect import Detectors, Dissection, assigned
from raresight.explain.firing import Lattice, dealt_overlaps, fired
from raresight.explain.null_counts import Band, band, null_counts, passing
from raresight.explain.probe import ProbeSet

BITS = 1 << 26  # bytes of one block of units


@dataclass(frozen=True)
class UnitNull:
    """What chance gives each of U units for each of C concepts, and what is beyond it; `(U, C)`, NaN if undefined.

    `iou` the unit's own; `mean`, `high` the mean and the 95th percentile of its IoU with masks dealt anew; `p`,
    one-sided, and `p_adjusted` by Benjamini-Hochberg within the concept; `ceiling` what the areas allow; `draws`
    `(C,)` how many.
    `among` says between which images masks were dealt, `level` the false-discovery rate. `counts` `(200, C)`, or
    `(0, C)` without dealings: how many detectors each dealing of the masks would have (`null_counts`); `top_excess`,
    `top_normalised` of the same shape: the highest of all units in each dealing, for the highest is high by chance too.
    """

    iou: np.ndarray
    ceiling: np.ndarray
    mean: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_adjusted: np.ndarray
    draws: np.ndarray
    named: np.ndarray
    among: str
    level: float
    counts: np.ndarray
    top_excess: np.ndarray
    top_normalised: np.ndarray

    @property
    def dealt(self) -> np.ndarray:
        """Concepts whose masks could be dealt anew, `(C,)` bool: of the others nothing can be said."""
        return np.isfinite(self.high).any(axis=0)

    @property
    def excess(self) -> np.ndarray:
        """IoU - mean of the null: 0 for units that have nothing to do with the concept, whatever its size."""
        return self.iou - self.mean

    @property
    def corrected(self) -> np.ndarray:
        """(IoU - mean) / (ceiling - mean): 0 by chance, 1 at the most that the areas allow; NaN where these agree."""
        return _corrected(self.iou, self.mean, self.ceiling)

    @property
    def detector(self) -> np.ndarray:
        """Beyond the null's 95th percentile and within the false-discovery rate, `(U, C)` bool."""
        return (self.iou > self.high) & (self.p_adjusted <= self.level)

    @property
    def detectors(self) -> Detectors:
        """Each unit given to the class, among those it detects, of its highest `corrected`."""
        return assigned(np.nan_to_num(self.corrected, nan=-1.0), self.detector, self.named)

    @property
    def by_chance(self) -> Band:
        """What the count of detectors is with masks dealt anew: mean and 95 of 100 counts."""
        return band([self.counts])


def unit_null(
    activations: np.ndarray,
    probe: ProbeSet,
    dissection: Dissection,
    *,
    among: Literal["known", "annotated"] = "known",
    level: float = 0.05,
    names: tuple[object, ...] = (),
) -> UnitNull:
    """Deal each concept's masks anew among images, patients as wholes, and see how much the units still overlap.

    Areas stay as they are, so a unit's IoU rises with Σ|A ∩ M| alone, and this is what is dealt anew: 200 times, and
    for units that no draw reached as often as the false-discovery rate asks for (`dealt.tested`). A family is one
    concept and the units that fire at all in its images.

    `among="known"`: masks go to any image in which the concept's pixels are known, also to those without it. A unit is
    a detector if it fires in the concept's pixels more than elsewhere, be it because it tells the images or the place.
    `among="annotated"`: masks go to images with masks of the same concept. Only the place counts, and a place that is
    the same in all of them (the middle of the picture) counts as chance; few images then allow few draws, so that
    nothing can be shown for the rarest concepts.

    `activations`, `probe` as given to `dissect`, whose answer `dissection` is. Memory: blocks of units, 64 MiB of bits,
    and 400 numbers a unit and concept.
    Absent class: NaN for a concept without a mask, or with one patient to deal among. Raises: nothing of its own.
    """
    sets = concepts(probe, dissection.grid)
    sums = dissection.overlaps()
    n_units, n_concepts = sums.shared.shape
    lattice = Lattice(dissection.native, dissection.grid)
    mean, high, p, adjusted = (np.full((n_units, n_concepts), np.nan) for _ in range(4))
    draws = np.zeros(n_concepts, dtype=np.int64)
    shared = {c: np.zeros((FIRST, n_units)) for c in range(n_concepts)}
    scores: dict[int, np.ndarray] = {}
    dealings = {}
    for c in range(n_concepts):
        of = np.flatnonzero(sets.concept == c)
        universe = np.flatnonzero(sets.known[:, c]) if among == "known" else sets.row[of]
        if len(of) and len(np.unique(probe.patients[universe])) > 1:
            dealings[c] = _Dealing(universe, np.searchsorted(universe, sets.row[of]), of, probe.patients, c, names)

    tops = np.full((2, FIRST if dealings else 0, n_concepts), np.nan)

    def each_block(units: np.ndarray, *, least: int = 1) -> list[np.ndarray]:
        size = max(least, BITS // max(1, len(probe) * lattice.n_words * 8))
        return [units[start : start + size] for start in range(0, len(units), size)]

    def of_units(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return fired(_columns(activations, units), dissection.thresholds.value[units], lattice)

    for block in each_block(np.arange(n_units)):
        bits, area = of_units(block)
        for c, dealing in dealings.items():
            shared[c][:, block] = dealt_overlaps(bits, area, dealing.images(0, FIRST), sets.bits[dealing.of])
    for c, dealing in dealings.items():
        held: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

        def sample(
            units: np.ndarray,
            first: int,
            count: int,
            dealing: _Dealing = dealing,
            known: np.ndarray = shared[c],
            held: dict[bytes, tuple[np.ndarray, np.ndarray]] = held,
        ) -> np.ndarray:
            if first == 0:
                return known[:, units]
            found = np.empty((count, len(units)))
            images = dealing.images(first, count)
            blocks = each_block(np.arange(len(units)))
            for place in blocks:
                key = units[place].tobytes()
                if key not in held:
                    held.clear()
                    held[key] = of_units(units[place])
                found[:, place] = dealt_overlaps(*held[key], images, sets.bits[dealing.of])
            return found

        family = sums.fired[:, c] > 0
        result = tested(sums.shared[:, c], family, sample, level=level)
        either = sums.fired[:, c] + sums.inside[:, c] - shared[c]
        chance = shared[c] / either
        mean[:, c], high[:, c] = chance.mean(axis=0), np.quantile(chance, 0.95, axis=0)
        tops[0, :, c] = (chance - mean[:, c]).max(axis=1)
        normalised = np.divide(chance, sums.ceiling[:, c], out=np.zeros_like(chance), where=sums.ceiling[:, c] > 0)
        tops[1, :, c] = normalised.max(axis=1)
        p[:, c], adjusted[:, c], draws[c] = result.p, benjamini_hochberg(result.p), result.draws
        score = np.nan_to_num(_corrected(chance, mean[:, c], sums.ceiling[:, c]), nan=-1.0)
        scores[c] = np.where(passing(shared[c], chance, high[:, c], family, level=level), score, -np.inf)
    counts = null_counts(scores, dissection.named)
    given = (sums.iou, sums.ceiling, mean, high, p, adjusted, draws, dissection.named, among, level, counts)
    return UnitNull(*given, *tops)


@dataclass(frozen=True)
class _Dealing:
    """Of one concept: the images among which masks are dealt, where in them its masks `of` lie, the draws' names."""

    universe: np.ndarray
    place: np.ndarray
    of: np.ndarray
    patients: np.ndarray
    concept: int
    names: tuple[object, ...]

    def images(self, first: int, count: int) -> np.ndarray:
        """The image that each mask comes to lie on, `(count, R)`."""
        drawn = exchanged(self.patients[self.universe], first, count, "unit null", self.concept, *self.names)
        return self.universe[drawn[:, self.place]]


def _corrected(iou: np.ndarray, mean: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    room = np.broadcast_to(ceiling - mean, iou.shape)
    return np.divide(iou - mean, room, out=np.full(iou.shape, np.nan), where=room > 1e-12)


def _columns(activations: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Some units of all images as float32, `(N, u, *s)`."""
    if len(units) and (np.diff(units) == 1).all():
        return np.asarray(activations[:, units[0] : units[-1] + 1], dtype=np.float32)
    return np.asarray(activations[:, units], dtype=np.float32)
