"""Borderline-SMOTE on the network's features: synthetic cases only where a class meets the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from raresight.core.task import Kind
from raresight.strategies.features import recipes
from raresight.strategies.features.neighbours import lacking, nearest_to_rows
from raresight.strategies.features.recipes import FeatureTable, Recipes
from raresight.strategies.settings import flag, refused, whole
from raresight.strategies.strategy import Facts, Place, Strategy, SyntheticRows


class BorderlineSMOTE(Strategy):
    """Add synthetic feature rows to the rare cases that lie on the border of their class, and to no others.

    Equation: with m' of the m nearest cases of i lacking its class, i is

        in danger where m / 2 <= m' < m,    safe where m' < m / 2,    noise where m' = m,

    and only cases in danger are the base of z~ = z_i + gap * (z_j - z_i). Kind 1: j is one of the k nearest cases of
    the class, gap ~ U[0, 1). Kind 2: j is one of the k nearest cases of any class, gap ~ U[0, 1) where j has the class
    and U[0, 0.5) where it lacks it; the synthetic case has the class of i either way. i and j are drawn evenly, with
    replacement, until class c counts n'_c = max(n_c, floor(target * n_max)). It acts in the head phase; rows are
    recipes (i, j, gap), so features are never copied.

    A class without a case in danger has its stored rows repeated instead (gap 0), and `findings` says so: with all
    cases safe there is no border to strengthen, and lines between cases that are all noise would cross other classes.

    n_max is the largest class count. Independent labels: classes are filled one at a time against the cases known to
    lack the class, and n_max is the largest of the classes' positives and of the cases known to have none of the
    classes. A synthetic row keeps every other label in which i and j agree; where they differ or one is unknown it is
    masked. `log_prior_shift` counts that in once the features have been seen. A case whose label for the class is
    unknown is nobody's neighbour. Of several views of one image none is another's neighbour, unless `own_views`.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`. Returns `SyntheticRows`, class after class, or None where none are due.
    Ranges and units: `kind` 1 or 2; `m`, `k` >= 1, capped at the cases there are; `target` is "balance" (= 1) or a
    share of n_max in (0, 1].
    Log-prior shift: exclusive log(n'_c / n_c); independent log odds of class c after minus before.
    Absent class: gets no synthetic rows, nor does one with a single case (`findings` says so), and shift 0 of its own.

    Helps: where SMOTE would spend most of its rows deep inside a class that is found anyway; isolated cases, which may
    be label errors, are not multiplied.
    Hurts: where the border is where labels are least certain: doubtful cases are what it multiplies.
    Evidence: none found by us on deep features of medical images.

    Raises: `ConfigError` for another kind, `m` or `k` < 1, a target outside (0, 1] or an `own_views` that is no flag.

    Source: Han et al. 2005, Borderline-SMOTE, both kinds. i is drawn at random rather than each used equally often, and
    kind 2 draws j as imbalanced-learn does (the paper: the k nearest of the class and the nearest of the others).

    >>> z = torch.tensor([[0.0], [1.0], [2.1], [3.0], [4.0], [5.0], [6.0]])
    >>> y = torch.eye(2)[[0, 0, 0, 1, 1, 1, 1]]
    >>> method = BorderlineSMOTE(m=2, k=1)
    >>> method.fit(Facts("exclusive", ("rare", "common"), y, torch.ones(7, 2)))
    >>> rows = method.fit_features(z, y, torch.ones(7, 2), torch.arange(7), torch.Generator().manual_seed(0))
    >>> rows.base.tolist(), rows.neighbour.tolist()  # 2.1 alone has one neighbour of each class
    ([2], [1])
    """

    name: ClassVar[str] = "borderline_smote"
    place: ClassVar[Place] = "features"
    source: ClassVar[str] = "Han et al. 2005, Borderline-SMOTE 1 and 2"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)
    head_phase: ClassVar[bool] = True

    def __init__(
        self, *, kind: int = 1, m: int = 10, k: int = 5, target: str | float = "balance", own_views: bool = False
    ) -> None:
        if whole(self.name, "kind", kind, 1) > 2:
            raise refused(self.name, "kind", f"kind = {kind!r}", "it must be 1 or 2")
        self.kind = kind
        self.m = whole(self.name, "m", m, 1)
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
        members, judged = table.members(c), table.judged(c)
        near = nearest_to_rows(table.z, members, judged, self.m, group=table.group)
        without, found = lacking(near, table.positive[:, c])
        danger = members[(2 * without >= found) & (without < found)]
        if len(danger) == 0:
            state = "noise, with no neighbour of their own class" if bool((without == found).all()) else "safe or noise"
            self.findings_.append(
                f"{self.name}: class '{table.classes[c]}' has no case on the border (all are {state}); "
                "its stored cases were repeated instead"
            )
            return recipes.repeats(members, n, rng)
        partners = members if self.kind == 1 else judged
        near = nearest_to_rows(table.z, danger, partners, self.k, group=table.group)
        base, other, gap = recipes.between(danger, near, recipes.evenly(len(danger), n, rng, near.device), rng)
        return base, other, torch.where(table.positive[other, c], gap, 0.5 * gap)
