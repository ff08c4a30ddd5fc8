"""A forward pass cut in two: the body once and without a graph, the head as often as there are classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raresight.core.errors import listed
from raresight.core.seeds import torch_rng
from raresight.explain.undisturbed import logits_of, named, undisturbed

TOLERANCE = 1e-4  # of the largest value: how far two ways to the same logits may lie apart


class SplitError(Exception):
    """The pass cannot be cut at this layer; says why."""


@dataclass
class Split:
    """A forward pass whose graph begins at the layers: `logits` `(B, K)` and the layers' outputs `(B, C, *s)` in it."""

    logits: Tensor
    activations: dict[str, Tensor]

    def gradients(self, label: int | Tensor, *, last: bool) -> dict[str, Tensor]:
        """d logit_label / d activation of each layer `(B, C, *s)`; `last` frees the graph.

        `label` is one class, or one an image `(B,)`. All images at once: in evaluation mode one image's logit does not
        depend on another's pixels. Zero where the logit does not depend on the layer.
        """
        wanted = torch.zeros_like(self.logits)
        wanted[torch.arange(len(wanted)), label] = 1.0
        inputs = list(self.activations.values())
        found = torch.autograd.grad(self.logits, inputs, wanted, retain_graph=not last, allow_unused=True)
        return {
            name: torch.zeros_like(a) if g is None else g
            for (name, a), g in zip(self.activations.items(), found, strict=True)
        }


def split(
    model: nn.Module, x: Tensor, layers: Sequence[str], *, change: Callable[[Tensor], Tensor] | None = None
) -> Split:
    """One forward pass whose graph begins at the shallowest of `layers`; the body before it keeps no graph.

    Each layer's output is kept, and a copy of it handed on, so that operations in place after the layer change the
    copy. `change` replaces outputs before they are kept. Call it inside `undisturbed`.

    Raises: `SplitError` where a layer is called twice or not at all, gives no single tensor `(B, C, *s)`, or the
    logits do not come from it.
    """
    modules = named(model, layers)
    kept: dict[str, Tensor] = {}

    def cut(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Tensor]:
        def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != x.ndim:
                shape = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
                raise SplitError(f"'{name}' gives {shape}, not one feature map")
            if name in kept:
                raise SplitError(f"'{name}' is called more than once in a pass")
            output = output if change is None else change(output)
            kept[name] = output if output.requires_grad else output.detach().clone().requires_grad_()
            return kept[name].clone()

        return keep

    handles = [module.register_forward_hook(cut(name)) for name, module in modules.items()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            logits = logits_of(model, x.detach())
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name in modules if name not in kept]
    if silent:
        raise SplitError(f"'{silent[0]}' is not called in a pass")
    if not logits.requires_grad:
        raise SplitError(f"the logits do not come from {listed(layers)}")
    return Split(logits, {name: kept[name] for name in layers})


def can_replay(model: nn.Module, x: Tensor, layer: str) -> bool:
    """Whether the pass cut at `layer` gives the logits of the plain pass, to 1e-4 of the largest."""
    with undisturbed(model):
        with torch.no_grad():
            plain = logits_of(model, x)
        try:
            cut = split(model, x, [layer])
        except SplitError:
            return False
        return _close(cut.logits.detach(), plain)


def linear_head(model: nn.Module, layer: str, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """W `(K, C)` and b `(K,)` where logits = W mean_over_space(a) + b holds for `layer`'s output a; None elsewhere.

    Equation: W_kc = sum over space of dz_k/da_c, b = z - W mean(a), both of the first image; then checked on the whole
    batch x `(B, C, *S)`, and on noise in the place of its activations, to 1e-4 of the largest logit.
    Shapes: whatever code the head is made of: only what it computes is asked.
    Source: Zhou et al., CVPR 2016, eq. 1-2: where class activation maps are defined.
    """
    space = tuple(range(2, x.ndim))
    with undisturbed(model):
        try:
            cut = split(model, x, [layer])
            moved = split(model, x, [layer], change=_otherwise)
        except SplitError:
            return None
        n = cut.logits.shape[1]
        sums = [cut.gradients(k, last=k == n - 1)[layer][0].flatten(1).sum(1) for k in range(n)]
        weight = torch.stack(sums)
        if not weight.any():  # constant logits hold of every layer
            return None
        pooled = cut.activations[layer].detach().mean(space)
        bias = (cut.logits[0] - pooled[0] @ weight.T).detach()
        for said in (cut, moved):
            expected = said.activations[layer].detach().mean(space) @ weight.T + bias
            if not _close(expected, said.logits.detach()):
                return None
        return weight, bias


def _otherwise(a: Tensor) -> Tensor:
    """Other activations that the layer could have given: noise in [0, largest], every other channel without any."""
    largest = a.abs().max().item() or 1.0
    noise = largest * torch.rand(a.shape, generator=torch_rng("other activations")).to(a)
    noise[:, ::2] = 0
    return noise


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal to `TOLERANCE` of b's largest value; where both are not a number, they agree."""
    largest = b.nan_to_num().abs().max().item()
    return torch.allclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True)
