"""Exact nearest neighbours among rows of a feature table, block by block, without copying the table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 2048  # rows that meet rows at a time: 16 MiB of distances
MEASURED = 512  # queries whose candidates are measured exactly at a time: k + 9 rows of features each
SPARE = 8  # candidates kept beyond k, so that rounding in the fast distances cannot cost a true neighbour


def nearest_rows(
    query: Tensor, z: Tensor, among: Tensor, k: int, *, exclude: Tensor, group: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The `k` rows of `z` nearest to each query, among the rows numbered `among`, nearest first.

    Euclidean distance d(q, z) = |q - z|. Candidates come from |q|^2 + |z|^2 - 2 q.z (one matrix product, centred so
    that little cancels), and the best k + 8 of them are measured again by their differences.

    Shapes: `query` `(Q, F)`, `z` `(N, F)`, `among` `(A,)` int64, `group` `(N,)` int64 the group of each row (None: its
    row number; of a group only its nearest row is found), `exclude` `(Q, E)` int64 groups of which a query must not
    find a row (its own, for one; -1 for none).
    Returns row numbers `(Q, k)` int64 and distances `(Q, k)` float32. Where fewer than `k` rows remain the rest are
    row -1 at distance infinity.
    """
    group = torch.arange(len(z), device=z.device) if group is None else group
    largest = int(group[among].bincount().max()) if len(among) else 0
    n_kept = largest * (k + exclude.shape[1]) + SPARE
    parts = [
        _measured(part, z, _candidates(part, z, among, n_kept), k, barred, group, once=largest > 1)
        for part, barred in zip(query.split(MEASURED), exclude.split(MEASURED), strict=True)
    ]
    row, distance = (torch.cat(column) for column in zip(*parts, strict=True))
    return row, distance


def nearest_to_rows(z: Tensor, rows: Tensor, among: Tensor, k: int, *, group: Tensor) -> Tensor:
    """For each of `rows` `(A,)` its `k` nearest of `among` outside its own group: `(A, k)` int64, -1 where there are
    fewer."""
    found = [
        nearest_rows(z[part], z, among, k, exclude=group[part].unsqueeze(1), group=group)[0]
        for part in rows.split(BLOCK)
    ]
    return torch.cat(found) if found else rows.new_empty((0, k))


def neighbours_within(z: Tensor, rows: Tensor, k: int, *, group: Tensor | None = None) -> Tensor:
    """For each of `rows` `(A,)` its `k` nearest others of the same list, as row numbers of `z`: `(A, k)` int64."""
    group = torch.arange(len(z), device=z.device) if group is None else group
    return nearest_to_rows(z, rows, rows, k, group=group)


def lacking(near: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the neighbours `near` `(A, k)` lack what `has` `(N,)` bool says, and how many there are (not -1)."""
    there = near >= 0
    return (there & ~has[near]).sum(1), there.sum(1)


def _candidates(query: Tensor, z: Tensor, among: Tensor, n: int) -> Tensor:
    """The `n` rows of `among` (or all, if fewer) that the fast distances put nearest: `(Q, n)`."""
    query = query.float()
    centre = query.mean(0)
    centred = query - centre
    best_distance = query.new_full((len(query), 0), torch.inf)
    best_row = among.new_empty((len(query), 0))
    for rows in among.split(BLOCK):
        candidate = z[rows].float().sub_(centre)
        distance = torch.addmm(candidate.square().sum(1), centred, candidate.T, alpha=-2)  # without |q|^2: same order
        near, place = distance.topk(min(n, len(rows)), largest=False, sorted=False)
        best_distance = torch.cat((best_distance, near), 1)
        best_row = torch.cat((best_row, rows[place]), 1)
        if best_distance.shape[1] > n:
            best_distance, place = best_distance.topk(n, largest=False, sorted=False)
            best_row = best_row.gather(1, place)
    return best_row


def _measured(
    query: Tensor, z: Tensor, candidate: Tensor, k: int, exclude: Tensor, group: Tensor, *, once: bool
) -> tuple[Tensor, Tensor]:
    """The nearest `k` of each query's candidates by their differences, leaving out barred groups.

    `once`: groups have several rows, and each is to be met once.
    """
    exact = torch.linalg.vector_norm(z[candidate].float().sub_(query.float().unsqueeze(1)), dim=2)
    barred = (group[candidate].unsqueeze(2) == exclude.unsqueeze(1)).any(2)
    exact = exact.masked_fill_(barred, torch.inf)
    if once:
        exact, order = exact.sort(dim=1, stable=True)
        candidate = candidate.gather(1, order)
        met = group[candidate]
        again = (met.unsqueeze(2) == met.unsqueeze(1)).tril(-1).any(2)
        exact = exact.masked_fill_(again, torch.inf)
    order = exact.argsort(dim=1, stable=True)[:, :k]
    distance, row = exact.gather(1, order), candidate.gather(1, order)
    row = row.masked_fill(distance.isinf(), -1)
    short = k - row.shape[1]
    return pad(row, (0, short), value=-1), pad(distance, (0, short), value=torch.inf)
