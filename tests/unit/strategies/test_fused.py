"""The compiled augmentation of the CPU against the torch operations in double precision, for every preset."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raresight.core.presets import PRESETS, Preset
from raresight.strategies.inputs import augmentation, fused
from raresight.strategies.inputs.augmentation import change, change_all
from raresight.strategies.inputs.draws import spread
from raresight.strategies.inputs.fused import change_fused, fits, loops
from raresight.strategies.inputs.photometric import Light, draw_grain, draw_light
from raresight.strategies.inputs.warp import Warp, draw_warp

# Every transform at once, further than any preset goes: mirror images of mirror images, blur wider than the picture.
WILD = Preset(
    name="wild",
    flip_horizontal=True,
    flip_vertical=True,
    quarter_turns=True,
    rotate_deg=180,
    translate=0.9,
    zoom=0.6,
    shear_deg=30,
    brightness=0.3,
    contrast=0.5,
    saturation=0.5,
    hue=0.2,
    gamma=0.8,
    noise=0.1,
    blur_px=30,
)
Change = tuple[Warp, Tensor, Light, Tensor | None]


@pytest.fixture(autouse=True)
def compiled() -> Iterator[None]:
    loops.cache_clear()
    assert loops() is not None, "numba is a requirement of the tests"
    yield
    loops.cache_clear()


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, channels: int, height: int, width: int) -> Tensor:
    """Noise, of which neighbouring pixels have nothing in common, in the layout of the cache: `(B, H, W, C)`."""
    return torch.rand(n, height, width, channels, generator=rng(9)).permute(0, 3, 1, 2)


def drawn(x: Tensor, bounds: Preset, share: float) -> Change:
    n = len(x)
    warp = draw_warp(n, bounds, strength=1, share=share, rng=rng(1))
    light = draw_light(n, bounds, strength=1, share=share, rng=rng(2))
    blur = spread(n, bounds.blur_px, strength=1, share=share, rng=rng(4)).abs_()
    return warp, blur, light, draw_grain(x, light, rng(3))


@pytest.mark.parametrize("bounds", [*PRESETS.values(), WILD], ids=lambda preset: preset.name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 23), (40, 9), (2, 3)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_compiled_loops_change_pictures_as_torch_does(
    bounds: Preset, channels: int, height: int, width: int, share: float
) -> None:
    x = pictures(12, channels, height, width)
    chosen = torch.arange(12) % 4 != 0
    given = drawn(x, bounds, share)
    expected = change_all(x.double(), chosen, *given)
    found = change_fused(x, chosen, *given)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    assert torch.equal(found[~chosen], x[~chosen])
    assert found.shape == x.shape
    assert found.dtype == torch.float32


@pytest.mark.parametrize("name", ["angle", "shear", "shift_x", "shift_y", "zoom", "mirror_x", "mirror_y", "turns"])
def test_each_part_of_the_warp_counts_alone(name: str) -> None:
    x = pictures(2, 3, 12, 20)
    one, zero = torch.ones(2), torch.zeros(2)
    value = {"mirror_x": -1.0, "mirror_y": -1.0, "turns": 1.0, "zoom": 0.7}.get(name, 0.3)
    warp = replace(Warp(one, one, zero, zero, zero, zero, zero, one), **{name: torch.tensor([value, value])})
    still = Light(zero, one, one, zero, one, zero)
    expected = change_all(x.double(), one > 0, warp, zero, still, None)
    found = change_fused(x, one > 0, warp, zero, still, None)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, x, atol=0.05)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "gamma", "noise"])
def test_each_part_of_the_light_counts_alone(name: str) -> None:
    x = pictures(2, 3, 12, 20)
    one, zero = torch.ones(2), torch.zeros(2)
    value = {"contrast": 0.7, "saturation": 1.3, "gamma": 1.4}.get(name, 0.1)
    light = replace(Light(zero, one, one, zero, one, zero), **{name: torch.tensor([value, value])})
    still, grain = Warp(one, one, zero, zero, zero, zero, zero, one), draw_grain(x, light, rng(0))
    expected = change_all(x.double(), one > 0, still, zero, light, grain)
    found = change_fused(x, one > 0, still, zero, light, grain)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, x, atol=0.02)


def test_a_power_is_exact_from_black_to_white() -> None:
    """Values over 30 orders of magnitude and an even grid; 0 stays 0, and 1 stays 1."""
    values = torch.cat((torch.zeros(1), torch.logspace(-30, 0, 499), torch.linspace(0, 1, 524))).view(1, 1, 32, 32)
    one, zero = torch.ones(1), torch.zeros(1)
    still = Warp(one, one, zero, zero, zero, zero, zero, one)
    for gamma in (0.3, 0.8, 0.95, 1.05, 1.2, 2.5):
        light = Light(zero, one, one, zero, torch.tensor([gamma]), zero)
        found = change_fused(values, one > 0, still, zero, light, None)
        torch.testing.assert_close(found.double(), values.double() ** light.gamma.double(), atol=2e-7, rtol=0)
        assert found.flatten()[0] < 1e-10
        assert found.flatten()[-1] == 1


def test_any_number_of_threads_gives_the_same_picture_bit_for_bit() -> None:
    x = pictures(7, 3, 24, 24)
    given = drawn(x, WILD, 1.0)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            found.append(change_fused(x, torch.ones(7) > 0, *given))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_answer_lies_in_memory_as_the_pictures_do(layout: torch.memory_format) -> None:
    x = pictures(3, 3, 8, 10).contiguous(memory_format=layout)
    before = x.clone()
    found = change_fused(x, torch.ones(3) > 0, *drawn(x, WILD, 1.0))
    assert found.stride() == x.stride()
    assert torch.equal(x, before)  # the caller's pictures are not written to


def test_a_picture_is_changed_alike_in_any_company() -> None:
    """A neighbour with a wider blur, more noise or another contrast changes nothing."""
    x = pictures(8, 3, 16, 16)
    warp, blur, light, grain = drawn(x, WILD, 1.0)
    assert grain is not None
    together = change_fused(x, torch.ones(8) > 0, warp, blur, light, grain)
    everyone = change_all(x.double(), torch.ones(8) > 0, warp, blur, light, grain)
    for i in range(8):
        part = torch.tensor([i])
        alone = (warp.take(part), blur[part], light.take(part), grain[part])
        assert torch.equal(change_fused(x[part], torch.ones(1) > 0, *alone), together[part])
        torch.testing.assert_close(
            change_all(x[part].double(), torch.ones(1) > 0, *alone), everyone[part], atol=1e-9, rtol=0
        )


def test_an_empty_batch_stays_empty() -> None:
    x = pictures(0, 3, 8, 8)
    assert change_fused(x, torch.ones(0) > 0, *drawn(x, WILD, 1.0)).shape == (0, 3, 8, 8)


# which way is taken


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 3, 8, 8), torch.float32, True),
        ((2, 1, 2, 2), torch.float32, True),
        ((2, 2, 8, 8), torch.float32, False),
        ((2, 3, 1, 8), torch.float32, False),
        ((2, 3, 8, 1), torch.float32, False),
        ((2, 3, 8, 8), torch.float64, False),
    ],
)
def test_what_the_loops_cannot_do_is_left_to_torch(
    shape: tuple[int, ...], dtype: torch.dtype, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(shape, generator=rng(0)).to(dtype)
    assert fits(x) is expected
    assert not fits(x.to("meta"))
    called = []
    monkeypatch.setattr(augmentation, "change_fused", lambda x, *given: called.append("fused") or x)
    monkeypatch.setattr(augmentation, "change_all", lambda x, *given: called.append("torch") or x)
    change(x, torch.ones(2) > 0, WILD, strength=1, share=1, rng=rng(0))
    assert called == ["fused" if expected else "torch"]


def test_without_numba_torch_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(6, 3, 16, 16)
    every = torch.ones(6) > 0
    expected = change(x, every, PRESETS["histology"], strength=1, share=0.5, rng=rng(0))
    loops.cache_clear()
    for name in ("numba", "raresight.strategies.inputs.pixels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("raresight.strategies.inputs.pixels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fits(x)
        found = change(x, every, PRESETS["histology"], strength=1, share=0.5, rng=rng(0))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)  # torch's positions are of single precision


def test_loops_that_do_not_run_are_told_of_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    loops.cache_clear()
    broken = type(sys)("raresight.strategies.inputs.pixels")
    monkeypatch.setattr("raresight.strategies.inputs.pixels", broken)
    with pytest.warns(UserWarning, match="augmentation takes longer without it"):
        assert loops() is None


def test_plain_lanes_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loops.cache_clear()
    monkeypatch.setenv("RARESIGHT_LANES", "plain")
    assert loops() is None
    assert fused.fits(pictures(2, 3, 8, 8)) is False
