"""Heads that train side by side equal heads that train alone, by an ordinary torch loop over one `nn.Linear`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.seeds import torch_rng
from raresight.evaluate.select import score
from raresight.strategies import build
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Facts, Strategy
from raresight.train.batches import Order
from raresight.train.heads import HeadJob, HeadTable, TrainedHead, train_heads
from raresight.train.schedule import MOMENTUM, rate

N, F, K, BATCH, STEPS, EVERY = 90, 12, 3, 16, 26, 4
STUDY_SEED = 5
METHODS: dict[str, list[Any]] = {
    "baseline": [],
    "sampling": ["class_balanced_sampling"],
    "smote": ["smote"],
    "ldam": ["ldam"],
    "focal": ["focal"],
    "balanced_softmax": ["balanced_softmax"],
    "class_weights": ["class_weights"],
    "logit_adjustment": ["logit_adjustment"],
}


class Swapped(Strategy):
    """Mixes features and labels of a batch, half and half, with a partner drawn at random."""

    name: ClassVar[str] = "swapped"
    place: ClassVar[Any] = "features"

    def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        partner = torch.randperm(len(z), generator=rng)
        return 0.7 * z + 0.3 * z[partner], 0.7 * y + 0.3 * y[partner]


class Learning(Strategy):
    """Case weights that follow from the losses seen so far: they can be shared with nobody."""

    name: ClassVar[str] = "learning"
    place: ClassVar[Any] = "losses"

    def __init__(self) -> None:
        self.level_ = torch.tensor(1.0)

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return 1 + self.level_ * target + 0.01 * ids.view(-1, 1) + 0.1 * epoch

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        self.level_ = 0.9 * self.level_ + 0.1 * per_case.mean() + 0.001 * ids.float().mean()


class Hard(Strategy):
    """Draws by the losses of the epoch before; weighs cases from epoch 2 on."""

    name: ClassVar[str] = "hard"
    place: ClassVar[Any] = "sampling"

    def __init__(self) -> None:
        self.seen_, self.draw_ = torch.ones(N), torch.ones(N)

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.draw_ = self.seen_ + torch.rand(N, generator=rng) * model.head.bias.abs().max()  # type: ignore[union-attr, operator]

    def sample_weights(self) -> Tensor:
        return self.draw_

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor | None:
        return None if epoch < 2 else 1 + target

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        self.seen_[ids] = per_case


class Unit(Strategy):
    """Deploys weights of norm 1, class by class."""

    name: ClassVar[str] = "unit"
    place: ClassVar[Any] = "schedules"

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        weight = model.head.weight  # type: ignore[union-attr]
        kept = weight.detach().clone()  # type: ignore[operator, union-attr]
        with torch.no_grad():
            weight /= weight.norm(dim=1, keepdim=True)  # type: ignore[operator]
            yield
            weight.copy_(kept)  # type: ignore[operator, union-attr]


class Pulling(Strategy):
    """A penalty, which frozen heads refuse."""

    name: ClassVar[str] = "pulling"
    place: ClassVar[Any] = "losses"

    def penalty(self, logits: Tensor, target: Tensor, mask: Tensor, model: nn.Module) -> Tensor:
        return logits.square().mean()


def study(kind: str, **train: Any) -> StudyConfig:
    settings = {"batch": BATCH, "head_steps": STEPS, "lr": 0.02, "weight_decay": 0.1, "evaluate_every": EVERY}
    return parse_config(
        {
            "task": {"kind": kind, "classes": ["common", "rare", "other"]},
            "image": {"size": 16},
            "train": settings | train,
        }
    )


def labels(n: int, kind: str, rng: np.random.Generator, share: tuple[float, ...] = (0.7, 0.1, 0.2)) -> np.ndarray:
    """`(n, K)` with about one label in ten unknown (a whole case, or single labels)."""
    if kind == "exclusive":
        target = np.eye(K, dtype=np.float32)[rng.choice(K, n, p=share)]
        target[:6] = np.eye(K)[[0, 1, 2, 0, 1, 2]]
        target[rng.random(n) < 0.1] = np.nan
    else:
        target = (rng.random((n, K)) < np.array([0.5, 0.15, 0.3])).astype(np.float32)
        target[rng.random((n, K)) < 0.1] = np.nan
    return target


def table_of(kind: str, views: int = 1, seed: int = 0) -> HeadTable:
    rng = np.random.default_rng(seed)
    target = labels(N, kind, rng)
    plain = rng.normal(size=(N, F)).astype(np.float32)
    plain[:, :K] += np.nan_to_num(target)
    z = np.concatenate([plain + 0.3 * view * rng.normal(size=(N, F)).astype(np.float32) for view in range(views)])
    every = torch.from_numpy(np.concatenate([target] * views))
    return HeadTable(torch.from_numpy(z), every.nan_to_num(0.0), (~every.isnan()).float(), views)


def validation(kind: str) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng(99)
    target = labels(60, kind, rng, (0.4, 0.3, 0.3))
    z = rng.normal(size=(60, F)).astype(np.float32)
    z[:, :K] += np.nan_to_num(target)
    return torch.from_numpy(z), target


def stack_of(methods: list[Any], config: StudyConfig) -> Stack:
    own = [method() for method in methods if isinstance(method, type)]
    named = build(Arm.parse("arm", [m for m in methods if not isinstance(m, type)]), config.problem)
    return Stack([*named.strategies, *own], config.problem)


def head_alone(
    stack: Stack, table: HeadTable, seed: int, config: StudyConfig, val: tuple[Tensor, np.ndarray]
) -> tuple[Tensor, Tensor, float | None, int]:
    """One head by an ordinary loop: nn.Linear, torch.optim, autograd through the head, hook by hook."""
    settings, kind, views = config.train, config.task.kind, table.views
    n = len(table.z) // views
    steps = settings.head_steps
    assert steps is not None
    per_epoch = -(-n // settings.batch)

    def stream(*moment: object) -> Any:
        return lambda name: torch_rng(STUDY_SEED, seed, name, *moment)

    first = table.target[:n], table.mask[:n]
    stack.fit(Facts(kind, tuple(config.task.classes), *first, steps=steps, epochs=-(-steps // per_epoch)))
    model = nn.Module()
    model.head = nn.Linear(F, K)
    rng = torch_rng(STUDY_SEED, seed, "fresh head")
    with torch.no_grad():
        for parameter in (model.head.weight, model.head.bias):
            parameter.uniform_(-(F**-0.5), F**-0.5, generator=rng)
    stack.start_head(model, stream("head"))
    case = torch.arange(views * n) % n
    made = stack.fit_features(table.z, table.target, table.mask, case, stream("features"))
    z, target, mask = table.z, table.target, table.mask
    if made is not None:  # copies of the synthetic rows, which the engine never makes
        base, other = made.base.long(), made.neighbour.long()
        z = torch.cat([z, z[base] + made.gap.view(-1, 1) * (z[other] - z[base])])
        target = torch.cat([target, made.target.float()])
        mask = torch.cat([mask, made.mask.float().expand(len(base), K)])
        case = torch.cat([case, case[base]])
    n_synthetic = (len(z) - views * n) // views

    def row(place: int, epoch: int) -> int:
        view = epoch % views
        return view * n + place if place < n else views * n + (place - n) * views + view

    epoch = 0

    def weights() -> Tensor | None:
        rows = torch.tensor([row(place, epoch) for place in range(n + n_synthetic)])
        of_head = stack.head_sample_weights(target[rows], mask[rows])
        if of_head is not None:
            return of_head
        of_cases = stack.sample_weights()
        return None if of_cases is None else of_cases[case[rows]]

    order = Order(
        n + n_synthetic,
        settings.batch,
        study_seed=STUDY_SEED,
        run_seed=seed,
        name="head order",
        weights=weights,
        cases=n,
    )
    groups = [
        {"params": [model.head.weight], "weight_decay": settings.weight_decay},
        {"params": [model.head.bias], "weight_decay": 0.0},
    ]
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=settings.lr, momentum=MOMENTUM, nesterov=True)
    else:
        optimiser = torch.optim.AdamW(groups, lr=settings.lr)
    every = min(settings.evaluate_every or per_epoch, -(-steps // 5))
    best: tuple[Tensor, Tensor, float | None, int] | None = None
    for step in range(steps):
        epoch = step // per_epoch
        if step % per_epoch == 0:
            stack.start_epoch(epoch, model, stream("head epoch", epoch))
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps, base=settings.lr, warmup=settings.warmup)
        rows = torch.tensor([row(int(place), epoch) for place in order.rows(step)])
        y = torch.where(mask[rows] > 0, target[rows], torch.nan)
        batch, y = stack.mix_features(z[rows], y, stream(step))
        known = (~y.isnan()).float()
        optimiser.zero_grad()
        loss, per_case = stack.loss(model.head(batch), y.nan_to_num(0.0), known, case[rows], epoch, model)
        loss.backward()
        optimiser.step()
        if per_case is not None:
            real = rows < views * n
            stack.observe(case[rows][real], per_case[real])
        if (step + 1) % every == 0 or step + 1 == steps:
            with stack.deployed(model), torch.no_grad():
                logits = stack.adjust(model.head(val[0])).double()
                prob = (logits.softmax(1) if kind == "exclusive" else logits.sigmoid()).numpy()
                value = score(val[1], prob, kind, settings.select)
                if best is None or (best[2] is not None and value > best[2]):
                    best = model.head.weight.detach().clone(), model.head.bias.detach().clone(), value, step + 1
    assert best is not None
    return best


def jobs_of(
    arms: dict[str, list[Any]], seeds: range, table: HeadTable, config: StudyConfig, order: int = 1
) -> list[HeadJob]:
    return [HeadJob(name, stack_of(arms[name], config), table, s) for s in seeds for name in list(arms)[::order]]


def trained(jobs: list[HeadJob], config: StudyConfig) -> list[TrainedHead]:
    z, target = validation(config.task.kind)
    return train_heads(jobs, val_z=z, val_target=target, config=config, study_seed=STUDY_SEED)


def assert_alone(head: TrainedHead, arms: dict[str, list[Any]], table: HeadTable, config: StudyConfig) -> None:
    val = validation(config.task.kind)
    stack = stack_of(arms[head.name], config)
    weight, bias, value, step = head_alone(stack, table, head.seed, config, val)
    what = f"{head.name}, seed {head.seed}"
    assert (head.step, head.score) == (step, pytest.approx(value, abs=1e-9)), what
    assert (head.weight - weight).abs().max() <= 1e-5, what
    assert (head.bias - bias).abs().max() <= 1e-5, what
    assert (val[0] @ (head.weight - weight).T + head.bias - bias).abs().max() <= 1e-5, what
    prior = stack.implied_prior()
    assert (head.implied_prior is None) == (prior is None), what
    assert prior is None or torch.equal(head.implied_prior, prior), what  # type: ignore[arg-type]
    assert head.findings == stack.findings()


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_eight_methods_by_four_seeds_equal_the_heads_trained_alone(kind: str, views: int) -> None:
    config, table = study(kind), table_of(kind, views)
    heads = trained(jobs_of(METHODS, range(4), table, config), config)
    assert [(head.seed, head.name) for head in heads] == [(seed, name) for seed in range(4) for name in METHODS]
    for head in heads:
        assert_alone(head, METHODS, table, config)
    different = {head.name: head.weight for head in heads if head.seed == 2}
    assert all(
        (different["baseline"] - different[name]).abs().max() > 1e-3
        for name in set(METHODS) - {"baseline", "logit_adjustment"}
    )
