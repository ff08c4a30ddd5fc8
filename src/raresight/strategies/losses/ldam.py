"""Label-distribution-aware margin: the rarer the class, the wider the margin it is asked for."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes, at_least_float32, reduce
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class LDAM(Strategy):
    """Cross-entropy after the truth's logit has been *lowered* by a margin that grows with rarity.

    Equation: exclusive, -log( e^(z_y - d_y) / (e^(z_y - d_y) + sum_{j != y} e^(z_j)) ), d_k = C n_k^(-1/4), C such that
    the rarest class has `max_margin`. Independent: the two-class case for each class with logits (z, 0), that is
    y softplus(d_pos - z) + (1 - y) softplus(z + d_neg), its rarer side having `max_margin`.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`. Soft targets
    mix the hard losses in their proportions.
    Ranges: `max_margin` in [0, 10], in units of the logits; 0 is cross-entropy.
    Absent class: margin 0 (no label asks for it); independent, a class with one side only is trained plainly.
    Helps: rare classes that are separable but generalise badly; published gains come together with deferred
    re-weighting.
    Hurts: margins sharpen all probabilities, so that they answer to no prevalence; alone it moves little.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.228 against 0.164 for plain training, 0.361 with deferred class-balanced weights. DermaMNIST (MONICA's result
    files, ResNet-50, one seed): group average 0.698 against 0.673.
    Raises: `ConfigError` RS-C34 for max_margin outside its range.
    Source: Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss", eq. 12-13. We
    differ: their code normalises features and head and multiplies logits by s = 30; our head is a plain linear layer
    which learns its scale, so no s is needed. Their deferred re-weighting is another method. The independent form is
    ours. No log-prior shift is defined for a margin above 0.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0] * 16 + [1]]
    >>> method = LDAM(max_margin=0.5)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.positive_.tolist()  # 16^(-1/4) = 1/2 of the rarest class's margin
    [0.25, 0.5]
    """

    name: ClassVar[str] = "ldam"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Cao et al. 2019, eq. 12-13"

    def __init__(self, *, max_margin: float = 0.5) -> None:
        self.max_margin = number(self.name, "max_margin", max_margin, 0, 10)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"max_margin": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        n_positive = facts.n_positive
        wish = n_positive.clamp(min=1) ** -0.25
        if facts.kind == "exclusive":
            wish = torch.where(n_positive > 0, wish, 0.0)
            self.positive_ = self.max_margin * wish / wish.max().clamp(min=1e-300)
            self.negative_ = torch.zeros_like(wish)
            return
        n_negative = facts.n_known - n_positive
        wish_negative = n_negative.clamp(min=1) ** -0.25
        both = (n_positive > 0) & (n_negative > 0)
        scale = torch.where(both, self.max_margin / torch.maximum(wish, wish_negative), 0.0)
        self.positive_, self.negative_ = scale * wish, scale * wish_negative

    def log_prior_shift(self) -> Tensor | None:
        return None if self.max_margin > 0 else torch.zeros_like(self.positive_)

    def compensates(self) -> bool:
        return self.max_margin > 0

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        margin = along_classes(self.positive_, logits)
        if self.kind_ == "exclusive":
            # with p = softmax(z)_y the loss is -log( p e^-d / (p e^-d + 1 - p) ): no K x K table of margins is needed
            log_p = log_softmax(logits, dim=1)
            entries = -target * (log_p - margin - torch.log1p(log_p.exp() * torch.expm1(-margin)))
        else:
            entries = target * softplus(margin - logits)
            entries = entries + (1 - target) * softplus(logits + along_classes(self.negative_, logits))
        return reduce(entries, mask, weight, kind=self.kind_)
