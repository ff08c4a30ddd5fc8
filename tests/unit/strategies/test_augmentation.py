"""Grain is drawn for every picture of a batch in which any has noise, and for none where none has."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from raresight.core.presets import PRESETS
from raresight.strategies.inputs.augmentation import change
from raresight.strategies.inputs.draws import spread

STILL = PRESETS["none"]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_noise_alone_changes_every_picture() -> None:
    x = torch.full((6, 1, 4, 4), 0.5)
    noisy = dataclasses.replace(STILL, noise=0.05)
    out = change(x, torch.ones(6, dtype=torch.bool), noisy, strength=1.0, share=1.0, rng=rng())
    assert (out != x).flatten(1).any(1).all()


@pytest.mark.parametrize(("noise", "drawn"), [(0.0, 0), (0.05, 6 * 16)])
def test_grain_is_drawn_only_where_there_is_noise(noise: float, drawn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, randn = [0], torch.randn

    def counted(shape: torch.Size, generator: torch.Generator) -> Tensor:
        numbers.append(shape.numel())
        return randn(shape, generator=generator)

    monkeypatch.setattr(torch, "randn", counted)
    x = torch.full((6, 1, 4, 4), 0.5)
    change(
        x, torch.ones(6, dtype=torch.bool), dataclasses.replace(STILL, noise=noise), strength=1.0, share=1.0, rng=rng()
    )
    assert sum(numbers) == drawn


def test_half_of_the_changes_go_either_way_and_as_many_as_the_share_are_made() -> None:
    """20,000 draws: the sd of the share of ups is 0.5 / sqrt(10,000), of the changed 0.5 / sqrt(20,000)."""
    change_ = spread(20_000, 3.0, strength=1.0, share=0.5, rng=rng())
    changed = change_[change_ != 0]
    assert abs(len(changed) / 20_000 - 0.5) < 0.015
    assert abs((changed > 0).float().mean().item() - 0.5) < 0.02
    assert changed.abs().max().item() == pytest.approx(3.0, abs=0.01)
