"""The optimiser and its learning rate over one phase."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from raresight.core.config import TrainSection

MOMENTUM = 0.9


def rate(step: int, steps: int, *, base: float, warmup: float) -> float:
    """The learning rate of step `step` (from 0) of a phase of `steps`: linear warm-up, then half a cosine towards 0.

    W = ceil(warmup * steps): base (step + 1) / W for step < W, then base (1 + cos(pi (step - W) / (steps - W))) / 2.
    The last step still moves (its rate is above 0).
    """
    warm = math.ceil(warmup * steps)
    if step < warm:
        return base * (step + 1) / warm
    return base * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def optimiser_for(parameters: Iterable[nn.Parameter], settings: TrainSection) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9; no weight decay on biases and normalisation layers (one axis).

    With `clip` the gradient of every step is shortened to that norm, one norm over all parameters.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(parameter.device.type in {"cpu", "cuda"} for parameter in trained)
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=settings.lr, momentum=MOMENTUM, nesterov=True, fused=fused)
    else:
        optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=fused)
    if (longest := settings.clip) is not None:
        # before the optimiser's own step, whoever calls it: a climb of SAM is over by then, and keeps its full length
        optimiser.register_step_pre_hook(lambda *_: clip(trained, longest))
    return optimiser


def clip(parameters: Iterable[nn.Parameter], longest: float) -> None:
    """Shorten the gradient to norm `longest` where it is longer, one norm over all parameters."""
    torch.nn.utils.clip_grad_norm_(parameters, longest)


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = value
