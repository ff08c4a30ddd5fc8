"""Flips, turns, rotation, zoom, shear and translation of a batch as one affine warp.

Angles are counter-clockwise as seen on the screen, shifts are to the right and downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from raresight.core.presets import Preset
from raresight.strategies.inputs.draws import coin, spread


@dataclass(frozen=True)
class Warp:
    """One geometric change per image, all `(B,)` on the CPU.

    `mirror_x`, `mirror_y` are 1 or -1; `turns` are quarter turns; `angle` and `shear` are radians; `shift_x`, `shift_y`
    are shares of the image's side; `zoom` is the factor by which the picture grows.
    """

    mirror_x: Tensor
    mirror_y: Tensor
    turns: Tensor
    angle: Tensor
    shear: Tensor
    shift_x: Tensor
    shift_y: Tensor
    zoom: Tensor

    @property
    def moved(self) -> Tensor:
        """Which images change at all, `(B,)` bool."""
        return (
            (self.mirror_x < 0)
            | (self.mirror_y < 0)
            | (self.turns != 0)
            | (self.angle != 0)
            | (self.shear != 0)
            | (self.shift_x != 0)
            | (self.shift_y != 0)
            | (self.zoom != 1)
        )

    def take(self, rows: Tensor) -> Warp:
        return Warp(*(getattr(self, entry.name)[rows] for entry in fields(self)))


def draw_warp(n: int, bounds: Preset, *, strength: float, share: float, rng: torch.Generator) -> Warp:
    """Draw `n` changes within `bounds`; see `draws.spread` for `strength` and `share`."""

    def within(bound: float) -> Tensor:
        return spread(n, bound, strength=strength, share=share, rng=rng)

    flips = 0.5 * min(strength, 1.0)
    mirror_x = 1 - 2 * coin(n, flips * bounds.flip_horizontal, rng)
    mirror_y = 1 - 2 * coin(n, flips * bounds.flip_vertical, rng)
    turned = coin(n, min(strength, 1.0) * bounds.quarter_turns, rng)
    turns = turned * torch.randint(0, 4, (n,), generator=rng)
    return Warp(
        mirror_x=mirror_x,
        mirror_y=mirror_y,
        turns=turns,
        angle=within(math.radians(bounds.rotate_deg)),
        shear=within(math.radians(bounds.shear_deg)),
        shift_x=within(bounds.translate),
        shift_y=within(bounds.translate),
        zoom=1 + within(bounds.zoom),
    )


def matrix(warp: Warp, height: int, width: int) -> Tensor:
    """The maps `(B, 2, 3)` from output to input positions, both in [-1, 1] across the image: `affine_grid`'s theta.

    With mirror F, shear S, rotation R and factor s, content at p moves to s R S F p + t, so output position q shows
    what lay at F S^-1 R^-1 (q - t) / s. Angles are meant in pixels: the off-diagonal terms carry the aspect ratio.
    """
    quarter = torch.tensor([1.0, 0.0, -1.0, 0.0])  # exact, so that a quarter turn only moves pixels
    turns = warp.turns.long() % 4
    turn_cos, turn_sin = quarter[turns], quarter[(turns - 1) % 4]
    cos = turn_cos * warp.angle.cos() - turn_sin * warp.angle.sin()
    sin = turn_sin * warp.angle.cos() + turn_cos * warp.angle.sin()
    # R^-1 on a screen whose y axis points down, for an angle that is counter-clockwise to the eye
    back_xx, back_xy, back_yx, back_yy = cos, -sin, sin, cos
    slope = warp.shear.tan()  # S^-1 takes slope * y off x
    xx, xy = back_xx - slope * back_yx, back_xy - slope * back_yy
    linear = torch.stack(
        (
            warp.mirror_x * xx,
            warp.mirror_x * xy * (height / width),
            warp.mirror_y * back_yx * (width / height),
            warp.mirror_y * back_yy,
        ),
        dim=1,
    ).view(-1, 2, 2) / warp.zoom.view(-1, 1, 1)
    shift = 2 * torch.stack((warp.shift_x, warp.shift_y), dim=1).unsqueeze(2)  # the side is 2 long in these positions
    return torch.cat((linear, -linear @ shift), dim=2)


def positions(theta: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel looks, `(B, H, W, 2)`: `affine_grid(theta)`, at an eighth of its time.

    An affine map is a sum of what the row and what the column contribute, so no product per pixel is needed.
    """
    across = (2 * torch.arange(width, device=theta.device, dtype=theta.dtype) + 1) / width - 1  # pixel centres
    down = (2 * torch.arange(height, device=theta.device, dtype=theta.dtype) + 1) / height - 1
    grid = theta.new_empty(len(theta), height, width, 2)
    for axis in (0, 1):
        by_column = theta[:, axis, 0, None] * across
        by_row = theta[:, axis, 1, None] * down + theta[:, axis, 2, None]
        torch.add(by_row.unsqueeze(2), by_column.unsqueeze(1), out=grid[..., axis])
    return grid


def apply_warp(x: Tensor, warp: Warp) -> Tensor:
    """Warp images `(B, C, H, W)` bilinearly; what comes in from outside is the picture's own reflection, not black."""
    height, width = x.shape[2:]
    theta = matrix(warp, height, width).to(x.device, x.dtype, non_blocking=True)
    grid = positions(theta, height, width)
    return grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False).clamp_(0, 1)
