"""Importance sampling: batches balanced over classes, with weights that keep the gradient unbiased."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.strategies.prior import balanced_rows, shift_of_rows
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class ImportanceSampling(Strategy):
    """Draw rows class-balanced, and weigh each by the inverse of its chance, so that the expected loss stays plain.

    Equation: row i is drawn with chance q_i as by `class_balanced_sampling` with the same `power` (exclusive
    ~ n_c^-power, independent ~ the mean of n_k^-power over the row's positive classes, rows with none being one more
    group) and its loss multiplied by

        w_i = (1 / (N q_i))^correction / Z,    Z such that sum_i q_i w_i = 1.

    With correction 1, Z is 1 and E[mean of w_i l_i over a batch] is the mean of l over the training part, for the loss
    as for its gradient; only the variance differs, less for what rare classes say, more for what common ones do.
    Correction 0 is `class_balanced_sampling`; between, the batch is balanced and the loss partly so.

    Shapes: `sample_weights` `(N,)`, sums to 1; `case_weights` `(B, 1, 1...)`.
    Ranges: `power` in [0, 2]: 0 is plain training (each row once an epoch); `correction` in [0, 1]. Weights are at most
    G (exclusive, power 1: N_c G / N for class c of G classes with cases).
    Log-prior shift: 0 at correction 1, else that of drawing rows in proportion to q_i w_i.
    Absent class: no row has it, nothing changes. A row without any known label is never drawn.

    Helps: with one rare class in a thousand most batches lack it; here each has it, with small weight, and the
    probabilities stay those of the data.
    Hurts: common classes are estimated from fewer rows an epoch, so their gradient is noisier; and it does not
    raise the rare class, it only steadies what is learned about it.
    Evidence: none found by us on trained models. `benchmarks/importance.py` prints bias and variance ratios of the
    gradient.

    Raises: `ConfigError` RS-C34 for values outside these ranges; RS-C35 beside a method that draws the head's rows
    itself, or a loss without a place for case weights.

    Source: Horvitz and Thompson 1952, "A generalization of sampling without replacement from a finite universe" (the
    inverse chance; drawn with replacement, as Hansen and Hurwitz 1943); q from Kang et al. 2020, eq. 1. The independent
    form and `correction` are ours. The expected gradient is exactly the plain one where every row has the same number
    of known labels; elsewhere the batch mean is a ratio estimate of it.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = ImportanceSampling()
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(w, 3) for w in method.sample_weights().tolist()]
    [0.167, 0.167, 0.167, 0.5]
    >>> [round(w, 3) for w in method.case_weights(target, torch.tensor([0, 3]), 0).flatten().tolist()]
    [1.5, 0.5]
    """

    name: ClassVar[str] = "importance_sampling"
    place: ClassVar[Place] = "sampling"
    source: ClassVar[str] = "Horvitz and Thompson 1952; Kang et al. 2020, eq. 1"
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, power: float = 1.0, correction: float = 1.0) -> None:
        self.power = number(self.name, "power", power, 0, 2)
        self.correction = number(self.name, "correction", correction, 0, 1)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"power": 0.0}

    def fit(self, facts: Facts) -> None:
        rows = balanced_rows(facts.target, facts.mask, facts.kind, self.power)
        self.draw_ = rows / rows.sum().clamp(min=1e-300)
        drawable = rows > 0
        weight = torch.where(drawable, (1 / self.draw_) ** self.correction, 0.0)
        self.weight_ = weight / (self.draw_ * weight).sum().clamp(min=1e-300)
        self.shift_ = shift_of_rows(facts, self.draw_ * self.weight_)

    def sample_weights(self) -> Tensor | None:
        return None if self.power == 0 else self.draw_

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        if not self.undoes_its_drawing():
            return None
        weight = self.weight_.to(target)[ids.to(target.device)]
        return weight.view(-1, *[1] * (target.dim() - 1))

    def undoes_its_drawing(self) -> bool:
        return self.power > 0 and self.correction > 0

    def log_prior_shift(self) -> Tensor:
        unmoved = self.power == 0 or self.correction == 1
        return torch.zeros_like(self.shift_) if unmoved else self.shift_
