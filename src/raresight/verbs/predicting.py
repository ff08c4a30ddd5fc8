"""Predictions of finished runs, and the table that they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raresight.core.arm import Arm
from raresight.core.files import sha256
from raresight.core.manifest import Manifest
from raresight.core.predictions import Predictions, tabulate
from raresight.core.run import RunFolder
from raresight.evaluate.calibration import log_odds
from raresight.verbs.opened import OpenStudy
from raresight.verbs.training import cases, locked_runtime


def as_predictions(study: OpenStudy, manifest: Manifest, logits: np.ndarray, run: RunFolder, part: str) -> Predictions:
    """`(N, K)` logits of these cases as the study's predictions table, with its ids and labels."""
    target = manifest.targets(study.task)
    table = tabulate(study.task, manifest.cases, logits, target, study.metadata(manifest))
    return Predictions(table, study.task, run.arm, run.seed, part)


def predict_test(study: OpenStudy, arm: Arm, run: RunFolder) -> Predictions:
    """Predictions of a finished run for the test part; with folds, the mean probability of the folds' models."""
    from raresight.strategies import build
    from raresight.train.predict import predict

    runtime = locked_runtime(study)
    rows = study.folds.rows(study.manifest, "test")
    held = cases(study, rows)
    folds = range(study.folds.n_folds) if study.folds.n_folds else (None,)
    manifest = study.manifest.take(rows)
    probs = []
    for fold in folds:
        trained = study.folder.run(arm.name, run.seed, fold)
        logits = predict(
            trained,
            build(study.resolved(arm), study.task),
            study.config.for_arm(arm),
            held,
            runtime,
            source=source_of(study, arm, trained),
            features=study.features,
        )
        probs.append(as_predictions(study, manifest, logits, run, "test").prob)
    if len(probs) == 1:
        return as_predictions(study, manifest, logits, run, "test")
    return as_predictions(study, manifest, log_odds(np.mean(probs, axis=0), study.task.kind), run, "test")


def source_of(study: OpenStudy, arm: Arm, run: RunFolder) -> RunFolder | None:
    """The run whose network a frozen arm's head stands on, of the same seed and fold; None for other arms."""
    return None if arm.frozen is None else study.folder.run(arm.frozen, run.seed, run.fold)


def weights_sha256(study: OpenStudy, arm: Arm, runs: Sequence[RunFolder] | None = None) -> dict[str, str]:
    """Hash of every weights file, or outside prediction file, behind an arm, or behind some of its finished runs."""
    if arm.predictions is not None:
        paths: list[Path] = [(study.folder.path / arm.predictions[part]).resolve() for part in sorted(arm.predictions)]
    else:
        folds: Sequence[int | None] = range(study.folds.n_folds) if study.folds.n_folds else (None,)
        done = [run for run in runs or study.runs(arm) if run.done]
        trained = [study.folder.run(arm.name, run.seed, k) for run in done for k in folds]
        sources = [source for run in trained if (source := source_of(study, arm, run)) is not None]
        paths = [run.best for run in (*trained, *sources)]
    return {
        str(path.relative_to(study.folder.path) if path.is_relative_to(study.folder.path) else path.name): sha256(path)
        for path in paths
    }
