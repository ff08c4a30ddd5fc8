"""Exact nearest neighbours among rows of a feature table, block by block, without copying the table.

Candidates come from |q - z|^2 = |q|^2 + |z|^2 - 2 q.z, one matrix product a block, centred so that little cancels, and
are measured again by their differences. What is ranked is not that sum but a bound below the true distance, whatever
the rounding: with S = |q| + |z| the sum is wrong by at most e S^2 <= 2 e (|q|^2 + |z|^2), so

    |q - z|^2  >=  (1 - 2 e) (|q|^2 + |z|^2) - 2 q.z.

Where the k-th measured distance is no larger than the bound of every row that was not measured, no neighbour was
missed. Where that cannot be said (near copies, tight groups far apart) all rows are measured by their differences.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from raresight.strategies.features.shortlist import Shortlist

BLOCK = 512  # rows that meet rows at a time: 1 MiB of distances; larger blocks are no faster
AHEAD = 4  # blocks that a block meets while it is at hand
MEASURED = 128  # queries whose candidates are measured exactly at a time: k + 5 rows of features each
SPARE = 4  # candidates beyond those that k needs, so that the bound of the rest lies above the k-th distance
INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-7}  # of factors, by torch's matmul precision


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
    n = largest * (k + exclude.shape[1]) + SPARE
    found = []
    for part, barred in zip(query.split(BLOCK), exclude.split(BLOCK), strict=True):
        near, beyond = _candidates(part, z, among, centre, n)
        found.append(_sure(part, z, among, near, beyond, k, barred, group, largest))
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
    lists = _candidates_within(z, rows, largest * (k + 1) + SPARE)
    found = []
    for part, near in zip(rows.split(BLOCK), lists, strict=True):
        places = near.places()
        found.append(_sure(z[part], z, rows, places, near.bar, k, group[part].unsqueeze(1), group, largest)[0])
    return torch.cat(found) if found else rows.new_empty((0, k))


def lacking(near: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the neighbours `near` `(A, k)` lack what `has` `(N,)` bool says, and how many there are (not -1)."""
    there = near >= 0
    return (there & ~has[near]).sum(1), there.sum(1)


def _rounding(width: int) -> float:
    """2 e of the bound: sums of `width` products in float32, centring and norms (8 more), and factors cut short."""
    unit = 2.0**-24
    return 2 * ((width + 8) * unit / (1 - (width + 8) * unit) + INPUT_ROUNDING[torch.get_float32_matmul_precision()])


def _candidates(query: Tensor, z: Tensor, among: Tensor, centre: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Places in `among` of the `n` rows (or all, if fewer) whose bounds are smallest, and the least bound of the rest.

    Shapes: `(Q, n)` int64, `(Q,)` (infinity where there is no rest).
    """
    kept = 1 - _rounding(z.shape[1])
    centred = query.float() - centre
    near = Shortlist(len(query), n, z.device)
    for first in range(0, len(among), BLOCK):
        row = z.index_select(0, among[first : first + BLOCK]).float().sub_(centre)
        near.meet(torch.addmm(kept * row.square().sum(1), centred, row.T, alpha=-2), first)  # same order
    places = near.places()
    return places, near.bar + kept * centred.square().sum(1)


def _candidates_within(z: Tensor, rows: Tensor, n: int) -> list[Shortlist]:
    """As `_candidates`, of all `rows` among themselves, block by block."""
    centre, kept = _mean(z, rows), 1 - _rounding(z.shape[1])
    blocks = rows.split(BLOCK)
    lists = [Shortlist(len(block), n, z.device) for block in blocks]

    def centred(block: Tensor) -> tuple[Tensor, Tensor]:
        row = z.index_select(0, block).float().sub_(centre)
        return row, row.square().sum(1).mul_(kept)

    for first in range(0, len(blocks), AHEAD):
        here = [centred(block) for block in blocks[first : first + AHEAD]]
        for ahead, block in enumerate(blocks[first:]):
            other, other_square = here[ahead] if ahead < len(here) else centred(block)
            j = first + ahead
            for i, (one, square) in enumerate(here[: ahead + 1], first):
                bound = torch.addmm(other_square, one, other.T, alpha=-2).add_(square.unsqueeze(1))
                lists[i].meet(bound, j * BLOCK)
                if i != j:
                    lists[j].meet(bound.T.contiguous(), i * BLOCK)
    return lists


def _sure(
    query: Tensor,
    z: Tensor,
    among: Tensor,
    near: Tensor,
    beyond: Tensor,
    k: int,
    exclude: Tensor,
    group: Tensor,
    largest: int,
) -> tuple[Tensor, Tensor]:
    """The nearest `k` of the candidates `near` (places in `among`); of all `among` where the rest may be nearer."""
    row, distance = _measured(query, z, among[near], k, exclude, group, once=largest > 1)
    farthest = distance[:, -1]
    unsure = ((farthest.square() * (1 + _rounding(z.shape[1])) > beyond) & (farthest > 0)).nonzero().squeeze(1)
    for part in unsure.split(BLOCK) if len(unsure) else ():
        near = _measured_all(query[part], z, among, largest * (k + exclude.shape[1]) + SPARE)
        row[part], distance[part] = _measured(query[part], z, among[near], k, exclude[part], group, once=largest > 1)
    return row, distance


def _measured_all(query: Tensor, z: Tensor, among: Tensor, n: int) -> Tensor:
    """Places in `among` of the `n` rows at the smallest distances, each measured by its differences: `(Q, n)`."""
    near = Shortlist(len(query), n, z.device)
    for first in range(0, len(among), BLOCK):
        row = z.index_select(0, among[first : first + BLOCK]).float()
        near.meet(torch.cdist(query.float(), row, compute_mode="donot_use_mm_for_euclid_dist"), first)
    return near.places()


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
