"""Which unit of one network is which of another, and how good that match is.

Two networks trained from the same initial weights mostly keep their units' places; two trained from different ones do
not, and units are paired by how alike they respond to the same images. Pairing by likeness finds some likeness in
anything, so the quality of a match stands beside that of the same procedure on shuffled images, and beside its quality
on images that the pairing has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from raresight.core.seeds import numpy_rng
from raresight.explain.cka import one_per_patient
from raresight.explain.measured import Measured

Paired = Callable[[np.ndarray, np.ndarray], np.ndarray]

FEWEST = 10  # images; with fewer, correlations over one half of them are arbitrary
DEAD = 1e-6  # a unit whose spread is below this share of its size does not respond to these images


@dataclass(frozen=True)
class Matching:
    """Units of network a and their partners in network b.

    `partner` `(U,)` int64 is the unit of b for each of a, -1 for none; `correlation` `(U,)` theirs over the images, NaN
    without a partner or where one of the two is dead. `how` is `shared initialisation` (each unit is its own partner)
    or `assignment`. `quality` is the mean correlation of the pairs, `held_out` that of pairs made on one half of the
    patients and measured on the other, `unmatched` the mean correlation of all other pairs, `chance` the mean and 95th
    percentile of `quality` when the images of b are shuffled. `mutual` is the share of units whose likeliest unit in b
    is their partner. `dead` are the numbers of units of a and of b that do not respond.
    """

    partner: np.ndarray
    correlation: np.ndarray
    how: str
    quality: Measured
    held_out: Measured
    unmatched: float
    chance: tuple[float, float]
    mutual: float
    dead: tuple[int, int]


def match(
    a: np.ndarray,
    b: np.ndarray,
    *,
    shared_initialisation: bool,
    patients: np.ndarray | None = None,
    draws: int = 5,
    names: Sequence[object] = (),
) -> Matching:
    """Pair the units of two networks by their responses to the same images.

    Equation: with shared initialisation π(u) = u; else the one-to-one π that maximises Σ_u corr(a_u, b_π(u)) over units
    that respond. Signed correlation: units that respond oppositely are not alike.

    Shapes: `a` `(N, U)`, `b` `(N, V)`, one number a unit and image (pooled activations or features), `patients` `(N,)`:
    with these, one image of each patient counts, drawn with a seed from `names`, so that shuffling images is a fair
    null. With U > V some units of a stay without a partner.
    Ranges: correlations in [-1, 1]; `mutual` in [0, 1].
    Absent class: none is used. Under 10 images (or patients), without a unit that responds on both sides, or where
    responses are not finite: `quality` and `held_out` are None with the reason, and no partners are given but the
    identity of a shared initialisation.
    Raises: `ValueError` for different images, and for a shared initialisation of different numbers of units.
    Source: Li et al. 2016 (convergent learning), there for maximum one-to-one matching; held-out quality and nulls are
    ours.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} images on one side and {len(b)} on the other")
    if shared_initialisation and a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} and {b.shape[1]} units cannot have shared their initial weights")
    n_images, n_patients = len(a), None
    if patients is not None:
        rows = one_per_patient(np.asarray(patients), "matching", *names)
        a, b, n_patients = a[rows], b[rows], len(rows)
    how = "shared initialisation" if shared_initialisation else "assignment"
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    left, right = (_scaled(x if finite else np.zeros_like(x)) for x in (a, b))
    live = (_live(left), _live(right))
    dead = (int((~live[0]).sum()), int((~live[1]).sum()))
    reason = _unfit(len(a), n_patients is not None, finite, live)
    if reason:
        none = Measured(None, n_images, n_patients, reason)
        partner = np.arange(a.shape[1]) if shared_initialisation else np.full(a.shape[1], -1)
        nothing = np.full(a.shape[1], np.nan)
        return Matching(partner, nothing, how, none, none, float("nan"), (float("nan"),) * 2, float("nan"), dead)

    def paired(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.arange(x.shape[1]) if shared_initialisation else _assigned(x, y)

    likeness = left.T @ right
    partner = paired(left, right)
    correlation = _of_pairs(left, right, partner)
    both = np.outer(*live)
    both[np.flatnonzero(partner >= 0), partner[partner >= 0]] = False
    unmatched = float(likeness[both].mean()) if both.any() else float("nan")
    likeliest = np.where(live[1], likeness, -np.inf).argmax(axis=1)
    mutual = float((likeliest == partner)[live[0]].mean())

    def said(value: float, why: str) -> Measured:
        return (
            Measured(value, n_images, n_patients) if np.isfinite(value) else Measured(None, n_images, n_patients, why)
        )

    alone = "no pair of units responds on both sides"
    return Matching(
        partner,
        correlation,
        how,
        said(_mean(correlation), alone),
        said(_held_out(a, b, paired, names), alone),
        unmatched,
        _by_chance(left, right, paired, draws, names),
        mutual,
        dead,
    )


def _unfit(n: int, by_patient: bool, finite: bool, live: tuple[np.ndarray, np.ndarray]) -> str:
    if n < FEWEST:
        return f"{n} {'patients' if by_patient else 'images'}: pairing units by their responses needs {FEWEST}"
    if not finite:
        return "responses are not finite"
    return "" if live[0].any() and live[1].any() else "no unit of a network responds to these images"


def _scaled(x: np.ndarray) -> np.ndarray:
    """Units about their mean and at unit length, so that products are correlations; dead units are 0."""
    if not len(x):
        return x
    about = x - x.mean(axis=0)
    length = np.sqrt(np.square(about).sum(axis=0))
    live = length > DEAD * np.sqrt(np.square(x).sum(axis=0))
    return np.where(live, about, 0.0) / np.where(live, length, 1.0)


def _live(scaled: np.ndarray) -> np.ndarray:
    return np.asarray(scaled.any(axis=0))


def _assigned(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    live_left, live_right = np.flatnonzero(_live(left)), np.flatnonzero(_live(right))
    rows, columns = linear_sum_assignment(left[:, live_left].T @ right[:, live_right], maximize=True)
    partner = np.full(left.shape[1], -1, dtype=np.int64)
    partner[live_left[rows]] = live_right[columns]
    return partner


def _of_pairs(left: np.ndarray, right: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Correlation of each unit with its partner, NaN where there is none or one of the two is dead."""
    out = np.full(left.shape[1], np.nan)
    units = np.flatnonzero((partner >= 0) & _live(left) & _live(right)[partner])
    out[units] = np.einsum("nu,nu->u", left[:, units], right[:, partner[units]])
    return out


def _mean(correlation: np.ndarray) -> float:
    known = correlation[~np.isnan(correlation)]
    return float(np.clip(known.mean(), -1.0, 1.0)) if len(known) else float("nan")


def _held_out(a: np.ndarray, b: np.ndarray, paired: Paired, names: Sequence[object]) -> float:
    """Pairs made on either half of the rows and measured on the other, averaged."""
    order = numpy_rng("matching, halves", *names).permutation(len(a))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    found = []
    for seen, unseen in (halves, halves[::-1]):
        partner = paired(_scaled(a[seen]), _scaled(b[seen]))
        found.append(_mean(_of_pairs(_scaled(a[unseen]), _scaled(b[unseen]), partner)))
    return float(np.mean(found))


def _by_chance(
    left: np.ndarray, right: np.ndarray, paired: Paired, draws: int, names: Sequence[object]
) -> tuple[float, float]:
    values = []
    for draw in range(draws):
        shuffled = right[numpy_rng("matching by chance", *names, draw).permutation(len(right))]
        values.append(_mean(_of_pairs(left, shuffled, paired(left, shuffled))))
    return float(np.mean(values)), float(np.quantile(values, 0.95))
