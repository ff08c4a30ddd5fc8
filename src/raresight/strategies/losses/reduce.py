"""From loss entries to a loss: which labels count, and what the mean divides by."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.task import Kind


def reduce(entries: Tensor, mask: Tensor, weight: Tensor, *, kind: Kind) -> tuple[Tensor, Tensor]:
    """The weighted mean of `entries` over known labels, and the unweighted loss per case.

    Exclusive: sum_k w_k e_k summed over classes, averaged over labels (B * S); one unknown class makes the whole
    exclusive label unknown. Independent: w_k e_k averaged over labels and classes. The mean divides by the number of
    *known* labels, not by the sum of weights: weights with mean 1 then keep the scale of the loss, and inclusion
    weights keep the gradient unbiased.

    Shapes: all `(B, K, *S)`, `mask` and `weight` broadcastable; returns a scalar and `(B,)`. Without any known label
    both are 0, with a gradient of 0.
    """
    mask = mask.expand_as(entries).to(entries.dtype)
    known = mask.amin(dim=1, keepdim=True) if kind == "exclusive" else mask
    # where, not multiplication: an overflow behind the mask must not become 0 * inf = nan
    entries = torch.where(known > 0, entries, 0.0)
    total = (entries * weight).sum() / known.sum().clamp(min=1)
    per_case = entries.detach().flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    return total, per_case


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits of half precision as float32, others as they are: exp and log of a loss need the digits."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def along_classes(values: Tensor, like: Tensor) -> Tensor:
    """`(K,)` values as `(1, K, 1, ...)`, with the dtype and device of `like` `(B, K, *S)`."""
    return values.to(like).view(1, -1, *[1] * (like.dim() - 2))
