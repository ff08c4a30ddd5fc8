"""Saturation, hue, contrast and brightness as one linear map per image, then gamma and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raresight.core.presets import Preset
from raresight.strategies.inputs.draws import spread

# Luma and the two chroma axes (ITU-R BT.601 YIQ): turning the chroma plane changes hue and keeps luma.
_LUMA = (0.299, 0.587, 0.114)
_YIQ = torch.tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)], dtype=torch.float64)
_RGB = torch.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Light:
    """One change of light per image, all `(B,)` on the CPU.

    `brightness` is added; `contrast` and `saturation` are factors; `hue` is an angle in radians; `gamma` is an
    exponent; `noise` is a standard deviation.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    gamma: Tensor
    noise: Tensor

    def moved(self, channels: int) -> Tensor:
        """Which images of so many channels change at all, `(B,)` bool; grey ones have no saturation and no hue."""
        moved = (self.brightness != 0) | (self.contrast != 1) | (self.gamma != 1) | (self.noise != 0)
        if channels == 3:
            moved = moved | (self.saturation != 1) | (self.hue != 0)
        return moved

    def take(self, rows: Tensor) -> Light:
        return Light(*(getattr(self, entry.name)[rows] for entry in fields(self)))


def draw_light(n: int, bounds: Preset, *, strength: float, share: float, rng: torch.Generator) -> Light:
    """Draw `n` changes within `bounds`; see `draws.spread` for `strength` and `share`."""

    def within(bound: float) -> Tensor:
        return spread(n, bound, strength=strength, share=share, rng=rng)

    return Light(
        brightness=within(bounds.brightness),
        contrast=1 + within(bounds.contrast),
        saturation=1 + within(bounds.saturation),
        hue=within(2 * math.pi * bounds.hue),
        gamma=1 + within(bounds.gamma),
        noise=within(bounds.noise).abs_(),
    )


def draw_grain(x: Tensor, light: Light, rng: torch.Generator) -> Tensor | None:
    """Standard normal numbers for the pictures of `x` `(B, C, H, W)` that have noise, in their order; None where none.

    `(N, C, H, W)` float32 on the CPU, laid out as the cache lays out pictures.
    """
    n = int((light.noise != 0).sum())
    if not n:
        return None
    _, channels, height, width = x.shape
    return torch.randn((n, height, width, channels), generator=rng).permute(0, 3, 1, 2)


def colour_matrix(light: Light) -> Tensor:
    """`(B, 3, 3)`: contrast * RGB<-YIQ * diag(1, saturation * turn by hue) * YIQ<-RGB."""
    cos, sin = light.saturation * light.hue.cos(), light.saturation * light.hue.sin()
    turn = torch.zeros(len(cos), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2] = cos.double(), -sin.double()
    turn[:, 2, 1], turn[:, 2, 2] = sin.double(), cos.double()
    return light.contrast.double().view(-1, 1, 1) * (_RGB @ turn @ _YIQ)


def apply_light(x: Tensor, light: Light, grain: Tensor | None = None) -> Tensor:
    """Change images `(B, C, H, W)` in [0, 1]; the answer is clamped to [0, 1].

    c (M x - m) + m + b with m the image's mean luma (saturation and hue keep it), then x^gamma, then noise times
    `grain` (as `draw_grain` gives it: for images with noise alone). Images with another number of channels than 3 are
    changed channel by channel, about the mean of all, without saturation and hue.
    """
    n, channels, height, width = x.shape

    def on_device(values: Tensor) -> Tensor:
        return values.to(x.device, x.dtype, non_blocking=True)

    contrast = on_device(light.contrast)
    flat = x.reshape(n, channels, height * width)
    mean = flat.mean(2)
    luma = mean @ on_device(torch.tensor(_LUMA)) if channels == 3 else mean.mean(1)
    offset = ((1 - contrast) * luma + on_device(light.brightness)).view(n, 1, 1)
    if channels == 3:
        out = torch.baddbmm(offset, on_device(colour_matrix(light)), flat)
    else:
        out = torch.addcmul(offset, contrast.view(n, 1, 1), flat)
    out.clamp_(0, 1)
    if bool((light.gamma != 1).any()):
        out.pow_(on_device(light.gamma).view(n, 1, 1))
    if grain is not None:
        noisy = light.noise.nonzero().flatten()
        added = on_device(grain).flatten(2) * on_device(light.noise[noisy]).view(-1, 1, 1)
        out.index_add_(0, noisy.to(x.device, non_blocking=True), added).clamp_(0, 1)
    return out.view(x.shape)
