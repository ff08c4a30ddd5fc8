"""`raresight train --dry-run`: what the study would take, before it takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raresight.core.arm import Arm
from raresight.verbs.opened import OpenStudy
from raresight.verbs.train import chosen_arms
from raresight.verbs.training import cases, locked_runtime


def dry_run(study: OpenStudy, arms: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Two batches of each arm: what the study would take, in hours and GB.

    A grid is timed by its first candidate. A frozen arm is told as if it stood alone: the passes over its images.
    """
    from raresight.strategies import build
    from raresight.train.dry_run import dry_run as time_arm
    from raresight.train.dry_run import passes
    from raresight.train.frozen import refuse_idle

    runtime = locked_runtime(study)
    fold = 0 if study.folds.n_folds else None
    training = cases(study, study.folds.rows(study.manifest, "train", fold))
    n_val = len(study.folds.rows(study.manifest, "val", fold))
    named = {arm.name: arm for arm in study.arms}
    timed: dict[str, dict[str, Any]] = {}

    def whole(arm: Arm) -> dict[str, Any]:
        if arm.name not in timed:
            candidate = arm.candidates[0]
            config, seed = study.config.for_arm(arm), study.config.split.seed
            timed[arm.name] = time_arm(
                candidate, build(candidate, study.task), config, training, runtime, study_seed=seed
            )
        return timed[arm.name]

    rows = []
    for arm in chosen_arms(study, arms):
        if arm.predictions is not None:
            continue
        if arm.frozen is None:
            figures = whole(arm)
        else:
            stack = build(arm.candidates[0], study.task)
            refuse_idle(arm, stack)
            figures = passes(whole(named[arm.frozen]), stack, study.config, len(training), n_val)
        n_runs = len(study.config.seeds) * max(1, study.folds.n_folds)
        rows.append({"arm": arm.name, "runs": n_runs, **figures, "total_hours": figures["hours"] * n_runs})
    return rows
