"""`raresight train --on ray`: a study's jobs over a Ray cluster; the work of a worker that dies is given to another."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from raresight.core.errors import ConfigError, Problem, RaresightError
from raresight.core.extras import need
from raresight.core.run import RunFolder
from raresight.verbs.cluster import Job, Needs, jobs, perform, prepared, raise_all
from raresight.verbs.job_log import LOOK_SECONDS, Watch
from raresight.verbs.opened import OpenStudy

RETRIES = 10  # of one job, whose runs go on where they were: a machine that may be taken away is taken away often
GB = 1e9


def train_on_ray(
    study: OpenStudy, *, arms: Sequence[str] = (), seeds: Sequence[int] = (), address: str | None = None
) -> list[RunFolder]:
    """Train what `train` would, on the machines of the Ray cluster at `address`; return the run folders.

    Without an address (and without `RAY_ADDRESS`) Ray is started on this machine alone and stopped at the end; a
    cluster that was joined is left as it is. A job whose process or machine dies is begun again elsewhere, up to ten
    times. A job that the user must mend stops only those that stand on it; its error is raised when the others are
    done. Ctrl-C stops all jobs; the same command goes on with them.

    Raises: what `train` raises; `ConfigError` RS-X01 without Ray, RS-R45 for a cluster that cannot be joined, has no
    machine for a job, or loses a job too often.
    """
    ray = need("ray", extra="ray", feature="--on ray")
    runs = prepared(study, arms, seeds)
    with _joined(ray, study, address):
        laid = jobs(study, runs, gpus=any(node.get("GPU", 0) >= 1 for node in _nodes(ray)))
        _refuse_impossible(ray, study, laid)
        _run(ray, study, laid)
    return [run for _, run in runs]


@contextmanager
def _joined(ray: Any, study: OpenStudy, address: str | None) -> Iterator[None]:
    """Connected to the cluster; a Ray that the caller had connected to before stays connected."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study reports to nobody
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    of_ours: dict[str, Any] = {}
    if address == "local":
        of_ours["include_dashboard"] = False
        os.environ.setdefault("RAY_worker_niceness", "0")  # as `train` is: nice workers starve on a busy machine
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level="error", **of_ours)
    except (OSError, RuntimeError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause).split("\n", maxsplit=1)[0]
        raise _refused(
            f"no Ray cluster can be joined at '{address}': {reason}",
            "the jobs have nowhere to go",
            "on this machine: `ray start --head`, or `ray start --address HOST:6379` to join the head's; "
            "all machines need the same Python and Ray",
        ) from cause
    try:
        machines, cpus = len(_nodes(ray)), ray.cluster_resources().get("CPU", 0)
        study.progress.say(f"Ray: {machines} machine{'s' * (machines != 1)}, {cpus:g} CPU{'s' * (cpus != 1)}")
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise at once where nobody listens: Ray would try for minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError("that is no HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _nodes(ray: Any) -> list[dict[str, float]]:
    """What each machine that is alive has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _asked(needs: Needs) -> dict[str, float]:
    return {"CPU": needs.cpus, "GPU": needs.gpus, "memory": int((needs.memory_gb or 0) * GB)}


def _fits(needs: Needs, node: dict[str, float]) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in _asked(needs).items())


def _refuse_impossible(ray: Any, study: OpenStudy, laid: Sequence[Job]) -> None:
    """Ray itself would wait for a fitting machine for ever."""
    nodes = _nodes(ray)
    for job in laid:
        if not any(_fits(job.needs, node) for node in nodes):
            has = "; ".join(
                f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs, {n.get('memory', 0) / GB:.1f} GB" for n in nodes
            )
            raise _refused(
                f"no machine of the Ray cluster has {job.needs}, which job '{job.name}' asks for; they have: {has}",
                "the job would wait for ever",
                "ask for less under `resources` in study.yaml, or join a larger machine with `ray start --address`",
                file=str(study.folder.config),
            )


def _run(ray: Any, study: OpenStudy, laid: Sequence[Job]) -> None:
    """Hand out all jobs; Ray itself begins one when those that it waits for are done."""
    # max_calls: a process does one job, so that memory, and what a run says of it, are its own.
    work = ray.remote(max_calls=1)(_perform)
    folder = str(study.folder.path.resolve())
    given: dict[str, Any] = {}
    for job in laid:
        options = _asked(job.needs)
        given[job.name] = work.options(
            name=job.name,
            num_cpus=options["CPU"],
            num_gpus=options["GPU"],
            memory=options["memory"] or None,
            max_retries=RETRIES,
            retry_exceptions=False,
            scheduling_strategy="SPREAD",
        ).remote(folder, job, *(given[name] for name in job.after))
    job_of = {given[job.name]: job for job in laid}
    failed: dict[str, BaseException] = {}
    pending = list(job_of)
    with study.progress.bar(f"percent of {len(laid)} jobs") as advance:
        watch = Watch(study, laid, advance)
        try:
            while pending:
                ready, pending = ray.wait(pending, timeout=LOOK_SECONDS)
                watch.look()
                for ref in ready:
                    job = job_of[ref]
                    try:
                        ray.get(ref)
                    except ray.exceptions.RayError as error:
                        before = [failed[name] for name in job.after if name in failed]
                        failed[job.name] = before[0] if before else _cause(ray, job, error)
        finally:
            for ref in pending:
                ray.cancel(ref, force=True)
        watch.look(now=True)
    raise_all(list(failed.values()))


def _perform(folder: str, job: Job, *after: None) -> None:
    """`perform`; the results of the jobs that it waits for are arguments, which is how Ray knows of them."""
    perform(folder, job)


def _cause(ray: Any, job: Job, error: Any) -> BaseException:
    """What the user must know: the error that our code raised, or that the workers were lost."""
    while isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause
    if isinstance(error, RaresightError) or not isinstance(error, ray.exceptions.RayError):
        return error  # type: ignore[no-any-return]
    return _refused(
        f"job '{job.name}' was lost with its worker {RETRIES + 1} times: {str(error).strip().splitlines()[0]}",
        "a worker that is killed again and again is mostly one without enough memory",
        "ask for more under `resources: {memory_gb: ...}` in study.yaml; the same command goes on where it was left",
    )


def _refused(found: str, why: str, remedy: str, file: str = "") -> ConfigError:
    return ConfigError(Problem(code="RS-R45", level="error", file=file, found=found, why=why, remedy=remedy))
