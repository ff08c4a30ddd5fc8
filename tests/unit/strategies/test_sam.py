"""SAM: a hand-worked step, another library's SAM, scope and interval, and when there is nothing to climb."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.strategies.steps.sam import SAM


class Bowl:
    """L(w) = sum a_i w_i^2 / 2 over two parameters; counts its calls and where they were made."""

    def __init__(self, steepness: tuple[float, float] = (1.0, 10.0)) -> None:
        self.steepness = steepness
        self.parameters = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([0.4]))]
        self.seen: list[list[float]] = []

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.seen.append([p.item() for p in self.parameters])
        for p in self.parameters:
            p.grad = None
        loss = sum((a * p**2 / 2).sum() for a, p in zip(self.steepness, self.parameters, strict=True))
        assert isinstance(loss, Tensor)
        loss.backward()
        return loss.detach()


def test_step_by_hand_with_one_norm_over_all_groups() -> None:
    bowl = Bowl()
    first, second = bowl.parameters
    optimiser = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.1)
    loss = SAM(rho=0.5).step(bowl, optimiser, {})
    # gradient (3, 4), norm 5, climb (0.3, 0.4): there the gradient is (3.3, 8.0)
    assert bowl.seen[1] == pytest.approx([3.3, 0.8])
    assert [first.item(), second.item()] == pytest.approx([3 - 0.33, 0.4 - 0.8])
    assert loss.item() == pytest.approx(4.5 + 0.8)  # of the first pass, at the weights themselves


def test_weights_are_put_back_bit_for_bit() -> None:
    rng = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 3))
    for p in model.parameters():
        p.data.copy_(torch.randn(p.shape, generator=rng))
    x, y = torch.randn(8, 50, generator=rng), torch.arange(8) % 3

    def closure(rows: Tensor | None = None) -> Tensor:
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    before = [p.detach().clone() for p in model.parameters()]
    SAM(rho=0.37).step(closure, torch.optim.SGD(model.parameters(), lr=0.0), {})
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before, strict=True))


def test_weights_are_put_back_when_the_second_pass_breaks() -> None:
    bowl = Bowl()

    def closure(rows: Tensor | None = None) -> Tensor:
        if len(bowl.seen) == 1:
            raise KeyboardInterrupt
        return bowl()

    with pytest.raises(KeyboardInterrupt):
        SAM(rho=0.5).step(closure, torch.optim.SGD(bowl.parameters, lr=0.1), {})
    assert [p.item() for p in bowl.parameters] == [3.0, pytest.approx(0.4)]


def test_direction_the_steeper_side_is_descended_harder() -> None:
    plain, sharp = Bowl(), Bowl()
    for bowl, rho in ((plain, 0.0), (sharp, 0.5)):
        SAM(rho=rho).step(bowl, torch.optim.SGD(bowl.parameters, lr=0.01), {})
    gain = [
        (start - b.item()) / (start - a.item())
        for start, a, b in zip([3.0, 0.4], plain.parameters, sharp.parameters, strict=True)
    ]
    assert gain[1] > gain[0] > 1


@pytest.mark.parametrize("gradient", [0.0, math.inf, math.nan])
def test_without_a_direction_the_step_is_plain(gradient: float) -> None:
    w = nn.Parameter(torch.tensor([1.0]))
    calls = []

    def closure(rows: Tensor | None = None) -> Tensor:
        calls.append(w.item())
        w.grad = torch.tensor([gradient])
        return torch.tensor(0.0)

    optimiser = torch.optim.SGD([w], lr=0.0 if gradient == 0 else 1.0)
    SAM(rho=1.0).step(closure, optimiser, {})
    assert calls == [1.0]


def test_rho_zero_takes_one_pass_also_where_no_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bowl = Bowl()
    monkeypatch.setattr(Tensor, "item", lambda self: 1.0)  # as on a graphics card
    SAM(rho=0).step(bowl, torch.optim.SGD(bowl.parameters, lr=0.1), {})
    assert len(bowl.seen) == 1


class Small(nn.Module):
    """Convolution, group normalisation, a head: three parameter groups of different weight decay."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return z

    def groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [self.conv.weight, self.head.weight], "weight_decay": 0.1},
            {"params": [self.conv.bias, self.head.bias], "weight_decay": 0.0},
            {"params": list(self.norm.parameters()), "weight_decay": 0.02, "lr": 0.01},
        ]


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.05}),
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        (torch.optim.AdamW, {"lr": 0.02}),
    ],
    ids=["sgd", "nesterov", "adamw"],
)
def test_against_pytorch_optimizer_over_several_steps_and_groups(base: Any, settings: dict[str, Any]) -> None:
    """Its SAM of version 4.1; float64, though it sums its norm in float32."""
    rng = torch.Generator().manual_seed(2)
    batches = [torch.randn(6, 1, 7, 7, generator=rng, dtype=torch.float64) for _ in range(6)]
    y = torch.arange(6) % 3
    ours, theirs = Small(), Small()
    one = base(ours.groups(), **settings)
    other = pytorch_optimizer.SAM(theirs.groups(), base, rho=0.2, **settings)
    method = SAM(rho=0.2)
    for x in batches:

        def closure(model: nn.Module, optimiser: Any, x: Tensor = x) -> Tensor:
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss.detach()

        loss = method.step(lambda rows=None, c=closure: c(ours, one), one, {})
        first = closure(theirs, other)
        other.step(lambda c=closure: c(theirs, other))
        assert loss.item() == pytest.approx(first.item(), rel=1e-9)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8, msg=name)
        assert not torch.equal(p, dict(Small().named_parameters())[name])


