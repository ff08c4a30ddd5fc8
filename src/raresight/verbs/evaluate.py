"""`raresight evaluate`: estimates with intervals; the test part only through the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from raresight.core.errors import ConfigError
from raresight.core.estimate import Estimate, load_estimates, save_estimates
from raresight.core.files import read_json, sha256_of
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.verbs.bundle_results import judge_bundles, require_same_weights, with_bundles
from raresight.verbs.opened import OpenStudy, stamp, stamped
from raresight.verbs.opening import open_under, problem
from raresight.verbs.tune import require_tuned, units


def evaluate_val(study: OpenStudy) -> list[Estimate]:
    """Estimates of every finished run on the validation part, written beside its predictions."""
    estimates = []
    for runs in study.finished().values():
        for run in runs:
            require_tuned(study, run)
            current = stamp(run.val_predictions, run.thresholds, run.calibrator)
            if not stamped(run.val_estimates, current):
                rows = estimates_of(study, run, study.predictions(run), "tuned")
                save_estimates(run.val_estimates, rows, inputs=current)
            estimates += load_estimates(run.val_estimates)
    return estimates


def evaluate_test(
    study: OpenStudy,
    *,
    confirm: Callable[[str], bool],
    reuse: bool = False,
    reason: str = "",
) -> list[Estimate]:
    """Open the test part: freeze the plan, record the opening, predict, estimate.

    The plan is what would be deployed: weights, calibrators and thresholds of every finished run, and the data. An
    opening that was interrupted is completed; one that is complete and unchanged is only read again.

    Raises: `GateError` where the test part was opened under another plan and `reuse` with a reason is not given, or
    where `confirm` says no.
    """
    finished = study.finished()
    if not finished:
        raise _nothing_trained(study)
    _ready(study, finished)
    plan = with_bundles(study, _plan(study, finished))
    require_same_weights(study, plan.get("bundles", {}))
    number = open_under(study, plan, confirm=confirm, reuse=reuse, reason=reason)
    return _estimate_opening(study, finished, study.folder.opening(number), plan)


def _ready(study: OpenStudy, finished: Mapping[str, list[RunFolder]]) -> None:
    """Everything that could stop an opening half-way stops it before it is recorded."""
    from raresight.verbs.outside import outside_predictions

    for runs in finished.values():
        for run in runs:
            require_tuned(study, run)
    for arm in study.arms:
        if arm.name not in finished:
            continue
        if arm.predictions is not None:
            outside_predictions(study, arm, "test")
        study.resolved(arm)
        for part in (part for run in finished[arm.name] for part in study.parts(run) if arm.frozen is not None):
            source = study.folder.run(str(arm.frozen), part.seed, part.fold)
            study.require(source.best, f"the network of {arm.name}", f"raresight train {study.folder.typed}")


def _estimate_opening(
    study: OpenStudy, finished: Mapping[str, list[RunFolder]], folder: Path, plan: dict[str, Any]
) -> list[Estimate]:
    from raresight.verbs.outside import outside_predictions
    from raresight.verbs.predicting import predict_test

    plan_hash = sha256_of(plan)
    if stamped(folder / "estimates.json", plan_hash) and (folder / "predictions.parquet").exists():
        return load_estimates(folder / "estimates.json")
    tested, estimates = [], []
    for arm in study.arms:
        for run in finished.get(arm.name, []):
            study.progress.say(f"test part: {arm.name}, seed {run.seed}")
            outside = arm.predictions is not None
            predictions = outside_predictions(study, arm, "test") if outside else predict_test(study, arm, run)
            tested.append(predictions)
            estimates += estimates_of(study, run, predictions, "frozen")
    judge_bundles(study, plan.get("bundles", {}), tested, folder)
    everything = pd.concat([one.table.assign(arm=one.arm, seed=one.seed) for one in tested], ignore_index=True)
    Predictions(everything, study.task, part="test").save(folder / "predictions.parquet")
    save_estimates(folder / "estimates.json", estimates, inputs=plan_hash)
    return estimates


def estimates_of(study: OpenStudy, run: RunFolder, predictions: Predictions, operating: str) -> list[Estimate]:
    """Calibrated probabilities at their thresholds, per decision unit; the default operating point beside them.

    After the figures of the whole part, those of the subgroups that `decision.subgroups` asks for.
    """
    from raresight.evaluate.estimates import estimate
    from raresight.evaluate.recalibrate import calibrate
    from raresight.evaluate.subgroups import subgroups

    calibrated = calibrate(units(study, predictions), read_json(run.calibrator))
    decisions = read_json(run.thresholds)
    chosen = {name: entry["threshold"] for name, entry in decisions["thresholds"].items()}
    usable = {name: value for name, value in chosen.items() if value is not None}
    decision, given = study.config.decision, units(study, predictions)
    rows = estimate(
        given,
        calibrated=calibrated,
        thresholds=usable,
        operating=operating,
        unit=decision.unit,
        costs=study.config.costs.model_dump(),
        decisions=decisions,
        seed=study.config.split.seed,
    )
    return rows + subgroups(
        given,
        decision.subgroups,
        calibrated=calibrated,
        thresholds=usable,
        operating=operating,
        unit=decision.unit,
    )


def _plan(study: OpenStudy, finished: Mapping[str, list[RunFolder]]) -> dict[str, Any]:
    from raresight.verbs.predicting import weights_sha256

    arms = {arm.name: arm for arm in study.arms}
    return {
        "data_sha256": study.data_sha256,
        "decision": study.config.decision.model_dump(),
        "costs": study.config.costs.model_dump(),
        "accept": {name: entry.model_dump() for name, entry in study.config.accept.items()},
        "arms": {
            name: {
                "seeds": [run.seed for run in runs],
                "weights": weights_sha256(study, arms[name]),
                "thresholds": [read_json(run.thresholds)["thresholds"] for run in runs],
                "calibrators": [read_json(run.calibrator) for run in runs],
            }
            | _rules(runs)
            for name, runs in finished.items()
        },
    }


def _rules(runs: list[RunFolder]) -> dict[str, Any]:
    """What decides beside the thresholds, where there is any: conformal sets and referral."""
    found = [{k: v for k, v in read_json(run.thresholds).items() if k in ("conformal", "refer") and v} for run in runs]
    return {"rules": found} if any(found) else {}


def _nothing_trained(study: OpenStudy) -> ConfigError:
    return ConfigError(
        problem(study, "no arm is trained", "there is nothing to evaluate", f"raresight train {study.folder.typed}")
    )
