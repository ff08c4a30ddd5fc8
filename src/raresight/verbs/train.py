"""`raresight train`: every run that is missing, each resumed where it was left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.files import read_json, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy
from raresight.verbs.outside import bring_in
from raresight.verbs.predicting import as_predictions
from raresight.verbs.training import cases, locked_runtime
from raresight.verbs.tune import units


def train(study: OpenStudy, *, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[RunFolder]:
    """Train what `arms` x `seeds` name (all, by default) and is not finished; return the run folders.

    The baseline comes first, so that a study that is stopped early can already be compared. Every run ends with its
    validation predictions and a `DONE` marker.

    Raises: `ConfigError` for an unknown arm or seed, a missing package, settings that differ from those a run was
    begun with, a check or split that is out of date; `DataError` for decision units of two labels.
    """
    chosen = chosen_arms(study, arms)
    _require_current(study)
    runs = []
    for arm in chosen:
        for run in study.runs(arm):
            if seeds and run.seed not in seeds:
                continue
            if arm.predictions is not None:
                bring_in(study, arm, run)
            elif study.folds.n_folds:
                _train_folds(study, arm, run)
            else:
                _train_one(study, arm, run)
            runs.append(run)
    if seeds and not runs:
        raise _unknown_seed(study, seeds)
    return runs


def _require_current(study: OpenStudy) -> None:
    """A manifest edited since its check, a split of other settings, an impossible decision unit: nothing is trained."""
    from raresight.verbs import check, split

    here = study.folder.path
    study.require(study.folder.issues, "the check of the input", f"raresight check {here}")
    study.require(study.folder.split, "the split", f"raresight split {here}")
    for name, current in (("check", check.is_current(study)), ("split", split.is_current(study))):
        if not current:
            raise ConfigError(
                Problem(
                    code="RS-C03",
                    level="error",
                    file=str(study.folder.config),
                    found=f"the {name} is out of date, or refused the data",
                    why="the manifest or settings have changed since",
                    remedy=f"raresight {name} {here}",
                )
            )
    # A unit of two labels, or of no column, would otherwise be met after hours of training, or behind an opened test.
    manifest = study.manifest
    blank = np.zeros((len(manifest), len(study.task.classes)))
    units(study, as_predictions(study, manifest, blank, study.runs(study.arms[0])[0], "val"))


def chosen_arms(study: OpenStudy, names: Sequence[str]) -> list[Arm]:
    """The arms named, or all of them, the baseline first."""
    by_name = {arm.name: arm for arm in study.arms}
    for name in names:
        if name not in by_name:
            close = nearest(name, by_name)
            raise ConfigError(
                Problem(
                    code="RS-C33",
                    level="error",
                    file=str(study.folder.config),
                    column="arms",
                    found=f"no arm is called '{name}'; there are {listed(list(by_name))}",
                    why="there is nothing to train",
                    remedy=f"did you mean '{close}'?" if close else "name one of these, or add it to study.yaml",
                )
            )
    wanted = [by_name[name] for name in names] if names else list(by_name.values())
    return sorted(wanted, key=lambda arm: arm.name != study.baseline)


def _train_one(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    from raresight.strategies import build
    from raresight.train.loop import train as train_run
    from raresight.train.predict import predict

    runtime = locked_runtime(study)
    training = study.folds.rows(study.manifest, "train", run.fold)
    held = study.folds.rows(study.manifest, "val", run.fold)
    stack = build(arm, study.task)
    val = cases(study, held)
    if run.done and not run.resume.exists():  # predictions from elsewhere, or weights that somebody removed
        run.done_marker.unlink()
    label = f"{arm.name}, seed {run.seed}" + (f", fold {run.fold}" if run.fold is not None else "")
    with study.progress.bar(label) as advance:

        def follow(event: dict[str, Any]) -> None:
            advance(event["step"], read_json(run.arm_json)["steps"])

        train_run(
            run,
            arm,
            stack,
            study.config,
            cases(study, training),
            val,
            runtime,
            study_seed=study.config.split.seed,
            data_hash=study.data_sha256,
            on_event=follow,
        )
    if run.done:
        return
    for finding in read_json(run.arm_json)["findings"]:
        study.progress.say(f"{arm.name}: {finding}")
    logits = predict(run, stack, study.config, val, runtime)
    as_predictions(study, study.manifest.take(held), logits, run, "val").save(run.val_predictions)
    write_text(run.done_marker, study.evidence_sha256 + "\n")
    study.progress.say(f"trained {label}")


def _train_folds(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    """One run per fold; their out-of-fold predictions, pooled, are the arm's validation predictions."""
    import pandas as pd

    folded = [study.folder.run(arm.name, run.seed, fold) for fold in range(study.folds.n_folds)]
    pooled_before = run.done and all(part.done and part.resume.exists() for part in folded)
    for part in folded:
        _train_one(study, arm, part)
    if pooled_before and read_json(run.arm_json).get("folds") == study.folds.n_folds:
        return
    run.done_marker.unlink(missing_ok=True)
    run.resume.unlink(missing_ok=True)  # of a run without folds; its place is taken by the pooled predictions
    table = pd.concat([pd.read_parquet(part.val_predictions) for part in folded], ignore_index=True)
    Predictions(table, study.task, arm.name, run.seed, "val").save(run.val_predictions)
    parts = [read_json(part.arm_json) for part in folded]
    priors = [part["implied_prior"] for part in parts]
    pooled = None if any(prior is None for prior in priors) else np.mean(priors, axis=0).tolist()
    write_json(run.arm_json, parts[0] | {"implied_prior": pooled, "folds": study.folds.n_folds})
    write_text(run.done_marker, study.evidence_sha256 + "\n")


def _unknown_seed(study: OpenStudy, seeds: Sequence[int]) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-C33",
            level="error",
            file=str(study.folder.config),
            column="seeds",
            found=f"seed {listed(list(seeds))} is not one of the study's seeds {list(study.config.seeds)}",
            why="there is nothing to train",
            remedy="add it to `seeds` in study.yaml",
        )
    )
