"""ADASYN on the network's features: the more a rare case is surrounded by others, the more synthetic rows it gets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.features import recipes
from raresight.strategies.features.neighbours import lacking, nearest_to_rows, neighbours_within
from raresight.strategies.features.recipes import FeatureTable, Recipes
from raresight.strategies.settings import flag, whole
from raresight.strategies.strategy import Facts, Place, Strategy, SyntheticRows


class ADASYN(Strategy):
    """Add synthetic feature rows to each rare case in proportion to how many of its neighbours lack its class.

    Equation: with G = n'_c - n_c rows due to class c, case i is the base of

        g_i = G * r_i / sum_j r_j,    r_i = share of the k nearest cases of i that lack the class,

    rows z~ = z_i + gap * (z_j - z_i), gap ~ U[0, 1), j drawn evenly from the k nearest cases of the class. g_i is
    rounded down, and what is left goes to the largest remainders, so that class c counts n'_c =
    max(n_c, floor(target * n_max)) exactly. It acts in the head phase; rows are recipes (i, j, gap), so features are
    never copied.

    Where every r_i is 0 the class meets no other, and the paper divides by zero: all its cases then share alike, as in
    SMOTE, and `findings` says so.

    n_max is the largest class count. Independent labels: classes are filled one at a time against the cases known to
    lack the class, and n_max is the largest of the classes' positives and of the cases known to have none of the
    classes. A synthetic row keeps every other label in which i and j agree; where they differ or one is unknown it is
    masked. `log_prior_shift` counts that in once the features have been seen. A case whose label for the class is
    unknown is nobody's neighbour. Of several views of one image none is another's neighbour, unless `own_views`.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`. Returns `SyntheticRows`, class after class, or None where none are due.
    Ranges and units: `k` >= 1, capped at the cases there are; `target` is "balance" (= 1) or a share of n_max in
    (0, 1].
    Log-prior shift: exclusive log(n'_c / n_c); independent log odds of class c after minus before.
    Absent class: gets no synthetic rows, nor does one with a single case (`findings` says so), and shift 0 of its own.

    Helps: where a class is missed mainly along its border with others.
    Hurts: where labels are wrong: a mislabelled case is surrounded by others altogether and gets the most rows.
    Evidence: none found by us on deep features of medical images.

    Raises: `ConfigError` for `k` < 1, a target outside (0, 1] or an `own_views` that is not true or false.

    Source: He et al. 2008, ADASYN, its algorithm without the threshold d_th on the degree of imbalance.
    As in imbalanced-learn, j comes from the nearest cases of the class (the paper draws it among the k nearest of all,
    which may hold none), and "lacks" is one class against the rest.

    >>> z = torch.tensor([[0.0], [1.0], [2.4], [3.0], [4.0], [5.0], [6.0], [7.0]])
    >>> y = torch.eye(2)[[0, 0, 0, 1, 1, 1, 1, 1]]
    >>> method = ADASYN(k=2)
    >>> method.fit(Facts("exclusive", ("rare", "common"), y, torch.ones(8, 2)))
    >>> rows = method.fit_features(z, y, torch.ones(8, 2), torch.arange(8), torch.Generator().manual_seed(0))
    >>> rows.base.tolist()  # 2.4 lies between its own class and the other; 0 and 1 have neighbours of their own alone
    [2, 2]
    """

    name: ClassVar[str] = "adasyn"
    place: ClassVar[Place] = "features"
    source: ClassVar[str] = "He et al. 2008, ADASYN"
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
        rows = recipes.fill(table, self.share, lambda c, n: self._class_recipes(table, c, n, rng))
        self.shift_ = recipes.implied_shift(table, ids, rows)
        return rows

    def _class_recipes(self, table: FeatureTable, c: int, n: int, rng: torch.Generator) -> Recipes:
        members = table.members(c)
        around = nearest_to_rows(table.z, members, table.judged(c), self.k, group=table.group)
        without, _ = lacking(around, table.positive[:, c])  # r_i times the number of neighbours, alike for all
        if not without.any():
            self.findings_.append(
                f"{self.name}: class '{table.classes[c]}' has no neighbour of another class; "
                "its cases share the synthetic rows alike, as in SMOTE"
            )
            without = torch.ones_like(without)
        near = neighbours_within(table.z, members, self.k, group=table.group)
        chosen = torch.arange(len(members), device=near.device).repeat_interleave(_apportion(without.double(), n))
        return recipes.between(members, near, chosen, rng)


def _apportion(ratio: Tensor, n: int) -> Tensor:
    """Whole numbers in proportion to `ratio`, summing to `n`: rounded down, the rest to the largest remainders."""
    due = n * ratio / ratio.sum()
    whole_part = due.floor()
    rest = n - int(whole_part.sum())
    largest = (due - whole_part).argsort(descending=True, stable=True)[:rest]
    return whole_part.long().index_add(0, largest, torch.ones_like(largest))
