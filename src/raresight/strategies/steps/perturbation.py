"""What sharpness-aware steps share: which weights move, how far, and there and back without a rounding error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from raresight.core.errors import ConfigError, Problem

Scope = Literal["all", "norm"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
NORMALISING = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def normalising(model: nn.Module) -> list[Tensor]:
    """The gains and biases of the model's normalisation layers: torch's (batch, instance, group, layer, root mean
    square), those derived from them, and layers of other make that are called a norm."""
    layers = [m for m in model.modules() if isinstance(m, NORMALISING) or "norm" in type(m).__name__.lower()]
    return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]


def trained(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of all groups that require a gradient, in the optimiser's order."""
    return [p for group in optimiser.param_groups for p in group["params"] if p.requires_grad]


def within(parameters: Sequence[Tensor], scope: Sequence[Tensor] | None) -> list[Tensor]:
    """Those of `parameters` that stand in `scope`, compared as objects; all of them where it is None."""
    if scope is None:
        return list(parameters)
    allowed = {id(parameter) for parameter in scope}
    return [parameter for parameter in parameters if id(parameter) in allowed]


def told(scope: list[Tensor] | None, method: str) -> list[Tensor]:
    """The scope that `start_epoch` set. Raises: `ConfigError` RS-C35 where it was not called or found no layer."""
    if scope:
        return scope
    raise ConfigError(
        Problem(
            code="RS-C35",
            level="error",
            found=f"'{method}' with scope norm " + ("was not told the model" if scope is None else "found no layer"),
            why="it moves the gains and biases of normalisation layers alone",
            remedy="write scope: all" if scope is not None else "call start_epoch(0, model, rng) before the first step",
        )
    )


def taken(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients, 0 where there is none, taken from the parameters, so that no later pass can write into them."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return gradients


@contextmanager
def moved(
    parameters: Sequence[Tensor], directions: Sequence[Tensor], distance: float, room: list[Tensor] | None = None
) -> Iterator[bool]:
    """Within this context the parameters stand at w + distance d / ||d||_2, one norm over all of them.

    They are swapped for shifted copies and swapped back, so w itself is never written and returns bit for bit, also
    where the context ends by an exception. Answers with whether they moved: not without directions, nor where the norm
    is 0 or not finite (read on the CPU alone; a graphics card would have to be waited for, and stays at w for norm 0).
    The copies lie in `room`, a list that the caller keeps from step to step (filled here, empty at first): fresh memory
    costs a CPU more than the arithmetic.
    """
    if not parameters:
        yield False
        return
    with torch.no_grad():
        norms = torch.stack(torch._foreach_norm(list(directions)))
        norm = torch.linalg.vector_norm(norms.to(torch.promote_types(norms.dtype, torch.float32)))
        # an infinite norm gives 0 by itself, and no comparison with NaN holds
        factor = torch.where(norm > 0, distance / norm, torch.zeros_like(norm))
        if factor.device.type == "cpu" and factor.item() == 0:
            yield False
            return
        there = _shaped([] if room is None else room, directions)
        torch._foreach_copy_(there, list(directions))
        torch._foreach_mul_(there, factor)
        torch._foreach_add_(there, list(parameters))
    here = [parameter.data for parameter in parameters]
    try:
        for parameter, shifted in zip(parameters, there, strict=True):
            parameter.data = shifted
        yield True
    finally:
        for parameter, kept in zip(parameters, here, strict=True):
            parameter.data = kept


def _shaped(room: list[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """`room`, holding one tensor for each of `tensors`, laid out like it; those that fit are kept."""
    if [_layout(kept) for kept in room] != [_layout(tensor) for tensor in tensors]:
        room[:] = [torch.empty_like(tensor) for tensor in tensors]
    return room


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device
