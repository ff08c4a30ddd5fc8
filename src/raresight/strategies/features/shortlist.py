"""The smallest values of each row of a wide matrix that is met block by block and never held as a whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

STRIDE = 8  # values of which only the smallest is looked at before any of them is ranked
KEPT = 3  # a list grows to this many times its length before it is cut: ranking is what costs


class Shortlist:
    """The `n` smallest values that each of `n_rows` rows has met, with their places (columns of the whole matrix).

    `bar` `(n_rows,)`: of all values met, those not listed are at least this; infinity while every one is listed.
    Once a row has `n`, only values below its bar are looked at, and of later blocks these are few.
    """

    def __init__(self, n_rows: int, n: int, device: torch.device) -> None:
        self.n = n
        self.value = torch.empty((n_rows, 0), device=device)
        self.place = torch.empty((n_rows, 0), dtype=torch.int32, device=device)
        self.bar = torch.full((n_rows,), torch.inf, device=device)
        self._full = False

    def meet(self, values: Tensor, first: int) -> None:
        """Take in `values` `(n_rows, C)`, whose columns are the places from `first` on."""
        value, column = below(values, self.bar) if self._full else smallest(values, self.n)
        self.value = torch.cat((self.value, value), 1)
        self.place = torch.cat((self.place, column.int().add_(first)), 1)
        if self.value.shape[1] > KEPT * self.n or not self._full:
            dropped = self.value.shape[1] > self.n or values.shape[1] > self.n
            self._cut()
            if dropped:
                self._full, self.bar = True, self.value.amax(1)

    def places(self) -> Tensor:
        """Places of the `n` smallest (of all, where fewer were met), in any order: `(n_rows, n)` int64."""
        if self._full:
            self._cut()
            self.bar = self.value.amax(1)
        return self.place.long()

    def _cut(self) -> None:
        n = min(self.n, self.value.shape[1])
        self.value, order = self.value.topk(n, largest=False, sorted=False)
        self.place = self.place.gather(1, order)


def smallest(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The `n` smallest of each row (or all, if fewer), with their columns, in any order.

    The columns are cut into strands of `STRIDE`. The n smallest lie in the n strands with the smallest minima: a value
    of another strand has n minima, each of its own strand, that are no larger.
    """
    width = values.shape[1]
    strands = width // STRIDE
    if strands <= 2 * n:
        return values.topk(min(n, width), largest=False, sorted=False)
    whole = strands * STRIDE
    minima = values[:, :whole].unflatten(1, (STRIDE, strands)).amin(1)
    strand = minima.topk(n, largest=False, sorted=False).indices
    offset = torch.arange(0, whole, strands, device=values.device)
    column = (strand.unsqueeze(2) + offset).flatten(1)
    rest = torch.arange(whole, width, device=values.device).expand(len(values), -1)
    column = torch.cat((column, rest), 1)
    near, order = values.gather(1, column).topk(n, largest=False, sorted=False)
    return near, column.gather(1, order)


def below(values: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """The values of each row below its `bar` `(R,)`, with their columns; short rows are filled up with infinity.

    Only strands whose minimum lies below the bar are opened.
    """
    values = pad(values, (0, -values.shape[1] % STRIDE), value=torch.inf)
    n_rows, width = values.shape
    strands = width // STRIDE
    row, strand = (values.unflatten(1, (STRIDE, strands)).amin(1) < bar.unsqueeze(1)).nonzero(as_tuple=True)
    cell = (row * width + strand).unsqueeze(1) + torch.arange(0, width, strands, device=values.device)
    value = values.flatten().take(cell)
    low = (value < bar[row].unsqueeze(1)).flatten().nonzero().squeeze(1)
    value, cell = value.flatten().index_select(0, low), cell.flatten().index_select(0, low)
    row, column = cell // width, cell % width
    count = row.bincount(minlength=n_rows)
    rank = torch.arange(len(row), device=values.device) - (count.cumsum(0) - count)[row]  # row numbers ascend
    most = int(count.max()) if n_rows else 0
    near = values.new_full((n_rows, most), torch.inf)
    at = torch.zeros((n_rows, most), dtype=torch.int64, device=values.device)
    near[row, rank], at[row, rank] = value, column
    return near, at
