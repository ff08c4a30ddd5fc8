"""What the machines of a cluster say of their jobs, in the shared study folder; and the watch that tells the user."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raresight.core import errors
from raresight.core.errors import Problem, RaresightError
from raresight.core.files import read_json
from raresight.core.progress import Advance
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy

if TYPE_CHECKING:
    from raresight.verbs.cluster import Job

LOOK_SECONDS = 2.0  # between two looks at the shared folder, which may be a slow one


class JobLog:
    """`jobs/<name>.jsonl`: a line when a job begins and one when it ends, which a killed process never writes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.jsonl"

    def begun(self) -> None:
        self._say("begun")

    def done(self) -> None:
        self._say("done")

    def refused(self, error: RaresightError) -> None:
        self._say("refused", error=type(error).__name__, problems=[problem.as_dict() for problem in error.problems])

    def rows(self) -> list[dict[str, Any]]:
        """The lines so far; half a line, of a process killed while it wrote, is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def _say(self, event: str, **more: Any) -> None:
        row = {"event": event, "time": datetime.now(UTC).isoformat(), "host": platform.node(), "pid": os.getpid()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(row | more, ensure_ascii=False) + "\n")


def refusal(row: dict[str, Any]) -> RaresightError:
    """The error that a line of a refused job tells of."""
    kind = getattr(errors, row["error"])
    error: RaresightError = kind(*(Problem(**problem) for problem in row["problems"]))
    return error


class Watch:
    """Reads the logs of jobs that are out, and says once what is new in them; `advance` gets their share done."""

    def __init__(self, study: OpenStudy, jobs: Sequence[Job], advance: Advance) -> None:
        self.study, self.jobs, self.advance = study, list(jobs), advance
        self.logs = {job.name: JobLog(study.folder.jobs, job.name) for job in jobs}
        self._before = {name: len(log.rows()) for name, log in self.logs.items()}
        self._told = dict(self._before)
        self._looked = 0.0

    def rows(self, job: Job) -> list[dict[str, Any]]:
        """What the job's log says since this watch began."""
        return self.logs[job.name].rows()[self._before[job.name] :]

    def outcome(self, job: Job) -> RaresightError | bool:
        """True for a job that is done, its error for one that was refused, False for one that is out or was lost."""
        last = (self.rows(job) or [{"event": "waiting"}])[-1]
        return refusal(last) if last["event"] == "refused" else last["event"] == "done"

    def look(self, *, now: bool = False) -> None:
        """Say what is new, unless that was done a moment ago."""
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        shares = 0.0
        for job in self.jobs:
            rows = self.rows(job)
            seen = self._told[job.name] - self._before[job.name]
            for i, row in enumerate(rows[seen:], start=seen):
                self.study.progress.say(_sentence(job, rows[:i], row))
            self._told[job.name] = self._before[job.name] + len(rows)
            if rows:
                shares += 1.0 if rows[-1]["event"] == "done" else self._share(job)
        self.advance(round(100 * shares), 100 * len(self.jobs))

    def _share(self, job: Job) -> float:
        """How much of a running job is done, by the steps of its runs."""
        runs = [self.study.folder.run(arm, seed) for arm in job.arms for seed in job.seeds]
        parts = [part for run in runs for part in self.study.parts(run)]
        return sum(_share(part) for part in parts) / len(parts) if parts else 0.0


def _sentence(job: Job, before: Sequence[dict[str, Any]], row: dict[str, Any]) -> str:
    if row["event"] == "done":
        return f"{job.name}: done"
    if row["event"] == "refused":
        told = "; ".join(f"{problem['code']} {problem['found']}" for problem in row["problems"])
        return f"{job.name}: refused, the other jobs go on ({told})"
    where = f"on {row['host']}, process {row['pid']}"
    if any(earlier["event"] == "begun" for earlier in before):
        return f"{job.name}: its process was lost; begun again {where}"
    return f"{job.name}: begun {where}"


def _share(run: RunFolder) -> float:
    if run.done:
        return 1.0
    try:
        steps = read_json(run.arm_json)["steps"]
        last = json.loads(run.events.read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0  # not begun yet, or a head: heads have no steps of their own to tell of
    return float(min(1.0, last["step"] / max(1, steps)))
