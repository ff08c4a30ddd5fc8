"""Augmentation that leans on rare classes: all transforms at once, most often where examples are fewest."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import bounds_of, change, check_setting, unfitted
from raresight.strategies.strategy import Facts, Place, Strategy


class HeavyAugment(Strategy):
    """Change images of rare classes more often, all transforms at once, and still within the preset's bounds.

    Equation: with n_k the training cases known to have class k and n_min the smallest of those that are not 0, an image
    is changed with the probability of its rarest positive class,

        p = max over its positive classes k of p_k,
        p_k = clip(max_share * (n_min / n_k)^power, min_share, max_share),

    and an image without any positive class with `min_share`. A changed image draws every transform t that the preset
    allows, change_t = clip(strength * U(-bound_t, bound_t), -bound_t, bound_t): at strength 1.5 a third of the draws
    stand on the bound itself, none beyond it. Flips and quarter turns are drawn as in `augment`.

    That rate is not blind to the class, so a network that can see whether an image was changed (by its interpolation)
    could read rarity from it. The shares therefore stop short of 1; at the defaults an unchanged image speaks against
    the rarest class by at most a factor (1 - max_share) / (1 - min_share) = 0.4. Put `augment` before this method
    (then every image is interpolated), or set `power: 0` for a rate that is the same for all classes.

    Shapes: `x` `(B, C, H, W)` float, `y` `(B, K)`; mixed (soft) labels count as positive where they are above 0.
    Ranges and units: `x` in [0, 1] in and out (clamped); `strength` >= 0; `power` >= 0; shares in [0, 1] with
    `min_share` <= `max_share`. Class frequencies do not change, so the log-prior shift is 0.
    Absent class: one that the training part lacks has p_k = max_share, which no training image uses; an image all of
    whose labels are unknown has no known positive and is changed with `min_share`.

    Helps: rare classes with some dozens of pictures or more, which the network would otherwise memorise.
    Hurts: with a handful of pictures, variations of the same few are still the same few; the uneven rate can be read
    as a sign of rarity (see above).
    Evidence: HAM10000, split by lesion, one seed, network from scratch: macro AUPRC +0.051 [+0.016, +0.087] over plain
    training, df with 11 test lesions not resolved (docs/results/2026-11-21-ham10000.md; under the wider bounds that
    the dermoscopy preset had then).

    Raises: `ConfigError` for an unknown preset, a setting out of its range, or use before `fit`.

    Source: our own rule (augmentation above all of the minority class), with the square root of inverse frequency as
    in Mahajan et al. 2018, Exploring the limits of weakly supervised pretraining.

    >>> rare, common = [1.0, 0.0], [0.0, 1.0]
    >>> target = torch.tensor([rare] * 4 + [common] * 16)
    >>> heavy = HeavyAugment(preset="chest", min_share=0.2, max_share=0.8)
    >>> heavy.fit(Facts("exclusive", ("rare", "common"), target, torch.ones(20, 2)))
    >>> [round(p, 3) for p in heavy.share_.tolist()]
    [0.8, 0.4]
    """

    name: ClassVar[str] = "heavy_augment"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "raresight (own rule); square-root inverse frequency: Mahajan et al. 2018"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)  # elsewhere a label would have to move with the picture

    def __init__(
        self,
        *,
        preset: str | None = None,
        strength: float = 1.5,
        power: float = 0.5,
        min_share: float = 0.5,
        max_share: float = 0.8,
    ) -> None:
        self.preset = preset
        self.strength = check_setting(self.name, "strength", strength, 0)
        self.power = check_setting(self.name, "power", power, 0)
        self.max_share = check_setting(self.name, "max_share", max_share, 0, 1)
        self.min_share = check_setting(self.name, "min_share", min_share, 0, self.max_share)
        self.bounds_ = None if preset is None else bounds_of(preset, method=self.name)
        self.share_: Tensor | None = None

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"strength": 0}

    def fit(self, facts: Facts) -> None:
        self.bounds_ = bounds_of(self.preset or facts.preset, method=self.name)
        n = facts.n_positive
        present = n > 0
        rarest = n[present].min() if bool(present.any()) else n.new_ones(())
        share = self.max_share * (rarest / n.clamp(min=1)).pow(self.power)
        self.share_ = share.clamp(self.min_share, self.max_share).float()  # an absent class counts as one of one case

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.strength == 0:
            return x, y
        if self.bounds_ is None or self.share_ is None:
            raise unfitted(self.name)
        self.share_ = self.share_.to(y.device)
        share = torch.where(y > 0, self.share_, self.min_share).amax(dim=1)  # min_share where nothing is positive
        chosen = torch.rand(len(x), generator=rng).to(x.device, non_blocking=True) < share
        return change(x, chosen, self.bounds_, strength=self.strength, share=1.0, rng=rng), y
