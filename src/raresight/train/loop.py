"""Train one arm with one seed: the representation phase, and where the arm asks for it a head phase.

The order of a step: gather, mix inputs, normalise, features, mix features, head, loss, the optimiser's step. Every
random draw comes from a stream named by what it is for and when (`core/seeds.py`), so a run that was killed and
resumed equals one that was not, bit for bit, and no arm changes what another one draws.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig
from raresight.core.files import read_json, sweep, write_json
from raresight.core.run import RunFolder
from raresight.core.seeds import derive
from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases, Images, Order
from raresight.train.checkpoint import identity_of, save_labels
from raresight.train.closure import Closure
from raresight.train.compiled import compiled
from raresight.train.course import REPRESENTATION, Course, head_steps_of, implied
from raresight.train.head import train_head
from raresight.train.journal import Journal
from raresight.train.peak import gflop_per_image
from raresight.train.predict import LABELS, extract, facts_of, logits_of, new_model, steps_of
from raresight.train.ranks import ALONE, Ranks
from raresight.train.replica import replica
from raresight.train.runtime import Runtime, peak_gb
from raresight.train.schedule import optimiser_for, rate, set_rate
from raresight.train.statistics import estimated
from raresight.train.stopwatch import Stopwatch
from raresight.train.trouble import named_trouble

__all__ = ["Cases", "train"]


def train(
    run: RunFolder,
    arm: Arm,
    stack: Stack,
    config: StudyConfig,
    train: Cases,
    val: Cases,
    runtime: Runtime,
    *,
    study_seed: int,
    data_hash: str,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train, or go on training, or return at once where the run is trained already.

    Writes `arm.json env.json events.jsonl labels.safetensors last.safetensors best.safetensors resume.pt`.
    `best.safetensors` holds the deployed weights (those within the strategies' `deployed`) of the evaluation with the
    highest validation score, in an arm with a head phase among the evaluations of that phase. `on_event` sees every
    line of `events.jsonl` once it is safely on disk. Unknown labels (NaN) are masked from the loss.

    Called on every one of several `ranks` alike; rank 0 writes. The batch is that of all ranks together.

    Raises: `ConfigError` RS-R44 where the run was begun with other settings, RS-R45 where memory or disk runs out,
    RS-R46 where the loss is not finite, RS-R47 where the ranks' weights differ.
    """
    steps, _ = steps_of(config, len(train))
    head_steps = head_steps_of(stack, config, steps)
    course = Course(run, stack, config, train, val, runtime, study_seed, steps, head_steps, ranks)
    identity = identity_of(
        arm, config, runtime, study_seed=study_seed, run_seed=run.seed, data_hash=data_hash, ranks=ranks.world
    )
    journal = Journal(run, stack, config, identity, on_event, ranks)
    target, mask = train.labels()
    with runtime.settled(), named_trouble(config):
        ranks.first(lambda: sweep(run.path))
        state = journal.resume()
        stack.fit(facts_of(target, mask, config))
        if state is not None and state["finished"]:
            return
        # rank 0's weights become those of the others with the first step: they need not fetch any
        model = new_model(
            config,
            runtime,
            rng_seed=derive(study_seed, run.seed, "model"),
            random_weights=state is not None or not ranks.leads,
        )
        if state is None and ranks.leads:
            save_labels(run.path / LABELS, target, mask)
            _describe(course, arm, model)
        if journal.progress.phase == "representation":
            train_representation(course, model, journal, state)
            stack.end_training(model)
            state = None
        if course.head_steps:
            train_head(course, model, journal, state)
        if ranks.leads:
            if course.head_steps:
                # Feature oversampling knows the prior that it makes only once it has seen the features.
                write_json(run.arm_json, read_json(run.arm_json) | _implied(course))
            write_json(run.env, read_json(run.env) | {"peak_gb": peak_gb()})
            journal.finish()
            (run.path / REPRESENTATION).unlink(missing_ok=True)


