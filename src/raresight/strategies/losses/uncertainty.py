"""Uncertainty weighting: every finding is a task, weighted by how well it is learned already."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import along_classes, at_least_float32, reduce
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy

BOUND = 5.0  # on |s|: no class weighs more than e^5 = 148 times, or less than 1/148 of, what it does at first


class Uncertainty(Strategy):
    """Binary cross-entropy with a weight exp(-s_k) for each class, the s_k learned beside the model.

    Equation: sum_k r_k (exp(-s_k) L_k + s_k), L_k the mean loss over the known labels of class k in the batch, r_k the
    class's share of the batch's known labels (1/K where all are known). After every step s_k <- s_k - lr (1 - exp(-s_k)
    L_k), the gradient step of the term in brackets; s begins at 0 and stays within [-5, 5], so that the loss is finite
    and bounded below. At rest exp(-s_k) = 1 / L_k: every class adds the same to the loss. Case weights count in L_k.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`, the latter
    the plain loss of each case, without s.
    Ranges: `lr` in [0, 1], per step; 0 is binary cross-entropy.
    Absent class: its loss falls towards 0 and its s with it, down to the bound: it takes up to 148 times the weight of
    its negatives without anything to learn from them. A class with no known label in a batch keeps its s.
    Helps: tasks with losses of different scale, which would drown one another.
    Hurts: a rare finding has a small loss because its negatives are easy, not because it is learned; it gains weight
    for its negatives as for its positives, and nothing is balanced within the class. Noisy labels lose weight.
    Evidence: none found by us with figures; an arm of a study on ChestX-ray14 (arXiv 2204.01729), of which only
    the abstract was available to us.
    Raises: `ConfigError` RS-C34 for lr outside its range.
    Source: Kendall et al. 2018, "Multi-task learning using uncertainty to weigh losses", for classification, s = log
    sigma^2. We differ in + s where the paper has + s / 2 (which doubles all weights at rest alike), in s having a step
    of its own (theirs: the optimiser's) and in the bound. The shift is 0: both sides of a class weigh alike.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target, ids = torch.tensor([[0.0], [1.0]]), torch.arange(2)
    >>> method = Uncertainty(lr=0.1)
    >>> method.fit(Facts("independent", ("hernia",), target, torch.ones_like(target)))
    >>> _, per_case = method.loss(torch.zeros(2, 1), target, torch.ones(2, 1), torch.ones(2, 1), ids)
    >>> method.observe(ids, per_case)
    >>> round(method.s_.item(), 4)  # -0.1 (1 - log 2)
    -0.0307
    """

    name: ClassVar[str] = "uncertainty"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Kendall et al. 2018, uncertainty weights for classification"
    kinds: ClassVar[tuple[Kind, ...]] = ("independent",)
    rowwise: ClassVar[bool] = False  # each run has weights of its own

    def __init__(self, *, lr: float = 0.01) -> None:
        self.lr = number(self.name, "lr", lr, 0, 1)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"lr": 0.0}

    def fit(self, facts: Facts) -> None:
        self.s_ = torch.zeros(len(facts.classes))
        self.seen_: tuple[Tensor, Tensor] | None = None

    def log_prior_shift(self) -> Tensor:
        return torch.zeros(len(self.s_))

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        entries = binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
        if self.seen_ is None:  # further calls in a step are at weights that the run does not keep
            self.seen_ = class_means(entries.detach() * weight, mask)
        s = along_classes(self.s_, logits)
        total, per_case = reduce(entries, mask, weight * (-s).exp(), kind="independent")
        constant, _ = reduce(s.expand_as(entries), mask, torch.ones_like(entries), kind="independent")
        return total + constant, per_case

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        if self.seen_ is None:
            return
        mean, known = self.seen_
        s = self.s_.to(mean)
        moved = (s - self.lr * (1 - (-s).exp() * mean)).clamp(-BOUND, BOUND)
        self.s_ = torch.where(known > 0, moved, s)
        self.seen_ = None

    def state_dict(self) -> dict[str, Tensor]:
        return {"s": self.s_.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.s_ = state["s"].clone()
        self.seen_ = None


def class_means(entries: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the entries `(B, K, *S)` over the known labels of each class, and their number, both `(K,)`."""
    mask = mask.expand_as(entries).to(entries.dtype).transpose(0, 1).flatten(1)
    entries = entries.transpose(0, 1).flatten(1)
    known = mask.sum(1)
    return torch.where(mask > 0, entries, 0.0).sum(1) / known.clamp(min=1), known
