"""The line in miniature for the contract tests: tiny data, a tiny model, and a loop that calls every hook in order.

It is written apart from `train/`, so that a fault of the loop and a fault of a strategy cannot hide each other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from raresight.core.seeds import torch_rng
from raresight.core.task import Task
from raresight.strategies import ALL, Facts, Stack, Strategy

CLASSES = ("common", "uncommon", "rare")
# settings under which a method acts on data this small, where its defaults would wait or find nothing to act on
SETTINGS: dict[str, dict[str, Any]] = {
    "imbsam": {"below": 0.3},
    "saf": {"every": 1, "start": 0.0},
}
N, B, F, STEPS, HEAD_STEPS = 24, 8, 4, 6, 4
PER_EPOCH = N // B
KINDS = ("exclusive", "independent")
SPACES: tuple[tuple[int, ...], ...] = ((), (5,), (4, 4), (3, 4, 4))

# every strategy on every kind and space that it declares
GRID = [
    (method, kind, space) for method in ALL for kind in method.kinds for space in SPACES if len(space) in method.spaces
]
IDS = [f"{method.name}-{kind}-{len(space)}" for method, kind, space in GRID]


@dataclass
class Data:
    x: Tensor
    target: Tensor
    mask: Tensor
    kind: Any
    classes: tuple[str, ...] = CLASSES

    @property
    def facts(self) -> Facts:
        """Labels of all elements as rows, `(N * |S|, K)`: for images these are the cases."""
        return Facts(
            kind=self.kind,
            classes=self.classes,
            target=as_rows(self.target),
            mask=as_rows(self.mask),
            steps=STEPS,
            epochs=2,
            preset="histology",  # allows every transform that any method draws
        )

    @property
    def task(self) -> Task:
        return Task(self.kind, self.classes, space=self.target.dim() - 2)


def as_rows(labels: Tensor) -> Tensor:
    return labels.movedim(1, -1).reshape(-1, labels.shape[1])


def make_data(kind: str, space: tuple[int, ...], *, absent: bool = False) -> Data:
    """24 cases with classes in about 16 : 5 : 3; `absent`: the rare class has no case."""
    rng = torch_rng("tiny data", kind, space)
    x = torch.rand(N, 3, *(space or (8, 8)), generator=rng)
    if kind == "exclusive":
        shares = torch.tensor([0.65, 0.22, 0.13])
        label = torch.multinomial(shares, N * int(torch.tensor(space).prod()), replacement=True, generator=rng)
        label[:3] = torch.tensor([2, 2, 1])
        target = torch.eye(3)[label].view(N, *space, 3).movedim(-1, 1).contiguous()
    else:
        shares = torch.tensor([0.5, 0.25, 0.12]).view(1, 3, *[1] * len(space))
        target = (torch.rand(N, 3, *space, generator=rng) < shares).float()
        target[:3, 2] = 1
        target[-3:] = 0
    if absent:
        moved = target[:, 2].clone()
        target[:, 2] = 0
        if kind == "exclusive":
            target[:, 0] += moved
    return Data(x, target, torch.ones_like(target), kind)


class TinyModel(nn.Module):
    """One hidden layer with batch normalisation, applied at every place of the space."""

    def __init__(self, space: tuple[int, ...]) -> None:
        super().__init__()
        self.space = space
        self.first = nn.Linear(3 if space else 192, F)
        self.norm = nn.BatchNorm1d(F)
        self.head = nn.Linear(F, len(CLASSES))

    def features(self, x: Tensor) -> Tensor:
        z = self.first(x.movedim(1, -1) if self.space else x.flatten(1))
        z = torch.tanh(self.norm(z.reshape(-1, F))).view(z.shape)
        return z.movedim(-1, 1)

    def classify(self, z: Tensor) -> Tensor:
        return self.head(z.movedim(1, -1)).movedim(-1, 1)


@cache
def _template(space: tuple[int, ...]) -> TinyModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyModel(space)


@dataclass
class Outcome:
    """What a run left behind."""

    logits: Tensor
    weights: dict[str, Tensor]
    order: list[list[int]] = field(default_factory=list)
    checkpoint: dict[str, Any] = field(default_factory=dict)


def stack_of(data: Data, *strategies: Strategy) -> Stack:
    stack = Stack(strategies, data.task, "arm")
    stack.fit(data.facts)
    return stack


def train(
    data: Data,
    *strategies: Strategy,
    seed: int = 0,
    head_phase: bool = False,
    save_at: int | None = None,
    resume: dict[str, Any] | None = None,
) -> Outcome:
    """Train 6 steps (and 4 of the head); `save_at` keeps a checkpoint after that step, `resume` goes on from one."""
    stack = stack_of(data, *strategies)
    model = copy.deepcopy(_template(tuple(data.target.shape[2:])))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    outcome = Outcome(torch.empty(0), {})
    first, order = 0, []
    if resume is not None:
        first = resume["step"]
        if first % PER_EPOCH:
            _start_epoch(stack, model, seed, first // PER_EPOCH)
        model.load_state_dict(resume["model"])
        optimiser.load_state_dict(resume["optimiser"])
        stack.load_state_dict(resume["stack"])
    for step in range(first, STEPS):
        epoch, batch_of_epoch = divmod(step, PER_EPOCH)
        if batch_of_epoch == 0:
            _start_epoch(stack, model, seed, epoch)
        if batch_of_epoch == 0 or step == first:
            order = _order(N, stack.sample_weights(), PER_EPOCH, torch_rng(seed, "order", epoch))
        outcome.order.append(order[batch_of_epoch])
        ids = torch.tensor(order[batch_of_epoch])
        closure = _Closure(model, stack, optimiser, data, ids, seed, step)
        batch = {"x": data.x[ids], "target": data.target[ids], "mask": data.mask[ids], "ids": ids}
        stack.step(closure, optimiser, batch)
        stack.observe(ids, closure.per_case)
        stack.after_step(step + 1, model)
        if save_at == step + 1:
            outcome.checkpoint = copy.deepcopy(
                {
                    "step": step + 1,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "stack": stack.state_dict(),
                }
            )
    stack.end_training(model)
    if stack.head_phase or head_phase:
        _train_head(data, stack, model, seed)
    model.eval()
    with torch.no_grad(), stack.deployed(model):
        outcome.logits = stack.adjust(model.classify(model.features(data.x)))
        outcome.weights = copy.deepcopy(model.state_dict())
    return outcome


def _start_epoch(stack: Stack, model: TinyModel, seed: int, epoch: int) -> None:
    stack.start_epoch(epoch, model, lambda name: torch_rng(seed, name, "epoch", epoch))


class _Closure:
    """Second calls replay mixing and leave batch-norm statistics alone, as the contract says.

    With `rows` the whole batch passes, and the loss is the sum of what these rows cost, over its known labels.
    """

    def __init__(self, model: TinyModel, stack: Stack, optimiser: Any, data: Data, ids: Tensor, seed: int, step: int):
        self.model, self.stack, self.optimiser, self.data, self.ids = model, stack, optimiser, data, ids
        self.epoch = step // PER_EPOCH
        self.stream = lambda name: torch_rng(seed, name, step)
        self.x, self.y = stack.mix_inputs(data.x[ids], data.target[ids], self.stream)
        self.per_case: Tensor | None = None

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.model.train()
        self.model.norm.momentum = 0.1 if self.per_case is None else 0.0
        self.optimiser.zero_grad()
        z, y = self.stack.mix_features(self.model.features(self.x), self.y, self.stream)
        logits, mask, share = self.model.classify(z), self.data.mask[self.ids], 1.0
        taken = torch.arange(len(self.ids)) if rows is None else rows
        if rows is not None:
            known = [labels_known(m, self.data.kind) for m in (mask[rows], mask)]
            share = known[0] / known[1]
        loss, per_case = self.stack.loss(logits[taken], y[taken], mask[taken], self.ids[taken], self.epoch, self.model)
        loss = loss * share
        loss.backward()
        self.per_case = per_case if rows is None else self.per_case
        return loss.detach()


def labels_known(mask: Tensor, kind: str) -> float:
    """How many labels a mean over known labels divides by."""
    return float((mask.amin(1) if kind == "exclusive" else mask).sum())


def _train_head(data: Data, stack: Stack, model: TinyModel, seed: int) -> None:
    model.eval()
    with torch.no_grad():
        z = model.features(data.x)
    ids = torch.arange(N)
    target, mask = data.target, data.mask
    stack.start_head(model, lambda name: torch_rng(seed, name, "head"))
    rows = stack.fit_features(z, target, mask, ids, lambda name: torch_rng(seed, name, "features"))
    if rows is not None:
        gap = rows.gap.view(-1, 1)
        z = torch.cat([z, z[rows.base] + gap * (z[rows.neighbour] - z[rows.base])])
        target, mask = torch.cat([target, rows.target]), torch.cat([mask, rows.mask])
        ids = torch.cat([ids, rows.base])
    epoch = STEPS // PER_EPOCH
    _start_epoch(stack, model, seed, epoch)
    weights = stack.head_sample_weights(target, mask)
    if weights is None and (plain := stack.sample_weights()) is not None:
        weights = plain[ids]
    optimiser = torch.optim.SGD(model.head.parameters(), lr=0.3)
    for batch in _order(len(z), weights, HEAD_STEPS, torch_rng(seed, "head order")):
        optimiser.zero_grad()
        logits = model.classify(z[batch])
        loss, per_case = stack.loss(logits, target[batch], mask[batch], ids[batch], epoch, model)
        loss.backward()
        optimiser.step()
        stack.observe(ids[batch], None if per_case is None else per_case.detach())


def _order(n: int, weights: Tensor | None, steps: int, rng: torch.Generator) -> list[list[int]]:
    if weights is not None:
        drawn = torch.multinomial(weights, steps * B, replacement=True, generator=rng)
    else:
        drawn = torch.cat([torch.randperm(n, generator=rng) for _ in range(-(-steps * B // n))])[: steps * B]
    return drawn.view(steps, B).tolist()


def loss_of(stack: Stack, logits: Tensor, target: Tensor, mask: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Total, per case, and gradient towards the logits."""
    logits = logits.detach().clone().requires_grad_()
    total, per_case = stack.loss(logits, target, mask, ids, 0)
    total.backward()
    assert logits.grad is not None
    return total.detach(), torch.zeros(len(target)) if per_case is None else per_case, logits.grad


def batch_of(data: Data, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ids = torch.arange(B)
    logits = torch.randn(data.target[:B].shape, generator=torch.Generator().manual_seed(seed))
    return logits, data.target[:B], data.mask[:B], ids


def made(method: type[Strategy]) -> Strategy:
    return method(**SETTINGS.get(method.name, {}))


def instances(*names: str) -> list[Strategy]:
    return [made(next(m for m in ALL if m.name == name)) for name in names]


def fitted(kind: str, *strategies: Strategy) -> Stack:
    return stack_of(make_data(kind, ()), *strategies)
