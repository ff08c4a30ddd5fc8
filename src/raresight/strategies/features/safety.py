"""How many synthetic points lie where another class lives."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.strategies.features.neighbours import nearest_rows
from raresight.strategies.strategy import SyntheticRows

_BLOCK = 512


def unsafe_share(z: Tensor, y: Tensor, mask: Tensor, synthetic: SyntheticRows, *, k: int = 5) -> Tensor:
    """Per class, the share of its synthetic points whose nearest real neighbours mostly lack the class.

    unsafe_k = mean over synthetic points of class k of [more than half of their `k` nearest real rows have y_k = 0].
    A point's own two parents are not asked: they have the class and lie near by construction. Rows whose label for the
    class is unknown are no evidence either way and count as having it not (they are seldom; 0 in `y`).

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`, `synthetic` of M rows. Returns `(K,)` float64 in [0, 1].
    A class without synthetic points gets NaN: there is nothing to judge.

    Source: the "danger" count of Han et al. 2005, Borderline-SMOTE, section 3, asked of the synthetic points.
    """
    n_points = z.new_zeros(y.shape[1], dtype=torch.float64)
    n_unsafe = torch.zeros_like(n_points)
    everything = torch.arange(len(z), device=z.device)
    has_class = (y * mask).bool()
    for part in torch.arange(len(synthetic.base), device=z.device).split(_BLOCK):
        base, neighbour = synthetic.base[part], synthetic.neighbour[part]
        gap = synthetic.gap[part].view(-1, 1)
        point = torch.lerp(z[base].float(), z[neighbour].float(), gap.float())
        near, _ = nearest_rows(point, z, everything, k, exclude=torch.stack((base, neighbour), 1))
        lack = (~has_class[near]).sum(1)  # (Q, K)
        own = (synthetic.target[part] * synthetic.mask[part]) > 0
        n_points += own.sum(0)
        n_unsafe += (own & (2 * lack > k)).sum(0)
    return n_unsafe / n_points  # 0 / 0 is the NaN that is wanted
