"""Random numbers for augmentation: one per image, drawn on the CPU so that every device sees the same ones."""

from __future__ import annotations

import torch
from torch import Tensor


def coin(n: int, probability: float, rng: torch.Generator) -> Tensor:
    """`(n,)` float: 1 with `probability`, else 0."""
    return (torch.rand(n, generator=rng) < probability).float()


def spread(n: int, bound: float, *, strength: float, share: float, rng: torch.Generator) -> Tensor:
    """`(n,)` changes: with probability `share` clip(strength * U(-bound, bound), -bound, bound), else 0.

    A `strength` of 1 uses the whole range evenly, above 1 more draws fall on the bound itself, none beyond it. The same
    count of numbers is drawn whatever the bound, so that switching one transform off leaves the others' draws alone.
    """
    change = (2 * torch.rand(n, generator=rng) - 1).mul_(strength * bound).clamp_(-bound, bound)
    return change * coin(n, share, rng)
