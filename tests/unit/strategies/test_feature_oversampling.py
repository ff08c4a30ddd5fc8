"""Repeated features, Borderline-SMOTE and ADASYN: against imbalanced-learn 0.14, by hand, and at their edges."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from typing import Any

import imblearn.over_sampling as imblearn  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Stack, Strategy
from raresight.strategies.features import adasyn, borderline_smote, random_oversampling
from raresight.strategies.features.adasyn import ADASYN
from raresight.strategies.features.borderline_smote import BorderlineSMOTE
from raresight.strategies.features.random_oversampling import RandomFeatureOversampling
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.strategy import Facts, SyntheticRows

EVERY: list[type[Strategy]] = [RandomFeatureOversampling, SMOTE, BorderlineSMOTE, ADASYN]
every = pytest.mark.parametrize("method", EVERY, ids=lambda m: m.name)
on_lines = pytest.mark.parametrize("method", EVERY[1:], ids=lambda m: m.name)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(counts: tuple[int, ...] = (90, 30, 14), apart: float = 1.2, width: int = 3) -> tuple[Tensor, Tensor]:
    """Overlapping clouds, shuffled: some cases safe, some in danger, some noise."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    label = label[torch.randperm(len(label), generator=rng(1))]
    z = torch.randn(len(label), width, generator=rng(2))
    z[:, 0] += apart * label
    return z, torch.eye(len(counts))[label]


def run(
    method: Any, z: Tensor, y: Tensor, mask: Tensor | None = None, *, kind: str = "exclusive", ids: Any = None
) -> SyntheticRows | None:
    mask = torch.ones_like(y) if mask is None else mask
    method.fit(Facts(kind, tuple("abcdefgh"[: y.shape[1]]), y, mask))  # type: ignore[arg-type]
    return method.fit_features(z, y, mask, torch.arange(len(z)) if ids is None else ids, rng())


def some(method: Any, *data: Any, **settings: Any) -> SyntheticRows:
    rows = run(method, *data, **settings)
    assert rows is not None
    return rows


def points(z: Tensor, rows: SyntheticRows) -> Tensor:
    return z[rows.base] + rows.gap.view(-1, 1) * (z[rows.neighbour] - z[rows.base])


def nearest(z: Tensor, rows: Tensor, among: Tensor, k: int) -> list[list[int]]:
    """scikit-learn's neighbours of `rows` among `among`, each without itself (which is always its own nearest)."""
    found = NearestNeighbors(n_neighbors=k + 1).fit(z[among].numpy()).kneighbors(z[rows].numpy(), return_distance=False)
    return [[int(among[j]) for j in js if int(among[j]) != int(i)][:k] for i, js in zip(rows, found, strict=True)]


