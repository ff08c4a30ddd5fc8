"""Copies of a network with parts of its weights drawn anew, as a control: what a map keeps is not of those weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raresight.core.errors import ConfigError
from raresight.core.seeds import derive
from raresight.explain.layers import logits_of, spatial_layers, undisturbed

HEAD = "head"


def depths(model: nn.Module, x: Tensor, *layers: str) -> dict[str, list[str]]:
    """Depth -> the modules with weights of their own that belong to it, from the output down to the input.

    `head` is what comes after the last stage; then there is one depth for every stage (`spatial_layers`) and for each
    of `layers`, each with all that comes after the stage below it. In the order of one pass, not of definition. Where
    no weights lie between two of `layers`, or below one, the lower one's depth is empty; no other depth is.
    """
    ends = set(layers)
    with suppress(ConfigError):  # a network without stages is cut at the layers alone
        ends |= {stage.name for stage in spatial_layers(model, x[:2])}
    found: dict[str, list[str]] = {}
    waiting: list[str] = []

    def note(name: str, weighted: bool) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if weighted and name not in waiting and all(name not in group for group in found.values()):
                waiting.append(name)
            if name in ends and name not in found:
                found[name] = waiting[:]
                waiting.clear()

        return hook

    handles = [
        module.register_forward_hook(note(name, any(True for _ in module.parameters(recurse=False))))
        for name, module in model.named_modules()
    ]
    try:
        with undisturbed(model), torch.no_grad():
            logits_of(model, x[:2])
    finally:
        for handle in handles:
            handle.remove()
    found[HEAD] = waiting
    names = list(found)
    for i, layer in enumerate(names):
        if layer in layers and not found[layer]:  # the last module of a stage and the stage end at the same place
            below = next((name for name in reversed(names[:i]) if found[name]), layer)
            found[layer], found[below] = found[below], []
    return {name: group for name, group in reversed(found.items()) if group or name in layers}


def randomised(model: nn.Module, x: Tensor, modules: Sequence[str], *names: object) -> nn.Module:
    """A copy of the network whose `modules` have the weights of an untrained network, drawn from `names`.

    Each module draws as it did when it was made (`reset_parameters`); one that cannot, from a normal distribution with
    the mean and deviation of its own weights. Batch-norm layers of the copy then take their means and variances from x
    wherever their input has changed: with those of the trained network, activations would die out, and every map would
    change for that reason alone. The given network is not touched, nor is the global random state.
    """
    compiled = getattr(model, "compiled", None)
    twin = copy.deepcopy(model, {id(compiled): None} if compiled is not None else {})
    twin.eval()
    drawn = dict(twin.named_modules())
    devices = {p.device.index for p in twin.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)), torch.no_grad():
        torch.manual_seed(derive("randomised weights", *names))
        for name in modules:
            module = drawn[name]
            if callable(getattr(module, "reset_parameters", None)):
                module.reset_parameters()
                continue
            for weight in module.parameters(recurse=False):
                spread = float(weight.std()) if weight.numel() > 1 else 0.0
                weight.copy_(float(weight.mean()) + (spread or 1.0) * torch.randn_like(weight))
    _recalibrate(twin, x, set(modules))
    return twin


def _recalibrate(twin: nn.Module, x: Tensor, changed: set[str]) -> None:
    """Means and variances over x for the batch-norm layers that come after a changed module in a pass, or are one."""
    if len(x) < 2 or not any(isinstance(module, _BatchNorm) for module in twin.modules()):
        return
    touched = False
    behind: list[_BatchNorm] = []

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            nonlocal touched
            touched = touched or name in changed
            if touched and isinstance(module, _BatchNorm) and module.track_running_stats:
                behind.append(module)

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in twin.named_modules()]
    try:
        with torch.no_grad():
            logits_of(twin, x[:2])
    finally:
        for handle in handles:
            handle.remove()
    if not behind:
        return
    for norm in behind:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the whole of x is one batch, so that each layer sees what the one before it now gives
        norm.training = True
    with torch.no_grad():
        logits_of(twin, x)
    for norm in behind:
        norm.training = False
