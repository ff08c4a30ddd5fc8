"""LookSAM: SAM at every k-th step, the part at right angles in between, and when it is SAM or plain."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.strategies.steps.looksam import LookSAM
from raresight.strategies.steps.sam import SAM

START, STEEP = [1.5, -0.7, 2.0], [1.0, 4.0, 0.5]


class Valley:
    """L(w) = sum a_i w_i^2 / 2 over two parameters in float64."""

    def __init__(self, *, in_place: bool = False) -> None:
        self.parameters = [
            nn.Parameter(torch.tensor(START[:2], dtype=torch.float64)),
            nn.Parameter(torch.tensor(START[2:], dtype=torch.float64)),
        ]
        self.seen: list[list[float]] = []
        self.in_place = in_place

    @property
    def values(self) -> list[float]:
        return torch.cat([p.detach() for p in self.parameters]).tolist()

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.seen.append(self.values)
        for p in self.parameters:
            p.grad = None if not self.in_place or p.grad is None else p.grad.zero_()
        loss = (torch.tensor(STEEP, dtype=torch.float64) * torch.cat(self.parameters) ** 2 / 2).sum()
        loss.backward()
        return loss.detach()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def by_hand(steps: int, *, rho: float, every: int, alpha: float, lr: float) -> list[float]:
    w, kept = list(START), [0.0] * 3
    for step in range(steps):
        g = [a * x for a, x in zip(STEEP, w, strict=True)]
        norm = math.sqrt(dot(g, g))
        if step % every == 0:
            used = [a * (x + rho * y / norm) for a, x, y in zip(STEEP, w, g, strict=True)]
            kept = [s - dot(used, g) / dot(g, g) * y for s, y in zip(used, g, strict=True)]
        else:
            factor = alpha * norm / math.sqrt(dot(kept, kept))
            used = [y + factor * v for y, v in zip(g, kept, strict=True)]
        w = [x - lr * y for x, y in zip(w, used, strict=True)]
    return w


@pytest.mark.parametrize(("every", "alpha"), [(1, 0.7), (2, 0.7), (3, 1.5), (3, 0.0)])
def test_against_a_scalar_loop(every: int, alpha: float) -> None:
    valley, method = Valley(), LookSAM(rho=0.3, every=every, alpha=alpha)
    optimiser = torch.optim.SGD([{"params": [p]} for p in valley.parameters], lr=0.1)
    for _ in range(7):
        method.step(valley, optimiser, {})
    expected = by_hand(7, rho=0.3, every=every, alpha=alpha, lr=0.1)
    assert valley.values == pytest.approx(expected, abs=1e-6)  # products are summed in float32
    assert len(valley.seen) == 7 + math.ceil(7 / every)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_at_every_step_it_is_sam_bit_for_bit(name: str) -> None:
    results = []
    for method in (LookSAM(rho=0.3, every=1), SAM(rho=0.3)):
        valley = Valley()
        make: Any = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
        optimiser = make(valley.parameters, lr=0.1, weight_decay=0.1)
        for _ in range(5):
            method.step(valley, optimiser, {})
        results.append(valley.values)
    assert results[0] == results[1]


def test_without_alpha_the_steps_in_between_are_plain_bit_for_bit() -> None:
    ours, theirs = Valley(), Valley()
    look, sam = LookSAM(rho=0.3, every=3, alpha=0.0), SAM(rho=0.3, every=3)
    for valley, method in ((ours, look), (theirs, sam)):
        optimiser = torch.optim.SGD(valley.parameters, lr=0.1, momentum=0.9)
        for _ in range(7):
            method.step(valley, optimiser, {})
    assert ours.values == theirs.values


def test_what_is_kept_stands_at_right_angles_to_the_plain_gradient() -> None:
    valley, method = Valley(), LookSAM(rho=0.3)
    method.step(valley, torch.optim.SGD(valley.parameters, lr=0.0), {})
    gradient = [a * x for a, x in zip(STEEP, START, strict=True)]
    kept = torch.cat(method.sharp_).tolist()
    assert dot(kept, gradient) == pytest.approx(0, abs=1e-6)
    assert dot(kept, kept) > 1e-3
    # and with the part along the gradient it is the gradient at w + e
    there = [a * x for a, x in zip(STEEP, valley.seen[1], strict=True)]
    along = dot(there, gradient) / dot(gradient, gradient)
    assert [k + along * g for k, g in zip(kept, gradient, strict=True)] == pytest.approx(there, abs=1e-6)


def test_direction_steps_in_between_lean_to_the_steeper_side() -> None:
    """Beside the plain step from the same place the steep value is descended further, the flat ones less."""
    valley, method = Valley(), LookSAM(rho=0.3, every=2)
    optimiser = torch.optim.SGD(valley.parameters, lr=0.01)
    method.step(valley, optimiser, {})
    here = valley.values
    method.step(valley, optimiser, {})
    descended = [(x - y) / (0.01 * a * x) for a, x, y in zip(STEEP, here, valley.values, strict=True)]
    assert descended[1] > 1
    assert descended[0] < 1
    assert descended[2] < 1


@pytest.mark.parametrize("every", [1, 2])
def test_a_closure_that_zeroes_gradients_in_place_gives_the_same_steps(every: int) -> None:
    results = []
    for in_place in (False, True):
        valley, method = Valley(in_place=in_place), LookSAM(rho=0.3, every=every)
        optimiser = torch.optim.SGD(valley.parameters, lr=0.1)
        for _ in range(4):
            method.step(valley, optimiser, {})
        results.append(valley.values)
    assert results[0] == results[1]


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_a_gradient_of_zero_gives_plain_steps(rho: float) -> None:
    valley, method = Valley(), LookSAM(rho=rho, every=2)
    for p in valley.parameters:
        p.data.zero_()
    for _ in range(3):
        method.step(valley, torch.optim.SGD(valley.parameters, lr=0.1), {})
    assert valley.values == [0.0] * 3
    assert len(valley.seen) == 3


def test_a_gradient_of_zero_is_no_not_a_number_where_the_norm_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a graphics card: the climb goes nowhere, nothing is kept, and the step after it is plain."""
    monkeypatch.setattr(Tensor, "item", lambda self: 1.0)
    valley, method = Valley(), LookSAM(rho=0.5, every=2)
    for p in valley.parameters:
        p.data.zero_()
    for value in (0.0, 1.0):
        for p in valley.parameters:
            p.data.fill_(value)
        method.step(valley, torch.optim.SGD(valley.parameters, lr=0.1), {})
    assert valley.values == pytest.approx([1 - 0.1 * a for a in STEEP])


