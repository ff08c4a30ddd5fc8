"""Momentum SAM: the sharpness-aware step without its second pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError, Problem
from raresight.strategies.settings import choice, number
from raresight.strategies.steps.perturbation import SCOPES, Scope, moved, normalising, told, trained, within
from raresight.strategies.strategy import Facts, Place, Strategy

MOMENTA = ("momentum_buffer", "exp_avg")  # of torch's SGD and of its Adam family


class MSAM(Strategy):
    """Take the gradient a little further along the way the weights are moving, and step from where they are with it.

    Equation: w~ = w - rho v / ||v||_2, v the optimiser's momentum, the norm over all parameters that move;
    g = grad L(w~); then the optimiser steps from w with g. One pass a step. v is `momentum_buffer` of SGD and
    `exp_avg` of AdamW; the first step, before which there is none, is plain. Weight decay and clipping act at w.
    With scope `norm` the gains and biases of normalisation layers alone are moved.

    Shapes: any. `closure()` is called once; the loss that `step` returns is that at w~.
    Ranges: `rho` in [0, 10], a distance in weight space; 0 is the plain step. `scope` is `all` or `norm`, which has to
    be told the model: `start_epoch(0, model, rng)` before the first step. `warmup` in [0, 1] is the share of the run's
    steps at its beginning that are plain.
    Absent class: no role. A momentum of norm 0, or one that is not finite, gives the plain step.
    Helps: where SAM helps and its second pass cannot be paid: the step costs a sweep over the weights instead.
    Hurts: like SAM it does not know which class is rare, and its direction is that of past batches, in which rare
    cases hardly occur. rho does not carry over from one data set or optimiser to another.
    Evidence: none found by us on imbalanced or medical images beside our own study
    (docs/findings/flat_minima.md). CIFAR-100, WRN-28-10 (the paper's table): accuracy 83.2 with it, 84.2 with SAM, 81.5
    without; speed 0.99 of plain training.
    Raises: `ConfigError` RS-C34 for settings out of range, RS-C35 for an optimiser without momentum.
    Source: Becker, Altrock and Risse 2024, "Momentum-SAM", arXiv 2401.12033, the update rule. We differ in putting the
    weights back before the optimiser steps, so that weight decay acts at w (the authors' SGD decays w~).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> def closure():
    ...     w.grad = None
    ...     loss = (w**2).sum()
    ...     loss.backward()
    ...     return loss.detach()
    >>> method, sgd = MSAM(rho=0.5), torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     _ = method.step(closure, sgd, {})
    >>> round(w.item(), 4)  # v = 2, w = 0.8; then v = 0.9 * 2 + 2 * (0.8 - 0.5), w = 0.8 - 0.1 * v
    0.56
    """

    name: ClassVar[str] = "msam"
    place: ClassVar[Place] = "steps"
    source: ClassVar[str] = "Becker, Altrock and Risse 2024, Momentum-SAM, arXiv 2401.12033"

    def __init__(self, *, rho: float = 0.1, scope: Scope = "all", warmup: float = 0.0) -> None:
        self.rho = number(self.name, "rho", rho, 0, 10)
        self.scope = choice(self.name, "scope", scope, SCOPES)
        self.warmup = number(self.name, "warmup", warmup, 0, 1)
        self.first_ = 0
        self.n_steps_ = 0
        self._norm: list[Tensor] | None = None
        self._room: list[Tensor] = []

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"rho": 0.0}

    def fit(self, facts: Facts) -> None:
        self.first_ = round(self.warmup * facts.steps)

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        if self.scope == "norm":
            self._norm = normalising(model)

    def stale_statistics(self) -> bool:
        return self.rho > 0

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        if self.rho > 0 and self.n_steps_ >= self.first_:
            scope = None if self.scope == "all" else told(self._norm, self.name)
            parameters = [p for p in within(trained(optimiser), scope) if momentum(optimiser, p) is not None]
            if self.n_steps_ and not parameters:
                raise _without_momentum(optimiser)
            directions = [v for p in parameters if (v := momentum(optimiser, p)) is not None]
            with moved(parameters, directions, -self.rho, self._room):
                loss = closure()
        else:
            loss = closure()
        optimiser.step()
        self.n_steps_ += 1
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        return {"n_steps": torch.tensor(self.n_steps_)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.n_steps_ = int(state["n_steps"])


def momentum(optimiser: torch.optim.Optimizer, parameter: Tensor) -> Tensor | None:
    """The optimiser's momentum of a parameter, shaped as it; None before its first step, or where it keeps none."""
    state = optimiser.state.get(parameter, {})
    return next((state[key] for key in MOMENTA if state.get(key) is not None), None)


def _without_momentum(optimiser: torch.optim.Optimizer) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-C35",
            level="error",
            file="study.yaml",
            column="train.optimiser",
            found=f"'msam' with {type(optimiser).__name__}, which keeps no momentum",
            why="the momentum is the direction in which it moves the weights",
            remedy="use SGD with momentum, or AdamW; or `sam`, which needs none",
        )
    )
