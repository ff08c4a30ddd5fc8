"""Tests between arms that stay honest with few patients: swaps within patients, and Holm's adjustment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.core.seeds import numpy_rng

BLOCK = 256


def swap_test(difference: np.ndarray, permutations: int, *names: object) -> float:
    """Two-sided p that two arms are exchangeable, given each patient's difference between them.

    Under no difference the two arms' results of a patient can be swapped, which flips the sign of d_g. With
    T = |Σ d_g|, p = (1 + #{|Σ ±d_g| >= T}) / (1 + permutations). Up to 12 discordant patients every swap is counted
    instead of drawn, and p = #{..} / 2^n.

    `difference` `(G,)`, any unit, all images of a patient summed. 1 where no patient differs. `names` seed the swaps.
    Source: Good, Permutation, Parametric and Bootstrap Tests, 3rd ed., section 3.
    """
    d = difference[difference != 0]
    if not len(d):
        return 1.0
    observed = abs(d.sum()) - 1e-9
    if len(d) <= 12:
        bits = (np.arange(2 ** len(d))[:, None] >> np.arange(len(d))[None, :]) & 1
        return float(np.mean(np.abs((2.0 * bits - 1) @ d) >= observed))
    rng = numpy_rng("swap", *names)
    reached = 0
    for start in range(0, permutations, BLOCK):
        signs = 2.0 * rng.integers(0, 2, size=(min(BLOCK, permutations - start), len(d)), dtype=np.int8) - 1
        reached += int(np.sum(np.abs(signs @ d) >= observed))
    return (1 + reached) / (1 + permutations)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of one declared family, in the order given.

    In rising order p̃_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)).
    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(values[order] * np.arange(len(values), 0, -1), 1.0))
    adjusted = np.empty(len(values))
    adjusted[order] = stepped
    return [float(value) for value in adjusted]
