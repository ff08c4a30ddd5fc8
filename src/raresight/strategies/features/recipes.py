"""What feature oversamplers share: how many rows a class is due, their labels, and the prior that they imply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raresight.core.task import Kind, Task
from raresight.strategies.settings import number, refused
from raresight.strategies.strategy import Facts, SyntheticRows

Recipes = tuple[Tensor, Tensor, Tensor]  # base and neighbour `(n,)` row numbers, gap `(n,)`


@dataclass(frozen=True)
class FeatureTable:
    """Features `z` `(N, F)` with labels `y` `(N, K)`, where they are `known`, and where they are `positive` (bool).

    Rows of one `group` never meet: two views of one image, or (in a table of plain images) a row and itself. An
    exclusive label with any unknown entry is unknown as a whole.
    """

    kind: Kind
    classes: Sequence[str]
    z: Tensor
    y: Tensor
    known: Tensor
    positive: Tensor
    group: Tensor

    @classmethod
    def of(
        cls, labels: Facts | Task, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, *, own_views: bool = True
    ) -> FeatureTable:
        known, positive = _read(y, mask, labels.kind)
        group = torch.arange(len(z), device=z.device) if own_views else ids.to(z.device)
        return cls(labels.kind, labels.classes, z, y, known, positive, group)

    def members(self, c: int) -> Tensor:
        """Rows known to have class `c`."""
        return self.positive[:, c].nonzero().squeeze(1)

    def judged(self, c: int) -> Tensor:
        """Rows of which it is known whether they have class `c`."""
        return self.known[:, c].nonzero().squeeze(1)

    def can_pair(self, c: int) -> bool:
        """Whether class `c` has two cases between which a line can be drawn."""
        group = self.group[self.members(c)]
        return len(group) > 0 and bool((group != group[0]).any())


def fitted(method: str, facts: Facts | None) -> Facts:
    """What `fit` was told. Raises: `ConfigError` where it was not called."""
    if facts is None:
        raise refused(method, "fit", "it was given features before labels", "call fit(facts) first")
    return facts


def share_of(method: str, target: Any) -> float:
    """The setting `target` as a share of the largest count. Raises: `ConfigError` RS-C34."""
    if target == "balance":
        return 1.0
    if isinstance(target, str):
        raise refused(method, "target", f"target = {target!r}", "it must be 'balance' or a number above 0, up to 1")
    share = number(method, "target", target, 0.0, 1.0)
    if share == 0:
        raise refused(method, "target", "target = 0", "a class cannot be filled up to nothing")
    return share


def counts(known: Tensor, positive: Tensor, kind: Kind, share: float, *, least: int = 2) -> tuple[Tensor, Tensor]:
    """Cases of each class now and after filling up, `(K,)` float64: n'_c = max(n_c, floor(share * n_max)).

    n_max is the largest class count; with independent labels also the number of cases known to have none of the
    classes, where that is larger. A class of fewer than `least` cases stays as it is.
    """
    before = _counted(positive)
    n_max = before.max()
    if kind == "independent":
        n_max = n_max.maximum((known.all(1) & ~positive.any(1)).sum())
    after = torch.maximum(before, (share * n_max + 1e-6).floor())  # 0.3 * 10 must be 3 in floating point too
    return before, torch.where(before >= least, after, before)


def expected_shift(facts: Facts, share: float, *, least: int = 2) -> Tensor:
    """The log-prior shift foreseen from labels alone: log(n'_c / n_c), `(K,)`. Exact for exclusive labels."""
    known, positive = _read(facts.target, facts.mask, facts.kind)
    before, after = counts(known, positive, facts.kind, share, least=least)
    return _log_ratio(after, before)


def fill(
    table: FeatureTable, share: float, draw: Callable[[int, int], Recipes], *, least: int = 2
) -> SyntheticRows | None:
    """Recipes for every class that is due some: `draw(c, n)` makes `n` of class `c`. None where none are due.

    Row numbers are int32, labels uint8 and the mask of exclusive labels is one expanded cell: together 19 bytes a row
    with seven classes, against 2 KiB for a copy of 512 features.
    """
    before, after = counts(table.known, table.positive, table.kind, share, least=least)
    n_new = [n if least == 1 or table.can_pair(c) else 0 for c, n in enumerate((after - before).long().tolist())]
    total = sum(n_new)
    if total == 0:
        return None
    device, n_classes = table.z.device, len(n_new)
    base = torch.empty(total, dtype=torch.int32, device=device)
    neighbour = torch.empty_like(base)
    gap = torch.empty(total, device=device)
    target = torch.empty((total, n_classes), dtype=torch.uint8, device=device)
    mask = torch.ones((1, 1), dtype=torch.uint8, device=device).expand(total, n_classes)
    if table.kind == "independent":
        mask = torch.empty_like(target)
    first = 0
    for c, n in enumerate(n_new):
        if n == 0:
            continue
        rows = slice(first, first := first + n)
        one, other, gap[rows] = draw(c, n)
        base[rows], neighbour[rows] = one, other
        if table.kind == "exclusive":
            target[rows] = table.positive[one]  # the class is the base's, whatever its neighbour is
        else:
            agree = table.known[one] & table.known[other] & (table.positive[one] == table.positive[other])
            agree[:, c] = True  # the class that is filled is kept, even towards a neighbour that lacks it
            target[rows], mask[rows] = table.positive[one] & agree, agree
    return SyntheticRows(base=base, neighbour=neighbour, gap=gap, target=target, mask=mask)


def implied_shift(table: FeatureTable, ids: Tensor, rows: SyntheticRows | None) -> Tensor:
    """The log-prior shift of the table with its synthetic rows against the training cases, `(K,)` float64.

    Exclusive: log(n'_c / n_c). Independent: log odds of class c after minus before, 0 where one side is empty. Views
    of one case count as that one case before; what each row weighs in the table is what counts after.
    """
    weight = (1.0 / ids.bincount()[ids].double()).to(table.z.device)  # 1 in a table of plain images
    has = torch.stack([weight[column].sum() for column in table.positive.unbind(1)])
    has_not = torch.stack([weight[column].sum() for column in table.known.unbind(1)]) - has
    after = _counted(table.positive) * weight.mean()
    after_not = _counted(table.known) * weight.mean() - after
    if rows is not None:
        more = _counted(rows.target) * weight.mean()
        after = after + more
        after_not = after_not + _counted(rows.mask) * weight.mean() - more
    shift = _log_ratio(after, has)
    if table.kind == "exclusive":
        return shift.cpu()
    shift = shift - _log_ratio(after_not, has_not)
    return torch.where((has > 0) & (has_not > 0), shift, 0.0).cpu()


def between(bases: Tensor, near: Tensor, chosen: Tensor, rng: torch.Generator) -> Recipes:
    """A line from each chosen base to one of its neighbours, drawn evenly, and a place on it.

    Shapes: `bases` `(A,)` row numbers, `near` `(A, k)` their neighbours, -1 at the end where there are fewer (at least
    one each), `chosen` `(n,)` places in `bases`.
    """
    n_near = (near >= 0).sum(1)
    place = torch.rand(len(chosen), generator=rng, dtype=torch.float64).to(near.device) * n_near[chosen]
    gap = torch.rand(len(chosen), generator=rng).to(near.device)
    return bases[chosen], near[chosen, place.long()], gap


def evenly(n_cases: int, n: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """`n` places among `n_cases`, drawn evenly with replacement."""
    return torch.randint(n_cases, (n,), generator=rng).to(device)


def repeats(bases: Tensor, n: int, rng: torch.Generator) -> Recipes:
    """`n` of the stored rows themselves, drawn evenly with replacement: gap 0."""
    row = bases[evenly(len(bases), n, rng, bases.device)]
    return row, row, torch.zeros(n, device=bases.device)


def lonely(table: FeatureTable, share: float, method: str) -> list[str]:
    """A sentence for each class that is rare but has no two cases to draw a line between."""
    before, _ = counts(table.known, table.positive, table.kind, share)
    _, wanted = counts(table.known, table.positive, table.kind, share, least=1)
    return [
        f"{method}: class '{name}' has one case, so there is no line to draw and it gets no synthetic rows"
        for c, name in enumerate(table.classes)
        if wanted[c] > before[c] and not table.can_pair(c)
    ]


def _read(y: Tensor, mask: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    known = mask.expand_as(y) > 0
    if kind == "exclusive":
        known = known.all(1, keepdim=True).expand_as(y)
    return known, (y > 0.5) & known


def _counted(flags: Tensor) -> Tensor:
    """How many of each column are set, `(K,)` float64. A sum would first copy the table at 8 bytes a cell."""
    return torch.stack([column.count_nonzero() for column in flags.unbind(1)]).double()


def _log_ratio(after: Tensor, before: Tensor) -> Tensor:
    """log(after / before), 0 for a class that is absent."""
    return torch.where(before > 0, (after / before).log(), 0.0)
