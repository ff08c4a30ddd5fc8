"""Augmentation within what the modality allows: the ordinary kind, for every case alike."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import bounds_of, change, check_setting, unfitted
from raresight.strategies.strategy import Facts, Place, Strategy


class Augment(Strategy):
    """Change every training image a little, within the bounds of its modality's preset.

    Equation: each transform t that the preset allows is on with probability 1/2 and then draws

        change_t = clip(strength * U(-bound_t, bound_t), -bound_t, bound_t);

    a flip has probability min(strength, 1) / 2, and with probability min(strength, 1) one of the four quarter turns
    follows. Flips, turns, rotation, zoom, shear and translation are one bilinear warp with reflected borders; then
    comes blur; saturation, hue, contrast and brightness are one linear map, then gamma and noise.

    Shapes: `x` `(B, C, H, W)` float; C = 3 has colour, any other C is treated as grey. `y` passes through.
    Ranges and units: `x` in [0, 1] in and out (clamped); `strength` >= 0, a share of the bounds, and never beyond them;
    `preset` is a name in `core.presets` (its units stand there), by default the study's. The preset `none` allows
    nothing, and then the method is plain training.
    Absent class: no role; labels are not looked at. The log-prior shift is 0.

    Helps: nearly always with networks trained on a few thousand pictures; no label is touched, so probabilities stay.
    Hurts: where a bound is wider than what two photographs of one finding differ by: `raresight audit STUDY --augment`
    measures that. It shows rare classes no more often than before.
    Evidence: HAM10000, split by lesion, 3 seeds (a small study, pictures of 64 px): macro-F1 0.578 with augmentation,
    0.436 without (not our run). Which bounds keep a diagnosis:
    docs/results/2026-11-21-faithfulness-ham10000.md.

    Raises: `ConfigError` for an unknown preset, a negative strength, or use before `fit` without a preset.

    Source: Shorten and Khoshgoftaar 2019, A survey on image data augmentation for deep learning; the bounds and their
    clinical reasons are our own (`core/presets.py`).

    >>> images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> augment = Augment(preset="dermoscopy")
    >>> changed, labels = augment.mix_inputs(images, torch.zeros(4, 2), torch.Generator().manual_seed(1))
    >>> changed.shape, bool((changed >= 0).all() and (changed <= 1).all())
    (torch.Size([4, 3, 32, 32]), True)
    """

    name: ClassVar[str] = "augment"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "Shorten and Khoshgoftaar 2019, geometric and colour; bounds: raresight core.presets"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)  # elsewhere a label would have to move with the picture

    def __init__(self, *, preset: str | None = None, strength: float = 1.0) -> None:
        self.strength = check_setting(self.name, "strength", strength, 0)
        self.preset = preset
        self.bounds_ = None if preset is None else bounds_of(preset, method=self.name)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"strength": 0}

    def fit(self, facts: Facts) -> None:
        self.bounds_ = bounds_of(self.preset or facts.preset, method=self.name)

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.strength == 0:
            return x, y
        if self.bounds_ is None:
            raise unfitted(self.name)
        every = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return change(x, every, self.bounds_, strength=self.strength, share=0.5, rng=rng), y
