"""Which rows of a features table many heads meet in every step, each distinct batch gathered once.

Heads of one seed whose methods do not choose rows see the same rows, so their batch is one. A batch is a slot of the
padded tables here: every table has room for the longest batch, and a row that only fills up has mask 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from raresight.strategies.stack import Stack
from raresight.train.batches import Order
from raresight.train.head import HeadRows


@dataclass(frozen=True, eq=False)
class HeadTable:
    """Features `z` `(V * N, F)` float32 with `target` and `mask` `(V * N, K)`: row v * N + i is view v of case i.

    View 0 is the plain image. In epoch e case i is seen as view e % V. `val_z` `(N', F)` are the validation features
    where they are not the same for all tables that train together.
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

    A place is a case, or one of M // V synthetic rows; which row of the table stands there changes with the view of the
    epoch. Synthetic rows were fitted on all views at once, V times too many for one epoch: each epoch shows every V-th
    of them, so that classes are as frequent as the method means them to be.
    """

    def __init__(self, table: HeadTable, data: HeadRows, stack: Stack, batch: int, study_seed: int, seed: int) -> None:
        self.table, self.data, self.stack, self.seed = table, data, stack, seed
        self.n_synthetic = (len(data) - len(table.z)) // table.views
        self.heads: list[int] = []
        self._view = 0
        self.order = Order(
            table.n_cases + self.n_synthetic,
            batch,
            study_seed=study_seed,
            run_seed=seed,
            name="head order",
            weights=self._weights,
            cases=table.n_cases,
        )

    def rows(self, step: int) -> np.ndarray:
        """Rows of `data` that make batch `step`."""
        self._view = self.order.epoch(step) % self.table.views
        return self._at(self.order.rows(step))

    def _at(self, places: np.ndarray) -> np.ndarray:
        views, n = self.table.views, self.table.n_cases
        if views == 1:
            return places
        synthetic = len(self.table.z) + (places - n) * views + self._view
        return np.where(places < n, places + self._view * n, synthetic)

    def _weights(self) -> Tensor | None:
        """Of every place; those of `sample_weights` extend to synthetic rows through the case of their base row."""
        data = self.data
        rows = torch.from_numpy(self._at(np.arange(self.order.n))).to(data.ids.device)
        weights = self.stack.head_sample_weights(data.target[rows], data.mask[rows])
        if weights is None and (real := self.stack.sample_weights()) is not None:
            weights = real.to(rows.device)[data.ids[rows] % self.table.n_cases]
        return weights


@dataclass
class Plan:
    """What some steps need, for all D draws and B rows each: `(S, D, B)` and `(S, D, B, K)`.

    `base` and `neighbour` are rows of the table, `gap` lies between them, `ids` are training cases, `sizes` `(S, D)`
    counts the true rows; those beyond it have mask 0.
    """

    base: Tensor
    neighbour: Tensor
    gap: Tensor
    ids: Tensor
    real: Tensor
    target: Tensor
    mask: Tensor
    sizes: np.ndarray


@dataclass
class Gather:
    """Makes the plan of an epoch's steps, and the features `(D, B, F)` of one."""

    draws: Sequence[Draws]
    width: int
    runs: list[tuple[int, int]] = field(default_factory=list)
    z: Tensor = field(init=False)

    def __post_init__(self) -> None:
        table = self.draws[0].table.z
        self.z = table.new_empty(len(self.draws), self.width, table.shape[1])
        self.other = torch.empty_like(self.z)
        for position, draw in enumerate(self.draws):
            last = self.draws[position - 1] if position else None
            alike = last is not None and last.table is draw.table and bool(last.n_synthetic) == bool(draw.n_synthetic)
            first = self.runs.pop()[0] if alike else position
            self.runs.append((first, position + 1))

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
        at = [(draw, torch.from_numpy(rows[d]).to(device)) for d, draw in enumerate(self.draws)]

        def column(name: str) -> Tensor:
            return torch.stack([getattr(draw.data, name)[row] for draw, row in at], dim=1)

        base, n_cases = column("ids"), self.draws[0].table.n_cases
        real = torch.stack([row < len(draw.table.z) for draw, row in at], dim=1)
        return Plan(
            base=base,
            neighbour=column("neighbour"),
            gap=column("gap"),
            ids=base % n_cases,
            real=real & there,
            target=column("target"),
            mask=column("mask") * there.unsqueeze(3),
            sizes=sizes,
        )

    def features(self, plan: Plan, s: int) -> Tensor:
        for first, stop in self.runs:
            table = self.draws[first].table.z
            z = self.z[first:stop]
            torch.index_select(table, 0, plan.base[s, first:stop].view(-1), out=z.view(-1, z.shape[2]))
            if self.draws[first].n_synthetic:
                other = self.other[first:stop]
                torch.index_select(table, 0, plan.neighbour[s, first:stop].view(-1), out=other.view(-1, z.shape[2]))
                z.addcmul_(other.sub_(z), plan.gap[s, first:stop])
        return self.z
