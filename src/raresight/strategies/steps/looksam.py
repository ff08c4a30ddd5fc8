"""LookSAM: SAM's second pass every few steps, and its direction remembered in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.strategies.settings import number, whole
from raresight.strategies.steps.perturbation import moved, taken, trained
from raresight.strategies.strategy import Place, Strategy

PREFIX = "sharp."


class LookSAM(Strategy):
    """Climb every k-th step and keep the part of its gradient that is not the plain one; add that part in between.

    Equation: at steps 1, k + 1, 2k + 1, ...: g_s = grad L(w + rho g / ||g||), g = grad L(w); the optimiser steps with
    g_s, and g_v = g_s - (<g_s, g> / ||g||^2) g is kept. At all others it steps with g + alpha (||g|| / ||g_v||) g_v.
    Products and norms are over all parameters of all groups. 1 + 1/k passes a step.

    Shapes: any. `closure()` is called once or twice; the loss at w is what `step` returns.
    Ranges: `rho` in [0, 10]; 0 is the plain step. `every` = k >= 1; 1 is SAM. `alpha` in [0, 10]; at 0 the steps
    in between are plain.
    Absent class: no role. A gradient of norm 0, or one that is not finite, gives the plain step.
    Helps: where SAM helps and costs too much: with k = 5 a fifth of the second pass is left.
    Hurts: the kept direction is that of an older batch, and rare cases in it are soon out of date.
    Evidence: CIFAR-100, WRN-28-10 (the Momentum-SAM paper's table): accuracy 83.3 with it, 84.2 with SAM, 81.5 without;
    speed 0.84 of plain training. None found by us on imbalanced or medical images. Experimental.
    Raises: `ConfigError` RS-C34 for settings out of range.
    Source: Liu et al. 2022, "Towards efficient and scalable sharpness-aware minimization", the algorithm LookSAM. No
    difference in the formula.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> def closure():
    ...     w.grad = None
    ...     loss = (w * w * torch.tensor([0.5, 2.0])).sum()
    ...     loss.backward()
    ...     return loss.detach()
    >>> method = LookSAM(rho=0.1, every=2)
    >>> _ = method.step(closure, torch.optim.SGD([w], lr=0.0), {})
    >>> [round(value, 3) for value in method.sharp_[0].tolist()]  # at right angles to g = (1, 4)
    [-0.068, 0.017]
    """

    name: ClassVar[str] = "looksam"
    place: ClassVar[Place] = "steps"
    source: ClassVar[str] = "Liu et al. 2022, LookSAM"
    experimental: ClassVar[bool] = True

    def __init__(self, *, rho: float = 0.05, every: int = 5, alpha: float = 0.7) -> None:
        self.rho = number(self.name, "rho", rho, 0, 10)
        self.every = whole(self.name, "every", every, 1)
        self.alpha = number(self.name, "alpha", alpha, 0, 10)
        self.sharp_: list[Tensor] = []
        self.n_steps_ = 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"rho": 0.0}

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        loss = closure()
        parameters = [p for p in trained(optimiser) if p.grad is not None]
        if self.rho > 0 and parameters:
            if self.n_steps_ % self.every == 0:
                self._climb(closure, parameters)
            elif self.sharp_:
                self._add_kept([p.grad for p in parameters if p.grad is not None])
        optimiser.step()
        self.n_steps_ += 1
        return loss

    def _climb(self, closure: Callable[..., Tensor], parameters: list[Tensor]) -> None:
        """SAM's step: the gradients become those at the perturbed weights; what they add to the plain ones is kept."""
        plain = gradients = taken(parameters)
        with moved(parameters, plain, self.rho) as away:
            if away:
                closure()
                gradients = taken(parameters)
                self._keep(plain, gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    @torch.no_grad()
    def _keep(self, plain: list[Tensor], sharp: list[Tensor]) -> None:
        square = _dot(plain, plain)
        along = torch.where(square > 0, _dot(sharp, plain) / square, torch.zeros_like(square))
        self.sharp_ = list(torch._foreach_sub(sharp, torch._foreach_mul(plain, along)))

    @torch.no_grad()
    def _add_kept(self, gradients: list[Tensor]) -> None:
        self.sharp_ = [kept.to(now.device) for kept, now in zip(self.sharp_, gradients, strict=True)]
        kept = _dot(self.sharp_, self.sharp_).sqrt()
        factor = self.alpha * _dot(gradients, gradients).sqrt() / kept
        factor = torch.where(torch.isfinite(factor), factor, torch.zeros_like(factor))  # nothing kept: plain
        torch._foreach_add_(gradients, torch._foreach_mul(self.sharp_, factor))

    def state_dict(self) -> dict[str, Tensor]:
        kept = {f"{PREFIX}{i}": tensor for i, tensor in enumerate(self.sharp_)}
        return kept | {"n_steps": torch.tensor(self.n_steps_)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.n_steps_ = int(state["n_steps"])
        self.sharp_ = [state[f"{PREFIX}{i}"].clone() for i in range(len(state) - 1)]


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum(dtype=torch.float32) for x, y in zip(a, b, strict=True)]).sum()
