"""Seating units in bins (the parts, or the folds) so that every class sits in every bin it can reach."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

SCARCE = 12  # a class of at most so many units may be reseated to let every class reach every bin


def seat(
    size: np.ndarray,
    holds: np.ndarray,
    shares: np.ndarray,
    reach: np.ndarray,
    *,
    filler: int | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """The bin of each unit, `(U,)` integers below B.

    Class after class, rarest first (Sechidis et al.'s order): its first units go to the bins that still lack it, in
    the order `reach[k]`; each further one to the bin with the smallest (units of the class + 1/2) / share, so that
    shares hold at every prefix and not only at the end. What is left evens out images and units alike. A class of n
    units is owed the first min(n, B) bins of `reach[k]`; where labels that occur together leave a debt, the fewest
    moves that settle it are found exactly (`_settle`).

    `size` `(U,)` images of each unit; `holds` `(U, K)` whether the unit has the class; `shares` `(B,)` positive;
    `reach` `(K + 1, B)` bins in order of claim, the last row for "any case at all", which keeps a bin from staying
    empty. `filler` is a class that needs no stratifying of its own (the commonest of exclusive labels). A class
    without units claims nothing. Larger units are seated first, in random order within a factor of two.

    Source: Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011, algorithm 1, with Sainte-Laguë quotients in place of
    absolute demand, which would give the first and largest units all to the largest part.
    """
    n_units, n_classes = len(size), holds.shape[1]
    claims = np.column_stack([holds, np.ones(n_units, dtype=bool)])
    n_holding = claims.sum(axis=0)
    order = np.lexsort((rng.permutation(n_units), -np.frexp(size)[1]))
    bins = np.full(n_units, -1)
    seated = np.zeros((len(shares), n_classes + 1))
    images = np.zeros(len(shares))

    def place(unit: int, where: int) -> None:
        bins[unit] = where
        seated[where] += claims[unit]
        images[where] += size[unit]

    for k in [*np.argsort(n_holding[:-1], kind="stable"), n_classes]:
        waiting = [unit for unit in order[claims[order, k]] if bins[unit] < 0]
        lacking = [where for where in reach[k][: n_holding[k]] if seated[where, k] == 0]
        for unit, where in zip(waiting, lacking, strict=False):
            place(unit, where)
        if k == filler:
            continue
        for unit in waiting[len(lacking) :]:
            filled = (images + size[unit]) / size.sum() + (seated[:, n_classes] + 1) / n_units
            fullness = filled / shares
            quotient = fullness if k == n_classes else (seated[:, k] + 0.5) / shares
            place(unit, int(np.lexsort((fullness, quotient))[0]))
    return _settle(bins, claims, n_holding, reach, len(shares))


def _settle(bins: np.ndarray, claims: np.ndarray, n_holding: np.ndarray, reach: np.ndarray, n_bins: int) -> np.ndarray:
    """The seating nearest to `bins` that lets the most classes reach the bins they are owed, by integer programming.

    min Σ w·debts + (moves / 2F)   over x (F, B) binary, one bin a unit, Σ_u x[u, b] ≥ 1 - debt[k, b] for each claim;
    free are the F units of scarce classes, all others stay; w is 1, and more than all other debts together for an
    empty bin, which is worse than any class's absence. The search is bounded in nodes, never in time, so that it
    ends alike on every machine.
    """
    owed = [(k, int(b)) for k, n in enumerate(n_holding) for b in reach[k][: min(n, n_bins)]]
    if all((claims[:, k] & (bins == b)).any() for k, b in owed):
        return bins
    free = np.flatnonzero(claims[:, n_holding <= SCARCE].any(axis=1))
    fixed = np.setdiff1d(np.arange(len(bins)), free)
    n_seats = len(free) * n_bins
    rows, columns, least = [], [], []
    for number, (k, b) in enumerate(owed):
        seats = np.flatnonzero(claims[free, k]) * n_bins + b
        columns += [*seats, n_seats + number]
        rows += [number] * (len(seats) + 1)
        least.append(1 - int((claims[fixed, k] & (bins[fixed] == b)).sum()))
    shape = (len(owed), n_seats + len(owed))
    reached = coo_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    seats = np.arange(n_seats)
    one_bin = coo_array((np.ones(n_seats), (seats // n_bins, seats)), shape=(len(free), shape[1]))
    moved = np.ones(n_seats)
    moved[np.arange(len(free)) * n_bins + bins[free]] = 0
    weight = np.array([1.0 if k < len(n_holding) - 1 else len(owed) for k, _ in owed])
    solution = milp(
        np.concatenate([moved / (2 * max(len(free), 1)), weight]),
        integrality=np.concatenate([np.ones(n_seats), np.zeros(len(owed))]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(reached.tocsr(), np.array(least, dtype=float), np.inf),
            LinearConstraint(one_bin.tocsr(), 1, 1),
        ],
        options={"node_limit": 5000, "mip_rel_gap": 0.0},
    )
    if solution.x is None:
        return bins
    settled = bins.copy()
    settled[free] = solution.x[:n_seats].reshape(-1, n_bins).argmax(axis=1)
    return settled
