"""Figures of networks on the same resamples of the same patients: everything that is a mean, or a ratio of sums.

A figure is one number of one network on the data and on every resample, so that means over seeds, differences between
arms and means over classes are sums of figures. Sums over all resamples are one matrix product.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raresight.evaluate.bootstrap import Strata, drawn

RESAMPLES = 2000
ANYTHING = (-math.inf, math.inf)
KEPT = 4  # strata whose multiplicities are held at a time


class Draws:
    """Resamples of G patients, the same whoever asks: `names` seed them.

    `patients` are the labels of all patients that can occur, repeated or not; `n_patients` is G.
    """

    def __init__(self, patients: Sequence[object] | np.ndarray, *, resamples: int = RESAMPLES, names: object = ()):
        self.labels = np.unique(_text(patients))
        self.n_patients, self.resamples, self.names = len(self.labels), resamples, names
        self._held: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def place(self, patients: Sequence[object] | np.ndarray) -> np.ndarray:
        """Positions 0..G-1 of patients `(R,)`. Raises: `KeyError` for one that is not among them."""
        wanted = _text(patients)
        at = np.searchsorted(self.labels, wanted)
        strange = np.append(self.labels, "")[at] != wanted
        if strange.any():
            raise KeyError(f"patient {wanted[strange][0]} is not among those that are resampled")
        return at

    def weight(self, strata: np.ndarray) -> np.ndarray:
        """How often each patient is drawn, `(G, B)` uint8; each stratum of `strata` `(G,)` keeps its size."""
        key = np.asarray(strata).astype(np.int64).tobytes()
        if key not in self._held:
            within = Strata(np.asarray(strata))
            made = [block.within(within) for block in drawn(self.n_patients, self.resamples, "look", self.names)]
            self._held[key] = np.concatenate(made, axis=1) if made else np.zeros((self.n_patients, 0), np.uint8)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def sums(self, per_patient: np.ndarray, strata: np.ndarray) -> np.ndarray:
        """`per_patient` `(M, G)` summed over every resample, `(M, B)`: one product, over the patients that matter."""
        matter = np.flatnonzero(np.any(per_patient != 0, axis=0))
        weight = self.weight(strata)[matter].astype(np.float64)
        return np.asarray(per_patient[:, matter] @ weight)

    def per_patient(self, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """`values` `(R, M)` summed by patient, `(M, G)`; `at` `(R,)` from `place`."""
        return np.stack([np.bincount(at, weights=column, minlength=self.n_patients) for column in values.T])


@dataclass(frozen=True)
class Figure:
    """One number of one network: on the data, and on every resample `(B,)`; NaN where it is not defined.

    `n_patients` counts those who have what is measured. `by_patient` `(G,)` are their parts in it, where it has such,
    and `span` the values that are possible.
    """

    value: float
    resampled: np.ndarray
    n_images: int
    n_patients: int
    by_patient: np.ndarray | None = None
    span: tuple[float, float] = ANYTHING


def mean_figures(
    values: np.ndarray, patient: Sequence[object] | np.ndarray, draws: Draws, *, span: tuple[float, float] = ANYTHING
) -> list[Figure]:
    """Means over rows of M measures, each over the rows that have it.

    Σ_g w_g s_g / Σ_g w_g n_g with s_g the sum and n_g the number of patient g's rows. `values` `(R, M)`, NaN = not
    measured; `patient` `(R,)`. Patients with a row are drawn among themselves, so a resample has as many as the data.
    A measure that no row has is NaN.
    """
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    known = ~np.isnan(values)
    at = draws.place(patient)
    totals = draws.per_patient(np.where(known, values, 0.0), at)
    return _ratios(totals, draws.per_patient(known, at), known, at, draws, span)


def corrected_figures(
    values: np.ndarray, chance: np.ndarray, patient: Sequence[object] | np.ndarray, draws: Draws
) -> list[Figure]:
    """Agreement beyond chance of M measures of a class: (mean m - mean m₀)/(1 - mean m₀), resampled whole.

    Σ(m - m₀)/Σ(1 - m₀) over the rows that have both: the correction of the means, since a mean of corrected rows is
    ruled by the few rows whose m₀ lies near 1. 1 = perfect, 0 = as by chance, negative = worse. `values`, `chance`
    `(R, M)`, in [0, 1]. NaN where no row has both, or m₀ is 1 in all.
    """
    values, chance = (np.asarray(each, dtype=np.float64).reshape(len(each), -1) for each in (values, chance))
    known = ~np.isnan(values) & ~np.isnan(chance)
    at = draws.place(patient)
    above = draws.per_patient(np.where(known, values - chance, 0.0), at)
    return _ratios(above, draws.per_patient(np.where(known, 1 - chance, 0.0), at), known, at, draws, (-math.inf, 1.0))


def mean_of_figures(figures: Sequence[Figure]) -> Figure:
    """The macro figure: the mean over classes of those that are defined; `n_patients` of the class that has fewest."""
    defined = [figure for figure in figures if not math.isnan(figure.value)]
    if not defined:
        return Figure(math.nan, np.full(len(figures[0].resampled) if figures else 0, np.nan), 0, 0)
    return Figure(
        float(np.mean([figure.value for figure in defined])),
        np.mean([figure.resampled for figure in defined], axis=0),
        sum(figure.n_images for figure in defined),
        min(figure.n_patients for figure in defined),
        span=defined[0].span,
    )


def pairwise(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arms' `(S, R, ...)` with NaN wherever any seed of either has NaN: the rows that all of them have."""
    lacking = np.isnan(ours).any(axis=0) | np.isnan(theirs).any(axis=0)
    return np.where(lacking, np.nan, ours), np.where(lacking, np.nan, theirs)


def _ratios(
    above: np.ndarray, below: np.ndarray, known: np.ndarray, at: np.ndarray, draws: Draws, span: tuple[float, float]
) -> list[Figure]:
    """Σ above / Σ below of `(M, G)`, with the patients who have a row drawn among themselves."""
    m = len(above)
    strata = np.bincount(at, minlength=draws.n_patients) > 0
    summed = draws.sums(np.concatenate([above, below]), strata)
    resampled = _divided(summed[:m], summed[m:])
    values = _divided(above.sum(axis=1), below.sum(axis=1))
    return [
        Figure(float(values[i]), resampled[i], int(known[:, i].sum()), len(np.unique(at[known[:, i]])), above[i], span)
        for i in range(m)
    ]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 1e-12)


def _text(patients: Sequence[object] | np.ndarray) -> np.ndarray:
    return np.asarray(patients).astype(str)
