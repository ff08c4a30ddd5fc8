"""The affine map of a warp against the product of its parts, and what is drawn within the bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raresight.core.presets import Preset
from raresight.strategies.inputs.blur import apply_blur
from raresight.strategies.inputs.photometric import Light, apply_light, draw_light
from raresight.strategies.inputs.warp import Warp, draw_warp, matrix

STILL = {"mirror_x": 1.0, "mirror_y": 1.0, "turns": 0.0, "angle": 0.0, "shear": 0.0} | {
    "shift_x": 0.0,
    "shift_y": 0.0,
    "zoom": 1.0,
}


def _warp(*changes: dict[str, float]) -> Warp:
    return Warp(**{name: torch.tensor([(STILL | change)[name] for change in changes]) for name in STILL})


def _product(change: dict[str, float], height: int, width: int) -> Tensor:
    """F S^-1 R^-1 (q - t) / s as the inverse of s R S F in pixels, then in halves of the picture's sides."""
    of = STILL | change
    angle = of["turns"] * math.pi / 2 + of["angle"]
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # y points down
    shear = torch.tensor([[1.0, math.tan(of["shear"])], [0.0, 1.0]])
    mirror = torch.diag(torch.tensor([of["mirror_x"], of["mirror_y"]]))
    sides = torch.diag(torch.tensor([width / 2, height / 2]))
    linear = torch.linalg.inv(sides) @ torch.linalg.inv(of["zoom"] * turn @ shear @ mirror) @ sides
    shift = torch.tensor([[2 * of["shift_x"]], [2 * of["shift_y"]]])
    return torch.cat((linear, -linear @ shift), 1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_matrix_is_the_product_of_its_parts_in_an_oblong_picture(turns: int) -> None:
    changes: list[dict[str, float]] = [
        {"angle": 0.3},
        {"angle": -0.4, "shear": 0.25},
        {"mirror_x": -1.0, "angle": 0.3, "shear": -0.2, "shift_x": 0.1, "shift_y": -0.3, "zoom": 1.3},
        {"mirror_y": -1.0, "angle": 1.1, "shear": 0.5, "shift_x": -0.2, "shift_y": 0.05, "zoom": 0.7},
    ]
    changes = [change | {"turns": float(turns)} for change in changes]
    expected = torch.stack([_product(change, 20, 30) for change in changes])
    torch.testing.assert_close(matrix(_warp(*changes), 20, 30), expected, rtol=1e-5, atol=1e-5)


def test_what_moves_is_what_differs_from_a_still_picture() -> None:
    parts: dict[str, float] = {"mirror_x": -1, "mirror_y": -1, "turns": 1, "angle": 0.1, "shear": -0.1}
    parts |= {"shift_x": 0.1, "shift_y": -0.1, "zoom": 0.9}
    changes = [{name: value} for name, value in parts.items()]
    assert _warp({}, *changes).moved.tolist() == [False] + [True] * 8


@pytest.mark.parametrize(("strength", "flipped", "turned"), [(0.25, 0.125, 0.25), (1.0, 0.5, 1.0), (3.0, 0.5, 1.0)])
def test_flips_and_turns_grow_with_strength_up_to_even_chances(strength: float, flipped: float, turned: float) -> None:
    """Of 4,000 pictures, within four standard errors; a turn is one of four, of which one moves nothing."""
    bounds = Preset(name="any", flip_horizontal=True, flip_vertical=True, quarter_turns=True)
    warp = draw_warp(4000, bounds, strength=strength, share=1.0, rng=torch.Generator().manual_seed(0))
    for found, expected in (
        (warp.mirror_x < 0, flipped),
        (warp.mirror_y < 0, flipped),
        (warp.turns > 0, 0.75 * turned),
        (warp.turns == 3, 0.25 * turned),
    ):
        error = (expected * (1 - expected) / 4000) ** 0.5
        assert abs(found.double().mean().item() - expected) < 4 * error
    assert set(warp.turns.tolist()) == {0, 1, 2, 3}
    assert set(warp.mirror_x.tolist()) == {1, -1}
    still = draw_warp(50, Preset(name="none"), strength=strength, share=1.0, rng=torch.Generator().manual_seed(0))
    assert not still.moved.any()


def test_every_draw_reaches_its_bound_and_no_further() -> None:
    """Of 2,000 even draws the largest lies within a hundredth of the bound."""
    bounds = Preset(name="any", rotate_deg=30, shear_deg=10, translate=0.1, zoom=0.2, brightness=0.05, contrast=0.15)
    bounds = replace(bounds, saturation=0.25, hue=0.02, gamma=0.3, noise=0.01)
    rng = torch.Generator().manual_seed(0)
    warp = draw_warp(2000, bounds, strength=1.0, share=1.0, rng=rng)
    light = draw_light(2000, bounds, strength=1.0, share=1.0, rng=rng)
    for found, bound in (
        (warp.angle, math.pi / 6),
        (warp.shear, math.pi / 18),
        (warp.shift_x, 0.1),
        (warp.shift_y, 0.1),
        (warp.zoom - 1, 0.2),
        (light.brightness, 0.05),
        (light.contrast - 1, 0.15),
        (light.saturation - 1, 0.25),
        (light.hue, 0.04 * math.pi),
        (light.gamma - 1, 0.3),
    ):
        assert 0.99 * bound < found.max() <= bound * (1 + 1e-5)
        assert -0.99 * bound > found.min() >= -bound * (1 + 1e-5)
    assert light.noise.min() >= 0
    assert 0.0099 < light.noise.max() <= 0.01


def test_gamma_of_one_picture_leaves_the_others_alone() -> None:
    ones, zeros = torch.ones(2), torch.zeros(2)
    light = Light(zeros, ones, ones, zeros, torch.tensor([1.0, 2.0]), zeros)
    found = apply_light(torch.full((2, 1, 2, 2), 0.5), light)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.5, 0.25]))


def test_blur_is_stated_at_the_shorter_side_and_reaches_no_further_than_the_picture() -> None:
    # a point in a picture of 112 x 28: a width of 16 at 224 is one of 2 here
    point = torch.zeros(1, 1, 112, 28)
    point[0, 0, 56, 14] = 1
    profile = apply_blur(point, torch.tensor([16.0]))[0, 0].sum(1)
    at = torch.arange(112) - 56.0
    assert (profile * at**2).sum().sqrt().item() == pytest.approx(2, rel=0.02)  # cut off at three widths
    torch.testing.assert_close(apply_blur(point.mT, torch.tensor([16.0]))[0, 0].sum(0), profile)
    # reflected borders give no more than the side less one
    for shape in ((3, 40), (40, 3)):
        assert apply_blur(torch.ones(1, 1, *shape), torch.tensor([2000.0])).isfinite().all()
