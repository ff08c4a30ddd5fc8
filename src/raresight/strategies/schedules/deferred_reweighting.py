"""Deferred re-weighting: learn features from the data as they are, and weight rare classes towards the end."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.losses.class_weights import SCHEMES, Scheme, rarity
from raresight.strategies.losses.label_weights import mean_one, of_target
from raresight.strategies.settings import choice, number
from raresight.strategies.strategy import Facts, Place, Strategy


class DeferredReweighting(Strategy):
    """Class weights that act from a given share of the training on, and not before.

    Equation: w_k = 1 in epochs e < e0, those of `class_weights` from e0 = min(ceil(start E), E - 1) on, E the number of
    epochs: the first epoch that begins at share `start` or later, and the last one at the latest, so that no study is
    too short for it to act.

    Shapes: `case_weights` returns None before, then `(1, K, 1...)` (exclusive) or `(B, K, *S)` (independent).
    Ranges: `start` in [0, 1]: 0 is `class_weights`, 1 the last epoch alone; `scheme` and `beta` as in `class_weights`.
    Absent class: weight 1, as in `class_weights`.
    Helps: with LDAM, for which it was made: early weights on few cases spoil the features, late ones move the boundary.
    Hurts: with a decaying learning rate little may move after `start`. The weights kept as best are those of an
    evaluation after `start`, even where an earlier one scored higher: before it, this is another arm.
    Evidence: NIH-CXR-LT (600 balanced test images; LongTailCXR's README): mean accuracy of head, medium and tail groups
    0.361 for class-balanced LDAM with it, 0.228 for LDAM alone, 0.164 for plain training. In a replication cut from 60
    epochs to 10 it never started and three such arms came out identical.
    Raises: `ConfigError` RS-C34 for values outside these ranges.
    Source: Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss", deferred
    re-weighting (theirs: from epoch 160 of 200, effective number with beta 0.9999). We differ in the normalisation
    (mean weight over training labels 1, theirs a sum of K), in giving independent negatives their own weight, and in
    not lowering the learning rate at e0. The log-prior shift is that of the final weights, as if all training had been
    weighted by them: exact at the optimum, too large where training ends before it is reached.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 1]]
    >>> method = DeferredReweighting(scheme="inverse")
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target), epochs=10))
    >>> [method.case_weights(target, torch.arange(4), epoch) is None for epoch in (0, 7, 8, 9)]
    [True, True, False, False]
    """

    name: ClassVar[str] = "deferred_reweighting"
    place: ClassVar[Place] = "schedules"
    source: ClassVar[str] = "Cao et al. 2019, deferred re-weighting (DRW)"

    def __init__(self, *, start: float = 0.8, scheme: Scheme = "effective", beta: float = 0.9999) -> None:
        self.start = number(self.name, "start", start, 0, 1)
        self.scheme = choice(self.name, "scheme", scheme, SCHEMES)
        self.beta = number(self.name, "beta", beta, 0, 1, below_high=True)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"scheme": "effective", "beta": 0.0}

    def fit(self, facts: Facts) -> None:
        self.kind_: Kind = facts.kind
        positive = rarity(facts.n_positive, self.scheme, self.beta)
        negative = rarity(facts.n_known - facts.n_positive, self.scheme, self.beta)
        self.positive_, self.negative_ = mean_one(facts, positive, negative)
        # 0.55 * 100 is a hair above 55 in floating point
        self.first_ = min(math.ceil(self.start * facts.epochs - 1e-9), facts.epochs - 1)

    def log_prior_shift(self) -> Tensor:
        return (self.positive_ / self.negative_).log()

    def begun(self, epoch: int) -> bool:
        return epoch >= self.first_

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        return of_target(target, self.positive_, self.negative_, self.kind_) if self.begun(epoch) else None
