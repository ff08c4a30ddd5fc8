"""Augmentation: the warp and the light against hand values, the bounds, and who is augmented how often."""

from __future__ import annotations

import doctest
import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.presets import CHEST, DERMOSCOPY, HISTOLOGY, PLAIN, Preset
from raresight.strategies.inputs import augmentation, heavy, plausible
from raresight.strategies.inputs.blur import apply_blur
from raresight.strategies.inputs.heavy import HeavyAugment
from raresight.strategies.inputs.photometric import Light, apply_light
from raresight.strategies.inputs.plausible import Augment
from raresight.strategies.inputs.warp import Warp, apply_warp, positions
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 2, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, channels, size, size, generator=rng(99))


def still(n: int, **changes: float) -> Warp:
    """A warp that changes nothing but what is named."""
    one, zero = torch.ones(n), torch.zeros(n)
    warp = Warp(one, one, zero, zero, zero, zero, zero, one)
    return replace(warp, **{name: torch.full((n,), value) for name, value in changes.items()})


def same_light(n: int, **changes: float) -> Light:
    one, zero = torch.ones(n), torch.zeros(n)
    light = Light(zero, one, one, zero, one, zero)
    return replace(light, **{name: torch.full((n,), value) for name, value in changes.items()})


def facts(counts: dict[str, int], preset: str = "dermoscopy") -> Facts:
    target = torch.cat([torch.eye(len(counts))[[i] * n] for i, n in enumerate(counts.values())])
    return Facts("exclusive", tuple(counts), target, torch.ones_like(target), preset=preset)


