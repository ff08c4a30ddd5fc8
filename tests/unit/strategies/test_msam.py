"""Momentum SAM: scalar loops for SGD and AdamW, the plain first step, the warm-up gate, scope, resume."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.strategy import Facts

START = [1.5, -0.7, 2.0]
STEEP = [1.0, 4.0, 0.5]
DECAY = [0.1, 0.1, 0.0]  # of two parameter groups: the first two values, and the last


class Valley:
    """L(w) = sum a_i (w_i - 1)^2 / 2 over two parameters in float64, which stand in groups of their own."""

    def __init__(self) -> None:
        self.parameters = [
            nn.Parameter(torch.tensor(START[:2], dtype=torch.float64)),
            nn.Parameter(torch.tensor(START[2:], dtype=torch.float64)),
        ]
        self.seen: list[list[float]] = []

    @property
    def values(self) -> list[float]:
        return torch.cat([p.detach() for p in self.parameters]).tolist()

    def groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [p], "weight_decay": decay}
            for p, decay in zip(self.parameters, (DECAY[0], DECAY[2]), strict=True)
        ]

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.seen.append(self.values)
        for p in self.parameters:
            p.grad = None
        steep = torch.tensor(STEEP, dtype=torch.float64)
        loss = (steep * (torch.cat(self.parameters) - 1) ** 2 / 2).sum()
        loss.backward()
        return loss.detach()


def climbed(w: list[float], v: list[float] | None, rho: float) -> list[float]:
    if v is None:
        return list(w)
    norm = math.sqrt(sum(x * x for x in v))
    return [x - rho * y / norm for x, y in zip(w, v, strict=True)]


def sgd_by_hand(steps: int, rho: float, *, lr: float, mu: float, nesterov: bool, first: int = 0) -> list[float]:
    """The update rule in plain numbers: the gradient at w~, weight decay at w, torch's momentum."""
    w, v = list(START), None
    for step in range(steps):
        there = climbed(w, v, rho) if step >= first else w
        g = [a * (x - 1) + d * y for a, x, d, y in zip(STEEP, there, DECAY, w, strict=True)]
        v = g if v is None else [mu * old + new for old, new in zip(v, g, strict=True)]
        move = [x + mu * y for x, y in zip(g, v, strict=True)] if nesterov else v
        w = [x - lr * y for x, y in zip(w, move, strict=True)]
    return w


def adamw_by_hand(steps: int, rho: float, *, lr: float) -> list[float]:
    w, m, s = list(START), [0.0] * 3, [0.0] * 3
    for step in range(1, steps + 1):
        there = climbed(w, m if step > 1 else None, rho)
        g = [a * (x - 1) for a, x in zip(STEEP, there, strict=True)]
        m = [0.9 * old + 0.1 * new for old, new in zip(m, g, strict=True)]
        s = [0.999 * old + 0.001 * new * new for old, new in zip(s, g, strict=True)]
        for i in range(3):
            root = math.sqrt(s[i] / (1 - 0.999**step)) + 1e-8
            w[i] = w[i] * (1 - lr * DECAY[i]) - lr * (m[i] / (1 - 0.9**step)) / root
    return w


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_against_a_scalar_loop_with_weight_decay_at_w(nesterov: bool) -> None:
    valley, method = Valley(), MSAM(rho=0.3)
    optimiser = torch.optim.SGD(valley.groups(), lr=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(6):
        method.step(valley, optimiser, {})
    assert valley.values == pytest.approx(sgd_by_hand(6, 0.3, lr=0.1, mu=0.9, nesterov=nesterov), abs=1e-12)


def test_adamw_against_a_scalar_loop_with_weight_decay_at_w() -> None:
    valley, method = Valley(), MSAM(rho=0.3)
    optimiser = torch.optim.AdamW(valley.groups(), lr=0.1)
    for _ in range(6):
        method.step(valley, optimiser, {})
    assert valley.values == pytest.approx(adamw_by_hand(6, 0.3, lr=0.1), abs=1e-9)


def test_the_first_step_is_plain_and_each_step_takes_one_pass() -> None:
    valley, method = Valley(), MSAM(rho=0.3)
    optimiser = torch.optim.SGD(valley.parameters, lr=0.1, momentum=0.9)
    loss = method.step(valley, optimiser, {})
    assert valley.seen == [START]
    assert loss.item() == pytest.approx(sum(a * (w - 1) ** 2 / 2 for a, w in zip(STEEP, START, strict=True)))
    at = valley.values
    method.step(valley, optimiser, {})
    assert len(valley.seen) == 2
    assert math.dist(valley.seen[1], at) == pytest.approx(0.3)  # one norm over both groups


def test_direction_it_looks_where_the_weights_are_going_and_brakes_on_steep_slopes() -> None:
    """Moving towards the minimum it sees a smaller slope ahead, so the steep side is descended less than plainly."""
    ahead, plain = Valley(), Valley()
    for valley, rho in ((ahead, 0.2), (plain, 0.0)):
        method, optimiser = MSAM(rho=rho), torch.optim.SGD(valley.parameters, lr=0.01, momentum=0.9)
        for _ in range(2):
            method.step(valley, optimiser, {})
    before, after = ahead.seen[1], plain.seen[1]
    assert all((x - 1) * (y - x) < 0 for x, y in zip(after, before, strict=True))  # ahead is towards the minimum
    assert all(abs(a - 1) > abs(p - 1) for a, p in zip(ahead.values, plain.values, strict=True))


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 1), (0.3, 3), (0.34, 3), (1.0, 10)])
def test_during_warm_up_steps_are_plain(warmup: float, first: int) -> None:
    """Of 10 steps; the first is plain in any case."""
    valley, method = Valley(), MSAM(rho=0.3, warmup=warmup)
    method.fit(Facts("exclusive", ("a", "b"), torch.eye(2), torch.ones(2, 2), steps=10))
    optimiser = torch.optim.SGD(valley.groups(), lr=0.05, momentum=0.9)
    moved = []
    for _ in range(10):
        here = valley.values
        method.step(valley, optimiser, {})
        moved.append(valley.seen[-1] != here)
    assert moved == [step >= first for step in range(10)]
    expected = sgd_by_hand(10, 0.3, lr=0.05, mu=0.9, nesterov=False, first=first)
    assert valley.values == pytest.approx(expected, abs=1e-12)