def test_rho_zero_takes_one_pass_also_where_no_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "item", lambda self: 1.0)  # as on a graphics card
    valley, method = Valley(), LookSAM(rho=0.0)
    method.step(valley, torch.optim.SGD(valley.parameters, lr=0.1), {})
    assert len(valley.seen) == 1


def test_resume_is_exact_at_and_between_climbs() -> None:
    for stop in (2, 3, 4):
        whole, again = Valley(), Valley()
        first, second = LookSAM(rho=0.3, every=3), LookSAM(rho=0.3, every=3)
        optimiser = torch.optim.SGD(whole.parameters, lr=0.1, momentum=0.9)
        saved: Any = None
        for step in range(8):
            if step == stop:
                saved = copy.deepcopy(
                    (optimiser.state_dict(), first.state_dict(), [p.detach() for p in whole.parameters])
                )
            first.step(whole, optimiser, {})
        for p, values in zip(again.parameters, saved[2], strict=True):
            p.data = values
        resumed = torch.optim.SGD(again.parameters, lr=0.1, momentum=0.9)
        resumed.load_state_dict(saved[0])
        second.load_state_dict(saved[1])
        for _ in range(8 - stop):
            second.step(again, resumed, {})
        assert again.values == whole.values


def test_weights_come_back_when_the_climb_breaks() -> None:
    valley, method = Valley(), LookSAM(rho=0.3)

    def closure(rows: Tensor | None = None) -> Tensor:
        if len(valley.seen) == 1:
            raise KeyboardInterrupt
        return valley()

    with pytest.raises(KeyboardInterrupt):
        method.step(closure, torch.optim.SGD(valley.parameters, lr=0.1), {})
    assert valley.values == START


@pytest.mark.parametrize("settings", [{"rho": -0.1}, {"rho": 11}, {"every": 0}, {"every": 1.5}, {"alpha": -1}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="RS-C34"):
        LookSAM(**settings)
