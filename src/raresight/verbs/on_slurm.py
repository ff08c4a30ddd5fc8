"""`raresight train --on slurm`: a study's jobs as arrays of SLURM, through submitit."""

from __future__ import annotations

import getpass
import hashlib
import math
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from raresight.core.errors import ConfigError, Problem, RaresightError, listed
from raresight.core.extras import need
from raresight.core.run import RunFolder
from raresight.verbs.cluster import Job, Needs, jobs, perform, prepared, raise_all
from raresight.verbs.job_log import LOOK_SECONDS, Watch
from raresight.verbs.opened import OpenStudy

HOURS = 4.0  # of a job that does not say; at their end it is queued again and its runs go on
REQUEUES = 100  # after the end of a job's hours; after a preemption always
RETRIES = 3  # of a job that ended without a word, while somebody waits for it


class Submitted:
    """What submitit pickles: the job, and before a preemption or the end of its hours the same job once more."""

    def __init__(self, folder: str, job: Job) -> None:
        self.folder, self.job = folder, job

    def __call__(self) -> None:
        perform(self.folder, self.job)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Submitted(self.folder, self.job))


def train_on_slurm(
    study: OpenStudy,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    partition: str | None = None,
    wait: bool = True,
    cluster: str = "slurm",
) -> list[RunFolder]:
    """Train what `train` would, as jobs of SLURM; return the run folders.

    With `wait` jobs are queued when those that they stand on are done, a job that ends without a word is queued again,
    and Ctrl-C cancels what is queued. Without it all are queued at once, tied by `afterok`, and the command ends: the
    same command, given again when the queue is empty, takes up whatever is missing. `cluster`: submitit's name of the
    engine; "local" runs processes of this machine.

    Raises: what `train` raises; `ConfigError` RS-X01 without submitit, RS-R45 without SLURM, while jobs of this study
    are still queued, or where a job is lost too often.
    """
    submitit = need("submitit", extra="slurm", feature="--on slurm")
    runs = prepared(study, arms, seeds)
    if cluster == "slurm":
        _refuse_without_slurm(study)
    laid = jobs(study, runs)
    if laid and laid[0].does == "lock" and study.config.train.device == "auto" and not laid[0].needs.gpus:
        study.progress.say("no `resources: {gpus: 1}` in study.yaml: this study will be locked to the CPU")
    queue = Queue(submitit, study, partition, cluster)
    if wait:
        queue.see_through(laid)
    else:
        queue.leave(laid)
    return [run for _, run in runs]