def train_representation(course: Course, model: Classifier, journal: Journal, state: dict[str, Any] | None) -> None:
    """The steps that train the whole network."""
    stack, settings, runtime = course.stack, course.config.train, course.runtime
    steps = course.steps - course.head_steps
    order = course.order(len(course.train), "order", stack.sample_weights)
    interval = course.interval(steps, order.per_epoch)
    optimiser = optimiser_for(model.parameters(), settings)
    stepper = Stepper(course, model, optimiser, order)
    journal.cases_of = stepper.cases_of
    # The best representation is kept apart, so that a head phase killed early can begin again from it.
    best = course.run.path / REPRESENTATION if course.head_steps else course.run.best
    if state is not None:
        if journal.progress.step % order.per_epoch:
            epoch = order.epoch(journal.progress.step)
            stack.start_epoch(epoch, model, course.stream("epoch", epoch))
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        stack.load_state_dict(state["stack"])

    calls = order.per_epoch * settings.accumulate * course.ranks.world
    compiled(model, runtime, n_cases=len(course.train), calls=calls)
    model.train()
    journal.restart_clocks()
    for step in range(journal.progress.step, steps):
        epoch = order.epoch(step)
        if step % order.per_epoch == 0:
            journal.read_losses()  # while the order still knows which cases the last epoch's steps saw
            stack.start_epoch(epoch, model, course.stream("epoch", epoch))
        lr = rate(step, steps, base=settings.lr, warmup=settings.warmup)
        set_rate(optimiser, lr)
        journal.add(*stepper(step))
        due = (step + 1) % interval == 0 or step + 1 == steps
        if due:
            journal.read_losses()
            course.ranks.require_equal(model)
            with stack.deployed(model), stepper.statistics():
                course.ranks.lead_buffers(model)
                logits = logits_of(model, extract(model, course.val, settings.batch, runtime, course.ranks))
                journal.evaluated(model, logits, course.val.target, best, epoch=epoch, lr=lr)
            model.train()
        journal.save(model, optimiser, evaluated=due)


class Stepper:
    """One optimiser step: `stepper(step)` -> loss, images seen, wait for input, images that passed the network.

    An image that goes forward and backward twice in the step counts twice among those that passed.
    """

    def __init__(self, course: Course, model: Classifier, optimiser: torch.optim.Optimizer, order: Order) -> None:
        self.course, self.model, self.optimiser, self.order = course, model, optimiser, order
        self.images = Images(course.train, course.runtime)
        self.target = torch.from_numpy(np.array(course.train.target, dtype=np.float32)).to(course.runtime.device)
        self.replica = replica(model, course.runtime, course.ranks)

    def __call__(self, step: int) -> tuple[Tensor, int, Stopwatch, int]:
        course, stack = self.course, self.course.stack
        waiting = Stopwatch(course.runtime.device)
        seeds, rank = (course.study_seed, course.run.seed), course.ranks.rank
        rows = self.order.rows(step)
        x = self.images(rows)
        ids = torch.from_numpy(rows).to(x.device)
        target = self.target[ids]
        closure = Closure(
            self.model,
            stack,
            self.optimiser,
            course.runtime,
            (x, target, ids),
            epoch=self.order.epoch(step),
            stream=course.stream(step),
            model_seed=derive(*seeds, "model", step, *([rank] if rank else [])),  # dropout of a rank's own rows
            accumulate=course.config.train.accumulate,
            ranks=course.ranks,
            replica=self.replica,
        )
        waiting.stop()  # images are gathered, on the device, and changed as the arm's input methods say
        known = (~target.isnan()).float()
        batch = {"x": x, "target": target.nan_to_num(0.0), "mask": known, "ids": ids}
        loss = stack.step(closure, self.optimiser, batch)
        stack.observe(closure.seen, closure.per_case)
        stack.after_step(step + 1, self.model)
        return loss, len(rows), waiting, closure.n_passed

    def statistics(self) -> AbstractContextManager[None]:
        """Around an evaluation: batch-norm statistics of the weights that the model carries then."""
        if not self.course.stack.stale_statistics():
            return nullcontext()
        return estimated(self.course, self.model, self.images)

    def cases_of(self, step: int) -> list[str]:
        """Names of the cases in the batch of optimiser step `step` (from 1)."""
        return [str(name) for name in self.course.train.cases[self.order.rows(step - 1)]]


def _describe(course: Course, arm: Arm, model: Classifier) -> None:
    """Write `arm.json` and `env.json`."""
    run, config = course.run, course.config
    write_json(
        run.arm_json,
        arm.as_dict()
        | _implied(course)
        | {
            "seed": run.seed,
            "fold": run.fold,
            "steps": course.steps,
            "head_steps": course.head_steps,
            "select": config.train.select,
            "weights": model.weights,
        },
    )
    counts = {"n_train": len(course.train), "n_val": len(course.val), "ranks": course.ranks.world}
    work = gflop_per_image(model, channels=config.image.channels, size=config.image.size)
    speed = {"gflop_per_image": work, "peak_gflops": course.runtime.peak_gflops}
    write_json(run.env, course.runtime.described() | counts | speed)


def _implied(course: Course) -> dict[str, Any]:
    stack = course.stack
    return implied(stack.implied_prior(), stack.findings(), course.config.task.classes)
