"""Grain is drawn for the pictures that have noise, and for no others."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from raresight.core.presets import PRESETS
from raresight.strategies.inputs.augmentation import change, change_all
from raresight.strategies.inputs.draws import spread
from raresight.strategies.inputs.fused import change_fused
from raresight.strategies.inputs.photometric import Light, draw_grain
from raresight.strategies.inputs.warp import Warp

STILL = PRESETS["none"]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_noise_alone_changes_every_picture() -> None:
    x = torch.full((6, 1, 4, 4), 0.5)
    noisy = dataclasses.replace(STILL, noise=0.05)
    out = change(x, torch.ones(6, dtype=torch.bool), noisy, strength=1.0, share=1.0, rng=rng())
    assert (out != x).flatten(1).any(1).all()


@pytest.mark.parametrize(("noise", "share", "drawn"), [(0.0, 1.0, 0), (0.05, 1.0, 6 * 16), (0.05, 0.5, 4 * 16)])
def test_grain_is_drawn_only_where_there_is_noise(
    noise: float, share: float, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, randn = [0], torch.randn

    def counted(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        numbers.append(math.prod(shape))
        return randn(shape, generator=generator)

    monkeypatch.setattr(torch, "randn", counted)
    x = torch.full((6, 1, 4, 4), 0.5)
    bounds = dataclasses.replace(STILL, noise=noise)
    out = change(x, torch.ones(6, dtype=torch.bool), bounds, strength=1.0, share=share, rng=rng())
    assert sum(numbers) == drawn == 16 * int((out != x).flatten(1).any(1).sum())


def test_each_noisy_picture_gets_the_grain_drawn_for_it() -> None:
    """Pictures 1 and 3 of 4 have noise, of sd 0.1 and 0.2: 0.5 + 0.1 * the first grain, 0.5 + 0.2 * the second."""
    x = torch.full((4, 3, 2, 5), 0.5)
    none, one = torch.zeros(4), torch.ones(4)
    light = Light(none, one, one, none, one, torch.tensor([0.0, 0.1, 0.0, 0.2]))
    grain = draw_grain(x, light, rng())
    assert grain is not None
    assert grain.shape == (2, 3, 2, 5)
    expected = x.clone()
    expected[1] += 0.1 * grain[0]
    expected[3] += 0.2 * grain[1]
    still, every = Warp(one, one, none, none, none, none, none, one), one > 0
    for worker in (change_all, change_fused):
        found = worker(x, every, still, none, light, grain)
        torch.testing.assert_close(found, expected.clamp(0, 1), atol=1e-6, rtol=0)


def test_half_of_the_changes_go_either_way_and_as_many_as_the_share_are_made() -> None:
    """20,000 draws: the sd of the share of ups is 0.5 / sqrt(10,000), of the changed 0.5 / sqrt(20,000)."""
    change_ = spread(20_000, 3.0, strength=1.0, share=0.5, rng=rng())
    changed = change_[change_ != 0]
    assert abs(len(changed) / 20_000 - 0.5) < 0.015
    assert abs((changed > 0).float().mean().item() - 0.5) < 0.02
    assert changed.abs().max().item() == pytest.approx(3.0, abs=0.01)
