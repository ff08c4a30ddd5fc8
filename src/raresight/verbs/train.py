"""`raresight train`: every run that is missing, each resumed where it was left."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.extras import need
from raresight.core.files import read_json, sha256, write_json, write_text
from raresight.core.manifest import Manifest
from raresight.core.predictions import Predictions, tabulate
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy
from raresight.verbs.tune import units

if TYPE_CHECKING:
    from raresight.train.loop import Cases
    from raresight.train.runtime import Runtime


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
                _bring_in(study, arm, run)
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
    units(study, _predictions(study, manifest, blank, study.runs(study.arms[0])[0], "val"))


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


def locked_runtime(study: OpenStudy) -> Runtime:
    """The runtime that the study's first run chose; `lock.json` keeps it for all arms, resumes and workers."""
    need("torch", extra="train", feature="training")
    from raresight import __version__
    from raresight.train.runtime import Runtime, probe

    if study.folder.lock.exists():
        return Runtime.from_lock(read_json(study.folder.lock)["runtime"])
    study.progress.say("choosing the fastest safe settings for this machine")
    runtime = probe(study.config, study.task)
    hashes = {"manifest": sha256(study.manifest_path), "split": sha256(study.folder.split)}
    write_json(
        study.folder.lock,
        {"raresight": __version__, "study_seed": study.config.split.seed, "runtime": runtime, "sha256": hashes},
    )
    return Runtime.from_lock(runtime)


def cases(study: OpenStudy, rows: np.ndarray) -> Cases:
    """What the loop reads for these rows of the manifest."""
    from raresight.train.loop import Cases

    part = study.manifest.take(rows)
    return Cases(study.cache.pixels, study.cache.rows(list(part.cases)), part.targets(study.task), part.cases)


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
    _predictions(study, study.manifest.take(held), logits, run, "val").save(run.val_predictions)
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


def _bring_in(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    """Take in predictions made elsewhere for the validation part."""
    assert arm.predictions is not None
    if "val" not in arm.predictions:
        raise _unnamed(study, arm, "val")
    source = (study.folder.path / arm.predictions["val"]).resolve()
    if run.resume.exists():
        raise _taken(study, run)
    current = run.done and source.exists() and study.saw_these_data(run)
    if current and read_json(run.arm_json).get("source_sha256") == sha256(source):
        return
    predictions = outside_predictions(study, arm, "val")
    if run.path.exists():
        shutil.rmtree(run.path)
    predictions.save(run.val_predictions)
    write_json(run.arm_json, arm.as_dict() | {"implied_prior": None, "findings": [], "source_sha256": sha256(source)})
    write_text(run.done_marker, study.evidence_sha256 + "\n")


def outside_predictions(study: OpenStudy, arm: Arm, part: str) -> Predictions:
    """Predictions made elsewhere, checked against the part's cases and given the study's own ids and labels.

    Raises: `DataError` RS-P43 where cases are missing or extra.
    """
    from raresight.evaluate.agreement import align
    from raresight.evaluate.read import read_predictions

    assert arm.predictions is not None
    if part not in arm.predictions:
        raise _unnamed(study, arm, part)
    path = (study.folder.path / arm.predictions[part]).resolve()
    given = read_predictions(path, task=study.task, labels=False)
    manifest = study.manifest.take(study.folds.rows(study.manifest, "val" if part == "val" else "test"))
    given = align(given, list(manifest.cases), str(path))
    logits = given.logits if given.logits is not None else _log_odds(given.prob, study.task.kind)
    return _predictions(study, manifest, logits, study.runs(arm)[0], part)


def _predictions(study: OpenStudy, manifest: Manifest, logits: np.ndarray, run: RunFolder, part: str) -> Predictions:
    target = manifest.targets(study.task)
    table = tabulate(study.task, manifest.cases, logits, target, study.metadata(manifest))
    return Predictions(table, study.task, run.arm, run.seed, part)


def _log_odds(prob: np.ndarray, kind: str) -> np.ndarray:
    clipped = np.clip(prob, 1e-12, 1 - 1e-12)
    return np.log(clipped) if kind == "exclusive" else np.log(clipped) - np.log1p(-clipped)


def predict_part(study: OpenStudy, arm: Arm, run: RunFolder, part: str = "test") -> Predictions:
    """Predictions of a finished run for the test part; with folds, the mean probability of the folds' models."""
    from raresight.strategies import build
    from raresight.train.predict import predict

    if arm.predictions is not None:
        return outside_predictions(study, arm, part)
    runtime = locked_runtime(study)
    rows = study.folds.rows(study.manifest, "test")
    held = cases(study, rows)
    folds = range(study.folds.n_folds) if study.folds.n_folds else (None,)
    manifest = study.manifest.take(rows)
    probs = []
    for fold in folds:
        trained = study.folder.run(arm.name, run.seed, fold)
        logits = predict(trained, build(arm, study.task), study.config, held, runtime)
        probs.append(_predictions(study, manifest, logits, run, part).prob)
    if len(probs) == 1:
        return _predictions(study, manifest, logits, run, part)
    return _predictions(study, manifest, _log_odds(np.mean(probs, axis=0), study.task.kind), run, part)


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


def _unnamed(study: OpenStudy, arm: Arm, part: str) -> ConfigError:
    chosen = "thresholds and comparisons are chosen on the validation part, never on test"
    return ConfigError(
        Problem(
            code="RS-C36",
            level="error",
            file=str(study.folder.config),
            column=f"arms.{arm.name}.predictions",
            found=f"no {'validation' if part == 'val' else part} predictions are named",
            why=chosen if part == "val" else "every arm is judged on the same test cases, all at one opening",
            remedy=f"add   {part}: FILE.csv",
        )
    )


def _taken(study: OpenStudy, run: RunFolder) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R44",
            level="error",
            file=str(study.folder.config),
            column=f"arms.{run.arm}",
            found=f"an arm called '{run.arm}' was trained here before",
            why="predictions made elsewhere would take the place of its weights",
            remedy=f"give the outside predictions a name of their own, such as '{run.arm}_outside'",
        )
    )


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


def weights_sha256(study: OpenStudy, arm: Arm) -> dict[str, str]:
    """Hash of every weights file, or outside prediction file, that stands behind an arm."""
    if arm.predictions is not None:
        paths: list[Path] = [(study.folder.path / arm.predictions[part]).resolve() for part in sorted(arm.predictions)]
    else:
        folds: Sequence[int | None] = range(study.folds.n_folds) if study.folds.n_folds else (None,)
        paths = [study.folder.run(arm.name, run.seed, k).best for run in study.runs(arm) if run.done for k in folds]
    return {
        str(path.relative_to(study.folder.path) if path.is_relative_to(study.folder.path) else path.name): sha256(path)
        for path in paths
    }
