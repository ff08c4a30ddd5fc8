"""Cross-entropy, the plain loss: softmax for exclusive labels, sigmoid for independent ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import at_least_float32, reduce


def cross_entropy(logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, *, kind: Kind) -> tuple[Tensor, Tensor]:
    """The mean loss over known labels, and the unweighted loss per case.

    Exclusive: -sum_k w_k y_k log softmax(z)_k, over cases; independent: w_k BCE(z_k, y_k), over cases and classes.
    `reduce` says what the mean divides by.

    Shapes: all `(B, K, *S)`, `mask` and `weight` broadcastable; returns a scalar and `(B,)`. Targets may be soft.
    A class that is absent from the batch contributes its negatives alone; a batch without any known label gives 0.
    """
    logits = at_least_float32(logits)
    if kind == "exclusive":
        entries = -target * log_softmax(logits, dim=1)
    else:
        entries = binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return reduce(entries, mask, weight, kind=kind)
