"""`raresight tune`: calibrators, thresholds, sets and referral, from validation or out-of-fold predictions alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, write_json
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy, stamp, stamped


def tune(study: OpenStudy) -> list[dict[str, Any]]:
    """Write `calibrator.json` and `thresholds.json` of every finished run; return the thresholds, one entry a run."""
    from raresight.evaluate.cost import check_costs
    from raresight.evaluate.thresholds import tune as tune_run

    config = study.config
    costs, task = config.costs.model_dump(), config.task
    for warning in check_costs(costs, task.classes, task.critical, "study.yaml", kind=task.kind):
        study.progress.say(str(warning))
    entries = []
    problems: dict[str, list[str]] = {}
    for runs in study.finished().values():
        for run in runs:
            current = tune_stamp(study, run)
            if not is_tuned(study, run):
                prior = read_json(run.arm_json)["implied_prior"]
                tuned = tune_run(
                    units(study, study.predictions(run)),
                    implied_prior=None if prior is None else np.asarray(prior),
                    costs=costs,
                    decision=config.decision,
                    seed=config.split.seed,
                )
                for problem in tuned.problems:
                    problems.setdefault(str(problem), []).append(f"{run.arm}, seed {run.seed}")
                write_json(run.calibrator, tuned.calibrator | {"inputs": current})
                write_json(run.thresholds, tuned.decisions | {"inputs": current})
            written = {key: value for key, value in read_json(run.thresholds).items() if key != "inputs"}
            entries.append({"arm": run.arm, "seed": run.seed, **written})
    for told, whose in problems.items():  # what lies in the data is the same for all runs, and is said once
        study.progress.say(f"{whose[0]}{f' and {len(whose) - 1} more runs' if len(whose) > 1 else ''}: {told}")
    return entries


def units(study: OpenStudy, predictions: Predictions) -> Predictions:
    """Predictions per decision unit: images as they are, else one row a lesion, exam or patient."""
    from raresight.evaluate.units import aggregate

    decision = study.config.decision
    if decision.unit == "image":
        return predictions
    column = decision.column or {"patient": "patient_id"}.get(decision.unit, decision.unit)
    return aggregate(predictions, column, decision.aggregate)


def is_tuned(study: OpenStudy, run: RunFolder) -> bool:
    """Whether calibrator and thresholds were chosen with today's predictions, costs and decision unit."""
    current = tune_stamp(study, run)
    return stamped(run.thresholds, current) and stamped(run.calibrator, current)


def require_tuned(study: OpenStudy, run: RunFolder) -> None:
    """Raise a `ConfigError` RS-C03 where the operating point of a run is missing or belongs to other costs."""
    command = f"raresight tune {study.folder.typed}"
    study.require(run.thresholds, f"the threshold of {run.arm}", command)
    if not is_tuned(study, run):
        raise ConfigError(
            Problem(
                code="RS-C03",
                level="error",
                file=str(run.thresholds),
                found=f"the threshold of {run.arm} is out of date",
                why="costs, decision unit or predictions have changed since it was chosen",
                remedy=command,
            )
        )


def tune_stamp(study: OpenStudy, run: RunFolder) -> str:
    config = study.config
    sections = [config.costs.model_dump(), config.decision.model_dump(), config.task.model_dump()]
    return stamp(run.val_predictions, run.arm_json, *sections)
