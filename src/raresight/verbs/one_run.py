"""One run from its first step to its validation predictions; with folds, its parts and the pooled whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from raresight.core.arm import Arm
from raresight.core.files import read_json, read_jsonl, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.core.speed import speed
from raresight.verbs.opened import OpenStudy
from raresight.verbs.predicting import as_predictions, source_of
from raresight.verbs.training import cases, locked_runtime


def train_run(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    """Train a whole network for this arm and seed, one for each fold where there are folds."""
    pooled_before = study.ranks.first(lambda: is_pooled(study, run))
    for part in study.parts(run):
        _train_part(study, arm, part)
    if study.folds.n_folds and not pooled_before:
        study.ranks.first(lambda: pool(study, run))


def _train_part(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    from raresight.strategies import build
    from raresight.train.loop import train as train_network

    config = study.config.for_arm(arm)
    training = study.folds.rows(study.manifest, "train", run.fold)
    held = study.folds.rows(study.manifest, "val", run.fold)
    study.ranks.first(lambda: forget_removed(run))
    runtime = locked_runtime(study)
    with study.progress.bar(label(run)) as advance:

        def follow(event: dict[str, Any]) -> None:
            advance(event["step"], read_json(run.arm_json)["steps"])

        train_network(
            run,
            arm,
            build(arm, study.task),
            config,
            cases(study, training),
            cases(study, held),
            runtime,
            study_seed=config.split.seed,
            data_hash=study.data_sha256,
            on_event=follow,
            ranks=study.ranks,
        )
    study.ranks.first(lambda: finish(study, arm, run))


def label(run: RunFolder) -> str:
    return f"{run.arm}, seed {run.seed}" + (f", fold {run.fold}" if run.fold is not None else "")


def forget_removed(run: RunFolder) -> None:
    """A run of predictions from elsewhere, or whose weights somebody removed, is not done."""
    if run.done and not run.resume.exists():
        run.done_marker.unlink()


def finish(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    """Write the validation predictions of a trained run, and that it is done."""
    from raresight.strategies import build
    from raresight.train.predict import predict

    if run.done:
        return
    for finding in read_json(run.arm_json)["findings"]:
        study.progress.say(f"{arm.name}: {finding}")
    held = study.folds.rows(study.manifest, "val", run.fold)
    logits = predict(
        run,
        build(arm, study.task),
        study.config.for_arm(arm),
        cases(study, held),
        locked_runtime(study),
        source=source_of(study, arm, run),
        features=study.features,
    )
    as_predictions(study, study.manifest.take(held), logits, run, "val").save(run.val_predictions)
    write_text(run.done_marker, study.evidence_sha256 + "\n")
    seen = speed(read_jsonl(run.events))
    study.progress.say(f"trained {label(run)}" + (f": {seen.words()}" if seen else ""))


def is_pooled(study: OpenStudy, run: RunFolder) -> bool:
    """Whether the run's predictions are those of its folds as they stand."""
    whole = run.done and all(part.done and part.resume.exists() for part in study.parts(run))
    return whole and read_json(run.arm_json).get("folds") == study.folds.n_folds


def pool(study: OpenStudy, run: RunFolder) -> None:
    """Join the folds' out-of-fold predictions: they are the arm's validation predictions."""
    import pandas as pd

    folded = study.parts(run)
    run.done_marker.unlink(missing_ok=True)
    run.resume.unlink(missing_ok=True)  # of a run without folds; its place is taken by the pooled predictions
    table = pd.concat([pd.read_parquet(part.val_predictions) for part in folded], ignore_index=True)
    Predictions(table, study.task, run.arm, run.seed, "val").save(run.val_predictions)
    parts = [read_json(part.arm_json) for part in folded]
    priors = [part["implied_prior"] for part in parts]
    pooled = None if any(prior is None for prior in priors) else np.mean(priors, axis=0).tolist()
    write_json(run.arm_json, parts[0] | {"implied_prior": pooled, "folds": study.folds.n_folds})
    write_text(run.done_marker, study.evidence_sha256 + "\n")
