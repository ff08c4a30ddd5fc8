"""Filters that see less than they reach: where a CPU's bf16 gradients cannot be trusted."""

from __future__ import annotations

import torch
from torch import nn


def has_dead_taps(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether some filter has a tap that no pixel of its input reaches (a 3 x 3 filter on a 1 x 1 image has eight).

    Its gradient is 0. oneDNN's bf16 kernels on the CPU may leave it unwritten, so that whatever the memory held ends up
    in the weights; the outputs do not show it, but no two runs are equal (seen with torch 2.15).
    """
    found = []

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        for axis, side in enumerate(inputs[0].shape[2:]):
            padding = layer.padding[axis] if isinstance(layer.padding, tuple) else 0
            reach = (layer.kernel_size[axis], layer.stride[axis], int(padding), layer.dilation[axis])
            found.append(unreached(side, *reach))

    hooks = [layer.register_forward_pre_hook(look) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return any(found)


def unreached(side: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether some tap of a one-dimensional filter only ever meets padding on an input of `side` pixels."""
    n_out = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    places = [
        range(tap * dilation - padding, tap * dilation - padding + n_out * stride, stride) for tap in range(kernel)
    ]
    return any(not any(0 <= place < side for place in taps) for taps in places)
