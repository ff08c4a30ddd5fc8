"""SAM: a hand-worked step, weights put back bit for bit, and the cases in which there is nothing to climb."""

from __future__ import annotations

import math

import pytest
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


def test_rho_zero_takes_one_pass() -> None:
    bowl = Bowl()
    SAM(rho=0).step(bowl, torch.optim.SGD(bowl.parameters, lr=0.1), {})
    assert len(bowl.seen) == 1


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 10\]"):
        SAM(rho=-0.05)