def lie_on(point: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """For each point, how much longer the way over it is than the best of the segments a-b."""
    point, a, b = point.double(), a.double(), b.double()
    return (torch.cdist(point, a) + torch.cdist(point, b) - (a - b).norm(dim=1)).min(1).values


# against imbalanced-learn


@every
def test_as_many_of_each_class_as_imbalanced_learn_and_the_shift_is_their_growth(method: type[Strategy]) -> None:
    z, y = clouds()
    one = method()
    rows = some(one, z, y)
    assert (y.sum(0) + rows.target.sum(0)).tolist() == [90, 90, 90]
    shift = one.log_prior_shift()
    assert shift is not None
    assert shift.tolist() == pytest.approx([0, math.log(90 / 30), math.log(90 / 14)])
    assert (rows.mask == 1).all()
    part = some(method(target=0.5), z, y)  # type: ignore[call-arg]
    assert part.target.sum(0).tolist() == [0, 15, 31]
    theirs = imblearn.SMOTE(random_state=0, sampling_strategy={1: 45, 2: 45}).fit_resample(z.numpy(), y.argmax(1))[1]
    assert np.bincount(theirs).tolist() == [90, 45, 45]


def test_danger_is_that_of_imbalanced_learn() -> None:
    z, y = clouds()
    label = y.argmax(1).numpy()
    theirs = imblearn.BorderlineSMOTE(random_state=0)
    theirs.fit_resample(z.numpy(), label)
    for kind in (1, 2):
        met = _drawn_all(BorderlineSMOTE(kind=kind), z, y)
        for c in (1, 2):
            danger = set(theirs.in_danger_indices[c].tolist())
            assert 3 <= len(danger) < (label == c).sum()  # neither all nor none, or this would show little
            assert {base for base in met if label[base] == c} == danger


@pytest.mark.parametrize("kind", [1, 2])
def test_borderline_points_and_segments_are_those_of_imbalanced_learn(kind: int) -> None:
    z, y = clouds((90, 30))
    theirs = imblearn.BorderlineSMOTE(random_state=0, kind=f"borderline-{kind}")
    new = torch.from_numpy(theirs.fit_resample(z.numpy(), y.argmax(1).numpy())[0][120:])
    danger = torch.from_numpy(theirs.in_danger_indices[1])
    among = y[:, 1].nonzero().squeeze(1) if kind == 1 else torch.arange(120)
    allowed = dict(zip(danger.tolist(), nearest(z, danger, among, 5), strict=True))
    rows = some(BorderlineSMOTE(kind=kind), z, y)
    met: dict[int, set[int]] = {}
    for base, other in zip(rows.base.tolist(), rows.neighbour.tolist(), strict=True):
        assert other in allowed[base]
        met.setdefault(base, set()).add(other)
    assert {base: set(near) for base, near in allowed.items()} == _drawn_all(BorderlineSMOTE(kind=kind), z, y)
    assert met
    # and their points lie where ours may: halfway at most towards a case of the other class
    pairs = [(i, j) for i, js in allowed.items() for j in js]
    a, b = z[[i for i, _ in pairs]], z[[j for _, j in pairs]]
    other_class = y[[j for _, j in pairs], 1] == 0
    b[other_class] = 0.5 * (a + b)[other_class]
    assert len(new) == 60
    assert lie_on(new, a, b).max() < 1e-4
    assert lie_on(points(z, rows), a, b).max() < 1e-4
    if kind == 2:
        lacks = y[rows.neighbour, 1] == 0
        assert lacks.any()
        assert rows.gap[lacks].max() < 0.5
        assert rows.gap[lacks].max() > 0.4  # not less than the half either: 30 or so draws
        assert rows.gap[~lacks].max() > 0.5
        assert rows.target.tolist() == [[0, 1]] * 60  # the case keeps its class whatever it leans towards
        assert (rows.mask == 1).all()


def _drawn_all(method: Any, z: Tensor, y: Tensor) -> dict[int, set[int]]:
    """Every neighbour of every base that 200 fillings draw."""
    mask, ids = torch.ones_like(y), torch.arange(len(z))
    method.fit(Facts("exclusive", tuple("abc"[: y.shape[1]]), y, mask))
    met: dict[int, set[int]] = {}
    for seed in range(200):
        rows = method.fit_features(z, y, mask, ids, rng(seed))
        for base, other in zip(rows.base.tolist(), rows.neighbour.tolist(), strict=True):
            met.setdefault(base, set()).add(other)
    return met


def test_adasyn_gives_each_case_what_imbalanced_learn_gives_it() -> None:
    z, y = clouds((90, 30))
    members = y[:, 1].nonzero().squeeze(1)
    around = nearest(z, members, torch.arange(120), 5)
    ratio = np.array([sum(float(y[j, 1] == 0) for j in js) for js in around]) / 5
    theirs = np.rint(ratio / ratio.sum() * 60).astype(int)  # as in its source; nobody outside can read it
    rows = some(ADASYN(), z, y)
    ours = np.bincount(rows.base.numpy(), minlength=120)[members.numpy()]
    assert len(rows.base) == 60
    assert len(set(theirs)) > 3
    assert np.abs(ours - ratio / ratio.sum() * 60).max() < 1
    assert np.abs(ours - theirs).max() <= 1
    assert (ours[ratio == 0] == 0).all()
    # their whole output: as many points, on our segments
    new = torch.from_numpy(imblearn.ADASYN(random_state=0).fit_resample(z.numpy(), y.argmax(1).numpy())[0][120:])
    assert len(new) == theirs.sum()
    near = nearest(z, members, members, 5)
    pairs = [(int(i), j) for i, js in zip(members, near, strict=True) for j in js]
    a, b = z[[i for i, _ in pairs]], z[[j for _, j in pairs]]
    assert lie_on(new, a, b).max() < 1e-4
    assert set(zip(rows.base.tolist(), rows.neighbour.tolist(), strict=True)) <= set(pairs)
    assert lie_on(points(z, rows), a, b).max() < 1e-4


def test_repeated_rows_are_stored_rows_of_the_class() -> None:
    z, y = clouds()
    rows = some(RandomFeatureOversampling(), z, y)
    assert torch.equal(points(z, rows), z[rows.base])
    assert torch.equal(rows.base, rows.neighbour)
    assert torch.equal(rows.target.float(), y[rows.base])
    assert len(set(rows.base[rows.target[:, 2] == 1].tolist())) == 14  # 76 even draws miss one of 14 in 5% of cases


# by hand


def test_danger_from_half_to_all_but_one() -> None:
    """Four cases, each with its own surroundings: 1, 2, 3 and 4 of its 4 nearest lack the class."""
    place = torch.arange(6.0) * 100
    z, label = [], []
    for others in range(1, 5):
        z += [float(place[others]) + 0.1 * i * (-1) ** i for i in range(5)]
        label += [1] * (5 - others) + [0] * others
    z += [1000.0 + i for i in range(40)]
    label += [0] * 40
    features, y = torch.tensor(z).unsqueeze(1), torch.eye(2)[label]
    rows = some(BorderlineSMOTE(m=4, k=3), features, y)
    lacks = [sum(label[j] == 0 for j in js) for js in nearest(features, torch.arange(20), torch.arange(60), 4)]
    danger = {i for i in range(20) if label[i] == 1 and lacks[i] in (2, 3)}
    noise_or_safe = {lacks[i] for i in range(20) if label[i] == 1} - {2, 3}
    assert noise_or_safe == {1, 4}
    assert set(rows.base.tolist()) == danger
    assert len(danger) == 5


def test_adasyn_shares_by_hand() -> None:
    """r = 1/2, 0, 1 of three cases and 4 rows: due 4/3, 0, 8/3, so 1 and 3 with the larger remainder."""
    z = torch.tensor([[0.0], [-1.0], [-1.5], [0.9], [20.0], [20.5], [19.5], [30.0], [31.0], [32.0]])
    y = torch.eye(2)[[1, 1, 1, 0, 1, 0, 0, 0, 0, 0]]
    rows = some(ADASYN(k=2, target=1.0), z, y)
    # -1.0: (-1.5, 0.0) r = 0; 0.0: (0.9, -1.0) r = 1/2; -1.5: (-1.0, 0.0) r = 0; 20: (20.5, 19.5) r = 1
    assert len(rows.base) == 2
    assert torch.bincount(rows.base, minlength=5).tolist() == [1, 0, 0, 0, 1]  # 2/3 and 4/3: 1 whole, 1 by remainder
    assert adasyn._apportion(torch.tensor([0.5, 0.0, 1.0]), 4).tolist() == [1, 0, 3]
    assert adasyn._apportion(torch.tensor([1.0, 1.0, 1.0]), 3).tolist() == [1, 1, 1]
    assert adasyn._apportion(torch.tensor([1.0, 1.0, 1.0]), 5).tolist() == [2, 2, 1]
    assert adasyn._apportion(torch.tensor([1.0, 1.0, 1.0]) / 3, 3).tolist() == [1, 1, 1]  # a third is no binary number
    assert adasyn._apportion(torch.tensor([0.1, 0.2, 0.7]), 10).tolist() == [1, 2, 7]


# edges, each said and none silent


@on_lines
def test_a_single_case_gets_nothing_and_it_is_said(method: type[Strategy]) -> None:
    z, y = clouds((30, 12, 1))
    one = method()
    rows = some(one, z, y)
    assert rows.target.sum(0).tolist() == [0, 18, 0]
    assert one.findings() == [
        f"{one.name}: class 'c' has one case, so there is no line to draw and it gets no synthetic rows"
    ]
    shift = one.log_prior_shift()
    assert shift is not None
    assert shift.tolist() == pytest.approx([0, math.log(30 / 12), 0])
    assert Stack([one], Task("exclusive", ("a", "b", "c"))).findings() == one.findings()


def test_a_single_case_is_repeated() -> None:
    z, y = clouds((30, 12, 1))
    rows = some(RandomFeatureOversampling(), z, y)
    assert rows.target.sum(0).tolist() == [0, 18, 29]


def test_a_case_of_unknown_label_is_neither_counted_nor_repeated() -> None:
    z, y = clouds((30, 12, 9))
    mask = torch.ones_like(y)
    mask[y[:, 2].nonzero().squeeze(1)[:4], 0] = 0  # 5 of the 9 are left
    method = RandomFeatureOversampling()
    rows = some(method, z, y, mask)
    assert rows.target.sum(0).tolist() == [0, 18, 25]
    assert (mask[rows.base] == 1).all()
    shift = method.log_prior_shift()
    assert shift is not None
    torch.testing.assert_close(shift - shift[0], torch.tensor([1.0, 30 / 12, 30 / 5], dtype=torch.float64).log())


@every
def test_an_absent_class_gets_nothing(method: type[Strategy]) -> None:
    z, y = clouds((30, 12))
    y = torch.cat((y, torch.zeros(42, 1)), 1)
    one = method()
    assert some(one, z, y).target.sum(0).tolist() == [0, 18, 0]
    shift = one.log_prior_shift()
    assert shift is not None
    assert shift[2] == 0


def test_borderline_without_a_case_in_danger_repeats_and_says_so() -> None:
    far, y = clouds((30, 12), apart=1000.0)
    method = BorderlineSMOTE()
    rows = some(method, far, y)
    assert rows.gap.abs().max() == 0
    assert torch.equal(rows.base, rows.neighbour)
    assert set(y[rows.base, 1].tolist()) == {1.0}
    assert len(rows.base) == 18
    assert method.findings() == [
        "borderline_smote: class 'b' has no case on the border (all are safe or noise); "
        "its stored cases were repeated instead"
    ]
    alone = torch.cat((torch.randn(40, 2, generator=rng()), 100 + torch.randn(40, 2, generator=rng(1))))
    alone = torch.cat((alone, torch.tensor([[0.0, 0.0], [100.0, 100.0]])))  # each among forty others
    noise = BorderlineSMOTE(target=0.1)
    rows = some(noise, alone, torch.eye(2)[[0] * 80 + [1] * 2])
    assert rows.gap.abs().max() == 0
    assert "all are noise, with no neighbour of their own class" in noise.findings()[0]
    alone[41] = alone[80] + 0.01  # these two are now nearest to each other, so safe; 81 is noise
    run(mixed := BorderlineSMOTE(m=1, target=0.1), alone, torch.eye(2)[[0] * 41 + [1] + [0] * 38 + [1] * 2])
    assert "(all are safe or noise)" in mixed.findings()[0]
    run(method, *clouds((90, 30)))
    assert method.findings() == []  # said of these data, not of the last ones


def test_adasyn_far_from_every_other_class_shares_alike_and_says_so() -> None:
    z, y = clouds((30, 12), apart=1000.0)
    method = ADASYN()
    rows = some(method, z, y)
    members = y[:, 1].nonzero().squeeze(1)
    assert sorted(torch.bincount(rows.base)[members].tolist()) == [1] * 6 + [2] * 6
    assert method.findings() == [
        "adasyn: class 'b' has no neighbour of another class; its cases share the synthetic rows alike, as in SMOTE"
    ]


# independent labels


def findings_data() -> tuple[Tensor, Tensor, Tensor]:
    y = torch.zeros(80, 2)
    y[:14, 0] = 1
    y[8:34, 1] = 1
    mask = torch.ones(80, 2)
    mask[34:44, 0] = 0
    mask[3, 1] = 0
    y[40, 0] = 1  # behind a mask: no evidence
    z = torch.randn(80, 3, generator=rng(5))
    z[:, 0] += y[:, 0]
    return z, y, mask


@pytest.mark.parametrize("make", [BorderlineSMOTE, lambda: BorderlineSMOTE(kind=2), ADASYN, RandomFeatureOversampling])
def test_independent_labels_are_kept_where_parents_agree_and_unknown_ones_ask_nobody(make: Callable[[], Any]) -> None:
    z, y, mask = findings_data()
    method = make()
    rows = some(method, z, y, mask, kind="independent")
    # 37 are known to have neither: 44 to 79 and none before (34 to 43 are unknown for the first)
    assert len(rows.base) == (36 - 14) + (36 - 26)
    for i in range(len(rows.base)):
        c = 0 if i < 22 else 1
        a, b = int(rows.base[i]), int(rows.neighbour[i])
        assert mask[a, c] == 1
        assert y[a, c] == 1
        assert mask[b, c] == 1  # an unknown label is no neighbour
        for k in range(2):
            agree = bool(mask[a, k] == 1 and mask[b, k] == 1 and y[a, k] == y[b, k]) or k == c
            assert bool(rows.mask[i, k]) is agree
            assert rows.target[i, k] == (y[a, k] if agree else 0)
    shift = method.log_prior_shift()
    for k in range(2):
        has, known = float((y * mask)[:, k].sum()), float(mask[:, k].sum())
        more, more_known = float(rows.target[:, k].sum()), float(rows.mask[:, k].sum())
        after = math.log((has + more) / (known + more_known - has - more))
        assert shift[k].item() == pytest.approx(after - math.log(has / (known - has)))


def test_a_case_of_unknown_label_is_no_evidence_of_danger() -> None:
    """A class beside a crowd: with its labels known the class is in danger, with them unknown it is safe."""
    z = torch.cat((torch.randn(12, 2, generator=rng()), torch.randn(60, 2, generator=rng(1)) + 1))
    z = torch.cat((z, torch.randn(30, 2, generator=rng(2)) + 500))
    y = torch.zeros(102, 1)
    y[:12] = 1
    mask = torch.ones(102, 1)
    some(beside := BorderlineSMOTE(), z, y, mask, kind="independent")
    assert beside.findings() == []
    mask[12:72] = 0
    some(alone := BorderlineSMOTE(), z, y, mask, kind="independent")
    assert "no case on the border" in alone.findings()[0]
    some(adapt := ADASYN(), z, y, mask, kind="independent")
    assert "no neighbour of another class" in adapt.findings()[0]


# tables with several views of an image


def views_of(z: Tensor, y: Tensor, views: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Views so near to their image that they are each other's nearest neighbours by far."""
    noise = 1e-3 * torch.randn(views, *z.shape, generator=rng(9))
    return (z + noise).flatten(0, 1), y.repeat(views, 1), torch.arange(len(z)).repeat(views)


@on_lines
def test_no_line_between_two_views_of_one_image_unless_asked(method: type[Strategy]) -> None:
    z, y, ids = views_of(*clouds((60, 20)))
    rows = some(method(), z, y, ids=ids)
    assert (ids[rows.base] != ids[rows.neighbour]).all()
    assert rows.target.sum(0).tolist() == [0, 120]  # views are rows like any other: 60 become 180
    if method is not BorderlineSMOTE:
        own = some(method(own_views=True, k=2), z, y, ids=ids)  # type: ignore[call-arg]
        assert (ids[own.base] == ids[own.neighbour]).all()
        assert (own.base != own.neighbour).all()


def test_danger_does_not_count_own_views() -> None:
    """With its own views counted as neighbours every case would look safe; another image's views count as one."""
    z, y = clouds((60, 20))
    many, labels, ids = views_of(z, y, 12)
    assert BorderlineSMOTE(m=10).own_views is False
    run(apart := BorderlineSMOTE(m=10), many, labels, ids=ids)
    run(together := BorderlineSMOTE(m=10, own_views=True), many, labels, ids=ids)
    assert apart.findings() == []
    assert "no case on the border" in together.findings()[0]
    plain, several = _drawn_all(BorderlineSMOTE(), z, y), some(apart, many, labels, ids=ids)
    assert set(ids[several.base].tolist()) == set(plain)  # views this near are in danger where their image is


@on_lines
def test_views_of_a_single_image_are_one_case(method: type[Strategy]) -> None:
    z, y, ids = views_of(*clouds((20, 1)))
    one = method()
    assert run(one, z, y, ids=ids) is None
    assert "one case" in one.findings()[0]


@every
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_views_leave_the_shift_as_it_is(method: type[Strategy], kind: str) -> None:
    """Three views of every image are three times as many rows, before and after."""
    z, y = clouds((40, 10))
    many, labels, ids = views_of(z, y)
    one = method()
    one.fit(Facts(kind, ("a", "b"), y, torch.ones_like(y)))  # type: ignore[arg-type]
    one.fit_features(many, labels, torch.ones_like(labels), ids, rng())
    shift = one.log_prior_shift()
    assert shift is not None
    odds = [0, math.log(4)] if kind == "exclusive" else [-math.log(4), math.log(4)]
    assert shift.tolist() == pytest.approx(odds)


def test_views_of_the_rare_class_alone_count_in_the_shift() -> None:
    """Ten rare cases seen three times each are thirty rows among seventy: what a head learns from them is shifted."""
    z, y = clouds((40, 10))
    rare = y[:, 1].nonzero().squeeze(1)
    ids = torch.cat((torch.arange(50), rare, rare))
    one = SMOTE(target=0.5)
    one.fit(Facts("exclusive", ("a", "b"), y, torch.ones_like(y)))
    assert one.fit_features(z[ids], y[ids], torch.ones(70, 2), ids, rng()) is None
    shift = one.log_prior_shift()
    assert shift is not None
    assert (shift[1] - shift[0]).item() == pytest.approx(math.log(3))


# settings


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: BorderlineSMOTE(kind=3), "kind"),
        (lambda: BorderlineSMOTE(kind=0), "kind"),
        (lambda: BorderlineSMOTE(m=0), "m"),
        (lambda: BorderlineSMOTE(k=0), "k"),
        (lambda: BorderlineSMOTE(own_views=1), "own_views"),  # type: ignore[arg-type]
        (lambda: ADASYN(k=1.5), "k"),  # type: ignore[arg-type]
        (lambda: ADASYN(target=1.01), "target"),
        (lambda: RandomFeatureOversampling(target=0.0), "target"),
        (lambda: RandomFeatureOversampling(target="equal"), "target"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} = "):
        make()


@every
def test_settings_at_their_bounds_are_taken(method: type[Strategy]) -> None:
    z, y = clouds((30, 12))
    assert len(some(method(target=1), z, y).base) == 18  # type: ignore[call-arg]
    assert run(method(target=0.4), z, y) is None  # type: ignore[call-arg]
    if method is not RandomFeatureOversampling:
        rows = some(method(k=1), z, y)  # type: ignore[call-arg]
        assert all(len(set(rows.neighbour[rows.base == i].tolist())) == 1 for i in set(rows.base.tolist()))


@every
def test_features_before_labels_are_refused(method: type[Strategy]) -> None:
    z, y = clouds((6, 3))
    with pytest.raises(ConfigError, match="call fit"):
        method().fit_features(z, y, torch.ones_like(y), torch.arange(9), rng())


@pytest.mark.parametrize("module", [adasyn, borderline_smote, random_oversampling])
def test_the_examples_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
