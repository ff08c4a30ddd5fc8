"""Where a network can be looked into: its stages, found by one pass, and what a look needs of the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from raresight.explain.split_head import can_replay, linear_head
from raresight.explain.undisturbed import cannot_look, logits_of, undisturbed

__all__ = ["Layer", "can_replay", "linear_head", "logits_of", "spatial_layers", "undisturbed"]


@dataclass(frozen=True)
class Layer:
    """A place to look into: module `name`, whose output is `(B, channels, *grid)`; `stride` is input pixels a cell."""

    name: str
    channels: int
    grid: tuple[int, ...]
    stride: tuple[float, ...]


def spatial_layers(model: nn.Module, x: Tensor) -> list[Layer]:
    """The network's stages, shallow to deep: at each resolution, the last module that ends there.

    One pass of x `(B, C, *S)`, in evaluation mode. A stage is a module that is called once and gives one tensor
    `(B, C', *s)` with more than one cell; modules inside the step down to the next resolution (the first convolution
    of a strided block) are none, nor are modules that hand on what they were given. A resolution is one at which some
    convolution of the network works, so that no channel or token axis is taken for a place.

    Raises: `ConfigError` RS-R49 for a network without such a module, or whose only one cuts the image into tokens
    (vision transformers): what comes after has no place on the image.
    Source: the choice of the last module of a resolution is ours; Selvaraju et al., ICCV 2017, take the last of all.
    """
    calls: list[_Call] = []

    def heard(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            calls.append(_Call.of(name, module, args, output))

        return note

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(heard(name)) for name, module in named]
    try:
        with undisturbed(model), torch.no_grad():
            logits_of(model, x)
    finally:
        for handle in handles:
            handle.remove()
    maps = _stages(calls, tuple(x.shape))
    if not maps or _only_patches(calls, maps[-1]):
        raise cannot_look(
            f"{type(model).__name__} has no feature map on a grid of places"
            + (f" but that of '{maps[-1].name}', where the image is cut into patches" if maps else ""),
            "there are no places in it of which one could ask what they speak for (vision transformers work on tokens)",
            "choose a convolutional network (ResNet, DenseNet, ConvNeXt, EfficientNet), or leave its maps out",
        )
    return [
        Layer(call.name, call.shape[1], call.grid, tuple(n / g for n, g in zip(x.shape[2:], call.grid, strict=True)))
        for call in maps
    ]


@dataclass(frozen=True)
class _Call:
    """One call of a module: the shapes that it was given and gave, `()` for anything but one tensor."""

    name: str
    shape: tuple[int, ...]
    given: tuple[int, ...]
    passed_on: bool  # the very tensor that it was given, as from a module that does nothing in evaluation mode
    weighted: bool  # has parameters of its own
    convolves: bool

    @property
    def grid(self) -> tuple[int, ...]:
        return self.shape[2:]

    @classmethod
    def of(cls, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> _Call:
        first = args[0] if args else None
        return cls(
            name,
            tuple(output.shape) if isinstance(output, Tensor) else (),
            tuple(first.shape) if isinstance(first, Tensor) else (),
            output is first and not getattr(module, "inplace", False),
            any(True for _ in module.parameters(recurse=False)),
            isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d),
        )


def _stages(calls: list[_Call], image: tuple[int, ...]) -> list[_Call]:
    """The last map of each resolution, in order; one inside a step down only where there is no other."""
    ndim = len(image)
    times = Counter(call.name for call in calls)
    convolved = {call.grid for call in calls if call.convolves and len(call.shape) == ndim}
    blocks = {
        call.name: call
        for call in calls
        if len(call.shape) == ndim and call.shape[0] == image[0] and call.grid in convolved | {(1,) * (ndim - 2)}
    }
    met: dict[str, set[tuple[int, ...]]] = {}  # the resolutions met inside a module, but for pooled ones
    for call in blocks.values():
        for name in (call.name, *_above(call.name)):
            met.setdefault(name, set()).update({call.grid} - {(1,) * len(call.grid)})

    def inside_a_step(call: _Call) -> bool:
        """Whether a module around it goes from one resolution to another, meets no third, and ends at another one."""
        around = [blocks[name] for name in _above(call.name) if name in blocks]
        return any(
            block.grid != call.grid and len(block.given) == ndim and met[block.name] <= {block.given[2:], block.grid}
            for block in around
        )

    last: dict[tuple[int, ...], tuple[bool, int]] = {}
    for i, call in enumerate(calls):
        if call.name in blocks and prod(call.grid) > 1 and times[call.name] == 1 and not call.passed_on:
            last[call.grid] = max(last.get(call.grid, (False, -1)), (not inside_a_step(call), i))
    return [calls[i] for _, i in sorted(last.values(), key=lambda found: found[1])]


def _above(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`: the modules around a module, the network itself left out."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _only_patches(calls: list[_Call], deepest: _Call) -> bool:
    """Whether the deepest map comes from the first layer, and tokens `(B, tokens, width)` come after it."""
    place = calls.index(deepest)
    before = [call for call in calls[: place + 1] if call.weighted]
    after = [call for call in calls[place + 1 :] if call.weighted and len(call.shape) > 2 and min(call.shape[1:]) > 1]
    return len(before) <= 1 and any(call.grid != deepest.grid for call in after)
