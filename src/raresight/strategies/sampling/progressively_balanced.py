"""Progressively balanced sampling: from rows as they come to balanced classes, epoch by epoch."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raresight.strategies.prior import balanced_rows
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class ProgressivelyBalancedSampling(Strategy):
    """Draw rows as they come at first, class-balanced in the last epoch, and by a mixture of the two between.

    Equation:

        q_i(t) = (1 - t / T) / N + (t / T) * b_i,    t = 0 ... T the epoch, T the last one,

    b_i the chance of row i under `class_balanced_sampling` with the same `power`, for exclusive and independent labels
    alike (there the mean of n_k^-power over the row's positive classes; rows with none are one more group). Epoch 0
    passes each row once. A run of one epoch stays at t = 0. A head phase goes on counting.

    Shapes: `sample_weights` `(N,)`, sums to 1.
    Ranges: `power` in [0, 2]: 0 is plain training, 1 balanced.
    Log-prior shift: not defined (None) except for power 0: it moves from epoch to epoch, and which epoch's weights
    are kept is known only afterwards. Thresholds and calibration are tuned on the validation part as ever.
    Absent class: no row has it, nothing changes. A row without any known label is never drawn after epoch 0.

    Helps: features profit from all data first, the decision between classes from balance at the end, in one phase.
    Hurts: balance comes when the learning rate is lowest; `classifier_retraining` keeps the two phases apart.
    Evidence: none found by us on medical images.

    Raises: `ConfigError` RS-C34 for a power outside its range.

    Source: Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition", eq. 2. We number
    epochs so that the last one reaches t = T, and draw rows where they draw classes. The independent form is ours.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = ProgressivelyBalancedSampling()
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target), epochs=3))
    >>> method.sample_weights() is None
    True
    >>> method.start_epoch(1, torch.nn.Identity(), torch.Generator())
    >>> [round(w, 4) for w in method.sample_weights().tolist()]  # half way from 1/4 to 1/6 and 1/2
    [0.2083, 0.2083, 0.2083, 0.375]
    """

    name: ClassVar[str] = "progressively_balanced_sampling"
    place: ClassVar[Place] = "sampling"
    source: ClassVar[str] = "Kang et al. 2020, eq. 2"
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, power: float = 1.0) -> None:
        self.power = number(self.name, "power", power, 0, 2)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"power": 0.0}

    def fit(self, facts: Facts) -> None:
        rows = balanced_rows(facts.target, facts.mask, facts.kind, self.power)
        self.balanced_ = rows / rows.sum().clamp(min=1e-300)
        drawable = (rows > 0).to(torch.float64)
        self.plain_ = drawable / drawable.sum().clamp(min=1)
        self.last_ = facts.epochs - 1
        self.share_ = 0.0

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.share_ = min(1.0, epoch / self.last_) if self.last_ > 0 else 0.0

    def sample_weights(self) -> Tensor | None:
        if self.share_ == 0 or self.power == 0:
            return None
        return (1 - self.share_) * self.plain_ + self.share_ * self.balanced_

    def log_prior_shift(self) -> Tensor | None:
        return torch.zeros(()) if self.power == 0 else None

    def compensates(self) -> bool:
        return self.power > 0
