"""Random undersampling: an epoch shows all rare rows and a fresh random part of the common ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from raresight.strategies.features.recipes import share_of
from raresight.strategies.prior import groups, shift_of_rows
from raresight.strategies.strategy import Facts, Place, Strategy


class RandomUndersampling(Strategy):
    """Keep, anew in every epoch, so few rows of common classes that the smallest class has a target share of each.

    Equation:

        cap = floor(n_min / target),    row i is kept in an epoch with chance p_i = min(1, cap / n_c).

    Exclusive: exactly min(n_c, cap) rows of class c are kept, drawn without replacement. Independent: a row counts to
    the rarest class that it is known to have (rows known to have none of the classes are one more group), so no row of
    a class below the cap is dropped for being common in another way; of the g_k rows that count to class k,
    g_k * min(1, cap / n_k) are kept, rounded up or down at random so that this holds on average. The run keeps its
    number of steps: within an epoch the kept rows are drawn evenly, with replacement. Over many epochs every row is
    seen.

    Shapes: `sample_weights` `(N,)`: 1 for kept rows, 0 for others; before the first epoch the chances p_i.
    Ranges: `target` is "balance" (= 1) or a share in (0, 1].
    Log-prior shift: exclusive log(p_c / mean p), exact; independent log odds after minus before, an approximation where
    classes go together.
    Absent class: it is no smallest class, nothing changes. A row without any known label is never drawn.

    Helps: where common cases are so many that a part of them says as much, and rare ones should be seen more often than
    once an epoch.
    Hurts: with a class of a handful of cases an epoch shows a handful of each; common classes are then learned slowly.
    Probabilities follow the new class balance unless they are corrected for it.
    Evidence: none found by us.

    Raises: `ConfigError` RS-C34 for a target outside (0, 1].

    Source: imbalanced-learn's RandomUnderSampler for the counts (its ratio is `target`, for two classes); we differ in
    drawing the part anew in every epoch, and the independent form is ours.

    >>> import torch
    >>> from raresight.strategies.strategy import Facts
    >>> target = torch.eye(2)[[0, 0, 0, 0, 1]]
    >>> method = RandomUndersampling(target=0.5)
    >>> method.fit(Facts("exclusive", ("nevus", "melanoma"), target, torch.ones_like(target)))
    >>> method.sample_weights().tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    >>> method.start_epoch(0, torch.nn.Identity(), torch.Generator().manual_seed(0))
    >>> method.sample_weights().sum().item(), method.sample_weights()[4].item()
    (3.0, 1.0)
    """

    name: ClassVar[str] = "random_undersampling"
    place: ClassVar[Place] = "sampling"
    source: ClassVar[str] = "imbalanced-learn, RandomUnderSampler"
    spaces: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, *, target: str | float = "balance") -> None:
        self.share = share_of(self.name, target)
        self.target = target

    def fit(self, facts: Facts) -> None:
        member = groups(facts.target, facts.mask, facts.kind)
        count = member.sum(0)
        present = count > 0
        least = count[present].min() if bool(present.any()) else count.new_zeros(())
        cap = (least / self.share + 1e-6).floor()
        self.keep_ = torch.where(present, (cap / count.clamp(min=1)).clamp(max=1), 1.0)
        size = torch.where(member > 0, count, torch.inf)
        self.group_ = torch.where(member.amax(1) > 0, size.argmin(1), -1)
        chance = torch.where(self.group_ >= 0, self.keep_[self.group_], 0.0)
        self.kept_: Tensor | None = chance if bool((self.keep_ < 1).any()) else None
        self.shift_ = torch.zeros(()) if self.kept_ is None else shift_of_rows(facts, chance)

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        if self.kept_ is None:
            return
        self.kept_ = torch.zeros_like(self.kept_)
        for group, share in enumerate(self.keep_.tolist()):
            rows = (self.group_ == group).nonzero().squeeze(1)
            due = len(rows) * share
            whole = int(due)
            more = torch.rand((), generator=rng, dtype=torch.float64).item() < due - whole
            self.kept_[rows[torch.randperm(len(rows), generator=rng)[: whole + more]]] = 1

    def sample_weights(self) -> Tensor | None:
        return self.kept_

    def log_prior_shift(self) -> Tensor:
        return self.shift_
