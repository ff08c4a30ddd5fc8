"""`raresight train`: every run that is missing, each resumed where it was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.progress import Silent
from raresight.core.run import RunFolder
from raresight.train.ranks import Ranks
from raresight.train.ranks_trouble import refuse_small
from raresight.verbs.check import require_subgroups
from raresight.verbs.choose import choose
from raresight.verbs.frozen import train_heads
from raresight.verbs.one_run import train_run
from raresight.verbs.opened import OpenStudy
from raresight.verbs.outside import bring_in
from raresight.verbs.predicting import as_predictions
from raresight.verbs.strict import upside_down
from raresight.verbs.training import locked_runtime
from raresight.verbs.tune import units


def train(study: OpenStudy, *, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[RunFolder]:
    """Train what `arms` x `seeds` name (all, by default) and is not finished; return the run folders.

    Lists in an arm's settings are settled first (`verbs/choose.py`). The baseline is trained before the others, so that
    a study that is stopped early can already be compared; frozen arms come last, as they stand on the others. Every run
    ends with its validation predictions and a `DONE` marker.

    Raises: `ConfigError` for an unknown arm or seed, a missing package, settings that differ from those a run was
    begun with, a check or split that is out of date; `DataError` for decision units of two labels.
    Under torchrun also `ConfigError` RS-C34 and RS-C35 for what several processes cannot train, RS-R45 where they do
    not share the folder or lack devices, RS-R47 where one of them is gone.
    """
    ranks = Ranks.join()
    with ranks.watched():
        return _train(study if ranks.alone else _shared(study, ranks), arms, seeds)


def _shared(study: OpenStudy, ranks: Ranks) -> OpenStudy:
    """The study as one of several processes has it."""
    ranks.require_shared(study.folder.path)
    study = replace(study, ranks=ranks, progress=study.progress if ranks.leads else Silent())
    refuse_small(study.config.train.batch, ranks.world)
    return study


def _train(study: OpenStudy, arms: Sequence[str], seeds: Sequence[int]) -> list[RunFolder]:
    runs = asked(study, arms, seeds)
    if not study.ranks.alone:
        study.ranks.serve(locked_runtime(study).device)
    if any(arm.has_grid for arm in needed(study, [arm for arm, _ in runs])):
        choose(study)
    runs = [(study.resolved(arm), run) for arm, run in runs]
    for arm, run in runs:
        if arm.predictions is not None:
            _bring_in(study, arm, run)
        elif arm.frozen is None:
            train_run(study, arm, run)
    _train_frozen(study, [(arm, run) for arm, run in runs if arm.frozen is not None])
    return [run for _, run in runs]


def _bring_in(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    study.ranks.first(lambda: bring_in(study, arm, run))


def asked(study: OpenStudy, arms: Sequence[str], seeds: Sequence[int]) -> list[tuple[Arm, RunFolder]]:
    """The runs that `arms` x `seeds` name, after everything that can be refused before the first hour of training."""
    chosen = chosen_arms(study, arms)
    require_current(study)
    runs = [(arm, run) for arm in chosen for run in study.runs(arm) if not seeds or run.seed in seeds]
    if seeds and not runs:
        raise _unknown_seed(study, seeds)
    for arm in needed(study, chosen):
        _refuse_unbuildable(study, arm)
    for problem in upside_down(study):
        study.progress.say(str(problem))
    return runs


def needed(study: OpenStudy, chosen: Sequence[Arm]) -> list[Arm]:
    """These arms, and those whose features they stand on."""
    sources = {arm.frozen for arm in chosen}
    return [arm for arm in study.arms if arm in chosen or arm.name in sources]


def _train_frozen(study: OpenStudy, heads: Sequence[tuple[Arm, RunFolder]]) -> None:
    """The heads of frozen arms, together where they share a source; a source not trained yet is trained first."""
    by_source: dict[tuple[str, int], list[tuple[Arm, RunFolder]]] = {}
    for arm, run in heads:
        by_source.setdefault((str(arm.frozen), run.seed), []).append((arm, run))
    sources = {arm.name: study.resolved(arm) for arm in study.arms if any(arm.name == name for name, _ in by_source)}
    for (name, seed), together in by_source.items():
        source = study.folder.run(name, seed)
        if not source.done:
            study.progress.say(f"{together[0][0].name} stands on the features of {name}, which is trained first")
        train_run(study, sources[name], source)
        _train_heads(study, sources[name], source, together)


def _train_heads(study: OpenStudy, arm: Arm, source: RunFolder, heads: Sequence[tuple[Arm, RunFolder]]) -> None:
    """Heads train in seconds: of several processes the first does it."""
    study.ranks.first(lambda: train_heads(study, arm, source, heads))


def _refuse_unbuildable(study: OpenStudy, arm: Arm) -> None:
    """What is wrong with an arm's methods is said before the first hour of training, not after the last."""
    if arm.predictions is not None:
        return
    from raresight.strategies import build
    from raresight.train.frozen import refuse_idle

    for candidate in arm.candidates:
        stack = build(candidate, study.task)
        if arm.frozen is not None:
            refuse_idle(arm, stack)
        elif study.config.train.accumulate > 1:
            stack.refuse_pieces(f"train.accumulate: {study.config.train.accumulate}")
        elif not study.ranks.alone:
            stack.refuse_pieces(f"{study.ranks.world} processes")


def require_current(study: OpenStudy) -> None:
    """A manifest edited since its check, a split of other settings, an impossible decision unit: nothing is trained."""
    from raresight.verbs import check, split

    here = study.folder.typed
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
    require_subgroups(study)
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
