"""The smallest values of a wide matrix, met block by block: against sorting it whole, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.strategies.features import shortlist
from raresight.strategies.features.shortlist import Shortlist


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("order", ["random", "falling", "rising", "equal"])
def test_a_shortlist_holds_the_smallest_of_all_blocks(order: str) -> None:
    values = torch.rand(5, 403, generator=rng())
    if order != "random":
        values = values.sort(1, descending=order == "falling").values
    if order == "equal":
        values[:] = 1.0
    kept = Shortlist(5, 7, values.device)
    for first, block in zip(range(0, 403, 50), values.split(50, dim=1), strict=True):
        kept.meet(block, first)
    places = kept.places()
    ranked = values.sort(1).values
    assert torch.equal(values.gather(1, places).sort(1).values, ranked[:, :7])
    assert all(len(set(row)) == 7 for row in places.tolist())
    assert torch.equal(kept.bar, ranked[:, 6])


def test_a_list_is_cut_once_it_is_longer_than_three_times_its_length() -> None:
    """Two values are wanted: six may gather, the seventh is one too many, and then the bar comes down."""
    kept = Shortlist(1, 2, torch.device("cpu"))
    kept.meet(torch.tensor([[10.0, 20.0, 30.0]]), 0)
    assert (kept.value.shape, kept.bar.tolist()) == ((1, 2), [20.0])
    kept.meet(torch.tensor([[19.0, 18.0, 17.0, 20.0]]), 3)
    assert (kept.value.shape, kept.bar.tolist()) == ((1, 5), [20.0])
    kept.meet(torch.tensor([[16.0]]), 7)
    assert (kept.value.shape, kept.bar.tolist()) == ((1, 6), [20.0])
    kept.meet(torch.tensor([[15.0]]), 8)
    assert (kept.value.shape, kept.bar.tolist()) == ((1, 2), [15.0])
    assert sorted(kept.places()[0].tolist()) == [0, 8]


def test_a_shortlist_that_holds_everything_has_no_bar() -> None:
    kept = Shortlist(2, 7, torch.device("cpu"))
    kept.meet(torch.rand(2, 3, generator=rng()), 0)
    kept.meet(torch.rand(2, 4, generator=rng(1)), 3)
    assert [sorted(row) for row in kept.places().tolist()] == [list(range(7))] * 2
    assert kept.bar.tolist() == [math.inf, math.inf]


def test_the_smallest_of_strands_are_the_smallest() -> None:
    """All the smallest values in one strand, in one column of every strand, and in the columns left over."""
    distance = torch.rand(3, 517, generator=rng()) + 1
    strands = 517 // shortlist.STRIDE
    distance[0, 7::strands] = torch.rand(len(distance[0, 7::strands]), generator=rng(1))
    distance[1, :20] = torch.rand(20, generator=rng(2))
    distance[2, -6:] = torch.rand(6, generator=rng(3))
    near, column = shortlist.smallest(distance, 12)
    assert torch.equal(near, distance.gather(1, column))
    assert torch.equal(near.sort(1).values, distance.sort(1).values[:, :12])
    assert all(len(set(row)) == 12 for row in column.tolist())


@pytest.mark.parametrize(("strands", "widths"), [(24, [192]), (25, [25, 12 * 8])])
def test_values_are_ranked_only_where_their_strand_may_hold_one(
    strands: int, widths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 of 192 values are ranked at once, which is little; of 200, 25 minima and then 96 values."""
    asked: list[int] = []
    topk = Tensor.topk

    def counted(values: Tensor, n: int, *, largest: bool, sorted: bool) -> tuple[Tensor, Tensor]:
        asked.append(values.shape[1])
        return topk(values, n, largest=largest, sorted=sorted)

    monkeypatch.setattr(Tensor, "topk", counted)
    values = torch.rand(4, strands * shortlist.STRIDE, generator=rng())
    near, column = shortlist.smallest(values, 12)
    assert asked == widths
    assert torch.equal(near.sort(1).values, values.sort(1).values[:, :12])
    assert torch.equal(near, values.gather(1, column))


def test_values_below_a_bar_by_hand() -> None:
    """Two strands, of the even and the odd columns: one strand after the other, then infinity (column 0)."""
    high = 9.0
    values = torch.tensor(
        [
            [3.0, 1.0, high, 4.0, high, 2.0, *[high] * 10],
            [high, high, high, high, high, high, 4.5, high, 5.0, *[high] * 7],  # 5.0 is not below 5.0
            [high] * 16,
            [*[high] * 14, 0.5, 0.25],
        ]
    )
    value, column = shortlist.below(values, torch.tensor([4.5, 5.0, 5.0, 5.0]))
    inf = math.inf
    assert value.tolist() == [[3.0, 1.0, 4.0, 2.0], [4.5, inf, inf, inf], [inf] * 4, [0.5, 0.25, inf, inf]]
    assert column.tolist() == [[0, 1, 3, 5], [6, 0, 0, 0], [0] * 4, [14, 15, 0, 0]]
