"""Imbalanced SAM: the three gradients of its equation, which rows are the tail, and when it is SAM or plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import ALL, Facts, Stack
from raresight.strategies.steps.imbalanced_sam import ImbSAM
from raresight.strategies.steps.sam import SAM

CLASSES = ("common", "uncommon", "rare")
N, B, F, K = 40, 9, 4, 3


def labels(kind: str) -> tuple[Tensor, Tensor]:
    """40 cases: 30 common, 7 uncommon, 3 rare; every fifth has an unknown label, or (exclusive) none that is known."""
    rng = torch.Generator().manual_seed(3)
    label = torch.tensor([0] * 30 + [1] * 7 + [2] * 3)[torch.randperm(N, generator=rng)]
    target = torch.eye(3)[label]
    mask = torch.ones(N, 3)
    if kind == "exclusive":
        mask[::5] = 0
    else:
        target[::4, 1] = 1
        mask[::5, 1] = 0
        mask[3::9, 2] = 0
    return target * mask, mask


def facts(kind: Any, target: Tensor, mask: Tensor) -> Facts:
    return Facts(kind, CLASSES, target, mask)


class Line:
    """A linear classifier in float64 without batch normalisation; `closure(rows)` as the contract defines it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        rng = torch.Generator().manual_seed(1)
        self.x = torch.randn(N, F, generator=rng, dtype=torch.float64)
        self.weight = nn.Parameter(torch.randn(K, F, generator=rng, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(K, generator=rng, dtype=torch.float64))
        self.target, self.mask = labels(kind)
        self.calls: list[list[int] | None] = []

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [self.weight, self.bias]

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "weight_decay": 0.1}, {"params": [self.bias]}]

    def part(self, ids: Tensor, batch: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What the rows `ids` add to the mean loss of `batch`."""
        logits, y, m = self.x[ids] @ weight.T + bias, self.target[ids].double(), self.mask[ids].double()
        if self.kind == "exclusive":
            known = self.mask[batch].amin(1).sum()
            return -((y * logits.log_softmax(1)).sum(1) * m.amin(1)).sum() / known
        entries = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        return (entries * m).sum() / self.mask[batch].sum()

    def closure(self, batch: Tensor) -> Callable[..., Tensor]:
        def call(rows: Tensor | None = None) -> Tensor:
            self.calls.append(None if rows is None else rows.tolist())
            for p in self.parameters:
                p.grad = None
            loss = self.part(batch if rows is None else batch[rows], batch, self.weight, self.bias)
            loss.backward()
            return loss.detach()

        return call

    def batch(self, ids: Tensor) -> dict[str, Tensor]:
        return {"x": self.x[ids], "target": self.target[ids], "mask": self.mask[ids], "ids": ids}


def three_gradients(line: Line, ids: Tensor, tail: Tensor, rho: float) -> list[Tensor]:
    """grad L_head(w) + grad L_tail(w + e), each by autograd on its own; `tail` (B,) says whose rows are the tail."""

    def gradient(rows: Tensor, at: list[Tensor]) -> list[Tensor]:
        leaves = [p.detach().clone().requires_grad_() for p in at]
        return list(torch.autograd.grad(line.part(rows, ids, *leaves), leaves))

    here = [p.detach() for p in line.parameters]
    climb = gradient(ids[tail], here)
    norm = torch.cat([g.flatten() for g in climb]).norm()
    there = [p + rho * g / norm for p, g in zip(here, climb, strict=True)]
    return [a + b for a, b in zip(gradient(ids[~tail], here), gradient(ids[tail], there), strict=True)]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_the_step_is_the_head_s_gradient_here_and_the_tail_s_up_the_hill(kind: str) -> None:
    """Over whole epochs, with several groups, weight decay and unknown labels."""
    line = Line(kind)
    method = ImbSAM(rho=0.4, below=0.1)
    method.fit(facts(kind, line.target, line.mask))
    assert method.tail_.tolist() == [False, False, True]
    optimiser = torch.optim.SGD(line.groups(), lr=0.3, momentum=0.9)
    n_tail = 0
    for ids in torch.arange(N).split(B):
        tail = (line.target[ids, 2] * line.mask[ids, 2]) > 0
        n_tail += int(tail.any())
        expected = three_gradients(line, ids, tail, 0.4) if tail.any() else None
        here = [p.detach().clone() for p in line.parameters]
        given: list[Tensor] = []
        hook = optimiser.register_step_pre_hook(
            lambda *_, kept=given: kept.extend([p.grad.clone() for p in line.parameters])
        )
        loss = method.step(line.closure(ids), optimiser, line.batch(ids))
        hook.remove()
        assert loss.item() == pytest.approx(line.part(ids, ids, *here).item(), rel=1e-12)  # of the whole batch, at w
        if expected is not None:
            for got, wanted in zip(given, expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)
    assert n_tail >= 2
    assert line.calls.count(None) == 5
    assert len(line.calls) == 5 + 2 * n_tail  # 1 + 2 passes of the tail rows alone


def test_which_rows_are_the_tail_by_hand() -> None:
    """Priors 0.75, 0.175 and 0.075 among the 40; below 0.2 two classes are rare. An unknown label is no rare one."""
    target = torch.eye(3)[[0] * 30 + [1] * 7 + [2] * 3]
    batch = {
        "target": torch.eye(3)[[2, 0, 1, 2, 0]],
        "mask": torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]),
    }
    for below, rows in ((0.0, []), (0.075, []), (0.08, [0]), (0.2, [0, 2]), (1.0, [0, 1, 2, 4])):
        method = ImbSAM(below=below)
        method.fit(facts("exclusive", target, torch.ones(40, 3)))
        assert method._tail_rows(batch).tolist() == rows


def test_a_row_with_one_rare_finding_anywhere_in_its_space_is_of_the_tail() -> None:
    target = torch.zeros(3, 3, 4)
    target[:, 0] = 1
    target[1, 2, 3] = 1
    target[2, 1, 0] = 1
    method = ImbSAM(below=0.2)
    method.fit(facts("independent", torch.eye(3)[[0] * 16 + [1] * 4 + [2] * 2], torch.ones(22, 3)))
    assert method.tail_.tolist() == [False, True, True]
    assert method._tail_rows({"target": target, "mask": torch.ones_like(target)}).tolist() == [1, 2]


def test_a_class_without_cases_is_no_rare_class() -> None:
    target = torch.eye(3)[[0] * 19 + [1]]
    method = ImbSAM()
    method.fit(facts("exclusive", target, torch.ones(20, 3)))
    assert method.tail_.tolist() == [False, True, False]
    assert method.findings() == []
    method.fit(facts("exclusive", torch.eye(3)[[0, 1, 2]], torch.ones(3, 3)))
    assert method.findings() == ["imbsam: no class has a training prevalence below 0.1, so every step is plain"]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_where_all_rows_are_of_the_tail_it_is_sam(kind: str) -> None:
    ours, theirs = Line(kind), Line(kind)
    for line in (ours, theirs):
        line.target[:, 0] = torch.where(line.target.sum(1) == 0, 1.0, line.target[:, 0])
        line.mask[:] = 1
    imbalanced, sam = ImbSAM(rho=0.4, below=1.0), SAM(rho=0.4)
    imbalanced.fit(facts(kind, ours.target, ours.mask))
    assert imbalanced.tail_.all()
    for line, method in ((ours, imbalanced), (theirs, sam)):
        optimiser = torch.optim.AdamW(line.groups(), lr=0.05)
        for ids in torch.arange(N).split(B):
            method.step(line.closure(ids), optimiser, line.batch(ids))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("settings", "ids"), [({"rho": 0.0}, range(9)), ({"below": 0.0}, range(9)), ({}, [0, 1])])
def test_without_a_radius_a_rare_class_or_a_rare_row_the_step_is_plain(settings: dict[str, float], ids: Any) -> None:
    ours, plain = Line("exclusive"), Line("exclusive")
    ours.target[:2] = plain.target[:2] = torch.eye(3)[[0, 1]]
    method = ImbSAM(**settings)
    method.fit(facts("exclusive", ours.target, ours.mask))
    one, other = torch.optim.SGD(ours.parameters, lr=0.1), torch.optim.SGD(plain.parameters, lr=0.1)
    rows = torch.tensor(list(ids))
    method.step(ours.closure(rows), one, ours.batch(rows))
    plain.closure(rows)()
    other.step()
    assert torch.equal(ours.weight, plain.weight)
    assert ours.calls == [None]


class Two:
    """L = a u^2 / 2 over the rows of the common class + b v^2 / 2 over those of the rare one."""

    def __init__(self) -> None:
        self.u, self.v = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-1.0]))
        self.scale = 1.0

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.u.grad = self.v.grad = None
        loss = self.scale * (2.0 * (self.v**2).sum() + (self.u**2).sum() * (rows is None))
        loss.backward()
        return loss.detach()


def test_direction_the_tail_alone_is_flattened() -> None:
    """The common class is descended as ever, the rare one as if it stood rho further up its own hill."""
    two, method = Two(), ImbSAM(rho=0.5)
    method.fit(facts("exclusive", torch.eye(3)[[0] * 19 + [2]], torch.ones(20, 3)))
    batch = {"target": torch.eye(3)[[0, 2]], "mask": torch.ones(2, 3)}
    method.step(two, torch.optim.SGD([two.u, two.v], lr=0.1), batch)
    assert two.u.item() == pytest.approx(2 - 0.1 * 2 * 2)
    assert two.v.item() == pytest.approx(-1 + 0.1 * 4 * 1.5)


def test_without_a_direction_to_climb_in_the_step_is_plain() -> None:
    two, method = Two(), ImbSAM(rho=0.5)
    two.v.data.zero_()
    method.fit(facts("exclusive", torch.eye(3)[[0] * 19 + [2]], torch.ones(20, 3)))
    batch = {"target": torch.eye(3)[[0, 2]], "mask": torch.ones(2, 3)}
    method.step(two, torch.optim.SGD([two.u, two.v], lr=0.1), batch)
    assert (two.u.item(), two.v.item()) == (pytest.approx(1.6), 0.0)


def test_a_closure_that_zeroes_gradients_in_place_gives_the_same_step() -> None:
    results = []
    for in_place in (False, True):
        two, method = Two(), ImbSAM(rho=0.5)
        method.fit(facts("exclusive", torch.eye(3)[[0] * 19 + [2]], torch.ones(20, 3)))
        optimiser = torch.optim.SGD([two.u, two.v], lr=0.1)

        def closure(
            rows: Tensor | None = None, two: Two = two, optimiser: Any = optimiser, how: bool = in_place
        ) -> Tensor:
            optimiser.zero_grad(set_to_none=not how)
            loss = 2.0 * (two.v**2).sum() + (two.u**2).sum() * (rows is None)
            loss.backward()
            return loss.detach()

        for _ in range(2):
            method.step(closure, optimiser, {"target": torch.eye(3)[[0, 2]], "mask": torch.ones(2, 3)})
        results.append((two.u.item(), two.v.item()))
    assert results[0] == results[1]


def test_weights_come_back_when_the_last_pass_breaks() -> None:
    two, method = Two(), ImbSAM(rho=0.5)
    method.fit(facts("exclusive", torch.eye(3)[[0] * 19 + [2]], torch.ones(20, 3)))
    calls = []

    def closure(rows: Tensor | None = None) -> Tensor:
        calls.append(two.v.item())
        if len(calls) == 3:
            raise KeyboardInterrupt
        return two(rows)

    batch = {"target": torch.eye(3)[[0, 2]], "mask": torch.ones(2, 3)}
    with pytest.raises(KeyboardInterrupt):
        method.step(closure, torch.optim.SGD([two.u, two.v], lr=0.1), batch)
    assert calls == [-1.0, -1.0, -1.5]
    assert (two.u.item(), two.v.item()) == (2.0, -1.0)


@pytest.mark.parametrize("name", [m.name for m in ALL if m.place == "losses" and not m.rowwise])
def test_a_loss_that_is_no_sum_over_rows_is_refused_by_name(name: str) -> None:
    owner = next(m for m in ALL if m.name == name)
    with pytest.raises(ConfigError, match="RS-C35") as caught:
        Stack([owner(), ImbSAM()], Task(owner.kinds[0], CLASSES), "mine")
    assert f"'{name}' and 'imbsam'" in caught.value.problems[0].found
    assert caught.value.problems[0].column == "arms.mine"


@pytest.mark.parametrize("settings", [{"rho": -0.1}, {"rho": 11}, {"below": -0.1}, {"below": 1.1}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="RS-C34"):
        ImbSAM(**settings)
