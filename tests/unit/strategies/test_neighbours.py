"""Nearest rows against scikit-learn, whole-number arithmetic and float64, where rounding hides them."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from raresight.strategies.features import neighbours
from raresight.strategies.features.neighbours import nearest_rows, nearest_to_rows, neighbours_within


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("offset", [0.0, 1000.0])  # far from the origin the fast distances lose digits
@pytest.mark.parametrize("block", [2048, 16])
def test_neighbours_are_those_of_scikit_learn(offset: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    z = torch.randn(150, 12, generator=rng()) + offset
    rows = torch.randperm(150, generator=rng(1))[:90]
    found = neighbours_within(z, rows, 5)
    # asked without arguments, scikit-learn does not count a point as its own neighbour
    theirs = NearestNeighbors(n_neighbors=5).fit(z[rows].double().numpy()).kneighbors(return_distance=False)
    assert np.array_equal(found.numpy(), rows.numpy()[theirs])


@pytest.mark.parametrize("block", [512, 300])
def test_neighbours_of_many_rows_are_those_of_scikit_learn(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide enough that only the smallest of each strand is ranked first; the last block and strand are odd ones."""
    monkeypatch.setattr(neighbours, "BLOCK", block)
    z = torch.randn(901, 6, generator=rng()).exp()  # skewed: a few rows are near to many
    rows, among = torch.randperm(901, generator=rng(1))[:805], torch.randperm(901, generator=rng(2))[:777]
    within = neighbours_within(z, rows, 5)
    theirs = NearestNeighbors(n_neighbors=5).fit(z[rows].double().numpy()).kneighbors(return_distance=False)
    assert np.array_equal(within.numpy(), rows.numpy()[theirs])
    row, distance = nearest_rows(z[rows] + 0.01, z, among, 7, exclude=torch.empty((805, 0), dtype=torch.int64))
    search = NearestNeighbors(n_neighbors=7).fit(z[among].double().numpy())
    far, theirs = search.kneighbors((z[rows] + 0.01).double().numpy())
    assert np.array_equal(row.numpy(), among.numpy()[theirs])
    np.testing.assert_allclose(distance.numpy(), far, rtol=1e-5)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_no_neighbour_is_missed_where_rounding_hides_it(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tight groups far apart, and copies: their distances drown in the rounding of |q|^2 + |z|^2 - 2 q.z."""
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    centre = torch.randn(4, 9, generator=rng()) * 300
    z = centre[torch.arange(400) % 4] + torch.randn(400, 9, generator=rng(1)) * 2.0**-6
    z[40:80] = z[4]  # more copies than candidates
    rows = torch.arange(400)
    found = neighbours_within(z, rows, 5)
    theirs, _ = NearestNeighbors(n_neighbors=5).fit(z.double().numpy()).kneighbors(return_distance=True)
    ours = torch.linalg.vector_norm(z.double()[found] - z.double().unsqueeze(1), dim=2)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-12)
    assert (found != rows.unsqueeze(1)).all()
    assert all(len(set(near)) == 5 for near in found.tolist())
    row, _ = nearest_rows(z[:90], z, rows, 5, exclude=rows[:90].unsqueeze(1))
    asked = torch.linalg.vector_norm(z.double()[row] - z[:90].double().unsqueeze(1), dim=2)
    np.testing.assert_allclose(asked.numpy(), theirs[:90], rtol=1e-6, atol=1e-12)


PRECISIONS = {
    "highest": lambda factor: factor,
    "high": lambda factor: (factor.view(torch.int32) & ~0x1FFF).view(torch.float32),  # TF32: ten bits are left
    "medium": lambda factor: factor.bfloat16().float(),
}
precisions = pytest.mark.parametrize("precision", PRECISIONS)


def multiply_as(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products as an accelerator makes them at this setting of torch: with their factors cut short."""
    addmm, cut = torch.addmm, PRECISIONS[precision]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    monkeypatch.setattr(torch, "addmm", lambda bias, a, b, alpha: addmm(bias, cut(a), cut(b), alpha=alpha))


@precisions
@pytest.mark.parametrize("within", [False, True])
def test_what_is_ranked_lies_below_the_distance(precision: str, within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of the module's text, at the sizes where float32 rounds most, against float64; and not far below."""
    multiply_as(precision, monkeypatch)
    z = torch.randn(60, 512, generator=rng()) * torch.logspace(-3, 3, 60).unsqueeze(1) + 50
    rows = torch.arange(60)
    if within:
        (near,) = neighbours._candidates_within(z, rows, 6)
        places, beyond = near.places(), near.bar
    else:
        places, beyond = neighbours._candidates(z, z, rows, z.mean(0), 6)
    true = torch.cdist(z.double(), z.double()).square()
    rest = torch.ones(60, 60, dtype=torch.bool).scatter_(1, places, False)
    least = true.masked_fill(~rest, math.inf).min(1).values
    norms = (z - z.mean(0)).double().square().sum(1)
    assert (beyond.double() <= least).all()
    assert (beyond.double() >= least - 2 * neighbours._rounding(512) * (norms + norms.max())).all()
    assert neighbours._candidates(z[:2], z, torch.arange(3), z.mean(0), 3)[1].tolist() == [math.inf, math.inf]


def test_coarser_products_widen_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = neighbours._rounding(512)
    assert exact == pytest.approx(2 * 520 / (2**24 - 520), rel=1e-12)  # u = 2^-24: n u / (1 - n u), twice
    for precision, unit in (("high", 2.0**-10), ("medium", 2.0**-7)):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda p=precision: p)
        assert neighbours._rounding(512) == pytest.approx(exact + 2 * unit)


def test_too_few_rows_leave_gaps() -> None:
    z = torch.tensor([[0.0], [1.0], [3.0]])
    row, distance = nearest_rows(z[:1], z, torch.arange(3), 4, exclude=torch.tensor([[0]]))
    assert row.tolist() == [[1, 2, -1, -1]]
    assert distance.tolist() == [[1.0, 3.0, math.inf, math.inf]]


def test_no_row_at_all_leaves_gaps_only() -> None:
    z, none = torch.randn(4, 3, generator=rng()), torch.arange(0)
    row, distance = nearest_rows(z[:2], z, none, 2, exclude=torch.tensor([[0], [1]]))
    assert row.tolist() == [[-1, -1]] * 2
    assert distance.tolist() == [[math.inf, math.inf]] * 2
    assert neighbours_within(z, none, 2).shape == nearest_to_rows(z, none, none, 2, group=none).shape == (0, 2)
    assert neighbours_within(z, torch.tensor([3]), 2).tolist() == [[-1, -1]]


def test_the_centre_is_the_mean_of_the_rows_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 2)
    z = torch.tensor([[1.0, -8.0], [100.0, 100.0], [2.0, 4.0], [7.0, 1.0], [10.0, 6.0]], dtype=torch.float16)
    assert neighbours._mean(z, torch.tensor([4, 0, 3, 2])).tolist() == [5.0, 0.75]
    assert neighbours._mean(z, torch.arange(0)).tolist() == [0.0, 0.0]