# the warp


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_those_of_torch(turns: int) -> None:
    x = pictures()
    torch.testing.assert_close(apply_warp(x, still(2, turns=turns)), x.rot90(turns, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_by_right_angles_is_the_quarter_turn(degrees: int) -> None:
    x = pictures()
    turned = apply_warp(x, still(2, angle=math.radians(degrees)))
    torch.testing.assert_close(turned, x.rot90(degrees // 90, (2, 3)), atol=1e-4, rtol=0)


def test_flips_are_those_of_torch() -> None:
    x = pictures()
    torch.testing.assert_close(apply_warp(x, still(2, mirror_x=-1)), x.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(apply_warp(x, still(2, mirror_y=-1)), x.flip(2), atol=1e-5, rtol=0)


def test_the_flip_comes_before_the_turn() -> None:
    x = pictures()
    both = apply_warp(x, still(2, mirror_x=-1, turns=1))
    torch.testing.assert_close(both, x.flip(3).rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_translation_is_a_shift_right_and_down() -> None:
    x = pictures(size=16)
    shifted = apply_warp(x, still(2, shift_x=3 / 16, shift_y=2 / 16))
    torch.testing.assert_close(shifted[:, :, 2:, 3:], x[:, :, :-2, :-3], atol=1e-5, rtol=0)
    # what comes in is the reflection about the edge: column 2 shows column 0, column 1 column 1, column 0 column 2
    torch.testing.assert_close(shifted[:, :, 2:, :3], x[:, :, :-2, :3].flip(3), atol=1e-5, rtol=0)


def test_translation_of_a_turned_picture_still_goes_right() -> None:
    x = pictures(size=16)
    moved = apply_warp(x, still(2, turns=1, shift_x=3 / 16))
    torch.testing.assert_close(moved[:, :, :, 3:], x.rot90(1, (2, 3))[:, :, :, :-3], atol=1e-5, rtol=0)


def test_zoom_enlarges_about_the_centre() -> None:
    x = pictures(size=16)
    # at factor 2 output position 8 + d shows 8 + d / 2: pixel 8 (d = 0.5) weighs input pixels 7, 8 by .25, .75 and
    # pixel 9 (d = 1.5) weighs 8, 9 by .75, .25
    big = apply_warp(x, still(2, zoom=2.0))
    rows = 0.25 * x[:, :, 7] + 0.75 * x[:, :, 8]
    expected = 0.75 * rows[:, :, 8] + 0.25 * rows[:, :, 9]
    torch.testing.assert_close(big[:, :, 8, 9], expected, atol=1e-5, rtol=0)


def test_shear_moves_rows_by_their_height() -> None:
    x = pictures(size=16)
    # slope 1: the row whose centre lies i + 0.5 below the middle moves i + 0.5 to the right, half a pixel being a mean
    sheared = apply_warp(x, still(2, shear=math.pi / 4))
    below = x[:, :, 9]  # 1.5 below the middle
    torch.testing.assert_close(sheared[:, :, 9, 4], (below[:, :, 2] + below[:, :, 3]) / 2, atol=1e-5, rtol=0)


def test_angles_are_angles_in_pixels_of_an_oblong_picture() -> None:
    x = torch.zeros(1, 1, 41, 81)
    x[0, 0, 20, 60] = 1  # 20 pixels right of the centre; counter-clockwise by 90 degrees: 20 above it
    turned = apply_warp(x, still(1, angle=math.pi / 2))
    assert turned[0, 0].argmax() == 0 * 81 + 40


def test_positions_are_those_of_torch() -> None:
    theta = torch.randn(3, 2, 3, generator=rng())
    expected = torch.nn.functional.affine_grid(theta, [3, 1, 5, 7], align_corners=False)
    torch.testing.assert_close(positions(theta, 5, 7), expected)


# the light


def test_brightness_is_added_and_clamped() -> None:
    x = torch.tensor([0.2, 0.5, 0.95]).view(1, 1, 1, 3)
    bright = apply_light(x, same_light(1, brightness=0.1))
    torch.testing.assert_close(bright.flatten(), torch.tensor([0.3, 0.6, 1.0]))


def test_contrast_pulls_away_from_the_mean() -> None:
    x = torch.tensor([0.2, 0.4, 0.6]).view(1, 1, 1, 3)  # mean 0.4
    torch.testing.assert_close(
        apply_light(x, same_light(1, contrast=1.5)).flatten(), torch.tensor([0.1, 0.4, 0.7]), atol=1e-6, rtol=0
    )


def test_contrast_of_colour_is_about_the_mean_luma() -> None:
    x = torch.tensor([[0.2, 0.4], [0.4, 0.6], [0.6, 0.8]]).view(1, 3, 1, 2)
    # channel means 0.3, 0.5, 0.7: luma 0.299 * 0.3 + 0.587 * 0.5 + 0.114 * 0.7 = 0.463
    expected = 0.5 * x + 0.5 * 0.463
    torch.testing.assert_close(apply_light(x, same_light(1, contrast=0.5)), expected, atol=1e-6, rtol=0)


def test_without_saturation_every_channel_is_the_luma() -> None:
    x = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1)
    grey = apply_light(x, same_light(1, saturation=0.0))
    # 0.299 * 0.8 + 0.587 * 0.4 + 0.114 * 0.2 = 0.4968
    torch.testing.assert_close(grey.flatten(), torch.full((3,), 0.4968), atol=1e-5, rtol=0)


def test_hue_turns_chroma_and_keeps_luma_and_grey() -> None:
    x = torch.tensor([[0.5, 0.6], [0.5, 0.45], [0.5, 0.4]]).view(1, 3, 1, 2)
    turned = apply_light(x, same_light(1, hue=0.3)).view(3, 2)
    torch.testing.assert_close(turned[:, 0], torch.full((3,), 0.5), atol=1e-5, rtol=0)

    def chroma(r: float, g: float, b: float) -> complex:  # the axes I and Q as published, to three digits
        return complex(0.596 * r - 0.274 * g - 0.321 * b, 0.211 * r - 0.523 * g + 0.311 * b)

    ratio = chroma(*turned[:, 1].tolist()) / chroma(0.6, 0.45, 0.4)
    assert abs(ratio) == pytest.approx(1, abs=0.02)
    assert math.atan2(ratio.imag, ratio.real) == pytest.approx(0.3, abs=0.02)
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert luma @ turned[:, 1] == pytest.approx(float(luma @ x.view(3, 2)[:, 1]), abs=1e-5)


def test_gamma_is_an_exponent() -> None:
    x = torch.tensor([0.25, 0.81]).view(1, 1, 1, 2)
    torch.testing.assert_close(apply_light(x, same_light(1, gamma=0.5)).flatten(), torch.tensor([0.5, 0.9]))


def test_noise_has_its_standard_deviation() -> None:
    x = torch.full((1, 1, 100, 100), 0.5)
    noisy = apply_light(x, same_light(1, noise=0.02), torch.randn(x.shape, generator=rng()))
    assert noisy.std().item() == pytest.approx(0.02, rel=0.05)  # 10 000 draws: relative error of a sd is 0.7%


def test_blur_is_a_gaussian_of_the_stated_width() -> None:
    """A point becomes the outer product of two sampled Gaussians; widths are stated for a side of 224."""
    x = torch.zeros(3, 2, 33, 33)
    x[:, :, 16, 16] = torch.tensor([1.0, 0.5])
    out = apply_blur(x, torch.tensor([0.0, 1.1, 1.5]) * 224 / 33)
    torch.testing.assert_close(out[0], x[0])
    for row, sigma in ((1, 1.1), (2, 1.5)):
        weight = [
            math.exp(-((t - 16) ** 2) / (2 * sigma**2)) if abs(t - 16) <= math.ceil(3 * sigma) else 0.0
            for t in range(33)
        ]
        total = sum(weight)
        for t, u in ((16, 16), (17, 16), (16, 14), (19, 20), (10, 16)):
            for channel, height in ((0, 1.0), (1, 0.5)):
                expected = height * weight[t] * weight[u] / total**2
                assert out[row, channel, t, u].item() == pytest.approx(expected, abs=1e-7)


def test_blur_keeps_a_constant_and_survives_tiny_pictures() -> None:
    torch.testing.assert_close(apply_blur(torch.full((1, 1, 4, 3), 0.3), torch.tensor([500.0])).mean().item(), 0.3)


def test_blur_leaves_the_other_draws_alone_and_stays_within_its_bound() -> None:
    x = pictures(8, 3, 32)
    every = torch.ones(8, dtype=torch.bool)
    bare = replace(HISTOLOGY, blur_px=0)
    one = augmentation.change(x, every, bare, strength=1, share=1.0, rng=rng(5))
    other = augmentation.change(x, every, replace(bare, blur_px=1e-6), strength=1, share=1.0, rng=rng(5))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    blurred = augmentation.change(x, every, replace(bare, blur_px=60.0), strength=1, share=1.0, rng=rng(5))
    assert ((blurred - one).abs().amax((1, 2, 3)) > 1e-3).sum() >= 7


def test_every_family_of_transforms_is_an_operation() -> None:
    """Each field of a preset changes a picture when it alone is allowed: no setting is dead (seed text 001, 4.2)."""
    x = pictures(32, 3, 24)
    allowed: dict[str, object] = {
        "flip_horizontal": True, "flip_vertical": True, "quarter_turns": True, "rotate_deg": 20.0, "translate": 0.1,
        "zoom": 0.2, "shear_deg": 10.0, "brightness": 0.1, "contrast": 0.2, "saturation": 0.2, "hue": 0.05,
        "gamma": 0.2, "noise": 0.02, "blur_px": 9.0,
    }  # fmt: skip
    fields_of = {entry.name for entry in fields(Preset)} - {"name", "reasons", "cutmix"}
    assert set(allowed) == fields_of
    for name, bound in allowed.items():
        bounds = replace(PLAIN, **{name: bound})
        out = augmentation.change(x, torch.ones(32, dtype=torch.bool), bounds, strength=1, share=0.5, rng=rng(1))
        changed = (out != x).flatten(1).any(1).sum()
        assert 4 <= changed <= 28, name


# the bounds


def marked(n: int, size: int = 96) -> Tensor:
    """Three soft dots of different colours: the centre, one 12 pixels right of it, one 12 above it.

    Near enough to the centre that no reflection of a dot comes into the picture at any angle."""
    at = torch.arange(size) - (size - 1) / 2
    dots = [torch.exp(-((at.view(-1, 1) - dy) ** 2 + (at - dx) ** 2) / 8) for dx, dy in ((0, 0), (12, 0), (0, -12))]
    return torch.stack(dots).expand(n, 3, size, size).contiguous()


def centroids(x: Tensor) -> Tensor:
    """`(n, 3, 2)` x and y of each channel's dot."""
    size = x.shape[-1]
    at = torch.arange(size) - (size - 1) / 2
    mass = x.sum((2, 3))
    return torch.stack(((x.sum(2) * at).sum(2), (x.sum(3) * at).sum(2)), 2) / mass.unsqueeze(2)


def measured(bounds_name: str, strength: float, n: int = 256) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Angle in degrees, zoom, shift in sides and handedness of marked pictures that were augmented."""
    bounds = replace(
        {"chest": CHEST, "dermoscopy": DERMOSCOPY}[bounds_name], brightness=0, contrast=0, gamma=0, noise=0
    )
    bounds = replace(bounds, saturation=0, hue=0)
    x = marked(n)
    augment = HeavyAugment(preset=bounds_name, strength=strength, min_share=1, max_share=1)
    augment.fit(facts({"a": 1, "b": 1}))
    augment.bounds_ = bounds
    dots = centroids(augment.mix_inputs(x, torch.ones(n, 2), rng(3))[0])
    right, up = dots[:, 1] - dots[:, 0], dots[:, 2] - dots[:, 0]
    angle = torch.atan2(-right[:, 1], right[:, 0]).rad2deg()
    hand = right[:, 0] * -up[:, 1] + right[:, 1] * up[:, 0]
    return angle, right.norm(dim=1) / 12, dots[:, 0] / 96, hand


@pytest.mark.parametrize("strength", [1.0, 1.5, 40.0])
def test_chest_stays_within_its_bounds_at_any_strength(strength: float) -> None:
    angle, zoom, shift, hand = measured("chest", strength)
    assert angle.abs().max() <= 7.0 + 0.1
    assert zoom.min() >= 0.92 - 0.003
    assert zoom.max() <= 1.08 + 0.003
    assert shift.abs().max() <= 0.05 + 0.001
    assert (hand > 0).all()  # never mirrored
    assert angle.abs().max() > 6.0  # and the range is used: 256 even draws all stay below 6 once in 10^17
    assert angle.min() < 0 < angle.max()


def test_chest_is_never_flipped_or_turned() -> None:
    x = torch.zeros(64, 1, 32, 32)
    x[:, :, :16, :16] = 0.8  # bright above left
    for seed in range(8):
        out, _ = Augment(preset="chest", strength=3).mix_inputs(x, torch.zeros(64, 1), rng(seed))
        corner = out[:, 0, :8, :8].mean((1, 2))
        assert (corner > out[:, 0, :8, -8:].mean((1, 2)) + 0.3).all()
        assert (corner > out[:, 0, -8:, :8].mean((1, 2)) + 0.3).all()


def test_dermoscopy_is_flipped_and_turned_to_any_angle() -> None:
    angle, zoom, shift, hand = measured("dermoscopy", 1.0)
    assert 0.4 < (hand < 0).float().mean() < 0.6  # two independent flips: handedness changes half the time
    assert angle.max() > 150
    assert angle.min() < -150
    assert zoom.min() >= 0.88 - 0.003
    assert zoom.max() <= 1.12 + 0.003
    assert shift.abs().max() <= 0.06 + 0.001


@pytest.mark.parametrize("preset", ["chest", "dermoscopy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stay_in_range_and_keep_their_shape(preset: str, channels: int) -> None:
    x = pictures(16, channels, 24)
    x[0], x[1] = 0, 1
    out, _ = Augment(preset=preset, strength=2).mix_inputs(x, torch.zeros(16, 2), rng())
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.isfinite(out).all()


# strength, neutrality, reproducibility


@pytest.mark.parametrize("method", [Augment, HeavyAugment])
def test_neutral_settings_give_the_pictures_back(method: type[Augment] | type[HeavyAugment]) -> None:
    augment = method(preset="dermoscopy", **method.neutral())
    augment.fit(facts({"a": 2, "b": 2}))
    x = pictures()
    assert torch.equal(augment.mix_inputs(x, torch.eye(2), rng())[0], x)


def test_the_preset_none_changes_nothing() -> None:
    augment = Augment()
    augment.fit(facts({"a": 2, "b": 2}, preset="none"))
    x = pictures()
    assert torch.equal(augment.mix_inputs(x, torch.eye(2), rng())[0], x)


def test_strength_grows_the_change() -> None:
    x = pictures(64, size=32).cumsum(3) / 32  # smooth, so that a larger warp is a larger change
    change = [
        (Augment(preset="chest", strength=s).mix_inputs(x, torch.zeros(64, 1), rng())[0] - x).abs().mean().item()
        for s in (0.25, 0.5, 1.0)
    ]
    assert change[0] < change[1] < change[2]


@pytest.mark.parametrize("preset", ["chest", "dermoscopy"])
def test_the_given_generator_alone_decides(preset: str) -> None:
    augment = HeavyAugment(preset=preset)
    augment.fit(facts({"a": 2, "b": 6}))
    x, y = pictures(8), torch.eye(2)[[0, 1] * 4]
    before = x.clone()
    torch.manual_seed(1)
    first, _ = augment.mix_inputs(x, y, rng(5))
    torch.manual_seed(2)
    again, _ = augment.mix_inputs(x, y, rng(5))
    other, _ = augment.mix_inputs(x, y, rng(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(x, before)  # the caller's pictures are not written to


# who is augmented how often


def test_shares_follow_the_formula() -> None:
    augment = HeavyAugment(min_share=0.2, max_share=0.8)
    augment.fit(facts({"rare": 4, "middle": 16, "absent": 0, "common": 400}))
    # 0.8 * sqrt(4 / 4) = 0.8; 0.8 * sqrt(4 / 16) = 0.4; absent: max_share; 0.8 * sqrt(4 / 400) = 0.08, lifted to 0.2
    torch.testing.assert_close(augment.share_, torch.tensor([0.8, 0.4, 0.8, 0.2]))


def test_rarer_classes_are_augmented_more_often_and_the_rest_comes_back_bit_for_bit() -> None:
    augment = HeavyAugment(min_share=0.2, max_share=0.8)
    augment.fit(facts({"rare": 4, "middle": 16, "common": 400}))
    n = 1000
    x = pictures(n, 3, 8)
    for label, expected in (([1.0, 0, 0], 0.8), ([0, 1.0, 0], 0.4), ([0, 0, 1.0], 0.2), ([0, 0, 0], 0.2)):
        out, _ = augment.mix_inputs(x, torch.tensor(label).expand(n, 3), rng(1))
        changed = (out != x).flatten(1).any(1).float().mean().item()
        assert changed == pytest.approx(expected, abs=0.05)  # four standard deviations of a share of 1000


def test_the_rarest_positive_label_counts() -> None:
    augment = HeavyAugment(min_share=0.2, max_share=1.0)
    augment.fit(facts({"rare": 4, "common": 400}))
    x = pictures(50, 3, 8)
    out, _ = augment.mix_inputs(x, torch.ones(50, 2), rng())
    assert (out != x).flatten(1).any(1).all()


def test_class_frequencies_are_left_alone() -> None:
    augment = HeavyAugment(preset="chest")
    augment.fit(facts({"a": 1, "b": 9}))
    shift = augment.log_prior_shift()
    assert shift is not None
    assert shift.abs().max() == 0
    y = torch.eye(2)
    assert torch.equal(augment.mix_inputs(pictures(), y, rng())[1], y)


# mistakes


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dermoscopy'"):
        Augment(preset="dermascopy")
    with pytest.raises(ConfigError, match="strength is -1"):
        Augment(strength=-1)
    with pytest.raises(ConfigError, match=r"from 0 to 0\.3"):
        HeavyAugment(min_share=0.5, max_share=0.3)
    with pytest.raises(ConfigError, match="call fit"):
        Augment().mix_inputs(pictures(), torch.eye(2), rng())
    with pytest.raises(ConfigError, match="call fit"):
        HeavyAugment(preset="histology").mix_inputs(pictures(), torch.eye(2), rng())


@pytest.mark.parametrize("module", [plausible, heavy])
def test_the_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
