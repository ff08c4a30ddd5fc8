"""How far a predicted region misses the true one: the part that Dice and Tversky losses share."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import at_least_float32
from raresight.strategies.settings import refused


def overlap_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor,
    weight: Tensor,
    *,
    kind: Kind,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 0.0,
    per_image: bool = False,
) -> Tensor:
    """The mean over regions of 1 - (2 TP + s) / (2 TP + 2 alpha FP + 2 beta FN + s), soft counts of elements.

    TP = sum w p y, FP = sum w p (1 - y), FN = sum w (1 - p) y over the known elements of a region; p = softmax(z)
    (exclusive; one unknown class makes the element unknown) or sigmoid(z). A region is a class, over the whole batch
    or, with `per_image`, within each image. A weight w counts its element w times: exclusive, that of the element's
    true class for all of its K probabilities; independent, that of the label.

    A region whose truth is empty is left out of the mean: its overlap is 0/0, neither 0 nor 1, and putting a number
    there would only ask for lower probabilities everywhere.

    Shapes: all `(B, K, *S)`, `mask` and `weight` broadcastable; returns a scalar, 0 where no region has a truth.
    """
    logits = at_least_float32(logits)
    target, mask = target.to(logits.dtype), mask.expand_as(logits)
    known = (mask.amin(1, keepdim=True) if kind == "exclusive" else mask).expand_as(logits) > 0
    # where, not multiplication: what stands behind the mask must not reach the sums, however large
    logits = torch.where(known, logits, 0.0)
    prob = logits.softmax(1) if kind == "exclusive" else logits.sigmoid()
    counts = (weight * target).sum(1, keepdim=True) if kind == "exclusive" else weight
    counts = torch.where(known, counts.to(logits.dtype), 0.0)

    def total(elements: Tensor) -> Tensor:
        """The weighted sum over each region: `(B, K)` or `(K,)`."""
        per_row = (counts * elements).flatten(2).sum(2) if elements.dim() > 2 else counts * elements
        return per_row if per_image else per_row.sum(0)

    hit, false_alarm, missed = total(prob * target), total(prob * (1 - target)), total((1 - prob) * target)
    present = total(target) > 0
    common = 2 * hit + smooth
    whole = common + 2 * alpha * false_alarm + 2 * beta * missed
    index = common / torch.where(present, whole, 1.0)
    return torch.where(present, 1 - index, 0.0).sum() / present.sum().clamp(min=1)


def check_regions(method: str, logits: Tensor, per_image: bool) -> None:
    """Raises: `ConfigError` RS-C34 where regions within an image are asked for and an image has a single label."""
    if per_image and logits.dim() == 2:
        raise refused(
            method,
            "per_image",
            "per_image = True for labels of whole images",
            "an image with one label has no region of its own",
            "leave per_image out: a region is then the batch's cases of a class",
        )
