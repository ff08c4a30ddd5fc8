"""Vector-scaling loss: logits are scaled and shifted by rarity in training, so that rare classes end higher without."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from raresight.core.task import Kind
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.reduce import along_classes, at_least_float32, reduce
from raresight.strategies.prior import log_prior
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class VS(Strategy):
    """Train on logits that are *multiplied* by a factor that falls with rarity, and *added* tau times the log prior.

    Equation: exclusive, CE(Delta z + iota, y), Delta_k = (n_k / n_max)^gamma, iota_k = tau log pi_k. Independent, the
    paper's two-class loss for each: y log(1 + e^(-Delta_pos z - iota)) + (1 - y) log(1 + e^(Delta_neg z + iota)), Delta
    of a side = (its labels / those of the larger side)^gamma, iota = tau log(pi / (1 - pi)).

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`. Soft targets
    mix the hard losses in their proportions.
    Ranges: `gamma` in [0, 1], 0 is `balanced_softmax`; `tau` in [0, 10]; both 0 are plain training.
    Absent class: factor 1 and nothing added; its cases never come, so its logit is pushed down as in plain training.
    Helps: long training to zero training error, where additive shifts and weights no longer move the boundary but the
    factors still widen the margin of the rare class.
    Hurts: early on the factors alone slow the rare class down (hence tau). Probabilities answer to no prevalence once
    gamma > 0: thresholds must be tuned. With a gamma near 1 the rare logit's gradient is multiplied by its rarity.
    Evidence: none found by us on medical images.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Kini et al. 2021, "Label-imbalanced and group-sensitive classification under overparameterization", the
    binary and the multi-class VS loss; defaults are those of the authors' code for long-tailed CIFAR-10. We differ in
    leaving out its weights omega (add `class_weights`). That a finding of its own gets the binary loss, with counts of
    its two sides, is ours. The log-prior shift is defined for gamma 0 alone.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0] * 16 + [1]]
    >>> method = VS(gamma=0.5)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.positive_.tolist()
    [1.0, 0.25]
    """

    name: ClassVar[str] = "vs"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Kini et al. 2021, VS loss (binary and multi-class)"

    def __init__(self, *, gamma: float = 0.15, tau: float = 1.25) -> None:
        self.gamma = number(self.name, "gamma", gamma, 0, 1)
        self.tau = number(self.name, "tau", tau, 0, 10)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"gamma": 0.0, "tau": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        self.offset_ = self.tau * log_prior(facts)
        n_positive, n_negative = facts.n_positive, facts.n_known - facts.n_positive
        ones = torch.ones_like(n_positive)
        if facts.kind == "exclusive":
            factor = (n_positive / n_positive.max().clamp(min=1)) ** self.gamma
            self.positive_, self.negative_ = torch.where(n_positive > 0, factor, ones), ones
            return
        larger = torch.maximum(n_positive, n_negative).clamp(min=1)
        both = (n_positive > 0) & (n_negative > 0)
        self.positive_ = torch.where(both, (n_positive / larger) ** self.gamma, ones)
        self.negative_ = torch.where(both, (n_negative / larger) ** self.gamma, ones)

    def log_prior_shift(self) -> Tensor | None:
        return None if self.gamma > 0 else -self.offset_

    def compensates(self) -> bool:
        return self.gamma > 0

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        factor, offset = along_classes(self.positive_, logits), along_classes(self.offset_, logits)
        if self.kind_ == "exclusive":
            return cross_entropy(factor * logits + offset, target, mask, weight, kind=self.kind_)
        entries = target * softplus(-factor * logits - offset)
        entries = entries + (1 - target) * softplus(along_classes(self.negative_, logits) * logits + offset)
        return reduce(entries, mask, weight, kind=self.kind_)
