"""Between-class weighting: rare classes get a larger share of the loss, positives and negatives alike."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes
from raresight.strategies.settings import flag, number
from raresight.strategies.strategy import Facts, Place, Strategy


class BetweenClassBCE(Strategy):
    """Binary cross-entropy in which every class, its negatives included, weighs by how rare its positives are.

    Equation: v_k in proportion to n_k^(-power), mean 1 over classes; published, v_k in proportion to n_k^(+power).

    Shapes: `case_weights` returns `(1, K, 1...)`.
    Ranges: `power` in [0, 1], 0 is plain training; `as_published` true or false. True repeats a defect: the released
    code weighs class c by sqrt(n_c / (n_max + sum n)), which *rises* with frequency, so that rare classes get the
    smallest share of the loss, against its purpose. Use it to repeat that study, not to treat imbalance.
    Absent class: weight 1, not counted in the mean.
    Helps: where common findings crowd the rare ones out of a shared representation.
    Hurts: within a class nothing is balanced: its positives stay as rare as they are, and its logits keep the training
    prevalence. With one class it does nothing.
    Evidence: none found by us with figures; an arm of a study on ChestX-ray14 (arXiv 2204.01729), of which only
    the abstract was available to us.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: the code released with that study (CAMP-eXplain-AI/imba-explain, InterWeightedBCEWithLogits), power 1/2. We
    differ in the sign of the power, unless `as_published`, and in the mean weight 1 (theirs: 1/K, a smaller step).

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    >>> method = BetweenClassBCE()
    >>> method.fit(Facts("independent", ("effusion", "hernia"), target, torch.ones_like(target)))
    >>> [round(w, 4) for w in method.case_weights(target, torch.arange(4), 0).flatten().tolist()]  # 1/2 and 1, over 3/4
    [0.6667, 1.3333]
    """

    name: ClassVar[str] = "between_class_bce"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "imba-explain, InterWeightedBCEWithLogits"
    kinds: ClassVar[tuple[Kind, ...]] = ("independent",)

    def __init__(self, *, power: float = 0.5, as_published: bool = False) -> None:
        self.power = number(self.name, "power", power, 0, 1)
        self.as_published = flag(self.name, "as_published", as_published)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"power": 0.0}

    def fit(self, facts: Facts) -> None:
        n_positive = facts.n_positive
        present = n_positive > 0
        raw = n_positive.clamp(min=1) ** (self.power if self.as_published else -self.power)
        mean = torch.where(present, raw, 0.0).sum() / present.sum()
        self.weight_ = torch.where(present, raw / mean, 1.0)

    def log_prior_shift(self) -> Tensor:
        return torch.zeros_like(self.weight_)  # both sides of a class weigh alike

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return along_classes(self.weight_, target)
