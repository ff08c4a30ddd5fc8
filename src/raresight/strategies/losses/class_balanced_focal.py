"""Class-balanced focal loss: focal loss whose labels weigh by the effective number of their class."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.class_weights import rarity
from raresight.strategies.losses.focal import focal_entries
from raresight.strategies.losses.label_weights import mean_one, of_target
from raresight.strategies.losses.reduce import reduce
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class ClassBalancedFocal(Strategy):
    """Focal loss, every label weighted by one over the effective number of cases of its class.

    Equation: w (1 - p_t)^gamma (-log p_t), w in proportion to (1 - beta) / (1 - beta^n), n the number of training
    labels of the label's class; exclusive, p_t = softmax(z)_y; independent, sigmoid, positives with n_k and negatives
    with N_k - n_k. The mean weight over training labels is 1.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`; `case_weights`
    as in `class_weights`.
    Ranges: `gamma` in [0, 20], 0 is `class_weights` with scheme effective; `beta` in [0, 1), 0 is `focal`.
    Absent class: weight 1; its negatives count as in `focal`.
    Helps: many easy negatives and a long tail at once.
    Hurts: two pushes at once: weights on few cases, focus on hard ones, which may be mislabelled; with a
    few hundred cases a beta of 0.9999 is nearly inverse weighting.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.274, against 0.153 for focal and 0.309 for class-balanced softmax without focus.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples", class-balanced focal loss. We
    differ in the normalisation (theirs: sum of weights = K) and, for exclusive labels, in softmax (theirs: a sigmoid
    for each class, all weighted by the case's class); independent labels have no case class, so each side counts its
    own labels. No log-prior shift is defined for gamma > 0.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = ClassBalancedFocal(beta=0.5)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(w, 4) for w in method.positive_.tolist()]  # 4/7 and 1, over 19/28
    [0.8421, 1.4737]
    """

    name: ClassVar[str] = "class_balanced_focal"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Cui et al. 2019, class-balanced focal loss"

    def __init__(self, *, gamma: float = 2.0, beta: float = 0.9999) -> None:
        self.gamma = number(self.name, "gamma", gamma, 0, 20)
        self.beta = number(self.name, "beta", beta, 0, 1, below_high=True)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"gamma": 0.0, "beta": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        positive = rarity(facts.n_positive, "effective", self.beta)
        negative = rarity(facts.n_known - facts.n_positive, "effective", self.beta)
        self.positive_, self.negative_ = mean_one(facts, positive, negative)

    def log_prior_shift(self) -> Tensor | None:
        return None if self.gamma > 0 else (self.positive_ / self.negative_).log()

    def compensates(self) -> bool:
        return self.beta > 0

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return of_target(target, self.positive_, self.negative_, self.kind_)

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return reduce(focal_entries(logits, target, self.gamma, kind=self.kind_), mask, weight, kind=self.kind_)
