"""Without a class's units. Oracles: scikit-learn's AP of logits recomputed by hand, and torch with weights at zero."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from raresight.core.errors import ConfigError
from raresight.explain.ablate import ablate, hooked_forward, linear_forward, split_halves, tail_forward


def used(seed: int, n: int = 240, units: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit 0 shows class 0 and is used; units 1 and 2 show it as well and are not; class 1 rests on all units alike."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, 2))
    labels[rng.choice(n, 40, replace=False), 0] = 1
    labels[rng.choice(n, 60, replace=False), 1] = 1
    values = rng.normal(size=(n, units))
    values[:, :3] += 2 * labels[:, [0]]
    values[:, 3:] += 0.4 * labels[:, [1]]
    weight = np.zeros((2, units))
    weight[0, 0] = 1.0
    weight[1, 3:] = 1.0
    return values, labels, weight, np.array([0.5, -0.5])


def test_halves_share_no_patient_and_divide_every_class() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), rng.integers(1, 4, 60))
    labels = np.zeros((len(patients), 3))
    labels[np.isin(patients, [3, 7]), 0] = 1
    labels[patients < 12, 1] = 1
    labels[patients % 2 == 0, 2] = 1
    labels[patients == 50] = np.nan
    side = split_halves(patients, labels, "a")
    assert not set(patients[side == 0]) & set(patients[side == 1])
    for k, expected in ((0, [1, 1]), (1, [6, 6])):
        assert [len(set(patients[(side == half) & (labels[:, k] == 1)])) for half in (0, 1)] == expected
    assert abs((side == 0).sum() - (side == 1).sum()) < 20
    assert (side == split_halves(patients, labels, "a")).all()
    assert (side != split_halves(patients, labels, "b")).any()


def test_drops_by_hand() -> None:
    values, labels, weight, bias = used(1)
    patients = np.arange(240)
    found = ablate(linear_forward(values, weight, bias), values, labels, patients, n=1, draws=4, names=("hand",))
    side = split_halves(patients, labels, "hand")
    for k in range(2):
        drops, wholes = [], []
        for half in (0, 1):
            rows, unit = side == half, found.units[half, k, 0]
            logits = values[rows] @ weight[k]
            wholes.append(average_precision_score(labels[rows, k], logits))
            less = average_precision_score(labels[rows, k], logits - values[rows, unit] * weight[k, unit])
            drops.append(wholes[-1] - less)
        assert found.whole[k] == pytest.approx(np.mean(wholes))
        assert found.drop[k] == pytest.approx(np.mean(drops))
    assert found.excess == pytest.approx(found.drop - found.random)
    assert found.n_patients.tolist() == [40, 60]
    assert found.draws == 4


def test_units_are_chosen_on_the_other_half() -> None:
    values, labels, weight, bias = used(2)
    patients = np.arange(240)
    side = split_halves(patients, labels)
    asked: list[np.ndarray] = []

    def choose(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return np.tile(np.arange(24.0)[:, None] * (1 if len(asked) == 1 else -1), (1, 2))

    judged: list[np.ndarray] = []
    plain = linear_forward(values, weight, bias)

    def forward(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        judged.append(rows)
        return plain(rows, units)

    found = ablate(forward, values, labels, patients, n=2, draws=1, choose=choose)
    assert [set(rows) for rows in asked] == [set(np.flatnonzero(side == 1)), set(np.flatnonzero(side == 0))]
    assert found.units[:, 0].tolist() == [[23, 22], [0, 1]]
    assert all(set(rows) in (set(np.flatnonzero(side == 0)), set(np.flatnonzero(side == 1))) for rows in judged)


def test_used_units_are_told_from_units_that_merely_go_along() -> None:
    values, labels, weight, bias = used(3)
    patients = np.arange(240)
    found = ablate(linear_forward(values, weight, bias), values, labels, patients, n=3)
    assert sorted(found.units[0, 0].tolist()) == sorted(found.units[1, 0].tolist()) == [0, 1, 2]
    assert found.excess[0] > 0.4
    assert found.p[0] == 1 / 51
    assert found.random[0] == pytest.approx(0.0, abs=1e-9)  # the class rests on unit 0 alone
    assert abs(found.excess[1]) < 0.15
    assert found.spread[1] > 0
    unused = weight.copy()
    unused[0] = 0
    unused[0, 5] = 1.0  # class 0 is scored by a unit that does not show it
    other = ablate(linear_forward(values, unused, bias), values, labels, patients, n=3)
    assert other.drop[0] == 0.0
    assert other.p[0] > 0.5


def test_random_units_are_living_others_with_their_spread() -> None:
    values, labels, weight, bias = used(4)
    values[:, 20:] = 1.5  # dead: constant
    seen: list[list[int]] = []
    plain = linear_forward(values, weight, bias)

    def forward(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        seen.append(units.tolist())
        return plain(rows, units)

    found = ablate(forward, values, labels, np.arange(240), n=4, draws=6)
    drawn = [units for units in seen if len(units) == 4]
    assert len(drawn) == 2 * 2 * 7
    assert all(len(set(units)) == 4 and max(units) < 20 for units in drawn)
    for half in (0, 1):
        for k in (0, 1):
            start = (half * 2 + k) * 7
            assert drawn[start] == found.units[half, k].tolist()
            assert not any(set(drawn[start]) & set(units) for units in drawn[start + 1 : start + 7])
    assert len({tuple(units) for units in drawn}) > 20
    again = ablate(plain, values, labels, np.arange(240), n=4, draws=6)
    assert again.random.tolist() == found.random.tolist()
    assert ablate(plain, values, labels, np.arange(240), n=4, draws=6, names=("x",)).random[1] != found.random[1]


def test_n_is_at_most_half_of_the_living() -> None:
    values, labels, weight, bias = used(5)
    values[:, 6:] = 0.0
    found = ablate(linear_forward(values, weight, bias), values, labels, np.arange(240), n=5, draws=2)
    assert (found.units >= 0).sum(axis=2).tolist() == [[3, 3], [3, 3]]


def test_each_class_has_its_own_number_of_units() -> None:
    """As many as that number for all classes would give it, at most half of the living; none cost no pass."""
    values, labels, weight, bias = used(8)
    values[:, 20:] = 0.0
    forward, passes = linear_forward(values, weight, bias), []

    def counted(rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        passes.append(len(units))
        return forward(rows, units)

    found = ablate(counted, values, labels, np.arange(240), n=np.array([0, 3]), draws=2)
    assert sorted(passes) == [0, 0] + 6 * [3]
    assert np.isnan([found.drop[0], found.excess[0], found.p[0]]).all() and (found.units[:, 0] == -1).all()
    alone = ablate(forward, values, labels, np.arange(240), n=3, draws=2)
    assert (found.excess[1], found.p[1]) == (alone.excess[1], alone.p[1])
    assert found.units[:, 1].tolist() == alone.units[:, 1].tolist()
    most = ablate(forward, values, labels, np.arange(240), n=[2, 50], draws=2)
    assert (most.units >= 0).sum(axis=2).tolist() == [[2, 10], [2, 10]]
    none = ablate(forward, values, labels, np.arange(240), n=[0, 0], draws=2)
    assert np.isnan(none.excess).all() and none.units.shape == (2, 2, 0)


def test_absent_and_too_rare_classes() -> None:
    values, labels, weight, bias = used(6)
    labels = labels.copy()
    labels[:, 1] = 0
    found = ablate(linear_forward(values, weight, bias), values, labels, np.arange(240), n=2, draws=3)
    assert np.isnan(found.whole[1]) and np.isnan(found.drop[1]) and np.isnan(found.p[1]) and np.isnan(found.excess[1])
    assert not np.isnan(found.drop[0])
    labels[7, 1] = 1  # one patient: whoever has it to choose has none to judge
    one = ablate(linear_forward(values, weight, bias), values, labels, np.arange(240), n=2, draws=3)
    assert np.isnan(one.drop[1])
    assert one.n_patients[1] == 1
    labels[:40, 0] = np.nan
    assert not np.isnan(
        ablate(linear_forward(values, weight, bias), values, labels, np.arange(240), n=2, draws=3).drop[0]
    )


def test_exclusive_classes_are_ranked_by_softmax() -> None:
    """Unit 0 drives class 1 alone; without it the order of class 0's logits stays, that of its softmax does not."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=(200, 8))
    labels = np.zeros((200, 2))
    labels[np.arange(200), (values[:, 0] > 0).astype(int)] = 1
    weight = np.zeros((2, 8))
    weight[1, 0] = 3.0
    weight[0, 1] = 0.1

    def drop(exclusive: bool) -> float:
        forward = linear_forward(values, weight, np.zeros(2))
        choose = lambda rows: np.tile(-np.arange(8.0)[:, None], (1, 2))  # noqa: E731
        found = ablate(forward, values, labels, np.arange(200), n=1, draws=2, choose=choose, exclusive=exclusive)
        return float(found.drop[0])

    assert drop(False) == 0.0
    assert drop(True) > 0.3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.act(self.norm(self.first(x)))).mean(dim=(2, 3)))


