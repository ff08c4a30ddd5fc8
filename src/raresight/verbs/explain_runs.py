"""Which of a study's networks are looked into, and in words which are not."""

from __future__ import annotations

from collections.abc import Sequence

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy


def chosen_runs(study: OpenStudy, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> dict[str, list[RunFolder]]:
    """The finished runs that have a network, arm by arm, the baseline first.

    With folds a run is its fold 0.

    Raises: `ConfigError` RS-C33 for an arm or seed that the study does not have, RS-R48 where no run is finished, or
    the arms asked for are predictions made elsewhere.
    """
    known = {arm.name: arm for arm in study.arms}
    for name in arms:
        if name not in known:
            close = nearest(name, known)
            raise _refused(
                study, "RS-C33", f"no arm '{name}'", f"did you mean '{close}'?" if close else listed([*known])
            )
    for seed in seeds:
        if seed not in study.config.seeds:
            raise _refused(study, "RS-C33", f"no seed {seed}", f"the study's seeds are {listed(study.config.seeds)}")
    fold = 0 if study.folds.n_folds else None
    found: dict[str, list[RunFolder]] = {}
    finished = study.finished()
    for name in sorted(finished, key=lambda name: name != study.baseline):
        if (arms and name not in arms) or known[name].predictions is not None:
            continue
        runs = [study.folder.run(name, run.seed, fold) for run in finished[name] if not seeds or run.seed in seeds]
        if runs:
            found[name] = runs
    if not found:
        outside = [name for name in (arms or known) if known[name].predictions is not None]
        what = (
            f"{listed(outside)}: predictions made elsewhere have no network here" if outside else "no run is finished"
        )
        raise _refused(
            study, "RS-R48", f"there is nothing to look into ({what})", f"raresight train {study.folder.typed}"
        )
    return found


def left_out(
    study: OpenStudy, runs: dict[str, list[RunFolder]], arms: Sequence[str], seeds: Sequence[int]
) -> list[str]:
    """In words: what of the study is not looked into."""
    known = [arm for arm in study.arms if not arms or arm.name in arms]
    limits = []
    outside = [arm.name for arm in known if arm.predictions is not None]
    if outside:
        limits.append(f"{listed(outside)}: predictions made elsewhere; there is no network to look into")
    wanted = list(seeds or study.config.seeds)
    waiting = [
        f"{arm.name} seed {seed}"
        for arm in known
        if arm.predictions is None
        for seed in wanted
        if seed not in {run.seed for run in runs.get(arm.name, [])}
    ]
    if waiting:
        limits.append(f"not trained yet, and left out: {listed(waiting, 6)}")
    if study.folds.n_folds:
        limits.append(
            f"of the {study.folds.n_folds} networks of a cross-fitted seed the one of fold 0 is looked into, on images "
            "that it was not trained on"
        )
    fewest = min(map(len, runs.values()))
    if fewest < 3:
        limits.append(f"an arm has {fewest} seed{'s' if fewest > 1 else ''}: how far seeds differ is hardly known")
    return limits


def _refused(study: OpenStudy, code: str, found: str, remedy: str) -> ConfigError:
    return ConfigError(
        Problem(
            code=code,
            level="error",
            file=str(study.folder.config),
            found=found,
            why="explain looks into networks that were trained in this study",
            remedy=remedy,
        )
    )
