"""Frozen arms: all heads that stand on the features of one arm and seed are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from raresight.core.arm import Arm
from raresight.core.run import RunFolder
from raresight.verbs.one_run import finish, forget_removed, is_pooled, label, pool
from raresight.verbs.opened import OpenStudy
from raresight.verbs.training import cases, locked_runtime

if TYPE_CHECKING:
    from raresight.train.frozen import Source


def train_heads(
    study: OpenStudy, source_arm: Arm, source_run: RunFolder, heads: Sequence[tuple[Arm, RunFolder]]
) -> None:
    """Train the missing ones of these heads on the features of `source_run`, which is trained; fold by fold."""
    from raresight.strategies import build
    from raresight.train.frozen import FrozenRun, train_frozen

    pooled_before = {run: is_pooled(study, run) for _, run in heads}
    for source_part in study.parts(source_run):
        jobs = []
        for arm, run in heads:
            part = study.folder.run(arm.name, run.seed, source_part.fold)
            forget_removed(part)
            jobs.append(FrozenRun(part, arm, build(arm, study.task)))
        source = source_for(study, source_arm, source_part)
        with study.progress.bar(f"frozen features of {label(source_part)}: {len(jobs)} heads") as advance:
            train_frozen(jobs, source, data_hash=study.data_sha256, progress=advance)
        for job in jobs:
            finish(study, job.arm, job.run)
    if study.folds.n_folds:
        for _, run in heads:
            if not pooled_before[run]:
                pool(study, run)


def source_for(study: OpenStudy, arm: Arm, run: RunFolder) -> Source:
    """A trained run as what heads stand on."""
    from raresight.train.frozen import Source

    return Source(
        run,
        study.config.for_arm(replace(arm, budget=1)),  # the budget was the network's; all heads train alike
        cases(study, study.folds.rows(study.manifest, "train", run.fold)),
        cases(study, study.folds.rows(study.manifest, "val", run.fold)),
        locked_runtime(study),
        study.config.split.seed,
        study.features,
    )