def test_a_hooked_forward_silences_channels_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    net = Net().train()
    net.norm.running_mean.normal_()
    images = torch.rand(7, 1, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    last = hooked_forward(net, "second", lambda rows: images.numpy()[rows], batch=3)
    rows, units = np.array([6, 0, 2, 5]), np.array([1, 4])
    got = last(rows, units)
    assert net.training and net.norm.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    net.eval()
    with torch.no_grad():
        pooled = net.second(net.act(net.norm(net.first(images)))).mean(dim=(2, 3)).numpy()
        whole = net(images).numpy()
    weight, bias = net.head.weight.detach().numpy(), net.head.bias.detach().numpy()
    assert got == pytest.approx(linear_forward(pooled, weight, bias)(rows, units), abs=1e-5)
    assert last(rows, np.zeros(0, dtype=int)) == pytest.approx(whole[rows], abs=1e-6)
    inner = hooked_forward(net, "act", lambda rows: images.numpy()[rows])(rows, units)
    with torch.no_grad():
        net.second.weight[:, [1, 4]] = 0
        assert inner == pytest.approx(net(images).numpy()[rows], abs=1e-5)
    with pytest.raises(ConfigError, match="RS-R49"):
        hooked_forward(net, "third", lambda rows: images.numpy()[rows])


class Past(Net):
    """The logits rest on the image as well, past the second layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.mean(dim=(1, 2, 3))[:, None]


@pytest.mark.parametrize("layer", ["first", "act", "second"])
def test_what_follows_a_layer_is_the_whole_pass_where_the_logits_rest_on_it_alone(layer: str) -> None:
    torch.manual_seed(1)
    net = Net().train()
    images = torch.rand(9, 1, 8, 8).numpy()
    heard: list[torch.Tensor] = []
    handle = dict(net.named_modules())[layer].register_forward_hook(lambda _, __, a: heard.append(a.clone()))
    net.eval()
    with torch.no_grad():
        net(torch.from_numpy(images))
    handle.remove()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept = heard[0].numpy()
    short = tail_forward(net, layer, kept, lambda rows: images[rows], batch=2)
    assert short is not None
    whole = hooked_forward(net, layer, lambda rows: images[rows])
    rows, copy = np.array([8, 0, 3, 5, 1]), kept.copy()
    for units in (np.array([1, 4]), np.zeros(0, dtype=int)):
        assert short(rows, units) == pytest.approx(whole(rows, units), abs=1e-6)
    assert (kept == copy).all() and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    half = tail_forward(net, layer, kept.astype(np.float16), lambda rows: images[rows])
    assert half is not None and half(rows, np.array([0])) == pytest.approx(whole(rows, np.array([0])), abs=1e-3)
    past = Past()
    past.load_state_dict(net.state_dict())
    assert tail_forward(past, layer, kept, lambda rows: images[rows]) is None
