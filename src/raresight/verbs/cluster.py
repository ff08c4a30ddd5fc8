"""A study's runs as jobs for other machines: what is to be done, what waits for what, and what each job needs.

No engine is named here: `on_ray.py` and `on_slurm.py` hand these jobs out. Every job works in the one study folder that
all machines share, calls the verbs of a serial training, and goes on where a killed one was left; so the results are
those of `raresight train` under the same lock.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem, RaresightError
from raresight.core.files import read_json
from raresight.core.run import RunFolder
from raresight.verbs.choose import choose
from raresight.verbs.job_log import JobLog
from raresight.verbs.opened import OpenStudy
from raresight.verbs.outside import bring_in
from raresight.verbs.train import asked, needed, train
from raresight.verbs.training import locked_runtime

Does = Literal["lock", "choose", "train"]


@dataclass(frozen=True)
class Needs:
    """What a machine must have to run a job; None: not asked for."""

    cpus: int = 1
    gpus: float = 0
    memory_gb: float | None = None
    hours: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.cpus} {'CPU' if self.cpus == 1 else 'CPUs'}"]
        parts += [f"{self.gpus:g} {'GPU' if self.gpus <= 1 else 'GPUs'}"] if self.gpus else []
        parts += [f"{self.memory_gb:g} GB of memory"] if self.memory_gb is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Job:
    """One call for one machine. `after` names the jobs that must have ended well before it begins.

    lock: choose precision and layout where the study will be trained, with the threads that a job will have.
    choose: settle the lists in arms' settings. train: these arms with these seeds.
    """

    name: str
    does: Does
    needs: Needs
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    after: tuple[str, ...] = ()


def prepared(study: OpenStudy, arms: Sequence[str], seeds: Sequence[int]) -> list[tuple[Arm, RunFolder]]:
    """The runs that are asked for, refused where `train` would; predictions made elsewhere are taken in here.

    Raises: what `train` raises before its first run.
    """
    runs = asked(study, arms, seeds)
    for arm, run in runs:
        if arm.predictions is not None:
            bring_in(study, arm, run)
    return runs


def jobs(study: OpenStudy, runs: Sequence[tuple[Arm, RunFolder]], *, gpus: bool = False) -> list[Job]:
    """What trains `runs` and whatever they stand on, each job after those that it waits for.

    The network of an arm is one job a seed, its folds inside; all frozen heads on one arm and seed are one job, as they
    are trained together. `gpus`: whether the cluster has GPUs, which a study that is not locked yet then takes
    (`train.device: auto`).
    """
    named = {arm.name: arm for arm in study.arms}
    trained = [(arm, run.seed) for arm, run in runs if arm.predictions is None]
    heads = [(arm, seed) for arm, seed in trained if arm.frozen is not None]
    networks = {(arm.name, seed) for arm, seed in trained if arm.frozen is None}
    networks |= {(str(arm.frozen), seed) for arm, seed in heads}
    with_lists = any(arm.has_grid for arm in needed(study, [arm for arm, _ in trained]))
    if with_lists:  # values are chosen on the baseline's features, with all seeds of the study
        networks |= {(study.baseline, seed) for seed in study.config.seeds}
    locked = () if study.folder.lock.exists() else ("lock",)
    chosen = ("choose",) if with_lists else ()

    def job(name: str, does: Does, arms: Sequence[Arm], seed: int | None, after: Sequence[str]) -> Job:
        seeds = () if seed is None else (seed,)
        return Job(name, does, _needs(study, arms, gpus), tuple(arm.name for arm in arms), seeds, tuple(after))

    laid = [job("lock", "lock", list(named.values()), None, ())] if locked and trained else []
    first: list[Job] = []
    later: list[Job] = []
    for name, seed in sorted(networks, key=lambda one: (one[0] != study.baseline, list(named).index(one[0]), one[1])):
        arm = named[name]
        (later if arm.has_grid else first).append(
            job(_network(name, seed), "train", [arm], seed, chosen if arm.has_grid else locked)
        )
    laid += first
    if with_lists:
        baselines = [_network(study.baseline, seed) for seed in study.config.seeds]
        laid.append(job("choose", "choose", [named[study.baseline]], None, baselines))
    laid += later
    for source, seed in dict.fromkeys((str(arm.frozen), seed) for arm, seed in heads):
        together = [arm for arm, own in heads if arm.frozen == source and own == seed]
        waits = [_network(source, seed), *(chosen if any(arm.has_grid for arm in together) else ())]
        laid.append(job(f"heads-on-{_network(source, seed)}", "train", together, seed, waits))
    return laid


def _network(arm: str, seed: int) -> str:
    return f"{arm}-seed-{seed}"


def _needs(study: OpenStudy, arms: Sequence[Arm], gpus: bool) -> Needs:
    """What a job of these arms asks for: for each thing the most that one of them does."""
    lock = read_json(study.folder.lock)["runtime"] if study.folder.lock.exists() else {}
    settings, resources = study.config.train, study.config.resources
    device = lock.get("device", settings.device)
    usual = {
        "cpus": lock.get("threads") or settings.threads or 1,
        "gpus": 1 if device == "cuda" or (device == "auto" and gpus) else 0,
    }

    def most(thing: str) -> float | None:
        given = getattr(resources, thing)
        general = usual.get(thing) if given is None else given
        own = [getattr(resources.arms.get(arm.name), thing, None) for arm in arms]
        values = [general if value is None else value for value in own]
        return max((value for value in values if value is not None), default=None)

    return Needs(int(most("cpus") or 1), most("gpus") or 0, most("memory_gb"), most("hours"))


def perform(folder: str, job: Job) -> None:
    """Do one job in the shared study folder; called in a process of its own on whatever machine got it.

    It tells `jobs/<name>.jsonl` when it begins, and how it ends. A process that was killed tells nothing: the job is
    then given out again, and its runs are resumed.

    Raises: `ConfigError` RS-R45 where this machine does not see the study folder; what `train` raises.
    """
    log = JobLog(Path(folder) / "jobs", job.name)
    study = _opened_here(Path(folder), job)
    log.begun()
    try:
        if job.does == "lock":
            locked_runtime(_for_the_probe(study, job.needs))
        elif job.does == "choose":
            choose(study)
        else:
            train(study, arms=job.arms, seeds=job.seeds)
    except RaresightError as error:
        log.refused(error)
        raise
    log.done()


def raise_all(errors: Sequence[BaseException]) -> None:
    """A bug of ours as it is; else what the user must mend, each once, with the exit code of the first."""
    for error in errors:
        if not isinstance(error, RaresightError):
            raise error
    told = [error for error in errors if isinstance(error, RaresightError)]
    if told:
        raise type(told[0])(*dict.fromkeys(problem for error in told for problem in error.problems))


def _for_the_probe(study: OpenStudy, needs: Needs) -> OpenStudy:
    """The study with the threads and the device that its jobs will really have."""
    settings = study.config.train
    device = "cpu" if settings.device == "auto" and not needs.gpus else settings.device
    update = {"threads": settings.threads or needs.cpus, "device": device}
    return replace(study, config=study.config.model_copy(update={"train": settings.model_copy(update=update)}))


def _opened_here(folder: Path, job: Job) -> OpenStudy:
    here = platform.node()
    if not (folder / "study.yaml").is_file():
        raise ConfigError(
            Problem(
                code="RS-R45",
                level="error",
                file=str(folder),
                found=f"the machine {here}, which was given job '{job.name}', does not see the study folder",
                why="all machines read and write one study folder",
                remedy="put the study on a disk that every machine mounts at the same path",
            )
        )
    return OpenStudy.open(folder)
