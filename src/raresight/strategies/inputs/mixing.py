"""What the methods that mix images share: the draw of lambda, the mixture, and the refusal of unknown labels."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.errors import ConfigError, Problem
from raresight.strategies.strategy import Facts


def beta(n: int, first: float, second: float, rng: torch.Generator) -> Tensor:
    """`(n,)` float64 draws of Beta(first, second), as the first of two gamma variates over their sum."""
    shape = torch.tensor([first, second], dtype=torch.float64).view(2, 1).expand(2, n).contiguous()
    # torch.distributions takes no generator; this sampler is the one that it calls
    one, other = torch._standard_gamma(shape, generator=rng)
    return one / (one + other)


def mixed(values: Tensor, partner: Tensor, own: Tensor) -> Tensor:
    """own * values + (1 - own) * values[partner]; `own` is `(B,)`, or has all axes of `values` (1 where shared)."""
    if own.dim() == 1:
        own = own.view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values[partner], values, own.to(values.device, values.dtype, non_blocking=True))


def refuse_unknown(method: str, facts: Facts) -> None:
    """Raises: `ConfigError` RS-C34 where some training labels are unknown, for a mixture would count them as 0."""
    n_unknown = int((facts.mask.expand_as(facts.target) == 0).sum())
    if n_unknown:
        raise ConfigError(
            Problem(
                code="RS-C34",
                level="error",
                file="study.yaml",
                column=method,
                found=f"{n_unknown} training labels are unknown",
                why="a mixture with an unknown label would count it as a negative",
                remedy=f"take {method} out of this arm, or keep only cases whose labels are all known",
            )
        )
