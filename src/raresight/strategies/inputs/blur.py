"""Gaussian blur of a batch, one width per image: focus, slice thickness and reconstruction kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

REFERENCE_PX = 224
"""Presets state `blur_px` at this length of the shorter side; smaller pictures are blurred less in pixels."""


def in_pixels(sigma: Tensor, height: int, width: int) -> Tensor:
    """Standard deviations in pixels of such a picture, from those in pixels of a shorter side of 224."""
    return sigma * min(height, width) / REFERENCE_PX


def apply_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur images `(B, C, H, W)` with standard deviations `sigma` `(B,)` in pixels of a shorter side of 224.

    Equation: weights exp(-t^2 / 2 s^2), normalised, along rows and then columns, to ceil(3 s) either way, with
    s = sigma * side / 224. Borders are reflected. An image with sigma 0 comes back as it was, to rounding.
    """
    height, width = x.shape[2:]
    most = min(height - 1, width - 1)
    scaled = in_pixels(sigma.to(x.device, x.dtype), height, width)
    reach = min(max(1, math.ceil(3 * float(scaled.max()))), most)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    # a width of 0 would divide by 0; one of 1e-3 puts all weight on the middle
    weight = torch.exp(-0.5 * (at / scaled.clamp(min=1e-3).view(-1, 1)) ** 2)
    weight = weight * (at.abs() <= (3 * scaled).ceil().view(-1, 1))  # the widest blur of the batch is no other image's
    weight = weight / weight.sum(1, keepdim=True)
    rows = x.transpose(0, 1)  # (C, B, H, W): one group per image, one kernel per group
    kernel = weight.view(len(x), 1, 1, -1)
    rows = conv2d(pad(rows, (reach, reach, 0, 0), mode="reflect"), kernel, groups=len(x))
    rows = conv2d(pad(rows, (0, 0, reach, reach), mode="reflect"), kernel.transpose(2, 3), groups=len(x))
    return rows.transpose(0, 1).contiguous()
