"""Exact nearest neighbours among rows of a feature table, block by block, without copying the table.

Candidates come from |q - z|^2 = |q|^2 + |z|^2 - 2 q.z, one matrix product a block, centred so that little cancels; the
best k and a few to spare are measured again by their differences.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 512  # rows that meet rows at a time: 1 MiB of distances; larger blocks are no faster
MEASURED = 128  # queries whose candidates are measured exactly at a time: k + 5 rows of features each
SPARE = 4  # candidates kept beyond k, so that rounding in the fast distances cannot cost a true neighbour
STRIDE = 8  # distances of which only the smallest is looked at before any of them is ranked


def nearest_rows(
    query: Tensor, z: Tensor, among: Tensor, k: int, *, exclude: Tensor, group: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The `k` rows of `z` nearest to each query, among the rows numbered `among`, nearest first.

    Shapes: `query` `(Q, F)`, `z` `(N, F)`, `among` `(A,)` int64, `group` `(N,)` int64 the group of each row (None: its
    row number; of a group only its nearest row is found), `exclude` `(Q, E)` int64 groups of which a query must not
    find a row (its own, for one; -1 for none).
    Returns row numbers `(Q, k)` int64 and distances `(Q, k)` float32. Where fewer than `k` rows remain the rest are
    row -1 at distance infinity.
    """
    group = torch.arange(len(z), device=z.device) if group is None else group
    largest = _largest(group, among)
    centre = _mean(z, among)
    found = [
        _measured(
            part,
            z,
            among[_candidates(part, z, among, centre, largest * (k + exclude.shape[1]) + SPARE)],
            k,
            barred,
            group,
            once=largest > 1,
        )
        for part, barred in zip(query.split(BLOCK), exclude.split(BLOCK), strict=True)
    ]
    row, distance = (torch.cat(column) for column in zip(*found, strict=True))
    return row, distance


def nearest_to_rows(z: Tensor, rows: Tensor, among: Tensor, k: int, *, group: Tensor) -> Tensor:
    """For each of `rows` `(A,)` its `k` nearest of `among` outside its own group: `(A, k)` int64, -1 for none."""
    parts = rows.split(8 * BLOCK)  # the queries are copied, so not all at once
    found = [nearest_rows(z[part], z, among, k, exclude=group[part].unsqueeze(1), group=group)[0] for part in parts]
    return torch.cat(found) if found else rows.new_empty((0, k))


def neighbours_within(z: Tensor, rows: Tensor, k: int, *, group: Tensor | None = None) -> Tensor:
    """For each of `rows` `(A,)` its `k` nearest others of the same list, as row numbers of `z`: `(A, k)` int64.

    The distance of two blocks serves both of them, so half the products of `nearest_to_rows` are enough.
    """
    group = torch.arange(len(z), device=z.device) if group is None else group
    largest = _largest(group, rows)
    place = _candidates_within(z, rows, largest * (k + 1) + SPARE)
    found = [
        _measured(z[part], z, rows[near], k, group[part].unsqueeze(1), group, once=largest > 1)[0]
        for part, near in zip(rows.split(BLOCK), place.split(BLOCK), strict=True)
    ]
    return torch.cat(found) if found else rows.new_empty((0, k))


