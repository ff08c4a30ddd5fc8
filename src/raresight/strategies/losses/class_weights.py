"""Class weights: rare classes count more in the loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.label_weights import mean_one, of_target
from raresight.strategies.settings import choice, number
from raresight.strategies.strategy import Facts, Place, Strategy

Scheme = Literal["inverse", "sqrt_inverse", "effective"]
SCHEMES: tuple[Scheme, ...] = ("inverse", "sqrt_inverse", "effective")


def rarity(n: Tensor, scheme: str, beta: float) -> Tensor:
    """u(n), what a label weighs before scaling, of a class with `n` labels; where there is none, as of one with 1."""
    n = n.clamp(min=1)
    if scheme == "inverse":
        return 1 / n
    if scheme == "sqrt_inverse":
        return n.rsqrt()
    return (1 - beta) / (1 - beta**n)


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
    Helps: where recall of the rare class matters more than precision, and the threshold is not tuned on validation.
    Hurts: few rare cases with large weights are learned by heart; precision and calibration of the rare class fall
    unless the implied prior is taken out; one mislabelled rare case counts like many.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.288 against 0.164 for plain training. HAM10000, by lesion, 3 seeds (a small published study): balanced accuracy
    0.629 against 0.554, but macro-F1 0.510 against 0.578.
    Raises: `ConfigError` RS-C34 for a scheme or beta outside these ranges.
    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples" (`effective`); King and Zeng
    2001, "Logistic regression in rare events data" (`inverse`, weighting by sampling fraction). We differ from Cui in
    the normalisation (theirs: sum of weights = K) and in giving independent negatives their own weight.

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
    source: ClassVar[str] = "Cui et al. 2019, effective number of samples; King and Zeng 2001, weighting"

    def __init__(self, *, scheme: Scheme = "inverse", beta: float = 0.999) -> None:
        self.scheme = choice(self.name, "scheme", scheme, SCHEMES)
        self.beta = number(self.name, "beta", beta, 0, 1, below_high=True)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"scheme": "effective", "beta": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        positive = rarity(facts.n_positive, self.scheme, self.beta)
        negative = rarity(facts.n_known - facts.n_positive, self.scheme, self.beta)
        self.positive_, self.negative_ = mean_one(facts, positive, negative)

    def log_prior_shift(self) -> Tensor:
        return (self.positive_ / self.negative_).log()

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return of_target(target, self.positive_, self.negative_, self.kind_)
