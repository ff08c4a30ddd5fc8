"""Exact nearest neighbours among rows of a feature table, block by block, without copying the table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 2048  # rows that meet rows at a time: 16 MiB of distances
SPARE = 8  # candidates kept beyond k, so that rounding in the fast distances cannot cost a true neighbour


def nearest_rows(query: Tensor, z: Tensor, among: Tensor, k: int, *, exclude: Tensor) -> tuple[Tensor, Tensor]:
    """The `k` rows of `z` nearest to each query, among the rows numbered `among`, nearest first.

    Euclidean distance d(q, z) = |q - z|. Candidates come from |q|^2 + |z|^2 - 2 q.z (one matrix product, centred so
    that little cancels), and the best k + 8 of them are measured again by their differences.

    Shapes: `query` `(Q, F)`, `z` `(N, F)`, `among` `(A,)` int64, `exclude` `(Q, E)` int64 row numbers that a query must
    not find (itself, for one; -1 for none). Returns row numbers `(Q, k)` int64 and distances `(Q, k)` float32.
    Where fewer than `k` rows remain the rest are row -1 at distance infinity.
    """
    query = query.float()
    centre = query.mean(0)
    centred = query - centre
    best_distance = query.new_full((len(query), 0), torch.inf)
    best_row = among.new_empty((len(query), 0))
    for rows in among.split(BLOCK):
        candidate = z[rows].float() - centre
        distance = torch.addmm(candidate.square().sum(1), centred, candidate.T, alpha=-2)  # without |q|^2: same order
        for barred in exclude.unbind(1):
            distance.masked_fill_(rows == barred.unsqueeze(1), torch.inf)
        near, place = distance.topk(min(k + SPARE, len(rows)), largest=False)
        best_distance = torch.cat((best_distance, near), 1)
        best_row = torch.cat((best_row, rows[place]), 1)
        if best_distance.shape[1] > k + SPARE:
            best_distance, place = best_distance.topk(k + SPARE, largest=False)
            best_row = best_row.gather(1, place)
    exact = torch.linalg.vector_norm(z[best_row].float() - query.unsqueeze(1), dim=2)
    exact = exact.masked_fill(best_distance.isinf(), torch.inf)
    order = exact.argsort(dim=1, stable=True)[:, :k]
    distance, row = exact.gather(1, order), best_row.gather(1, order)
    row = row.masked_fill(distance.isinf(), -1)
    lacking = k - row.shape[1]
    return pad(row, (0, lacking), value=-1), pad(distance, (0, lacking), value=torch.inf)


def neighbours_within(z: Tensor, rows: Tensor, k: int) -> Tensor:
    """For each of `rows` `(A,)` its `k` nearest others of the same list, as row numbers of `z`: `(A, k)` int64."""
    # a query's exact differences are k + 8 rows of features, so fewer queries than candidates are taken at a time
    found = [nearest_rows(z[part], z, rows, k, exclude=part.unsqueeze(1))[0] for part in rows.split(BLOCK // 4)]
    return torch.cat(found) if found else rows.new_empty((0, k))
