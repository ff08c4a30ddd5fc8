"""SMOTE on the network's features: synthetic cases of rare classes on the lines between real ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.features import recipes
from raresight.strategies.features.neighbours import neighbours_within
from raresight.strategies.features.recipes import FeatureTable, Recipes
from raresight.strategies.settings import flag, whole
from raresight.strategies.strategy import Facts, Place, Strategy, SyntheticRows


class SMOTE(Strategy):
    """Add synthetic feature rows between each rare case and one of its nearest neighbours of the same class.

    Equation:

        z~ = z_i + gap * (z_j - z_i),    gap ~ U[0, 1),    j one of the k nearest cases of the class of i,

    i and j drawn evenly, with replacement, until class c counts n'_c = max(n_c, floor(target * n_max)). It acts in the
    head phase, on all training features at once; rows are recipes (i, j, gap), so features are never copied.

    n_max is the largest class count. Independent labels: classes are filled one at a time, and n_max is the largest
    of the classes' positives and of the cases known to have none of the classes. A synthetic row keeps every other
    label in which i and j agree; where they differ or one is unknown it is masked. So the other classes' counts move a
    little, and `log_prior_shift` counts that in once the features have been seen.

    Tables with several views of an image: a view is a row like any other, but no line is drawn between two views of
    one image unless `own_views` is true; it would only be a third view.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`. Returns `SyntheticRows`, class after class, or None where none are due.
    Ranges and units: `k` >= 1, capped at n_c - 1; `target` is "balance" (= 1) or a share of n_max in (0, 1].
    Log-prior shift: exclusive log(n'_c / n_c); independent log odds of class c after minus before.
    Absent class: gets no synthetic rows, nor does one with a single case (there is no line to draw; `findings` says
    so), and shift 0 of its own. Exclusive cases with an unknown label are left out.

    Helps: where a class has enough cases that its neighbours are truly alike, and the features keep classes apart.
    Hurts: where classes overlap, for lines then cross the other class (the report's safety table counts them); and
    probabilities, which follow the new class balance unless they are corrected for it.
    Evidence: none found by us on deep features of medical images. The users of imbalanced-learn report that ranking
    does not improve and calibration worsens (its issue 1101).

    Raises: `ConfigError` for `k` < 1, a target outside (0, 1] or an `own_views` that is not true or false.

    Source: Chawla et al. 2002, SMOTE: Synthetic minority over-sampling technique. As in imbalanced-learn,
    i is drawn at random rather than each case used equally often, and one gap serves all features (the pseudo-code of
    2002 draws one per feature, and so leaves the line).

    >>> z = torch.tensor([[0.0], [1.0], [5.0], [6.0], [7.0], [8.0]])
    >>> y = torch.eye(2)[[0, 0, 1, 1, 1, 1]]
    >>> smote = SMOTE(k=1)
    >>> smote.fit(Facts("exclusive", ("rare", "common"), y, torch.ones(6, 2)))
    >>> rows = smote.fit_features(z, y, torch.ones(6, 2), torch.arange(6), torch.Generator().manual_seed(0))
    >>> len(rows.base), rows.target.tolist(), sorted({*rows.base.tolist(), *rows.neighbour.tolist()})
    (2, [[1, 0], [1, 0]], [0, 1])
    """

    name: ClassVar[str] = "smote"
    place: ClassVar[Place] = "features"
    source: ClassVar[str] = "Chawla et al. 2002, SMOTE"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)
    head_phase: ClassVar[bool] = True

    def __init__(self, *, k: int = 5, target: str | float = "balance", own_views: bool = False) -> None:
        self.k = whole(self.name, "k", k, 1)
        self.share = recipes.share_of(self.name, target)
        self.target = target
        self.own_views = flag(self.name, "own_views", own_views)
        self.facts_: Facts | None = None
        self.shift_: Tensor | None = None
        self.findings_: list[str] = []

    def fit(self, facts: Facts) -> None:
        self.facts_ = facts
        self.shift_ = recipes.expected_shift(facts, self.share)

    def log_prior_shift(self) -> Tensor | None:
        return torch.zeros(()) if self.shift_ is None else self.shift_

    def findings(self) -> list[str]:
        return self.findings_

    def fit_features(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator
    ) -> SyntheticRows | None:
        table = FeatureTable.of(recipes.fitted(self.name, self.facts_), z, y, mask, ids, own_views=self.own_views)
        self.findings_ = recipes.lonely(table, self.share, self.name)

        def draw(c: int, n: int) -> Recipes:
            members = table.members(c)
            near = neighbours_within(z, members, self.k, group=table.group)
            return recipes.between(members, near, recipes.evenly(len(members), n, rng, z.device), rng)

        rows = recipes.fill(table, self.share, draw)
        self.shift_ = recipes.implied_shift(table, ids, rows)
        return rows
