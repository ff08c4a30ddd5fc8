"""The head phase: the last steps of a run train the linear head on features extracted once.

Here the network is fixed, so what a batch meets is shorter: rows are drawn (`head_sample_weights`, else
`sample_weights`, else each row once an epoch), synthetic rows are interpolated inside the batch, and the arm's loss,
case weights and penalties act on the head's logits. Epochs go on being counted in passes of the training part:
`start_epoch` is called at the first step of the phase and at every epoch that begins within it, and the weights are
asked after it. Mixing, `step` and `after_step` belong to the representation phase and do not act here.

Several ranks extract the features together; then each trains the whole head by itself, all of them alike, which is
cheaper than telling each other, and rank 0 writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from raresight.core.files import read_json, write_json
from raresight.core.seeds import derive
from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import SyntheticRows
from raresight.train.checkpoint import load_weights
from raresight.train.course import REPRESENTATION, Course
from raresight.train.journal import Journal
from raresight.train.predict import extract, logits_of
from raresight.train.schedule import optimiser_for, rate, set_rate

EVALUATIONS_AT_LEAST = 5  # an evaluation costs one small matrix product here


class HeadRows:
    """Real rows followed by synthetic ones, all as recipes z[base] + gap (z[neighbour] - z[base]); real: gap 0.

    Only a batch is ever interpolated. Shapes: `z` `(N, F)`, `target` and `mask` `(N + M, K)`; `ids` `(N + M,)` are
    training rows, a synthetic row bearing that of its base.
    """

    def __init__(self, z: Tensor, target: Tensor, mask: Tensor, synthetic: SyntheticRows | None) -> None:
        device = z.device
        self.z, self.n_real = z, len(z)
        self.ids = self.neighbour = torch.arange(len(z), device=device)
        self.gap = torch.zeros(len(z), 1, device=device)
        self.target, self.mask = target, mask
        if synthetic is not None:
            self.ids = torch.cat([self.ids, synthetic.base.to(device)])
            self.neighbour = torch.cat([self.neighbour, synthetic.neighbour.to(device)])
            self.gap = torch.cat([self.gap, synthetic.gap.to(device, z.dtype).reshape(-1, 1)])
            self.target = torch.cat([target, synthetic.target.to(device, target.dtype)])
            self.mask = torch.cat([mask, synthetic.mask.to(device, mask.dtype).expand_as(synthetic.target)])

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, rows: Tensor) -> Tensor:
        base = self.z[self.ids[rows]]
        return base + self.gap[rows] * (self.z[self.neighbour[rows]] - base)

    def weights(self, stack: Stack) -> Tensor | None:
        """`(N + M,)` drawing weights; those of `sample_weights` extend to synthetic rows through their base row."""
        weights = stack.head_sample_weights(self.target, self.mask)
        if weights is None and (real := stack.sample_weights()) is not None:
            weights = real.to(self.ids.device)[self.ids]
        return weights


def train_head(course: Course, model: Classifier, journal: Journal, state: dict[str, Any] | None) -> None:
    """Train the head for `head_steps` steps upon the best representation; `state` is set when resuming inside."""
    stack, settings = course.stack, course.config.train
    begun = course.steps - course.head_steps
    data, z_val = _prepare(course, model, state)
    order = course.order(len(data), "head order", lambda: data.weights(stack))
    optimiser = optimiser_for(model.head.parameters(), settings)

    def start_epoch(epoch: int) -> None:
        stack.start_epoch(epoch, model, course.stream("head epoch", epoch))

    if state is None:
        journal.begin("head")
    else:
        if journal.progress.step % order.per_epoch:
            start_epoch(order.epoch(journal.progress.step))
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        stack.load_state_dict(state["stack"])

    def cases_of(step: int) -> list[str]:
        rows = data.ids[torch.from_numpy(order.rows(step - 1))]
        return [str(name) for name in course.train.cases[rows.cpu().numpy().astype(np.int64)]]

    journal.cases_of = cases_of
    interval = min(course.interval(course.head_steps, order.per_epoch), -(-course.head_steps // EVALUATIONS_AT_LEAST))
    journal.restart_clocks()
    for step in range(journal.progress.step, course.steps):
        epoch = order.epoch(step)
        if step == begun or step % order.per_epoch == 0:
            journal.read_losses()  # while the order still knows which cases the last epoch's steps saw
            start_epoch(epoch)
        lr = rate(step - begun, course.head_steps, base=settings.lr, warmup=settings.warmup)
        set_rate(optimiser, lr)
        torch.manual_seed(derive(course.study_seed, course.run.seed, "model", step))
        rows = torch.from_numpy(order.rows(step)).to(z_val.device)
        optimiser.zero_grad(set_to_none=True)
        logits = model.head(data.features(rows))
        loss, per_case = stack.loss(logits, data.target[rows], data.mask[rows], data.ids[rows], epoch, model)
        loss.backward()
        optimiser.step()
        if per_case is not None:
            real = rows < data.n_real
            stack.observe(data.ids[rows][real], per_case[real])
        journal.add(loss, len(rows))
        due = (step + 1 - begun) % interval == 0 or step + 1 == course.steps
        if due:
            journal.read_losses()
            with stack.deployed(model):
                logits = logits_of(model, z_val)
                journal.evaluated(model, logits, course.val.target, course.run.best, epoch=epoch, lr=lr)
        journal.save(model, optimiser, evaluated=due)


def _prepare(course: Course, model: Classifier, state: dict[str, Any] | None) -> tuple[HeadRows, Tensor]:
    """The rows to train on and the features of the validation part; the head as it is when the phase begins."""
    stack, batch = course.stack, course.config.train.batch
    if state is not None:
        # What strategies set up when a phase ends and begins happens again before their saved state replaces it.
        stack.load_state_dict(state["stack"])
        model.load_state_dict(state["model"])
        stack.end_training(model)
    load_weights(course.run.path / REPRESENTATION, model, stack, course.ranks)
    model.eval()
    z = extract(model, course.train, batch, course.runtime, course.ranks)
    z_val = extract(model, course.val, batch, course.runtime, course.ranks)
    stack.start_head(model, course.stream("head"))
    target, mask = (labels.to(z.device) for labels in course.train.labels())
    ids = torch.arange(len(z), device=z.device)
    synthetic = stack.fit_features(z, target, mask, ids, course.stream("features"))
    if synthetic is not None:
        safe = stack.safety(z, target, mask, ids, synthetic, course.stream("safety"))
        if course.ranks.leads:
            write_json(course.run.arm_json, read_json(course.run.arm_json) | {"safety": safe})
    return HeadRows(z, target, mask, synthetic), z_val
