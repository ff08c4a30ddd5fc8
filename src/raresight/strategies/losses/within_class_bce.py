"""Within-class weighting: in every class, positives together weigh as much as negatives together."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.label_weights import of_target
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class WithinClassBCE(Strategy):
    """Binary cross-entropy whose positives weigh the ratio of negatives to positives of their class.

    Equation: w = (negatives / positives)^power for a positive of the class, 1 for a negative.

    Shapes: `case_weights` returns `(B, K, *S)`; a soft target takes the mixture of the two weights.
    Ranges: `power` in [0, 1]; 1 is the published weight, 0 is plain training. The weights have no common scale: the
    rarer the class, the larger its share of the whole loss, which is twice that of its negatives.
    Absent class: weight 1, likewise for a class that every case has.
    Helps: findings that are rare each for itself, where recall matters; `class_weights` with scheme inverse is the same
    with each class scaled back to a mean weight of 1.
    Hurts: the loss, and with it the step, grows with the number of classes whose negatives prevail; a finding in one of
    a thousand cases has positives of weight 999, which are learned by heart.
    Evidence: none found by us with figures; an arm of a study on ChestX-ray14 (arXiv 2204.01729), of which only
    the abstract was available to us.
    Raises: `ConfigError` RS-C34 for power outside its range.
    Source: the code released with that study (CAMP-eXplain-AI/imba-explain, IntraWeightedBCEWithLogits). We differ in
    counting the training part once; theirs counts every batch, so that a finding's weight depends on its batch-mates
    and falls back to the smallest ratio of all classes where the batch has no case. `power` is ours.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    >>> method = WithinClassBCE()
    >>> method.fit(Facts("independent", ("hernia",), target, torch.ones_like(target)))
    >>> method.case_weights(target, torch.arange(4), 0).flatten().tolist()
    [1.0, 1.0, 1.0, 3.0]
    """

    name: ClassVar[str] = "within_class_bce"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "imba-explain, IntraWeightedBCEWithLogits"
    kinds: ClassVar[tuple[Kind, ...]] = ("independent",)

    def __init__(self, *, power: float = 1.0) -> None:
        self.power = number(self.name, "power", power, 0, 1)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"power": 0.0}

    def fit(self, facts: Facts) -> None:
        n_positive = facts.n_positive
        n_negative = facts.n_known - n_positive
        ones = torch.ones_like(n_positive)
        ratio = torch.where((n_positive > 0) & (n_negative > 0), n_negative / n_positive, ones)
        self.positive_, self.negative_ = ratio**self.power, ones

    def log_prior_shift(self) -> Tensor:
        return self.positive_.log()

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return of_target(target, self.positive_, self.negative_, "independent")
