"""One run with all that its two phases share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.run import RunFolder
from raresight.core.seeds import torch_rng
from raresight.strategies.stack import Stack, Stream
from raresight.train.batches import Cases, Order
from raresight.train.ranks import ALONE, Ranks
from raresight.train.runtime import Runtime

EVALUATIONS = 25  # about the most evaluations of a run, where `evaluate_every` does not say otherwise
HEAD_SHARE = 0.2  # of a run's steps, where `train.head_steps` does not say otherwise
REPRESENTATION = "representation.safetensors"


@dataclass(frozen=True)
class Course:
    """One run with all that its phases share. `steps` counts both phases; the last `head_steps` train the head.

    `ranks`: the processes that train it together; all of them go through the same course.
    """

    run: RunFolder
    stack: Stack
    config: StudyConfig
    train: Cases
    val: Cases
    runtime: Runtime
    study_seed: int
    steps: int
    head_steps: int
    ranks: Ranks = ALONE

    def stream(self, *moment: object) -> Stream:
        """Each method's own generator for this moment."""
        return lambda name: torch_rng(self.study_seed, self.run.seed, name, *moment)

    def order(self, n: int, name: str, weights: Callable[[], Tensor | None]) -> Order:
        """The order of `n` rows; `weights` is asked at the first batch of every epoch of the training part."""
        seeds = {"study_seed": self.study_seed, "run_seed": self.run.seed}
        return Order(n, self.config.train.batch, **seeds, name=name, weights=weights, cases=len(self.train))

    def interval(self, steps: int, per_epoch: int) -> int:
        """Steps between evaluations of a phase of `steps` steps."""
        return self.config.train.evaluate_every or max(
            1, min(steps, max(per_epoch, math.ceil(self.steps / EVALUATIONS)))
        )


def head_steps_of(stack: Stack, config: StudyConfig, steps: int) -> int:
    """How many of a run's steps train the head; 0 without a head phase. Raises: `ConfigError` RS-C34."""
    if not stack.head_phase:
        return 0
    head_steps = config.train.head_steps or max(1, round(HEAD_SHARE * steps))
    if head_steps >= steps:
        raise ConfigError(
            Problem(
                code="RS-C34",
                level="error",
                file="study.yaml",
                column="train.head_steps",
                found=f"{head_steps} head steps of {steps} steps in all leave none for the representation",
                why="the head phase is the last part of a run's steps, not an addition to them",
                remedy=f"write `head_steps` below {steps}, or train longer",
            )
        )
    return head_steps


def implied(prior: Tensor | None, findings: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """The log-prior shift that an arm implies, and what should be known about its combination of methods."""
    if prior is None:
        return {"implied_prior": None, "findings": list(findings)}
    absent = [name for name, value in zip(classes, prior.tolist(), strict=True) if math.isinf(value)]
    if absent:
        findings = [*findings, f"the training part has no case of {', '.join(absent)}: no prior to correct there"]
    return {
        "implied_prior": [value if math.isfinite(value) else 0.0 for value in prior.tolist()],
        "findings": list(findings),
    }
