"""Random oversampling of features: stored rows of rare classes, repeated."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.features import recipes
from raresight.strategies.features.recipes import FeatureTable
from raresight.strategies.strategy import Facts, Place, Strategy, SyntheticRows


class RandomFeatureOversampling(Strategy):
    """Repeat the stored feature rows of rare classes until they are as frequent as asked.

    Equation:

        z~ = z_i,    i drawn evenly, with replacement, from the cases of class c,

    until class c counts n'_c = max(n_c, floor(target * n_max)). It acts in the head phase, on all training features at
    once; a repeated row is a row number, not a copy. It is SMOTE with every gap 0: the arm to compare SMOTE with.

    n_max is the largest class count. Independent labels: classes are filled one at a time, and n_max is the largest
    of the classes' positives and of the cases known to have none of the classes. A repeated row keeps all its labels,
    unknown ones included, so the other classes' counts move too; `log_prior_shift` counts that in once the features
    have been seen.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`. Returns `SyntheticRows`, class after class, or None where none are due.
    Ranges and units: `target` is "balance" (= 1) or a share of n_max in (0, 1].
    Log-prior shift: exclusive log(n'_c / n_c); independent log odds of class c after minus before.
    Absent class: gets no rows and shift 0 of its own. A single case is repeated. Exclusive cases with an unknown
    label are left out.

    Helps: where the loss of a rare class drowns in that of the frequent ones; no point is made up.
    Hurts: a head with many features may learn the repeated rows by heart; probabilities follow the new class balance
    unless they are corrected for it.
    Evidence: none found by us on deep features of medical images.

    Raises: `ConfigError` for a target outside (0, 1].

    Source: Chawla et al. 2002, "SMOTE" (over-sampling with replacement, its comparison); as `RandomOverSampler` of
    imbalanced-learn.

    >>> z = torch.tensor([[0.0], [5.0], [6.0], [7.0]])
    >>> y = torch.eye(2)[[0, 1, 1, 1]]
    >>> method = RandomFeatureOversampling()
    >>> method.fit(Facts("exclusive", ("rare", "common"), y, torch.ones(4, 2)))
    >>> rows = method.fit_features(z, y, torch.ones(4, 2), torch.arange(4), torch.Generator().manual_seed(0))
    >>> rows.base.tolist(), rows.neighbour.tolist(), rows.gap.tolist()
    ([0, 0], [0, 0], [0.0, 0.0])
    """

    name: ClassVar[str] = "random_feature_oversampling"
    place: ClassVar[Place] = "features"
    source: ClassVar[str] = "Chawla et al. 2002, over-sampling with replacement"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)
    head_phase: ClassVar[bool] = True

    def __init__(self, *, target: str | float = "balance") -> None:
        self.share = recipes.share_of(self.name, target)
        self.target = target
        self.facts_: Facts | None = None
        self.shift_: Tensor | None = None

    def fit(self, facts: Facts) -> None:
        self.facts_ = facts
        self.shift_ = recipes.expected_shift(facts, self.share, least=1)

    def log_prior_shift(self) -> Tensor | None:
        return torch.zeros(()) if self.shift_ is None else self.shift_

    def fit_features(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator
    ) -> SyntheticRows | None:
        table = FeatureTable.of(recipes.fitted(self.name, self.facts_), z, y, mask, ids)
        rows = recipes.fill(table, self.share, lambda c, n: recipes.repeats(table.members(c), n, rng), least=1)
        self.shift_ = recipes.implied_shift(table, ids, rows)
        return rows
