"""Augmentation on the CPU by compiled loops over pixels (`pixels.py`), an image at a time, in as many threads as torch.

Each image is made by one thread alone, so the number of threads changes no result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from raresight.core.inner_loops import inner_loops
from raresight.strategies.inputs.blur import in_pixels
from raresight.strategies.inputs.photometric import Light, colour_matrix
from raresight.strategies.inputs.warp import Warp, matrix


@cache
def loops() -> ModuleType | None:
    """The compiled loops; None where numba is absent, broken or unwanted. Settled once a process.

    `RARESIGHT_LANES=plain` does without. Where numba is installed and cannot be used, a warning says why.
    """
    return inner_loops(_compiled, "augmentation")


def _compiled() -> ModuleType:
    from raresight.strategies.inputs import pixels

    pixels.change(*_least())
    return pixels


def _least() -> list[np.ndarray]:
    """The arguments of `pixels.change` for no image at all: enough to have it compiled."""
    images = np.empty((0, 2, 2, 1), np.float32)
    never, value = np.empty(0, np.bool_), np.empty(0, np.float32)
    maps, matrices = np.empty((0, 2, 3)), np.empty((0, 3, 3), np.float32)
    light, which = [matrices, value, value, value, value], np.empty(0, np.int64)
    return [images, images, never, maps, value, never, *light, which, np.empty((0, 0), np.float32)]


def fits(x: Tensor) -> bool:
    """Whether `change_fused` can work on these images: on the CPU, float32, grey or colour, sides of at least 2."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] in (1, 3)
        and min(x.shape[2:]) >= 2
        and loops() is not None
    )


def change_fused(x: Tensor, chosen: Tensor, warp: Warp, blur: Tensor, light: Light, grain: Tensor | None) -> Tensor:
    """Warp, lens, then light and sensor for the images for which `chosen` `(B,)` holds; all others are copied.

    Shapes: `grain` as `draw_grain` gives it; `x` `(B, C, H, W)` float32 for which `fits` holds; the answer is new
    memory, laid out as `x` is.
    """
    n, channels, height, width = x.shape
    lines = x.permute(0, 2, 3, 1).contiguous().numpy()
    changed = torch.empty(n, height, width, channels)
    out = changed.numpy()
    sensor = torch.empty(0, 0) if grain is None else grain.permute(0, 2, 3, 1).flatten(1)
    every = [
        (chosen & warp.moved).numpy(),
        matrix(warp, height, width).double().numpy(),
        torch.where(chosen, in_pixels(blur, height, width), 0.0).numpy(),
        (chosen & light.moved(channels)).numpy(),
        colour_matrix(light).float().numpy(),
        *(values.float().numpy() for values in (light.contrast, light.brightness, light.gamma, light.noise)),
        (light.noise != 0).cumsum(0).sub(1).numpy(),
    ]

    def work(part: slice) -> None:
        pixels = loops()
        assert pixels is not None
        pixels.change(lines[part], out[part], *(values[part] for values in every), sensor.numpy())

    parts = max(1, min(torch.get_num_threads(), n))
    slices = [slice(n * k // parts, n * (k + 1) // parts) for k in range(parts)]
    if parts == 1:
        work(slices[0])
    else:
        list(_pool(parts).map(work, slices))
    answer = changed.permute(0, 3, 1, 2)
    return answer if x.is_contiguous(memory_format=torch.channels_last) else answer.contiguous()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="augment")