def test_scope_norm_climbs_with_the_gains_and_biases_of_normalisation_layers_alone() -> None:
    model, method = Small(), SAM(rho=0.5, scope="norm")
    optimiser = torch.optim.SGD(model.groups(), lr=0.1)
    places: list[dict[str, Tensor]] = []
    x = torch.randn(6, 1, 7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def closure(rows: Tensor | None = None) -> Tensor:
        places.append({name: p.detach().clone() for name, p in model.named_parameters()})
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), torch.arange(6) % 3)
        loss.backward()
        return loss.detach()

    with pytest.raises(ConfigError, match="was not told the model"):
        method.step(closure, optimiser, {})
    places.clear()
    method.start_epoch(0, model, torch.Generator())
    method.step(closure, optimiser, {})
    here, there = places
    moved = {name for name in here if not torch.equal(here[name], there[name])}
    assert moved == {"norm.weight", "norm.bias"}
    assert torch.cat([there[name] - here[name] for name in moved]).norm().item() == pytest.approx(0.5)
    # and all parameters are descended, by the gradient found there
    assert not torch.equal(model.conv.weight, here["conv.weight"])


@pytest.mark.parametrize("every", [1, 2, 3])
def test_with_an_interval_the_first_and_every_kth_step_climb(every: int) -> None:
    bowl, method = Bowl(), SAM(rho=0.5, every=every)
    optimiser = torch.optim.SGD(bowl.parameters, lr=0.01)
    passes = []
    for _ in range(7):
        before = len(bowl.seen)
        method.step(bowl, optimiser, {})
        passes.append(len(bowl.seen) - before)
    assert passes == [2 if step % every == 0 else 1 for step in range(7)]


def test_an_interval_goes_on_where_a_resumed_run_left_it() -> None:
    bowl, first = Bowl(), SAM(rho=0.5, every=3)
    optimiser = torch.optim.SGD(bowl.parameters, lr=0.01)
    for _ in range(2):
        first.step(bowl, optimiser, {})
    second = SAM(rho=0.5, every=3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    bowl.seen.clear()
    passes = []
    for _ in range(2):
        second.step(bowl, optimiser, {})
        passes.append(len(bowl.seen))
    assert passes == [1, 3]  # one plain step, then one that climbs


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [({"rho": -0.05}, r"\[0, 10\]"), ({"rho": 10.5}, r"\[0, 10\]"), ({"every": 0}, ">= 1"), ({"scope": "nrm"}, "norm")],
)
def test_settings_out_of_range(settings: dict[str, Any], allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed):
        SAM(**settings)