def test_rho_zero_is_the_plain_optimiser_bit_for_bit() -> None:
    ours, theirs = Valley(), Valley()
    method = MSAM(rho=0)
    assert not method.stale_statistics()
    assert MSAM(rho=0.01).stale_statistics()
    one = torch.optim.SGD(ours.parameters, lr=0.1, momentum=0.9)
    other = torch.optim.SGD(theirs.parameters, lr=0.1, momentum=0.9)
    for _ in range(4):
        method.step(ours, one, {})
        theirs()
        other.step()
    assert ours.values == theirs.values


def test_weights_come_back_bit_for_bit_when_the_pass_breaks() -> None:
    valley, method = Valley(), MSAM(rho=0.3)
    optimiser = torch.optim.SGD(valley.parameters, lr=0.1, momentum=0.9)
    method.step(valley, optimiser, {})
    here = valley.values

    def broken(rows: Tensor | None = None) -> Tensor:
        assert valley.values != here
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.step(broken, optimiser, {})
    assert valley.values == here


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norms = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(6))
        self.head = nn.Linear(4 * 6 * 6, 2)


def test_scope_norm_moves_the_parameters_of_normalisation_layers_alone() -> None:
    torch.manual_seed(0)
    model = Network()
    method = MSAM(rho=0.5, scope="norm")
    method.start_epoch(0, model, torch.Generator())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    places: list[dict[str, Tensor]] = []
    x = torch.randn(4, 1, 8, 8)

    def closure(rows: Tensor | None = None) -> Tensor:
        places.append({name: p.detach().clone() for name, p in model.named_parameters()})
        optimiser.zero_grad()
        loss = model.head(model.norms(model.conv(x)).flatten(1)).square().mean()
        loss.backward()
        return loss.detach()

    method.step(closure, optimiser, {})
    here = {name: p.detach().clone() for name, p in model.named_parameters()}
    method.step(closure, optimiser, {})
    moved = {name for name, p in places[1].items() if not torch.equal(p, here[name])}
    assert moved == {f"norms.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    distance = torch.cat([(places[1][name] - here[name]).flatten() for name in moved]).norm()
    assert distance.item() == pytest.approx(0.5, rel=1e-5)


def test_scope_norm_without_a_model_or_a_layer_is_refused() -> None:
    valley, method = Valley(), MSAM(scope="norm")
    optimiser = torch.optim.SGD(valley.parameters, lr=0.1, momentum=0.9)
    with pytest.raises(ConfigError, match="was not told the model"):
        method.step(valley, optimiser, {})
    method.start_epoch(0, nn.Linear(2, 2), torch.Generator())
    with pytest.raises(ConfigError, match="found no layer"):
        method.step(valley, optimiser, {})


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.RMSprop(p, lr=0.1)])
def test_an_optimiser_without_momentum_is_refused_by_name(make: Any) -> None:
    valley, method = Valley(), MSAM(rho=0.3)
    optimiser = make(valley.parameters)
    method.step(valley, optimiser, {})  # before it nobody could tell
    with pytest.raises(ConfigError, match="RS-C35") as caught:
        method.step(valley, optimiser, {})
    assert f"'msam' with {type(optimiser).__name__}" in caught.value.problems[0].found


def test_resume_is_exact_within_warm_up_and_after() -> None:
    for stop in (2, 5):
        whole, again = Valley(), Valley()
        facts = Facts("exclusive", ("a", "b"), torch.eye(2), torch.ones(2, 2), steps=10)
        first, second = MSAM(rho=0.3, warmup=0.4), MSAM(rho=0.3, warmup=0.4)
        optimiser = torch.optim.AdamW(whole.parameters, lr=0.1)
        saved: list[Any] = []
        for method in (first, second):
            method.fit(facts)
        for step in range(10):
            if step == stop:
                saved = copy.deepcopy([optimiser.state_dict(), first.state_dict(), whole.values])
            first.step(whole, optimiser, {})
        for p, values in zip(again.parameters, (saved[2][:2], saved[2][2:]), strict=True):
            p.data = torch.tensor(values, dtype=torch.float64)
        resumed = torch.optim.AdamW(again.parameters, lr=0.1)
        resumed.load_state_dict(saved[0])
        second.load_state_dict(saved[1])
        for _ in range(10 - stop):
            second.step(again, resumed, {})
        assert again.values == whole.values


@pytest.mark.parametrize("settings", [{"rho": -0.1}, {"rho": 10.1}, {"scope": "most"}, {"warmup": 1.1}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="RS-C34"):
        MSAM(**settings)
