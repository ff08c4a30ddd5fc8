"""Heads in training side by side: their stacked weights, and what a step and an evaluation do with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import finite
from raresight.evaluate.select import scores
from raresight.strategies.strategy import owners
from raresight.train.course import EVALUATIONS
from raresight.train.head import EVALUATIONS_AT_LEAST, HeadRows
from raresight.train.head_job import Head, HeadJob, Shim, TrainedHead
from raresight.train.head_losses import Losses, groups_of
from raresight.train.head_rows import Draws, Gather, draw_alike
from raresight.train.predict import facts_of, probabilities
from raresight.train.schedule import optimiser_for, rate, set_rate

PLANNED = 64  # steps whose rows and labels are laid out at a time
CLIP_EPS = 1e-6  # that of torch.nn.utils.clip_grad_norm_
TRIED = 16  # cases on which losses are tried out before training


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
            stream = head.stream("features")
            head.synthetic = stack.fit_features(table.z, table.target, table.mask, table.ids, stream)
            data = HeadRows(table.z, table.target, table.mask, head.synthetic)
            seeds = {"study_seed": head.study_seed, "seed": head.job.seed}
            mine = Draws(table, data, stack, self.config.train.batch, **seeds)
            alike = next((draws for draws in self.draws if draw_alike(draws, mine)), None)
            if alike is None:
                self.draws.append(alike := mine)
            alike.heads.append(head.position)

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
        self.gather = Gather(self.draws)
        optimiser = optimiser_for([self.weight, self.bias], settings.model_copy(update={"clip": None}))
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
                if settings.clip is not None:
                    self._clip(settings.clip)
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
        groups = groups_of(stacks, epoch, table.target[:TRIED], table.mask[:TRIED], table.ids[:TRIED])
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
        ordered = torch.cat(logits).index_select(0, losses.order)
        gradient, per_case = losses.gradient(ordered, target, mask, stretch.ids[s], stretch.sizes[s], epoch)
        back = gradient.mul_(scale).index_select(0, stretch.back)
        for at, seats in self.blocks:
            n_draws = at.stop - at.start
            out = self.weight.grad[seats].view(n_draws, -1, weight.shape[2])  # type: ignore[index]
            torch.bmm(back[seats].view(n_draws, -1, z.shape[1]), z[at], out=out)
        torch.sum(back, 2, out=self.bias.grad.view(n_heads, n_classes))  # type: ignore[union-attr]
        if self.observing:
            self._observe(stretch, s, losses, per_case)

    def _clip(self, longest: float) -> None:
        """Shorten the gradient of each head by itself, as `train/schedule.py` does where a head trains alone."""
        weight, bias = self.weight.grad, self.bias.grad.view(len(self.seats), -1)  # type: ignore[union-attr]
        norm = torch.cat([weight.flatten(1), bias], 1).norm(dim=1)  # type: ignore[union-attr]
        factor = (longest / (norm + CLIP_EPS)).clamp(max=1)
        weight.mul_(factor[:, None, None])  # type: ignore[union-attr]
        bias.mul_(factor[:, None])

    def _mix(self, stretch: Stretch, s: int, z: Tensor) -> None:
        for seat in self.mixing:
            head, at, d = self.seats[seat], stretch.place[seat], int(self.draw_of_seat[seat])
            size = stretch.sizes[s][at]
            target, mask = (labels[s, at, :, :size].T for labels in (stretch.target, stretch.mask))
            y = torch.where(mask > 0, target, torch.nan)
            z[d, :size], y = head.stack.mix_features(z[d, :size], y, head.stream(stretch.steps[s]))
            target.copy_(y.nan_to_num(0.0))
            mask.copy_(~y.isnan())

    def _observe(self, stretch: Stretch, s: int, losses: Losses, per_case: list[Tensor | None]) -> None:
        width = self.gather.width
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
            begun = head.stack.begun((step - 1) // self.per_epoch)
            if head.score is None or (value is not None and value > head.score) or (begun and not head.begun):
                head.score, head.step, head.begun = value, step, begun
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
                synthetic=head.synthetic,
            )
            for head in self.heads
        ]


class Stretch:
    """Some steps laid out: labels `(S, H, K, B)`, ids `(S, H, B)`, in the order of the losses' groups."""

    def __init__(self, bank: Bank, losses: Losses, steps: range) -> None:
        self.steps = steps
        self.plan = bank.gather.plan(steps)
        at = bank.draw_of_seat[losses.order]
        self.target = self.plan.target.index_select(1, at).transpose(2, 3).contiguous()
        self.mask = self.plan.mask.index_select(1, at).transpose(2, 3).contiguous()
        self.ids = self.plan.ids.index_select(1, at)
        self.real = self.plan.real.index_select(1, at)
        self.sizes = self.plan.sizes[:, at.cpu().numpy()].tolist()
        self.scale = losses.scales(self.mask)
        self.back = losses.order.argsort()
        self.place = self.back.tolist()


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