class Queue:
    """Jobs on their way through SLURM."""

    def __init__(self, submitit: Any, study: OpenStudy, partition: str | None, cluster: str) -> None:
        self.submitit, self.study, self.cluster = submitit, study, cluster
        self.partition = partition
        self.logs = study.folder.jobs.resolve() / "slurm"

    def submit(self, together: Sequence[Job], dependency: str | None = None) -> list[Any]:
        """One array of jobs that ask for the same; what submitit knows each by."""
        executor = self.submitit.AutoExecutor(self.logs, cluster=self.cluster, slurm_max_num_timeout=REQUEUES)
        tied = {"kill-on-invalid-dep": "yes"} if dependency else {}
        executor.update_parameters(
            name=job_name(self.study),
            slurm_partition=self.partition,
            slurm_dependency=dependency,
            slurm_additional_parameters={"requeue": True, **tied},
            **_asked(together[0].needs),
        )
        folder = str(self.study.folder.path.resolve())
        handles: list[Any] = executor.submit_array([Submitted(folder, job) for job in together])
        return handles

    def leave(self, laid: Sequence[Job]) -> None:
        """Queue everything now; SLURM begins a job when those that it stands on have ended well."""
        ids: dict[str, str] = {}
        for after, needs in dict.fromkeys((job.after, job.needs) for job in laid):
            together = [job for job in laid if (job.after, job.needs) == (after, needs)]
            tie = "afterok:" + ":".join(ids[name] for name in after) if after else None
            ids |= {job.name: handle.job_id for job, handle in zip(together, self.submit(together, tie), strict=True)}
        told = [f"{name} is job {number}" for name, number in ids.items()]
        here = self.study.folder.typed
        self.study.progress.say(f"queued: {listed(told)}; raresight status {here} tells what is done")

    def see_through(self, laid: Sequence[Job]) -> None:
        """Queue what can begin, until all is done."""
        waiting, out = list(laid), dict[str, tuple[Job, Any]]()
        done: set[str] = set()
        failed: dict[str, BaseException] = {}
        lost: Counter[str] = Counter()
        with self.study.progress.bar(f"percent of {len(laid)} jobs") as advance:
            watch = Watch(self.study, laid, advance)
            try:
                while waiting or out:
                    for job in [job for job in waiting if any(name in failed for name in job.after)]:
                        waiting.remove(job)
                        failed[job.name] = next(failed[name] for name in job.after if name in failed)
                    ready = [job for job in waiting if done.issuperset(job.after)]
                    waiting = [job for job in waiting if job not in ready]
                    for needs in dict.fromkeys(job.needs for job in ready):
                        together = [job for job in ready if job.needs == needs]
                        handles = self.submit(together)
                        out |= {job.name: (job, handle) for job, handle in zip(together, handles, strict=True)}
                    time.sleep(LOOK_SECONDS / 2)
                    watch.look()
                    for job, handle in list(out.values()):
                        ended = handle.done()  # looked at before the log, whose last line is older than the end
                        outcome = watch.outcome(job)
                        if outcome is False and not ended:
                            continue
                        del out[job.name]
                        if outcome is True:
                            done.add(job.name)
                        elif isinstance(outcome, RaresightError):
                            failed[job.name] = outcome
                        elif handle.paths.result_pickle.exists():  # it ended with an error that nobody expected
                            failed[job.name] = handle.exception()
                        elif lost[job.name] < RETRIES:
                            lost[job.name] += 1
                            waiting.append(job)
                        else:
                            failed[job.name] = _lost(job, handle)
            finally:
                for _, handle in out.values():
                    handle.cancel(check=False)
            watch.look(now=True)
        raise_all(list(failed.values()))


def job_name(study: OpenStudy) -> str:
    """The name that SLURM knows the jobs of this study folder by."""
    return "raresight-" + hashlib.sha256(str(study.folder.path.resolve()).encode()).hexdigest()[:12]


def _asked(needs: Needs) -> dict[str, Any]:
    """submitit's names for what a job needs; SLURM gives whole GPUs alone."""
    return {
        "cpus_per_task": needs.cpus,
        "gpus_per_node": math.ceil(needs.gpus) or None,
        "mem_gb": needs.memory_gb,
        "timeout_min": math.ceil(60 * (needs.hours or HOURS)),
    }


def _refuse_without_slurm(study: OpenStudy) -> None:
    """No SLURM here, or jobs of this very study in its queue: two jobs must not train one run."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise _refused(
            "SLURM's commands (sbatch, srun) are not on this machine",
            "jobs are queued from a machine that belongs to the cluster",
            "give the command on a login node, in the environment that the jobs will have",
        )
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--name", job_name(study), "--format", "%i"]
    queued = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    if queued:
        raise _refused(
            f"jobs of this study are still queued or running: {listed(queued)}",
            "two jobs would train one run at once",
            f"wait for them, or: scancel --name {job_name(study)}",
        )


def _lost(job: Job, handle: Any) -> ConfigError:
    return _refused(
        f"job '{job.name}' ended {RETRIES + 1} times without a word",
        "a process that is killed again and again is mostly one without enough memory",
        f"look at {handle.paths.stderr}; ask for more under `resources` in study.yaml; the same command goes on",
    )


def _refused(found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(code="RS-R45", level="error", found=found, why=why, remedy=remedy))
