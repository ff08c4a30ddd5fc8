"""Post-hoc logit adjustment: take the prevalence out of the scores of a plainly trained model."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from raresight.strategies.losses.reduce import along_classes
from raresight.strategies.prior import log_prior
from raresight.strategies.settings import number
from raresight.strategies.strategy import Facts, Place, Strategy


class LogitAdjustment(Strategy):
    """Subtract tau times the log prevalence from the logits, after training.

    Equation: exclusive, z_k - tau log pi_k; independent, z_k - tau log(pi_k / (1 - pi_k)). Rare classes are raised.

    Shapes: `adjust` takes and returns `(N, K, *S)`.
    Ranges: `tau` in [0, 10]; 0 changes nothing, 1 is optimal for balanced error if the model is calibrated.
    Absent class: its logit is left as it is (-log 0 would predict a class nothing was learned about everywhere).
    Helps: where recall is to be balanced over classes and a trained model is at hand: it costs nothing, and as its
    prior is known exactly the probabilities can be corrected.
    Hurts: precision of rare classes, with the logits as they stand. It moves thresholds and changes no ranking within a
    class of independent labels: thresholds tuned on validation do that as well, and class by class. A model that is
    overconfident is shifted by too little.
    Evidence: DermaMNIST (MONICA's result files, ResNet-50, one seed): group average 0.729 against 0.673 for plain
    training and 0.778 for the trained form (`balanced_softmax`); tail 0.615 against 0.441.
    Raises: `ConfigError` RS-C34 for tau outside its range.
    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", post-hoc. The independent form is ours:
    the two-class case.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = LogitAdjustment()
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> [round(z, 3) for z in method.adjust(torch.zeros(1, 2))[0].tolist()]
    [0.288, 1.386]
    """

    name: ClassVar[str] = "logit_adjustment"
    place: ClassVar[Place] = "decisions"
    source: ClassVar[str] = "Menon et al. 2021, post-hoc logit adjustment"

    def __init__(self, *, tau: float = 1.0) -> None:
        self.tau = number(self.name, "tau", tau, 0, 10)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"tau": 0.0}

    def fit(self, facts: Facts) -> None:
        self.shift_ = -self.tau * log_prior(facts)

    def log_prior_shift(self) -> Tensor:
        return self.shift_

    def adjust(self, logits: Tensor) -> Tensor:
        return logits + along_classes(self.shift_, logits)
