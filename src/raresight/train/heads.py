"""Train many linear heads on features that stay as they are, in one pass over stacked weights.

Everything that heads have in common is done once: a batch of rows is gathered once for all heads that see it, the
linear maps are a few batched products, arms with one loss share one call of it, and one optimiser moves all weights.
Only the loss is differentiated by torch; the rest of the gradient of a linear map is written out. What a head becomes
does not depend on the heads beside it, but for the rounding of sums.

A head begins at U(-F^-1/2, F^-1/2), drawn per seed and the same for all arms. Hooks act as in the head phase of a run
(`train/head.py`), epochs being passes of the training part counted from 0; besides, `mix_features` acts on a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import finite
from raresight.core.seeds import torch_rng
from raresight.evaluate.select import scores
from raresight.strategies.stack import Stack, Stream
from raresight.strategies.strategy import owners
from raresight.train.course import EVALUATIONS, HEAD_SHARE
from raresight.train.head import EVALUATIONS_AT_LEAST, HeadRows
from raresight.train.head_losses import Losses, groups_of, learns, same
from raresight.train.head_rows import Draws, Gather, HeadTable, Plan
from raresight.train.predict import facts_of, probabilities, steps_of
from raresight.train.schedule import optimiser_for, rate, set_rate

__all__ = ["HeadJob", "HeadTable", "TrainedHead", "train_heads"]

END_TO_END = ("step", "after_step", "penalty")  # hooks that have nothing to act on here
PLANNED = 64  # steps whose rows and labels are laid out at a time


@dataclass(frozen=True)
class HeadJob:
    """One head to train: the arm's methods (a stack of its own, fitted here), its features and its seed."""

    name: str
    stack: Stack
    table: HeadTable
    seed: int


@dataclass(frozen=True)
class TrainedHead:
    """Weights `(K, F)`, `(K,)` as deployed at the evaluation with the highest `score`, after `step` steps.

    `implied_prior` `(K,)` is the arm's log-prior shift, None where it is not defined.
    """

    name: str
    seed: int
    weight: Tensor
    bias: Tensor
    score: float | None
    step: int
    implied_prior: Tensor | None
    findings: list[str]


def train_heads(
    jobs: Sequence[HeadJob],
    *,
    val_z: Tensor,
    val_target: np.ndarray,
    config: StudyConfig,
    study_seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrainedHead]:
    """The heads of `jobs`, in their order; those on tables of one shape train together.

    Each trains for `train.head_steps` steps (by default the share of a run's steps that a head phase has) with the
    study's optimiser, schedule and batch size, and is scored on `val_z` `(N', F)`, `val_target` `(N', K)` (NaN where
    unknown) at least five times by `train.select`. `progress` is told the steps done and their total.

    Raises: `ConfigError` RS-C35 for a method that acts on the training of a whole network, RS-R46 for weights that are
    no longer finite.
    """
    for job in jobs:
        _refuse_end_to_end(job)
    together: dict[tuple[int, ...], list[int]] = {}
    for position, job in enumerate(jobs):
        together.setdefault((*job.table.z.shape, job.table.views), []).append(position)
    trained: dict[int, TrainedHead] = {}
    lengths = [head_steps_of(config, jobs[positions[0]].table.n_cases) for positions in together.values()]
    done = 0
    for steps, positions in zip(lengths, together.values(), strict=True):
        bank = Bank(
            [jobs[position] for position in positions], val_z, np.asarray(val_target), config, study_seed, steps
        )
        for step in bank.train():
            if progress is not None:
                progress(done + step, sum(lengths))
        done += steps
        trained |= dict(zip(positions, bank.trained(), strict=True))
    return [trained[position] for position in range(len(jobs))]


def head_steps_of(config: StudyConfig, n_cases: int) -> int:
    """Optimiser steps of a head that trains alone."""
    return config.train.head_steps or max(1, round(HEAD_SHARE * steps_of(config, n_cases)[0]))


