"""Balanced softmax: the prevalence is put into the loss, so that the logits need not carry it."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.reduce import along_classes, at_least_float32
from raresight.strategies.prior import log_prior
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class BalancedSoftmax(Strategy):
    """Train cross-entropy on logits to which tau times the log prevalence is *added*.

    Equation: exclusive, CE(z + tau log pi, y); independent, BCE(z + tau log(pi / (1 - pi)), y). At the optimum
    z + tau log pi = log p(k|x), so the raw logits are those of a plain model less tau log pi: rare classes are raised.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`.
    Ranges: `tau` in [0, 10]; 0 is plain training, 1 asks for the balanced prevalence.
    Absent class: nothing is added to its logit, so the loss stays finite and pushes it down as its cases never come.
    Helps: where recall is to be balanced over classes; the one change with a prior that is known exactly, so that its
    probabilities can be corrected, or a threshold kept.
    Hurts: precision of rare classes at an unmoved threshold; where the shift of a plain model's logits does the same
    for nothing (`logit_adjustment`), training again gains little.
    Evidence: DermaMNIST (MONICA's result files, ResNet-50, one seed): group average 0.778 against 0.673 for plain
    training and 0.729 for the post-hoc shift. The trained form with its sign reversed, in the same files: 0.644.
    Raises: `ConfigError` RS-C34 for tau outside its range.
    Source: Ren et al. 2020, "Balanced meta-softmax", eq. 4 (tau 1); Menon et al. 2021, "Long-tail learning via logit
    adjustment", logit adjusted softmax cross-entropy (any tau). The independent form is ours: the two-class case of the
    same derivation.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = BalancedSoftmax()
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(s, 3) for s in method.log_prior_shift().tolist()]  # -log 3/4, -log 1/4
    [0.288, 1.386]
    """

    name: ClassVar[str] = "balanced_softmax"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Ren et al. 2020, eq. 4; Menon et al. 2021, logit adjusted softmax cross-entropy"

    def __init__(self, *, tau: float = 1.0) -> None:
        self.tau = number(self.name, "tau", tau, 0, 10)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"tau": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        self.offset_ = self.tau * log_prior(facts)

    def log_prior_shift(self) -> Tensor:
        return -self.offset_

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        return cross_entropy(logits + along_classes(self.offset_, logits), target, mask, weight, kind=self.kind_)
