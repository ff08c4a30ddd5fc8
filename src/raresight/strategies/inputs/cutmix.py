"""CutMix: a square of one image pasted into another, labels mixed by area; only where the modality bears it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.errors import ConfigError, Problem
from raresight.core.presets import PRESETS
from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import bounds_of, check_setting
from raresight.strategies.inputs.mixing import beta, mixed, refuse_unknown
from raresight.strategies.strategy import Facts, Place, Strategy


class CutMix(Strategy):
    """Paste a rectangle of another image of the batch into each image, and mix the labels by its area.

    Equation: with M = 1 outside and 0 inside the rectangle, x~ = M x_i + (1 - M) x_j and y~ = lambda y_i +
    (1 - lambda) y_j. For lambda' ~ Beta(alpha, alpha) the rectangle has sides W sqrt(1 - lambda') and
    H sqrt(1 - lambda'), rounded down to an even number of pixels, about a centre drawn evenly over the image; what
    sticks out is cut off, and lambda is the share of pixels that remained x_i's.

    Shapes: `x` `(B, C, H, W)`, `y` `(B, K)`; soft labels come back. A batch of one is its own partner and stays.
    Ranges: `alpha` >= 0, usually 1; at 0 nothing is pasted. `preset` is a name in `core.presets`, by default the
    study's. Independent labels are mixed like exclusive ones, class by class.
    Absent class: what the batch lacks stays absent. The partner is a permutation of the batch, so the labels' mean and
    the prior stay: the log-prior shift is 0.

    Helps: where a picture is a texture without a whole, as a tile of tissue is; it teaches the network to look at all
    parts of a picture.
    Hurts: where shape, border or position carry the diagnosis. The label says "40% melanoma" of a picture whose
    pasted square may hold nothing but skin. Hence only presets with `cutmix: true` allow it.
    Evidence: none found by us on medical images with intervals or several seeds.

    Raises: `ConfigError` for a negative alpha or an unknown preset; at `fit` where the preset does not allow it, with
    the preset's reason, and where some training labels are unknown.

    Source: Yun et al. 2019, CutMix. We draw one rectangle per pair, the authors'
    code one per batch.

    >>> x, y = torch.rand(4, 3, 16, 16), torch.eye(4)
    >>> pasted, soft = CutMix(alpha=1.0).mix_inputs(x, y, torch.Generator().manual_seed(0))
    >>> pasted.shape, bool(torch.allclose(soft.sum(1), torch.ones(4)))
    (torch.Size([4, 3, 16, 16]), True)
    """

    name: ClassVar[str] = "cutmix"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "Yun et al. 2019, CutMix"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    mixes_cases: ClassVar[bool] = True
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, alpha: float = 1.0, preset: str | None = None) -> None:
        self.alpha = check_setting(self.name, "alpha", alpha, 0)
        self.preset = preset
        if preset is not None:
            bounds_of(preset, method=self.name)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0}

    def fit(self, facts: Facts) -> None:
        if self.alpha == 0:
            return
        bounds = bounds_of(self.preset or facts.preset, method=self.name)
        if not bounds.cutmix:
            raise _not_allowed(bounds.name, bounds.reasons.get("cutmix") or bounds.reasons["all"])
        refuse_unknown(self.name, facts)

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.alpha == 0 or len(x) < 2:
            return x, y
        partner = torch.randperm(len(x), generator=rng).to(x.device, non_blocking=True)
        inside = rectangles(beta(len(x), self.alpha, self.alpha, rng), x.shape[2], x.shape[3], rng)
        own = 1 - inside.to(torch.float64).mean((1, 2))
        pasted = torch.where(inside.to(x.device, non_blocking=True).unsqueeze(1), x[partner], x)
        return pasted, mixed(y, partner, own)


def rectangles(own: Tensor, height: int, width: int, rng: torch.Generator) -> Tensor:
    """`(B, H, W)` bool, true in a rectangle of about 1 - `own` of the area around an even draw of its centre."""
    side = (1 - own).sqrt()
    low, high = [], []
    for length in (height, width):
        half = (length * side).long() // 2
        centre = torch.randint(0, length, half.shape, generator=rng)
        low.append((centre - half).view(-1, 1))
        high.append((centre + half).view(-1, 1))
    rows, columns = torch.arange(height), torch.arange(width)
    down = (rows >= low[0]) & (rows < high[0])
    across = (columns >= low[1]) & (columns < high[1])
    return down.unsqueeze(2) & across.unsqueeze(1)


def _not_allowed(preset: str, reason: str) -> ConfigError:
    able = [name for name, bounds in PRESETS.items() if bounds.cutmix]
    return ConfigError(
        Problem(
            code="RS-C35",
            level="error",
            file="study.yaml",
            column="cutmix",
            found=f"the preset '{preset}' does not allow cutmix",
            why=reason,
            remedy=f"take cutmix out of this arm (mixup keeps every outline); presets that allow it: {', '.join(able)}",
        )
    )