def lacking(near: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the neighbours `near` `(A, k)` lack what `has` `(N,)` bool says, and how many there are (not -1)."""
    there = near >= 0
    return (there & ~has[near]).sum(1), there.sum(1)


def _candidates(query: Tensor, z: Tensor, among: Tensor, centre: Tensor, n: int) -> Tensor:
    """Places in `among` of the `n` rows (or all, if fewer) that the fast distances put nearest: `(Q, n)` int64."""
    centred = query.float() - centre
    best, place = _nothing(len(query), z)
    for part in torch.arange(len(among), device=z.device).split(BLOCK):
        candidate = z[among[part]].float().sub_(centre)
        distance = torch.addmm(candidate.square().sum(1), centred, candidate.T, alpha=-2)  # without |q|^2: same order
        best, place = _merge(best, place, distance, int(part[0]), n)
    return place.long()


def _candidates_within(z: Tensor, rows: Tensor, n: int) -> Tensor:
    """As `_candidates`, of all `rows` among themselves: `(A, n)`."""
    centre = _mean(z, rows)
    blocks = rows.split(BLOCK)
    kept = [_nothing(len(block), z) for block in blocks]
    for i, block in enumerate(blocks):
        one = z[block].float().sub_(centre)
        square = one.square().sum(1, keepdim=True)
        for j in range(i, len(blocks)):
            other = one if i == j else z[blocks[j]].float().sub_(centre)
            distance = torch.addmm(other.square().sum(1), one, other.T, alpha=-2).add_(square)
            kept[i] = _merge(*kept[i], distance, j * BLOCK, n)
            if i != j:
                kept[j] = _merge(*kept[j], distance.T.contiguous(), i * BLOCK, n)
    return torch.cat([place for _, place in kept]).long() if kept else rows.new_empty((0, n))


def _nothing(n_queries: int, z: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty((n_queries, 0), device=z.device), torch.empty((n_queries, 0), dtype=torch.int32, device=z.device)


def _merge(best: Tensor, place: Tensor, distance: Tensor, first: int, n: int) -> tuple[Tensor, Tensor]:
    """The `n` smallest of those kept and those of a block whose columns are the places from `first` on."""
    near, column = _smallest(distance, n)
    best, place = torch.cat((best, near), 1), torch.cat((place, (column + first).int()), 1)
    if best.shape[1] > n:
        best, order = best.topk(n, largest=False, sorted=False)
        place = place.gather(1, order)
    return best, place


def _smallest(distance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The `n` smallest of each row (or all, if fewer), with their columns, in any order.

    The columns are cut into strands of `STRIDE`. The n smallest lie in the n strands with the smallest minima: a value
    of another strand has n minima, each of its own strand, that are no larger.
    """
    width = distance.shape[1]
    strands = width // STRIDE
    if strands <= 2 * n:
        return distance.topk(min(n, width), largest=False, sorted=False)
    whole = strands * STRIDE
    minima = distance[:, :whole].unflatten(1, (STRIDE, strands)).amin(1)
    strand = minima.topk(n, largest=False, sorted=False).indices
    offset = torch.arange(0, whole, strands, device=distance.device)
    column = (strand.unsqueeze(2) + offset).flatten(1)
    if whole < width:
        rest = torch.arange(whole, width, device=distance.device).expand(len(distance), -1)
        column = torch.cat((column, rest), 1)
    near, order = distance.gather(1, column).topk(n, largest=False, sorted=False)
    return near, column.gather(1, order)


def _measured(
    query: Tensor, z: Tensor, candidate: Tensor, k: int, exclude: Tensor, group: Tensor, *, once: bool
) -> tuple[Tensor, Tensor]:
    """The nearest `k` of each query's candidates by their differences, leaving out barred groups.

    `once`: groups have several rows, and each is to be met once.
    """
    parts = zip(query.split(MEASURED), candidate.split(MEASURED), strict=True)
    exact = torch.cat(
        [torch.linalg.vector_norm(z[near].float().sub_(one.float().unsqueeze(1)), dim=2) for one, near in parts]
    )
    for barred in exclude.unbind(1):
        exact.masked_fill_(group[candidate] == barred.unsqueeze(1), torch.inf)
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


def _mean(z: Tensor, rows: Tensor) -> Tensor:
    """The mean of the rows numbered `rows`, `(F,)`, without copying them all."""
    total = torch.zeros(z.shape[1], device=z.device)
    for part in rows.split(BLOCK):
        total += z[part].float().sum(0)
    return total / max(1, len(rows))


def _largest(group: Tensor, rows: Tensor) -> int:
    """How many of `rows` the largest group has."""
    return int(group[rows].bincount().max()) if len(rows) else 0
