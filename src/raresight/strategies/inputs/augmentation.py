"""What the two augmenting methods share: finding the bounds, checking settings, and changing the chosen images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.presets import PRESETS, Preset
from raresight.strategies.inputs.blur import apply_blur
from raresight.strategies.inputs.draws import spread
from raresight.strategies.inputs.fused import change_fused, fits
from raresight.strategies.inputs.photometric import Light, apply_light, draw_grain, draw_light
from raresight.strategies.inputs.warp import Warp, apply_warp, draw_warp


def bounds_of(name: str, *, method: str) -> Preset:
    """The preset called `name`.

    Raises: `ConfigError` (RS-C33) naming the nearest known preset.
    """
    if name in PRESETS:
        return PRESETS[name]
    close = nearest(str(name), PRESETS)
    raise ConfigError(
        Problem(
            code="RS-C33",
            level="error",
            file="study.yaml",
            column=f"{method}.preset",
            found=f"no preset is called '{name}'",
            why="without bounds a picture could be changed into one that no patient has",
            remedy=f"did you mean '{close}'?" if close else f"name one of {', '.join(PRESETS)}",
        )
    )


def check_setting(method: str, setting: str, value: float, low: float, high: float = math.inf) -> float:
    """`value` as a float within [low, high].

    Raises: `ConfigError` (RS-C34) with the allowed range.
    """
    number = float(value) if isinstance(value, int | float) else math.nan
    if low <= number <= high and math.isfinite(number):
        return number
    allowed = f"a number of at least {low:g}" if math.isinf(high) else f"a number from {low:g} to {high:g}"
    raise ConfigError(
        Problem(
            code="RS-C34",
            level="error",
            file="study.yaml",
            column=f"{method}.{setting}",
            found=f"{setting} is {value!r}",
            why="the method is not defined there",
            remedy=f"give {allowed}",
        )
    )


def unfitted(method: str) -> ConfigError:
    """The error of a method that was asked to work before it knows its bounds."""
    return ConfigError(
        Problem(
            code="RS-C33",
            level="error",
            column=f"{method}.preset",
            found=f"{method} does not know the modality of the pictures",
            why="the bounds of every change depend on it",
            remedy=f"call fit(facts) first, or name a preset: {', '.join(PRESETS)}",
        )
    )


def change(x: Tensor, chosen: Tensor, bounds: Preset, *, strength: float, share: float, rng: torch.Generator) -> Tensor:
    """Augment the images for which `chosen` `(B,)` holds; all others come back bit for bit.

    Warp, lens, then light and sensor, in the order in which a camera meets them: on the CPU by compiled loops, image by
    image; elsewhere on all images at once.
    """
    warp = draw_warp(len(x), bounds, strength=strength, share=share, rng=rng)
    light = draw_light(len(x), bounds, strength=strength, share=share, rng=rng)
    grain = draw_grain(x, light, rng)
    blur = spread(len(x), bounds.blur_px, strength=strength, share=share, rng=rng).abs_()
    worker = change_fused if fits(x) else change_all
    return worker(x, chosen, warp, blur, light, grain)


def change_all(x: Tensor, chosen: Tensor, warp: Warp, blur: Tensor, light: Light, grain: Tensor | None) -> Tensor:
    """All images are worked on, and those that are not `chosen` put back: to pick rows, the CPU would have to wait."""
    warped, blurred, lit = warp.moved, blur != 0, light.moved(x.shape[1])
    if bool(warped.any()):
        x = torch.where(_each(chosen & warped.to(x.device)), apply_warp(x, warp), x)
    if bool(blurred.any()):
        x = torch.where(_each(chosen & blurred.to(x.device)), apply_blur(x, blur), x)
    if bool(lit.any()):
        x = torch.where(_each(chosen & lit.to(x.device)), apply_light(x, light, grain), x)
    return x


def _each(chosen: Tensor) -> Tensor:
    return chosen.view(-1, 1, 1, 1)
