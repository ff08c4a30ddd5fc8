"""Class-balanced sampling: rows of rare classes are drawn more often."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.strategies.prior import balanced_rows, shift_of_rows
from raresight.strategies.settings import flag, number
from raresight.strategies.strategy import Facts, Place, Strategy


class ClassBalancedSampling(Strategy):
    """Draw training rows so that class k comes up in proportion to n_k^(1 - power).

    Equation: exclusive, q_i ~ n_c^-power for a row of class c. Independent, q_i ~ the mean of n_k^-power over the row's
    positive classes; rows with none of the classes form one more group, weighted by its own count. With `unbiased`
    each drawn row's loss is multiplied by 1 / (N q_i), so the expected gradient is the plain one and only its variance
    moves towards the common classes.

    Shapes: `sample_weights` `(N,)`; `case_weights` `(B, 1, 1...)`.
    Ranges: `power` in [0, 2]: 0 is plain training (each row once an epoch), 1 balanced, 1/2 between; `unbiased` true or
    false.
    Absent class: no row has it, nothing changes. A row without any known label is never drawn.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Kang et al. 2020, "Decoupling representation and classifier", eq. 1 (power = 1 - q); the inclusion weights
    are those of Horvitz and Thompson 1952. The independent form is ours. The expected gradient is exactly the plain one
    where every row has the same number of known labels; elsewhere the batch mean is a ratio estimate of it.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = ClassBalancedSampling()
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(w, 3) for w in method.sample_weights().tolist()]
    [0.167, 0.167, 0.167, 0.5]
    """

    name: ClassVar[str] = "class_balanced_sampling"
    place: ClassVar[Place] = "sampling"
    source: ClassVar[str] = "Kang et al. 2020, eq. 1; Horvitz and Thompson 1952"
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, power: float = 1.0, unbiased: bool = False) -> None:
        self.power = number(self.name, "power", power, 0, 2)
        self.unbiased = flag(self.name, "unbiased", unbiased)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"power": 0.0}

    def fit(self, facts: Facts) -> None:
        rows = balanced_rows(facts.target, facts.mask, facts.kind, self.power)
        self.draw_ = rows / rows.sum().clamp(min=1e-300)
        n_drawable = (rows > 0).sum()
        self.inclusion_ = torch.where(rows > 0, 1 / (n_drawable * self.draw_.clamp(min=1e-300)), 0.0)
        self.shift_ = shift_of_rows(facts, rows)

    def sample_weights(self) -> Tensor | None:
        return None if self.power == 0 else self.draw_

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        if not self.unbiased or self.power == 0:
            return None
        weight = self.inclusion_.to(target)[ids.to(target.device)]
        return weight.view(-1, *[1] * (target.dim() - 1))

    def log_prior_shift(self) -> Tensor:
        return torch.zeros_like(self.shift_) if self.unbiased or self.power == 0 else self.shift_
