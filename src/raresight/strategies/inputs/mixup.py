"""Mixup: convex mixtures of pairs of images and of their labels."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.inputs.augmentation import check_setting
from raresight.strategies.inputs.mixing import beta, mixed, refuse_unknown
from raresight.strategies.strategy import Facts, Place, Strategy


class Mixup(Strategy):
    """Train on mixtures of two images with the same mixture of their labels.

    Equation:

        x~ = lambda * x_i + (1 - lambda) * x_j,    y~ = lambda * y_i + (1 - lambda) * y_j,

    where lambda ~ Beta(alpha, alpha) is drawn for every pair and j runs through a random permutation of the batch.

    Shapes: `x` `(B, C, *S)`, `y` `(B, K, *S)`; soft labels come back. A batch of one is its own partner and stays.
    Ranges and units: `alpha` >= 0, usually 0.1 to 0.4; at 0 lambda is 1 and nothing is mixed. `x` stays in [0, 1].
    The mean of the labels is unchanged, so the log-prior shift is 0; probabilities become underconfident, which
    calibration on the validation part mends.
    Absent class: one that the batch lacks stays absent: its labels mix 0 with 0.
    Unknown labels: this hook sees no mask and an unknown label arrives as 0, so a mixture would take it for a
    negative while the mask of one partner alone decided what is counted. The method therefore needs fully known labels.

    Helps: with few pictures and networks that memorise them; against mislabelled cases.
    Hurts: probabilities, until they are calibrated; findings that are small or told by intensity, which a mixture
    halves; rare classes, whose pictures are nearly always mixed with common ones.
    Evidence: on the 20 long-tailed findings of NIH-CXR-LT (one seed) average accuracy on a balanced test set 0.160
    with mixup against 0.164 without, tail 0.017 against 0.017 (README of LongTailCXR).

    Raises: `ConfigError` for a negative alpha, and at `fit` where some training labels are unknown.

    Source: Zhang et al. 2018, mixup: Beyond empirical risk minimization. We draw one lambda per pair, as its
    definition says; the authors' code draws one per batch.

    >>> x, y = torch.rand(4, 3, 8, 8), torch.eye(4)
    >>> mixed, soft = Mixup(alpha=0.2).mix_inputs(x, y, torch.Generator().manual_seed(0))
    >>> mixed.shape, bool(torch.allclose(soft.sum(1), torch.ones(4)))
    (torch.Size([4, 3, 8, 8]), True)
    """

    name: ClassVar[str] = "mixup"
    place: ClassVar[Place] = "inputs"
    source: ClassVar[str] = "Zhang et al. 2018, mixup"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    mixes_cases: ClassVar[bool] = True
    spaces: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    def __init__(self, *, alpha: float = 0.2) -> None:
        self.alpha = check_setting(self.name, "alpha", alpha, 0)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0}

    def fit(self, facts: Facts) -> None:
        if self.alpha > 0:
            refuse_unknown(self.name, facts)

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.alpha == 0 or len(x) < 2:
            return x, y
        partner = torch.randperm(len(x), generator=rng).to(x.device, non_blocking=True)
        own = beta(len(x), self.alpha, self.alpha, rng)
        return mixed(x, partner, own), mixed(y, partner, own)
