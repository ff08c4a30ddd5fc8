"""SMOTE on the network's features: synthetic cases of rare classes on the lines between real ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from raresight.core.errors import ConfigError, Problem
from raresight.core.task import Kind
from raresight.strategies.features.neighbours import neighbours_within
from raresight.strategies.strategy import Facts, Place, Strategy, SyntheticRows


class SMOTE(Strategy):
    """Add synthetic feature rows between each rare case and one of its nearest neighbours of the same class.

        z~ = z_i + gap * (z_j - z_i),    gap ~ U[0, 1),    j one of the k nearest cases of the class of i,

    i and j drawn evenly, with replacement, until class c counts n'_c = max(n_c, floor(target * n_max)). It acts in the
    head phase, on all training features at once; rows are recipes (i, j, gap), so features are never copied.

    n_max is the largest class count. Independent labels: classes are filled one at a time, and n_max is the largest
    of the classes' positives and of the cases known to have none of the classes. A synthetic row keeps every other
    label in which i and j agree; where they differ or one is unknown it is masked. So the other classes' counts move a
    little, and `log_prior_shift` counts that in once the features have been seen.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`. Returns `SyntheticRows`, class after class, or None where none are due.
    Ranges and units: `k` >= 1, capped at n_c - 1; `target` is "balance" (= 1) or a share of n_max in (0, 1].
    Log-prior shift: exclusive log(n'_c / n_c); independent log odds of class c after minus before.
    A class that is absent, or has a single case, gets no synthetic rows (there is no line to draw) and shift 0 of its
    own. Exclusive cases with an unknown label are left out.

    Raises: `ConfigError` for `k` < 1 or a target outside (0, 1].

    Source: Chawla et al. 2002, SMOTE: Synthetic minority over-sampling technique, section 4.2. As in imbalanced-learn,
    i is drawn at random rather than each case used equally often, and one gap serves all features (the pseudo-code of
    2002 draws one per feature, and so leaves the line).

    >>> z = torch.tensor([[0.0], [1.0], [5.0], [6.0], [7.0], [8.0]])
    >>> y = torch.eye(2)[[0, 0, 1, 1, 1, 1]]
    >>> smote = SMOTE(k=1)
    >>> smote.fit(Facts("exclusive", ("rare", "common"), y, torch.ones(6, 2)))
    >>> rows = smote.fit_features(z, y, torch.ones(6, 2), torch.arange(6), torch.Generator().manual_seed(0))
    >>> len(rows.base), rows.target.tolist(), sorted({*rows.base.tolist(), *rows.neighbour.tolist()})
    (2, [[1.0, 0.0], [1.0, 0.0]], [0, 1])
    """

    name: ClassVar[str] = "smote"
    place: ClassVar[Place] = "features"
    source: ClassVar[str] = "Chawla et al. 2002, section 4.2"
    kinds: ClassVar[tuple[Kind, ...]] = ("exclusive", "independent")
    spaces: ClassVar[tuple[int, ...]] = (0,)
    head_phase: ClassVar[bool] = True

    def __init__(self, *, k: int = 5, target: str | float = "balance") -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise _refused("k", k, "there is no line without a neighbour", "give a whole number of at least 1")
        if target == "balance":
            self.share = 1.0
        elif isinstance(target, int | float) and not isinstance(target, bool) and 0 < target <= 1:
            self.share = float(target)
        else:
            why = "a class is filled up to that share of the most frequent one"
            raise _refused("target", target, why, "give 'balance' or a number above 0 and up to 1")
        self.k = k
        self.target = target
        self.kind_: Kind | None = None
        self.shift_: Tensor | None = None

    def fit(self, facts: Facts) -> None:
        self.kind_ = facts.kind
        known = facts.mask.expand_as(facts.target)
        before, after = self._counts(_labels(facts.target, known, facts.kind), known, facts.kind)
        self.shift_ = _log_ratio(after, before)

    def log_prior_shift(self) -> Tensor | None:
        return torch.zeros(()) if self.shift_ is None else self.shift_

    def _counts(self, positive: Tensor, known: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
        """Cases of each class now and after filling up, `(K,)` float64."""
        before = positive.sum(0, dtype=torch.float64)
        n_max = before.max()
        if kind == "independent":
            n_max = n_max.maximum(((known > 0).all(1) & (positive == 0).all(1)).sum())
        after = torch.maximum(before, (self.share * n_max + 1e-6).floor())  # 0.3 * 10 must be 3 in floating point too
        return before, torch.where(before >= 2, after, before)

    def fit_features(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator
    ) -> SyntheticRows | None:
        if self.kind_ is None:
            raise _refused("kind", None, "labels are read differently by kind", "call fit(facts) first")
        known = mask.expand_as(y)
        positive = _labels(y, known, self.kind_)
        before, after = self._counts(positive, known, self.kind_)
        n_new = (after - before).long().tolist()
        parts = [self._class_rows(z, positive[:, c], n, rng) for c, n in enumerate(n_new) if n > 0]
        if not parts:
            return None
        base, neighbour, gap = (torch.cat(column) for column in zip(*parts, strict=True))
        agree = (known[base] > 0) & (known[neighbour] > 0) & (y[base] == y[neighbour])
        rows = SyntheticRows(base=base, neighbour=neighbour, gap=gap, target=y[base] * agree, mask=agree.to(mask.dtype))
        if self.kind_ == "independent":
            self.shift_ = _log_odds_shift(positive, known, rows)
        return rows

    def _class_rows(self, z: Tensor, member: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """`n` recipes (base, neighbour, gap) within one class."""
        rows = member.nonzero().squeeze(1)
        near = neighbours_within(z, rows, min(self.k, len(rows) - 1))
        one = torch.randint(len(rows), (n,), generator=rng).to(z.device)
        other = torch.randint(near.shape[1], (n,), generator=rng).to(z.device)
        gap = torch.rand(n, generator=rng).to(z.device)
        return rows[one], near[one, other], gap


def _labels(y: Tensor, known: Tensor, kind: Kind) -> Tensor:
    """1 where a case is known to have a class; an exclusive label with any unknown entry is unknown as a whole."""
    if kind == "exclusive":
        known = known.amin(dim=1, keepdim=True)
    return ((y * known) > 0.5).to(y.dtype)


def _log_ratio(after: Tensor, before: Tensor) -> Tensor:
    """log(after / before), 0 for a class that is absent."""
    return (after.clamp(min=1) / before.clamp(min=1)).log()


def _log_odds_shift(positive: Tensor, known: Tensor, rows: SyntheticRows) -> Tensor:
    """Per class the log odds over real and synthetic rows minus those over real rows; 0 where one side is empty."""
    has = positive.sum(0, dtype=torch.float64)
    has_not = (known > 0).sum(0) - has
    more = (rows.target * rows.mask).sum(0, dtype=torch.float64)
    more_not = rows.mask.sum(0, dtype=torch.float64) - more
    shift = _log_ratio(has + more, has) - _log_ratio(has_not + more_not, has_not)
    return torch.where((has > 0) & (has_not > 0), shift, 0.0).cpu()


def _refused(setting: str, value: object, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-C34",
            level="error",
            file="study.yaml",
            column=f"smote.{setting}",
            found=f"{setting} is {value!r}",
            why=why,
            remedy=remedy,
        )
    )
