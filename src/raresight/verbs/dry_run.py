"""`raresight train --dry-run`: what the study would take, before it takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raresight.verbs.opened import OpenStudy
from raresight.verbs.train import chosen_arms
from raresight.verbs.training import cases, locked_runtime


def dry_run(study: OpenStudy, arms: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Two batches of each arm: what the study would take, in hours and GB."""
    from raresight.strategies import build
    from raresight.train.dry_run import dry_run as time_arm

    runtime = locked_runtime(study)
    training = cases(study, study.folds.rows(study.manifest, "train", 0 if study.folds.n_folds else None))
    rows = []
    for arm in chosen_arms(study, arms):
        if arm.predictions is None:
            seed = study.config.split.seed
            figures = time_arm(arm, build(arm, study.task), study.config, training, runtime, study_seed=seed)
            n_runs = len(study.config.seeds) * max(1, study.folds.n_folds)
            rows.append({"arm": arm.name, "runs": n_runs, **figures, "total_hours": figures["hours"] * n_runs})
    return rows