class Shim(nn.Module):
    """A model of nothing but its head, for hooks that take a model; its weights are the head's place in the stack."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.head.weight = nn.Parameter(weight, requires_grad=False)
        self.head.bias = nn.Parameter(bias, requires_grad=False)


@dataclass
class Head:
    """One head of the bank: what is its own, and the best that it has been."""

    job: HeadJob
    position: int
    study_seed: int
    model: Shim = field(init=False)
    score: float | None = None
    step: int = 0
    best: tuple[Tensor, Tensor] = field(init=False)

    @property
    def stack(self) -> Stack:
        return self.job.stack

    def stream(self, *moment: object) -> Stream:
        return lambda name: torch_rng(self.study_seed, self.job.seed, name, *moment)

    def fresh(self) -> tuple[Tensor, Tensor]:
        """The weights that all arms of this seed begin with."""
        n_features, n_classes = self.job.table.z.shape[1], self.job.table.target.shape[1]
        rng, bound = torch_rng(self.study_seed, self.job.seed, "fresh head"), n_features**-0.5
        weight = torch.empty(n_classes, n_features).uniform_(-bound, bound, generator=rng)
        return weight, torch.empty(n_classes).uniform_(-bound, bound, generator=rng)


class Bank:
    """Heads side by side: weights `(H, K, F)`, in an order in which heads of one batch of rows are neighbours."""

    def __init__(
        self,
        jobs: Sequence[HeadJob],
        val_z: Tensor,
        val_target: np.ndarray,
        config: StudyConfig,
        study_seed: int,
        steps: int,
    ) -> None:
        self.config, self.kind, self.steps = config, config.task.kind, steps
        self.val_z, self.val_target = val_z, val_target
        self.heads = [Head(job, position, study_seed) for position, job in enumerate(jobs)]
        table = jobs[0].table
        self.device, self.n_classes = table.z.device, table.target.shape[1]
        self.per_epoch = math.ceil(table.n_cases / config.train.batch)
        begun = [head.fresh() for head in self.heads]
        self._start(begun)
        self._seat()
        self.interval = min(
            config.train.evaluate_every or max(1, self.per_epoch, math.ceil(steps / EVALUATIONS)),
            math.ceil(steps / EVALUATIONS_AT_LEAST),
        )

    def _start(self, begun: list[tuple[Tensor, Tensor]]) -> None:
        """Fit the methods to labels and features, and find which heads draw alike."""
        self.draws: list[Draws] = []
        for head, (weight, bias) in zip(self.heads, begun, strict=True):
            stack, table = head.stack, head.job.table
            n = table.n_cases
            facts = facts_of(table.target[:n].cpu(), table.mask[:n].cpu(), self.config)
            epochs = math.ceil(self.steps / self.per_epoch)
            stack.fit(replace(facts, steps=self.steps, epochs=epochs))
            head.model = Shim(weight.to(self.device), bias.to(self.device))
            stack.start_head(head.model, head.stream("head"))
            synthetic = stack.fit_features(table.z, table.target, table.mask, table.ids, head.stream("features"))
            data = HeadRows(table.z, table.target, table.mask, synthetic)
            self._draw_with_others(head, data)

    def _draw_with_others(self, head: Head, data: HeadRows) -> None:
        job = head.job
        mine = _choosing(job.stack)
        for draws in self.draws:
            theirs = _choosing(draws.stack)
            if (
                draws.table is job.table
                and draws.seed == job.seed
                and mine is not None
                and theirs is not None
                and same(mine, theirs)
                and _same_rows(data, draws.data)
            ):
                draws.heads.append(head.position)
                return
        new = Draws(job.table, data, job.stack, self.config.train.batch, head.study_seed, job.seed)
        new.heads.append(head.position)
        self.draws.append(new)

    def _seat(self) -> None:
        """Stack the weights, heads that share rows side by side, and batches shared by equally many likewise."""
        tables = {id(draws.table): i for i, draws in enumerate(self.draws)}
        self.draws.sort(key=lambda d: (-len(d.heads), d.n_synthetic > 0, tables[id(d.table)]))
        self.seats = [self.heads[h] for draws in self.draws for h in draws.heads]
        weight = torch.stack([head.model.head.weight for head in self.seats])
        bias = torch.stack([head.model.head.bias for head in self.seats])
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias.view(-1))  # one axis: no decay on biases
        self.weight.grad, self.bias.grad = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for seat, head in enumerate(self.seats):
            head.model = Shim(self.weight.data[seat], self.bias.data.view(len(self.seats), -1)[seat])
            head.best = (head.model.head.weight.clone(), head.model.head.bias.clone())
        self.draw_of_seat = torch.tensor([d for d, draws in enumerate(self.draws) for _ in draws.heads]).to(self.device)
        self.blocks: list[tuple[slice, slice]] = []  # draws that equally many heads share, and the seats of those heads
        seat = 0
        for d, draws in enumerate(self.draws):
            n = len(draws.heads)
            if d and n == len(self.draws[d - 1].heads):
                at, seats = self.blocks.pop()
                self.blocks.append((slice(at.start, d + 1), slice(seats.start, seat + n)))
            else:
                self.blocks.append((slice(d, d + 1), slice(seat, seat + n)))
            seat += n
        self.mixing = [i for i, head in enumerate(self.seats) if owners(head.stack.strategies, "mix_features")]
        self.observing = [i for i, head in enumerate(self.seats) if owners(head.stack.strategies, "observe")]

    def train(self) -> Iterator[int]:
        """Train, saying after every stretch of steps how many are done."""
        settings = self.config.train
        widest = max(math.ceil(d.order.n / d.order.per_pass) for d in self.draws)
        widest = max(widest, *(math.ceil(d.order.cases / d.order.per_epoch) for d in self.draws))
        self.gather = Gather(self.draws, widest)
        optimiser = optimiser_for([self.weight, self.bias], settings)
        losses: Losses | None = None
        step = 0
        while step < self.steps:
            epoch = step // self.per_epoch
            if step % self.per_epoch == 0:
                losses = self._start_epoch(epoch, losses)
            assert losses is not None
            stop = min(self.steps, (epoch + 1) * self.per_epoch, step + PLANNED)
            stretch = Stretch(self, losses, range(step, stop))
            for s in range(stop - step):
                lr = rate(step, self.steps, base=settings.lr, warmup=settings.warmup)
                set_rate(optimiser, lr)
                self._step(stretch, s, losses, epoch)
                optimiser.step()
                step += 1
                if step % self.interval == 0 or step == self.steps:
                    self._evaluate(step)
            yield step

    def _start_epoch(self, epoch: int, losses: Losses | None) -> Losses:
        for head in self.seats:
            head.stack.start_epoch(epoch, head.model, head.stream("head epoch", epoch))
        stacks = [head.stack for head in self.seats]
        changing = ("start_epoch", "case_weights")
        if losses is not None and not any(owners(s.strategies, hook) for s in stacks for hook in changing):
            return losses
        table = self.draws[0].table
        groups = groups_of(stacks, epoch, table.target[:1], table.ids[:1])
        return Losses(groups, self.kind, self.device)

    def _step(self, stretch: Stretch, s: int, losses: Losses, epoch: int) -> None:
        """The gradient of one step, written into `weight.grad` and `bias.grad`."""
        z = self.gather.features(stretch.plan, s)
        target, mask, scale = stretch.target[s], stretch.mask[s], stretch.scale[s]
        if self.mixing:
            self._mix(stretch, s, z)
            scale = losses.scales(stretch.mask[s : s + 1])[0]
        n_heads, n_classes = len(self.seats), self.n_classes
        logits = []
        weight, bias = self.weight.data, self.bias.data.view(n_heads, n_classes)
        for at, seats in self.blocks:
            n_draws = at.stop - at.start
            rows = weight[seats].view(n_draws, -1, weight.shape[2])
            found = torch.baddbmm(bias[seats].view(n_draws, -1, 1), rows, z[at].transpose(1, 2))
            logits.append(found.view(-1, n_classes, z.shape[1]))
        joined = torch.cat(logits).index_select(0, losses.order).transpose(1, 2)
        gradient, per_case = losses.gradient(joined, target, mask, stretch.ids[s], stretch.sizes[s], epoch)
        back = gradient.mul_(scale).transpose(1, 2).index_select(0, stretch.back)
        for at, seats in self.blocks:
            n_draws = at.stop - at.start
            out = self.weight.grad[seats].view(n_draws, -1, weight.shape[2])  # type: ignore[index]
            torch.bmm(back[seats].reshape(n_draws, -1, z.shape[1]), z[at], out=out)
        torch.sum(back, 2, out=self.bias.grad.view(n_heads, n_classes))  # type: ignore[union-attr]
        if self.observing:
            self._observe(stretch, s, losses, per_case)

    def _mix(self, stretch: Stretch, s: int, z: Tensor) -> None:
        for seat in self.mixing:
            head, at, d = self.seats[seat], stretch.place[seat], int(self.draw_of_seat[seat])
            size = stretch.sizes[s][at]
            known = stretch.mask[s, at, :size] > 0
            y = torch.where(known, stretch.target[s, at, :size], torch.nan)
            mixed, y = head.stack.mix_features(z[d, :size], y, head.stream(stretch.steps[s]))
            z[d, :size] = mixed
            stretch.target[s, at, :size] = y.nan_to_num(0.0)
            stretch.mask[s, at, :size] = (~y.isnan()).to(y.dtype)

    def _observe(self, stretch: Stretch, s: int, losses: Losses, per_case: list[Tensor | None]) -> None:
        width = stretch.target.shape[2]
        by_seat: dict[int, Tensor | None] = {}
        for group, each in zip(losses.groups, per_case, strict=True):
            for i, seat in enumerate(group.heads):
                by_seat[seat] = None if each is None else each[i * width : (i + 1) * width]
        for seat in self.observing:
            each, at = by_seat[seat], stretch.place[seat]
            if each is not None:
                real = stretch.real[s, at]
                self.seats[seat].stack.observe(stretch.ids[s, at][real], each[real[: len(each)]])

    def _evaluate(self, step: int) -> None:
        """Score all heads on validation, and keep the deployed weights of those that were never better."""
        if not bool(torch.isfinite(self.weight).all()):
            broken = next(head for head in self.seats if not bool(torch.isfinite(head.model.head.weight).all()))
            raise _not_finite(broken.job, step)
        weight, bias = self.weight.data.clone(), self.bias.data.view(len(self.seats), -1).clone()
        for seat, head in enumerate(self.seats):
            if owners(head.stack.strategies, "deployed"):
                with head.stack.deployed(head.model):
                    weight[seat], bias[seat] = head.model.head.weight, head.model.head.bias
        for seat, (head, value) in enumerate(zip(self.seats, self._scores(weight, bias), strict=True)):
            # Where nothing can be scored the latest weights are kept, as a run without validation would.
            if head.score is None or (value is not None and value > head.score):
                head.score, head.step = value, step
                head.best = (weight[seat].clone(), bias[seat].clone())

    def _scores(self, weight: Tensor, bias: Tensor) -> list[float | None]:
        if not len(self.val_target):
            return [None] * len(self.seats)
        n_heads, n = len(self.seats), len(self.val_target)
        logits = torch.empty(n_heads, n, self.n_classes)
        seats_of: dict[int, tuple[Tensor, list[int]]] = {}
        for seat, head in enumerate(self.seats):
            z = self.val_z if head.job.table.val_z is None else head.job.table.val_z
            seats_of.setdefault(id(z), (z, []))[1].append(seat)
        for z, seats in seats_of.values():
            found = torch.addmm(bias[seats].view(-1), z, weight[seats].flatten(0, 1).T)
            logits[seats] = found.view(n, len(seats), -1).transpose(0, 1).float().cpu()
        for seat, head in enumerate(self.seats):
            if owners(head.stack.strategies, "adjust"):
                logits[seat] = head.stack.adjust(logits[seat])
        prob = probabilities(logits.flatten(0, 1), self.kind).reshape(logits.shape)
        task, costs = self.config.task, self.config.costs.missed
        missed = [costs.get(name, 0.0) for name in task.classes]
        values = scores(self.val_target, prob, self.kind, self.config.train.select, missed)
        return [finite(float(value)) for value in values]

    def trained(self) -> list[TrainedHead]:
        """The heads in the order of their jobs."""
        return [
            TrainedHead(
                name=head.job.name,
                seed=head.job.seed,
                weight=head.best[0].cpu(),
                bias=head.best[1].cpu(),
                score=head.score,
                step=head.step,
                implied_prior=head.stack.implied_prior(),
                findings=head.stack.findings(),
            )
            for head in self.heads
        ]


class Stretch:
    """Some steps laid out: what the losses need, `(S, H, B, ...)` in the order of their groups."""

    def __init__(self, bank: Bank, losses: Losses, steps: range) -> None:
        self.steps = steps
        self.plan: Plan = bank.gather.plan(steps)
        at = bank.draw_of_seat[losses.order]
        self.target = self.plan.target.index_select(1, at)
        self.mask = self.plan.mask.index_select(1, at)
        self.ids = self.plan.ids.index_select(1, at)
        self.real = self.plan.real.index_select(1, at)
        self.sizes = self.plan.sizes[:, at.cpu().numpy()].tolist()
        self.scale = losses.scales(self.mask)
        self.back = losses.order.argsort()
        self.place = self.back.tolist()


def _choosing(stack: Stack) -> list[object] | None:
    """The methods by which an arm chooses its rows; None where it must keep a batch of its own."""
    choosing = owners(stack.strategies, "sample_weights") + owners(stack.strategies, "head_sample_weights")
    own = owners(stack.strategies, "mix_features") or any(learns(s) or owners([s], "start_epoch") for s in choosing)
    return None if own else list(choosing)


def _same_rows(one: HeadRows, other: HeadRows) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids", "neighbour", "gap", "target", "mask")
    )


def _refuse_end_to_end(job: HeadJob) -> None:
    for hook in END_TO_END:
        for strategy in owners(job.stack.strategies, hook):
            raise ConfigError(
                Problem(
                    code="RS-C35",
                    level="error",
                    file="study.yaml",
                    column=f"arms.{job.name}.{strategy.name}",
                    found=f"'{strategy.name}' acts on the training of a whole network ({hook})",
                    why="on frozen features it would do nothing, under a name that says otherwise",
                    remedy=f"train it end to end: leave out `frozen` in this arm, or leave out '{strategy.name}'",
                )
            )


def _not_finite(job: HeadJob, step: int) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R46",
            level="error",
            file="study.yaml",
            column="train.lr",
            found=f"the head of arm '{job.name}', seed {job.seed}, is not a number after {step} steps",
            why="every later step would be lost",
            remedy="lower `lr`, or look at the settings of this arm's methods",
        )
    )
