"""Class weights: rare classes count more in the loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes
from raresight.strategies.settings import choice, number
from raresight.strategies.strategy import Facts, Place, Strategy

Scheme = Literal["inverse", "sqrt_inverse", "effective"]
SCHEMES: tuple[Scheme, ...] = ("inverse", "sqrt_inverse", "effective")


class ClassWeights(Strategy):
    """Weight every label by how rare its class is in the training part.

    Equation: u(n) = 1/n (`inverse`), 1/sqrt(n) (`sqrt_inverse`), (1 - beta) / (1 - beta^n) (`effective`).
    Exclusive: w_k = c u(n_k) with sum_k pi_k w_k = 1. Independent: positives of class k weigh c_k u(n_k), negatives
    c_k u(N_k - n_k), with pi_k w_pos + (1 - pi_k) w_neg = 1; for `inverse` the ratio is negatives / positives. The mean
    weight over training labels is 1 either way, so the learning rate keeps its meaning. A soft target takes the
    mixture of the two weights.

    Shapes: `case_weights` returns `(1, K, 1...)` (exclusive) or `(B, K, *S)` (independent).
    Ranges: `scheme` as above; `beta` in [0, 1), used by `effective` alone: 0 weighs all alike, towards 1 `inverse`.
    Absent class: weight 1 (it has no positive label for it to act on; its negatives count as in plain training).
    Raises: `ConfigError` RS-C34 for a scheme or beta outside these ranges.
    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples", eq. 2-3 (`effective`); King and
    Zeng 2001, section 4 (`inverse`, weights by sampling fraction). We differ from Cui in the normalisation (theirs:
    sum of weights = K) and in giving independent negatives their own weight.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = ClassWeights(scheme="inverse")
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(w, 3) for w in method.case_weights(target, torch.arange(4), 0).flatten().tolist()]
    [0.667, 2.0]
    """

    name: ClassVar[str] = "class_weights"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Cui et al. 2019, eq. 2-3; King and Zeng 2001, section 4"

    def __init__(self, *, scheme: Scheme = "inverse", beta: float = 0.999) -> None:
        self.scheme = choice(self.name, "scheme", scheme, SCHEMES)
        self.beta = number(self.name, "beta", beta, 0, 1, below_high=True)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"scheme": "effective", "beta": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        prior, n_positive = facts.prior, facts.n_positive
        ones = torch.ones_like(prior)
        if facts.kind == "exclusive":
            present = n_positive > 0
            raw = torch.where(present, self._rarity(n_positive), 0.0)
            self.positive_ = torch.where(present, raw / (prior * raw).sum().clamp(min=1e-300), ones)
            self.negative_ = ones
            return
        n_negative = facts.n_known - n_positive
        both = (n_positive > 0) & (n_negative > 0)
        positive, negative = self._rarity(n_positive), self._rarity(n_negative)
        mean = prior * positive + (1 - prior) * negative
        self.positive_ = torch.where(both, positive / mean, ones)
        self.negative_ = torch.where(both, negative / mean, ones)

    def _rarity(self, n: Tensor) -> Tensor:
        n = n.clamp(min=1)  # absent classes are replaced by the caller
        if self.scheme == "inverse":
            return 1 / n
        if self.scheme == "sqrt_inverse":
            return n.rsqrt()
        return (1 - self.beta) / (1 - self.beta**n)

    def log_prior_shift(self) -> Tensor:
        return (self.positive_ / self.negative_).log()

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        positive = along_classes(self.positive_, target)
        if self.kind_ == "exclusive":
            return positive
        return target * positive + (1 - target) * along_classes(self.negative_, target)
