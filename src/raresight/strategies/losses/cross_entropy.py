"""Cross-entropy, the plain loss: softmax for exclusive labels, sigmoid for independent ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from raresight.core.task import Kind


def cross_entropy(logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, *, kind: Kind) -> tuple[Tensor, Tensor]:
    """The mean loss over known labels, and the unweighted loss per case.

    Exclusive: -sum_k w_k y_k log softmax(z)_k, over cases; independent: w_k BCE(z_k, y_k), over cases and classes.
    The mean divides by the number of *known* labels, not by the sum of weights: then weights with mean 1 keep the
    scale of the loss, and inclusion weights keep the gradient unbiased.

    Shapes: all `(B, K, *S)`, `mask` and `weight` broadcastable; returns a scalar and `(B,)`. Targets may be soft.
    A class that is absent from the batch contributes its negatives alone; a batch without any known label gives 0.
    """
    mask = mask.expand_as(target)
    if kind == "exclusive":
        entries = -target * log_softmax(logits, dim=1)
        known = mask.amin(dim=1, keepdim=True)  # one unknown class makes the whole exclusive label unknown
        n_known = known.sum()
        per_entry = (entries * known).sum(1)
        weighted = (entries * weight * known).sum()
        n_case = known.squeeze(1)
    else:
        per_entry = binary_cross_entropy_with_logits(logits, target, reduction="none") * mask
        n_known = mask.sum()
        weighted = (per_entry * weight).sum()
        n_case = mask
    total = weighted / n_known.clamp(min=1)
    axes = tuple(range(1, per_entry.dim()))
    if not axes:
        return total, per_entry.detach()
    per_case = per_entry.sum(axes) / n_case.sum(tuple(range(1, n_case.dim()))).clamp(min=1)
    return total, torch.as_tensor(per_case).detach()
