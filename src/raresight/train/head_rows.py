"""Which rows of a features table many heads meet in every step, each distinct batch gathered once.

Heads of one seed whose methods do not choose rows see the same rows, so their batch is one. A batch is a slot of the
padded tables here: every table has room for the longest batch, and a row that only fills up has mask 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy, implements, owners
from raresight.train.batches import Order
from raresight.train.head import HeadRows
from raresight.train.head_losses import learns, same


@dataclass(frozen=True, eq=False)
class HeadTable:
    """Features `z` `(V * N, F)` float32 with `target` and `mask` `(V * N, K)`: row v * N + i is view v of case i.

    View 0 is the plain image. In epoch e case i is seen as view (e + i) % V: every epoch shows all views in equal
    shares, and in V epochs each case is seen once as each. Were an epoch one view, a head of fewer than V epochs would
    never meet the later ones, and one of less than an epoch would see nothing of what its arm does to images.
    `val_z` `(N', F)` are the validation features where they are not the same for all tables that train together.
    """

    z: Tensor
    target: Tensor
    mask: Tensor
    views: int = 1
    val_z: Tensor | None = None

    @property
    def n_cases(self) -> int:
        return len(self.z) // self.views

    @property
    def ids(self) -> Tensor:
        """Which training case each row shows, `(V * N,)`."""
        return torch.arange(len(self.z), device=self.z.device) % self.n_cases


class Draws:
    """The rows that one head, or several that draw alike, meets step by step.

    A place is a case, or one of M // V synthetic rows; which row of the table stands there changes with the epoch: at
    place p in epoch e, number (e + p) % V of its V rows. Synthetic rows were fitted on all views at once, V times too
    many for one epoch: each epoch shows one of every V, so that classes are as frequent as the method means them to be.
    """

    def __init__(self, table: HeadTable, data: HeadRows, stack: Stack, batch: int, study_seed: int, seed: int) -> None:
        self.table, self.data, self.stack, self.seed = table, data, stack, seed
        self.n_synthetic = (len(data) - len(table.z)) // table.views
        self.heads: list[int] = []
        self._epoch = 0
        self.order = Order(
            table.n_cases + self.n_synthetic,
            batch,
            study_seed=study_seed,
            run_seed=seed,
            name="head order",
            weights=self._weights,
            cases=table.n_cases,
        )

    @property
    def widest(self) -> int:
        """Rows of the longest batch."""
        return max(-(-self.order.n // self.order.per_pass), -(-self.order.cases // self.order.per_epoch))

    def rows(self, step: int) -> np.ndarray:
        """Rows of `data` that make batch `step`."""
        self._epoch = self.order.epoch(step)
        return self._at(self.order.rows(step))

    def _at(self, places: np.ndarray) -> np.ndarray:
        views, n = self.table.views, self.table.n_cases
        if views == 1:
            return places
        view = (self._epoch + places) % views
        return np.where(places < n, places + view * n, len(self.table.z) + (places - n) * views + view)

    def _weights(self) -> Tensor | None:
        """Of every place; those of `sample_weights` extend to synthetic rows through the case of their base row."""
        data = self.data
        rows = torch.from_numpy(self._at(np.arange(self.order.n))).to(data.ids.device)
        weights = self.stack.head_sample_weights(data.target[rows], data.mask[rows])
        if weights is None and (real := self.stack.sample_weights()) is not None:
            weights = real.to(rows.device)[data.ids[rows] % self.table.n_cases]
        return weights


def _choosing(stack: Stack) -> list[Strategy] | None:
    """The methods by which an arm chooses its rows; None where it must keep a batch of its own."""
    choosing = owners(stack.strategies, "sample_weights") + owners(stack.strategies, "head_sample_weights")
    own = owners(stack.strategies, "mix_features") or any(learns(s) or implements(s, "start_epoch") for s in choosing)
    return None if own else choosing


def draw_alike(one: Draws, other: Draws) -> bool:
    """Whether two heads meet the same rows in every step, for certain."""
    mine, theirs = _choosing(one.stack), _choosing(other.stack)
    if one.table is not other.table or one.seed != other.seed or mine is None or theirs is None:
        return False
    columns = ("ids", "neighbour", "gap", "target", "mask")
    rows = [(getattr(one.data, name), getattr(other.data, name)) for name in columns]
    return len(one.data) == len(other.data) and same(mine, theirs) and all(torch.equal(a, b) for a, b in rows)


@dataclass
class Plan:
    """What some steps need, for all D draws and B rows each.

    `base` and `neighbour` `(S, D, B)` are rows of the table, `gap` `(S, D, B, 1)` lies between them (real rows: 0),
    `ids` are training cases, `target` and `mask` `(S, D, B, K)` their labels. `sizes` `(S, D)` counts the true rows;
    those beyond have mask 0 and, like synthetic ones, are not `real`.
    """

    base: Tensor
    neighbour: Tensor
    gap: Tensor
    ids: Tensor
    real: Tensor
    target: Tensor
    mask: Tensor
    sizes: np.ndarray


class Gather:
    """Makes the plan of some steps, and the features `(D, B, F)` of one."""

    def __init__(self, draws: Sequence[Draws]) -> None:
        self.draws = draws
        self.width = max(draw.widest for draw in draws)
        table = draws[0].table.z
        self.z = table.new_empty(len(draws), self.width, table.shape[1])
        self.other = torch.empty_like(self.z)
        self.runs: list[tuple[int, int]] = []  # neighbouring draws of one table, with or without synthetic rows
        for position, draw in enumerate(draws):
            last = draws[position - 1] if position else None
            alike = last is not None and last.table is draw.table and bool(last.n_synthetic) == bool(draw.n_synthetic)
            self.runs.append((self.runs.pop()[0] if alike else position, position + 1))

    def plan(self, steps: range) -> Plan:
        sizes = np.empty((len(steps), len(self.draws)), dtype=np.int64)
        rows = np.empty((len(self.draws), len(steps), self.width), dtype=np.int64)
        for d, draw in enumerate(self.draws):
            for s, step in enumerate(steps):
                drawn = draw.rows(step)
                sizes[s, d] = len(drawn)
                rows[d, s, : len(drawn)] = drawn
                rows[d, s, len(drawn) :] = drawn[-1]
        device = self.z.device
        there = torch.from_numpy(np.arange(self.width) < sizes[..., None]).to(device)
        at = torch.from_numpy(rows).to(device)

        def column(name: str) -> Tensor:
            values = [getattr(draw.data, name) for draw in self.draws]
            found = [value.index_select(0, row.flatten()) for value, row in zip(values, at, strict=True)]
            return torch.stack([x.view(*there.shape[::2], *x.shape[1:]) for x in found], dim=1)

        base = column("ids")
        real = at.transpose(0, 1) < len(self.draws[0].table.z)
        return Plan(
            base=base,
            neighbour=column("neighbour"),
            gap=column("gap"),
            ids=base % self.draws[0].table.n_cases,
            real=real & there,
            target=column("target"),
            mask=column("mask") * there.unsqueeze(3),
            sizes=sizes,
        )

    def features(self, plan: Plan, s: int) -> Tensor:
        for first, stop in self.runs:
            table, z = self.draws[first].table.z, self.z[first:stop]
            torch.index_select(table, 0, plan.base[s, first:stop].flatten(), out=z.view(-1, z.shape[2]))
            if self.draws[first].n_synthetic:
                other = self.other[first:stop]
                torch.index_select(table, 0, plan.neighbour[s, first:stop].flatten(), out=other.view(-1, z.shape[2]))
                z.addcmul_(other.sub_(z), plan.gap[s, first:stop])
        return self.z
