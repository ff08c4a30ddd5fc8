"""Asymmetric loss: easy negatives fade faster than easy positives, and the easiest are dropped."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raresight.core.task import Kind
from raresight.strategies.losses.reduce import at_least_float32, reduce
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class Asymmetric(Strategy):
    """Focal loss with one gamma for positives and another for negatives, and no loss below a small probability.

    Equation: -y (1 - p)^gamma_plus log p - (1 - y) p_m^gamma_minus log(1 - p_m), with p = sigmoid(z) and
    p_m = max(p - clip, 0). The focusing factors are part of the loss and carry a gradient.

    Shapes: `logits`, `target` `(B, K, *S)`, `mask`, `weight` broadcastable; returns a scalar and `(B,)`. A soft target
    mixes the two losses in its proportions.
    Ranges: `gamma_plus`, `gamma_minus` in [0, 20]; `clip` in [0, 0.5], a probability: negatives below it cost nothing.
    All 0 is binary cross-entropy; equal gammas with clip 0 are `focal` without alpha. Independent labels only: for
    exclusive ones the single-label form of the authors' code is focal loss with gamma_plus, gamma_minus acting through
    label smoothing alone.
    Absent class: its negatives count as usual.
    Helps: many independent labels, nearly all negative; some findings left unlabelled, since with clip > 0 the gradient
    of a negative that the model is sure to be positive fades as well.
    Hurts: negatives nearly vanish, so that probabilities rise to those of no prevalence: thresholds must be tuned, and
    calibration suffers. Three settings, whose best values depend on the data.
    Evidence: none found by us on medical images with intervals; one of the eight arms of a study on
    ChestX-ray14 (arXiv 2204.01729), of which only the abstract was available to us.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Ridnik et al. 2021 (Ben-Baruch et al. 2020), "Asymmetric loss for multi-label classification" (ASL). The
    authors' code offers to detach the factors; its gradient analysis and the stored code do not, and neither do we. We
    differ in the mean over known labels (theirs: the sum). No log-prior shift is defined.

    >>> import torch
    >>> method = Asymmetric(gamma_plus=0, gamma_minus=1, clip=0)
    >>> zero, one, ids = torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    >>> round(method.loss(zero, zero, one, one, ids)[0].item(), 4)  # log 2 / 2
    0.3466
    """

    name: ClassVar[str] = "asymmetric"
    place: ClassVar[Place] = "losses"
    source: ClassVar[str] = "Ridnik et al. 2021, asymmetric loss (ASL) with probability shifting"
    kinds: ClassVar[tuple[Kind, ...]] = ("independent",)

    def __init__(self, *, gamma_plus: float = 1.0, gamma_minus: float = 4.0, clip: float = 0.05) -> None:
        self.gamma_plus = number(self.name, "gamma_plus", gamma_plus, 0, 20)
        self.gamma_minus = number(self.name, "gamma_minus", gamma_minus, 0, 20)
        self.clip = number(self.name, "clip", clip, 0, 0.5)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"gamma_plus": 0.0, "gamma_minus": 0.0, "clip": 0.0}

    def fit(self, facts: Facts) -> None:
        self.n_classes_ = len(facts.classes)

    def log_prior_shift(self) -> Tensor | None:
        plain = self.gamma_plus == self.gamma_minus == self.clip == 0
        return torch.zeros(self.n_classes_) if plain else None

    def compensates(self) -> bool:
        return self.gamma_minus > self.gamma_plus or self.clip > 0

    def loss(
        self, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        logits = at_least_float32(logits)
        log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
        entries = -target * (self.gamma_plus * log_q).exp() * log_p
        if self.clip == 0:  # in logs throughout: 1 - p would round to 0
            entries = entries - (1 - target) * (self.gamma_minus * log_p).exp() * log_q
        else:
            # the floor keeps the derivative of x^gamma finite where gamma < 1
            focus = (logits.sigmoid() - self.clip).clamp(min=1e-12) ** self.gamma_minus
            entries = entries - (1 - target) * focus * (log_q.exp() + self.clip).clamp(max=1).log()
        return reduce(entries, mask, weight, kind="independent")
