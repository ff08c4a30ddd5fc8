"""Tversky loss: Dice with a price of its own for false alarms and for misses."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.overlap import check_regions, overlap_loss
from raresight.strategies.settings import flag, number
from raresight.strategies.strategy import Facts, Place, Strategy


class Tversky(Strategy):
    """One minus the soft Tversky index, averaged over the classes that are there.

    Equation: 1 - (2 TP + s) / (2 TP + 2 alpha FP + 2 beta FN + s), with TP = sum w p y, FP = sum w p (1 - y),
    FN = sum w (1 - p) y over the known elements of a class in the batch, or of each image; p = softmax(z) (exclusive)
    or sigmoid(z), w the case weights. The 2 gives s the meaning that it has in `dice`; alpha = beta = 1/2 is `dice`.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and None. Case weights act
    as in `dice`.
    Ranges: `alpha`, the price of false alarms, and `beta`, that of misses, in [0.01, 10] (at 0 one of them would be
    free, and "everything" or "nothing" the best answer); `smooth` s in [0, 1000], in elements; `per_image` true or
    false, not for labels of whole images.
    Absent class: left out of the mean, as in `dice`.
    Helps: small lesions whose misses cost more than false alarms (beta > alpha).
    Hurts: as `dice`; the larger beta / alpha, the larger the regions drawn, and the fewer the missed ones at the price
    of precision. A threshold chosen by cost does that without training again.
    Evidence: none found by us on rare findings with intervals.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Salehi et al. 2017, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", section "Tversky loss" (alpha for false positives, beta for false negatives; 0.3 and 0.7 are among the
    pairs tried there). We differ: one minus the index, averaged over all classes, where theirs is the index of the
    lesion class alone. No log-prior shift is defined.

    >>> import torch
    >>> method = Tversky(alpha=0.3, beta=0.7)
    >>> method.kind_ = "independent"
    >>> z, y = torch.tensor([[[0.0, 0.0, -100.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    >>> one = torch.ones(1, 1, 3)
    >>> method.loss(z, y, one, one, torch.zeros(1))[0].item()  # 1 - 0.5 / (0.5 + 0.3 * 0.5 + 0.7 * 0.5)
    0.5
    """

    name: ClassVar[str] = "tversky"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Salehi et al. 2017, section Tversky loss"
    rowwise: ClassVar[bool] = False

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.0, per_image: bool = False) -> None:
        self.alpha = number(self.name, "alpha", alpha, 0.01, 10)
        self.beta = number(self.name, "beta", beta, 0.01, 10)
        self.smooth = number(self.name, "smooth", smooth, 0, 1000)
        self.per_image = flag(self.name, "per_image", per_image)

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind

    def log_prior_shift(self) -> Tensor | None:
        return None

    def compensates(self) -> bool:
        return True  # every class weighs alike

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        check_regions(self.name, logits, self.per_image)
        missed = overlap_loss(
            logits,
            target,
            mask,
            weight,
            kind=self.kind_,
            alpha=self.alpha,
            beta=self.beta,
            smooth=self.smooth,
            per_image=self.per_image,
        )
        return missed, None
