"""Imbalanced SAM: the sharpness-aware climb for the loss of the rare classes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.strategies.settings import number
from raresight.strategies.steps.perturbation import moved, taken, trained
from raresight.strategies.strategy import Facts, Place, Strategy


class ImbSAM(Strategy):
    """Sharpness-aware for the cases of rare classes, plain for all others.

    Equation: L = L_head + L_tail, each the part of the batch's loss that its rows have; the optimiser steps from w with

        grad L_head(w) + grad L_tail(w + e) = grad L(w) - grad L_tail(w) + grad L_tail(w + e),
        e = rho g / ||g||_2, g = grad L_tail(w).

    A row is of the tail if it has a class whose training prevalence is below `below`. The tail's loss passes twice
    more. Without batch normalisation its rows pass alone, with a dropout of their own: 1 + 2 f passes for a share f of
    tail rows. With it the whole batch passes and the tail's rows are counted: 3 passes.

    Shapes: `batch["target"]` and `batch["mask"]` `(B, K, *S)`, labels before any mixing; `closure(rows)` gives the part
    of the loss that `rows` have.
    Ranges: `rho` in [0, 10]; 0 is the plain step. `below` in [0, 1], a prevalence (0.1: moderate severity and
    rarer); at 0 no class is rare.
    Absent class: a class without training cases is no rare class. A batch without tail rows takes the plain step.
    Helps: where SAM alone follows the gradient of the common classes and flattens for them what they need least.
    Hurts: with a handful of tail cases the direction is that of a handful of pictures. With batch normalisation it is
    dear. The cheap ways are no way: tail rows that normalise themselves, or by fixed statistics, give a correction that
    has little to do with the method's (cosines of -0.4 to 0.4 in our networks, docs/findings/flat_minima.md).
    Evidence: CIFAR-100-LT, imbalance 100 (the table in the authors' repository): accuracy of classes with many, medium
    and few cases 75.9, 53.5, 19.4; SAM 79.7, 49.3, 12.4; plain 77.8, 46.6, 13.5. Medical images: our own study
    (docs/findings/flat_minima.md).
    Raises: `ConfigError` RS-C34 for settings out of range; RS-C35 beside a loss that is no sum over rows, since no part
    of it is the tail's.
    Source: Zhou et al. 2023, "ImbSAM", arXiv 2308.07815, the split of the loss. We differ in adding the
    difference of two tail gradients to the whole batch's gradient, where theirs splits every loss in two.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0] * 19 + [1]]
    >>> method = ImbSAM(below=0.1)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.tail_.tolist()
    [False, True]
    """

    name: ClassVar[str] = "imbsam"
    place: ClassVar[Place] = "steps"
    source: ClassVar[str] = "Zhou et al. 2023, ImbSAM, arXiv 2308.07815"
    takes_parts: ClassVar[bool] = True

    def __init__(self, *, rho: float = 0.05, below: float = 0.1) -> None:
        self.rho = number(self.name, "rho", rho, 0, 10)
        self.below = number(self.name, "below", below, 0, 1)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"rho": 0.0}

    def fit(self, facts: Facts) -> None:
        self.tail_ = (facts.prior > 0) & (facts.prior < self.below)

    def findings(self) -> list[str]:
        if self.tail_.any():
            return []
        return [f"imbsam: no class has a training prevalence below {self.below:g}, so every step is plain"]

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        loss = closure()
        rows = self._tail_rows(batch)
        if self.rho > 0 and len(rows):
            self._sharpen(closure, optimiser, rows)
        optimiser.step()
        return loss

    def _tail_rows(self, batch: dict[str, Tensor]) -> Tensor:
        tail = self.tail_.to(batch["target"].device)
        has = (batch["target"] * batch["mask"])[:, tail] > 0
        return has.flatten(1).any(1).nonzero().squeeze(1)

    def _sharpen(self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, rows: Tensor) -> None:
        """Replace what the tail rows gave to the gradients by what they give at the perturbed weights."""
        parameters = [p for p in trained(optimiser) if p.grad is not None]
        whole = taken(parameters)
        closure(rows)
        tail = taken(parameters)
        with moved(parameters, tail, self.rho) as away:
            if away:
                closure(rows)
                torch._foreach_add_(whole, torch._foreach_sub(taken(parameters), tail))
        for parameter, gradient in zip(parameters, whole, strict=True):
            parameter.grad = gradient
