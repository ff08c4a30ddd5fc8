"""Train many linear heads on features that stay as they are, in one pass over stacked weights.

Everything that heads have in common is done once: a batch of rows is gathered once for all heads that see it, the
linear maps are a few batched products, arms with one loss share one call of it, and one optimiser moves all weights.
Only the loss is differentiated by torch; the rest of the gradient of a linear map is written out. What a head becomes
does not depend on the heads beside it, but for the rounding of sums.

A head begins at U(-F^-1/2, F^-1/2), drawn per seed and the same for all arms. Hooks act as in the head phase of a run
(`train/head.py`), epochs being passes of the training part counted from 0; besides, `mix_features` acts on a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.strategies.strategy import owners
from raresight.train.head_bank import Bank
from raresight.train.head_job import HeadJob, TrainedHead
from raresight.train.head_rows import HeadTable
from raresight.train.predict import steps_of

__all__ = ["HeadJob", "HeadTable", "TrainedHead", "train_heads"]

END_TO_END = ("step", "after_step", "penalty")  # hooks that have nothing to act on here


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

    Each trains for `train.head_steps` steps (by default as many as a run has) with the
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
    """Optimiser steps of a head that trains alone: as many as a run has, where `train.head_steps` does not say."""
    return config.train.head_steps or steps_of(config, n_cases)[0]


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
