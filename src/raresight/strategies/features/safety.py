"""How many synthetic cases lie where another class lives, and how many of the real ones did before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raresight.core.task import Task
from raresight.strategies.features.neighbours import lacking, nearest_rows
from raresight.strategies.features.recipes import FeatureTable
from raresight.strategies.strategy import SyntheticRows

ASKED = 2000  # points of a class, drawn evenly where there are more: a standard error of at most 1.1 points


def safety(
    task: Task,
    z: Tensor,
    y: Tensor,
    mask: Tensor,
    ids: Tensor,
    synthetic: SyntheticRows,
    rng: torch.Generator,
    *,
    k: int = 5,
    at_most: int = ASKED,
) -> list[dict[str, Any]]:
    """For every class with synthetic cases: the share of its cases that lie mostly among cases without the class.

    Equation: a point is unsafe where more than half of its `k` nearest real cases lack the class. Then, in shares,

        unsafe_before = of the real cases,   unsafe_synthetic = of the synthetic ones,
        unsafe_after  = (n_real * unsafe_before + n_synthetic * unsafe_synthetic) / (n_real + n_synthetic).

    A real case is not asked about itself, a synthetic one not about those of its parents that have the class: they lie
    near by construction. Nor is either asked about other views of these images. Cases whose label for the class is
    unknown are no evidence and are left out.

    Shapes: `z` `(N, F)`, `y`, `mask` `(N, K)`, `ids` `(N,)`, `synthetic` of M rows. Returns one row a class, in the
    order of the classes: class, n_real, n_synthetic, the three shares, `k`, and `standard_error`, the larger of the two
    standard errors that come from asking `at_most` points of a class (0 where all were asked).
    Ranges and units: shares in [0, 1]; counts are rows of the table.
    A class that is absent or has no synthetic cases has no row. One of fewer than about k / 2 cases cannot be safe.

    Source: the "danger" and "noise" counts of Han et al. 2005, Borderline-SMOTE, asked of synthetic points.
    """
    table = FeatureTable.of(task, z, y, mask, ids, own_views=False)
    rows = []
    for c, name in enumerate(task.classes):
        made = ((synthetic.target[:, c] > 0) & (synthetic.mask[:, c] > 0)).nonzero().squeeze(1)
        if len(made) == 0:
            continue
        members = table.members(c)
        part = _some(members, at_most, rng)
        before, error_before = _share(_unsafe_real(table, c, part, k), len(members))
        part = _some(made, at_most, rng)
        within, error_within = _share(_unsafe_synthetic(table, c, synthetic, part, k), len(made))
        rows.append(
            {
                "class": name,
                "n_real": len(members),
                "n_synthetic": len(made),
                "unsafe_before": before,
                "unsafe_synthetic": within,
                "unsafe_after": (len(members) * before + len(made) * within) / (len(members) + len(made)),
                "k": k,
                "standard_error": max(error_before, error_within),
            }
        )
    return rows


def _unsafe_real(table: FeatureTable, c: int, rows: Tensor, k: int) -> Tensor:
    return _unsafe(table, c, table.z[rows], table.group[rows].unsqueeze(1), k)


def _unsafe_synthetic(table: FeatureTable, c: int, synthetic: SyntheticRows, part: Tensor, k: int) -> Tensor:
    base, neighbour = synthetic.base[part].long(), synthetic.neighbour[part].long()
    gap = synthetic.gap[part].view(-1, 1).to(table.z.dtype)
    point = torch.lerp(table.z[base], table.z[neighbour], gap)
    other_parent = table.group[neighbour].where(table.positive[neighbour, c], -1)
    return _unsafe(table, c, point, torch.stack((table.group[base], other_parent), 1), k)


def _unsafe(table: FeatureTable, c: int, point: Tensor, exclude: Tensor, k: int) -> Tensor:
    """Whether most of each point's nearest real rows lack class `c`, `(Q,)` bool."""
    near, _ = nearest_rows(point, table.z, table.judged(c), k, exclude=exclude, group=table.group)
    without, found = lacking(near, table.positive[:, c])
    return 2 * without > found


def _some(rows: Tensor, at_most: int, rng: torch.Generator) -> Tensor:
    """All of `rows`, or `at_most` of them drawn without replacement."""
    if len(rows) <= at_most:
        return rows
    return rows[torch.randperm(len(rows), generator=rng)[:at_most].to(rows.device)]


def _share(unsafe: Tensor, n: int) -> tuple[float, float]:
    """The share of those asked, and its standard error for all `n`: sqrt(p (1 - p) / asked * (n - asked) / (n - 1))."""
    p, asked = float(unsafe.double().mean()), len(unsafe)
    if asked == n:
        return p, 0.0
    return p, (p * (1 - p) / asked * (n - asked) / (n - 1)) ** 0.5
