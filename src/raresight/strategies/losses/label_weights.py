"""What the labels of each class weigh in the loss, scaled so that the mean over the training labels is 1."""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes
from raresight.strategies.strategy import Facts


def mean_one(facts: Facts, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Weights in the given proportions whose mean over the known training labels is 1.

    Exclusive: one factor for all classes, sum_k pi_k w_k = 1; negatives weigh 1, since a case pays for its class alone.
    Independent: one factor for each class, pi_k w_pos + (1 - pi_k) w_neg = 1.

    Shapes: `positive`, `negative` `(K,)` above 0; returns the same two. A class without positives (independent: or
    without negatives) gets weight 1 and does not count.
    """
    prior, n_positive = facts.prior, facts.n_positive
    ones = torch.ones_like(prior)
    if facts.kind == "exclusive":
        present = n_positive > 0
        mean = (prior * positive).sum()
        return torch.where(present, positive / mean, ones), ones
    both = (n_positive > 0) & (facts.n_known > n_positive)
    mean = prior * positive + (1 - prior) * negative
    return torch.where(both, positive / mean, ones), torch.where(both, negative / mean, ones)


def of_target(target: Tensor, positive: Tensor, negative: Tensor, kind: Kind) -> Tensor:
    """The weights `(K,)` as case weights of a batch: `(1, K, 1...)` (exclusive) or `(B, K, *S)` (independent).

    A soft target takes the mixture of the two weights.
    """
    positive = along_classes(positive, target)
    if kind == "exclusive":
        return positive
    return target * positive + (1 - target) * along_classes(negative, target)