# whole numbers: squared distances below 2^22 are exact in float32, and so is the order of their roots


@functools.cache
def shell() -> Tensor:
    """A centre, and 64 rows at squared distances 2^17, 2^17 + 1, ... from it: `(65, 5)` int64."""
    draw = np.random.default_rng(0)
    rows = [[0, 0, 0, 0, 0]]
    for square in range(2**17, 2**17 + 64):
        most = draw.integers(-180, 180, (5_000, 4))
        rest = square - (most**2).sum(1)
        root = np.sqrt(rest.clip(0)).astype(np.int64)
        place = (root**2 == rest).argmax()
        assert root[place] ** 2 == rest[place]
        rows.append([*most[place].tolist(), int(root[place])])
    return torch.tensor(rows)


def shells(offset: int) -> Tensor:
    """Two of them, far apart and shuffled: `(130, 5)` int64."""
    both = torch.cat((shell() + offset, offset * torch.tensor([-1, -1, 1, -1, 1]) - shell()))
    return both[torch.randperm(130, generator=rng())]


def squares(one: Tensor, other: Tensor) -> Tensor:
    return (one.unsqueeze(1) - other.unsqueeze(0)).square().sum(2)


@precisions
@pytest.mark.parametrize("offset", [0, 2**6, 2**12, 2**20])
def test_neighbours_a_last_bit_apart_are_told_apart(
    precision: str, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances 1 in 2^18 apart, in groups so far apart that products of float32 cannot tell: whole numbers can."""
    multiply_as(precision, monkeypatch)
    monkeypatch.setattr(neighbours, "BLOCK", 20)
    z, rows = shells(offset), torch.arange(130)
    apart = squares(z, z).fill_diagonal_(2**60)
    nearest = apart.sort(1).values[:, :6]
    assert (nearest[:, 5] < 2**22).all()
    within = neighbours_within(z.float(), rows, 6)
    assert torch.equal(apart.gather(1, within), nearest)
    row, distance = nearest_rows(z.float(), z.float(), rows, 6, exclude=rows.unsqueeze(1))
    assert torch.equal(apart.gather(1, row), nearest)
    assert torch.equal(distance, nearest.double().sqrt().float())


@pytest.mark.parametrize("offset", [0, 2**20])  # far apart every query is doubtful and meets all rows
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("barred", [0, 1, 5])
@pytest.mark.parametrize("k", [2, 7, 40])
def test_of_each_group_its_nearest_row_and_none_of_a_barred_one(offset: int, views: int, barred: int, k: int) -> None:
    """24 images in two far halves, the barred ones the nearest of each query; 40 is more than there are."""
    whole = torch.randint(-300, 300, (24 * views, 3), generator=rng())
    whole = whole + offset * torch.tensor([-1, 1])[torch.arange(24 * views) % 2].unsqueeze(1)
    group = torch.arange(24 * views) % 24
    among = torch.randperm(24 * views, generator=rng(1))[: 22 * views]
    apart = squares(whole, whole[among])
    order = [list(dict.fromkeys(group[among[places]].tolist())) for places in apart.argsort(dim=1, stable=True)]
    exclude = torch.tensor([groups[:barred] for groups in order], dtype=torch.int64).view(24 * views, barred)
    row, distance = nearest_rows(whole.float(), whole.float(), among, k, exclude=exclude, group=group)
    for one, groups in enumerate(order):
        left = groups[barred:][:k]
        nearest = [int(apart[one][group[among] == g].min()) for g in left]
        found = row[one][row[one] >= 0]
        assert set(found.tolist()) <= set(among.tolist())
        # exact below 2^21, so in the own half; from half to half float32 holds no whole number
        np.testing.assert_allclose(squares(whole[[one]], whole[found])[0], nearest, rtol=2.0**-22)
        assert row[one].tolist() == [*found.tolist(), *[-1] * (k - len(left))]
        gaps = [math.inf] * (k - len(left))
        np.testing.assert_allclose(distance[one], [*np.sqrt(nearest), *gaps], rtol=2.0**-22)


# what cannot be sure is measured against all rows, and nothing else is


def far_from_rounding() -> tuple[Tensor, Tensor]:
    """20 images in a row, each further from the last, in 4 views that are nearer to each other: `(80, 1)`, groups."""
    image = torch.arange(20.0).square() + 20 * torch.arange(20.0)
    return (image + 0.1 * torch.arange(4.0).unsqueeze(1)).flatten().unsqueeze(1), torch.arange(20).repeat(4)


@pytest.mark.parametrize("k", [1, 3])
def test_what_rounding_cannot_hide_is_not_measured_again(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(neighbours, "_measured_all")
    z, group = far_from_rounding()
    rows = torch.arange(80)
    within = neighbours_within(z, rows, k, group=group)
    assert group[within[0]].tolist() == [1, 2, 3][:k]
    assert group[within[19]].tolist() == [18, 17, 16][:k]
    assert torch.equal(nearest_to_rows(z, rows, rows, k, group=group), within)
    barred = torch.tensor([[0, 1, 2]])
    row, _ = nearest_rows(z[:1], z, rows[:20], k, exclude=barred)
    assert row.tolist() == [[3, 4, 5][:k]]
    row, _ = nearest_rows(z[:1], z, rows[:5], 3, exclude=barred)  # two are left, and no row that was not measured
    assert row.tolist() == [[3, 4, -1]]
    copies = torch.cat((torch.zeros(30, 1), z[5:]))
    row, _ = nearest_rows(copies[:30], copies, torch.arange(105), k, exclude=rows[:30].unsqueeze(1))
    assert (row < 30).all()  # no row is nearer than a copy, though rounding leaves its bound below 0


@pytest.mark.parametrize(("above", "found"), [(-1.0, 0), (0.5, 0), (2.0, 1)])  # in units of the rounding
def test_a_bound_within_rounding_of_the_last_distance_is_doubtful(above: float, found: int) -> None:
    """Of rows at 3 and 4 only 4 was measured; the bound of the other is said to be 16 and a little."""
    z, rounding = torch.tensor([[3.0], [4.0]]), neighbours._rounding(1)
    query, among, none = torch.zeros(1, 1), torch.arange(2), torch.empty((1, 0), dtype=torch.int64)
    beyond = torch.tensor([16 * (1 + above * rounding)])
    row, distance = neighbours._sure(query, z, among, torch.tensor([[1]]), beyond, 1, none, among, 1)
    assert row.tolist() == [[found]]
    assert distance.tolist() == [[3.0 + found]]
