"""The command that trains: here, or over the machines of a cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raresight.cli_output import answer, progress

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm (repeatable).")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Only this seed (repeatable).")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Too few patients, or pictures turned upside down, stop here (exit 4).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the command's artefact as JSON on stdout.")]


class Engine(StrEnum):
    ray = "ray"
    slurm = "slurm"


def train(
    study: StudyPath,
    arm: Arms = None,
    seed: Seeds = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two batches of each arm; prints hours and GB.")] = False,
    on: Annotated[Engine | None, typer.Option(help="Arms and seeds over a cluster; the same results.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray: the cluster's HOST:PORT, or 'auto' for this machine's; default: a new one.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM: where to queue the jobs.")] = None,
    wait: Annotated[bool, typer.Option(help="SLURM: stay until all jobs are done, give lost ones out again.")] = True,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Every missing run, each resumed where it was left."""
    from raresight.api import Study

    opened = Study.open(study, progress())
    if strict:
        opened.require_strict()
    if dry_run:
        rows = opened.dry_run(arms=arm or ())
        lines = [f"{r['arm']:<20} {_runs(r['runs'])}, {_time(r['total_hours'])}, {r['gb']:.1f} GB" for r in rows]
        answer(rows, as_json, "\n".join(lines))
        return
    where: dict[str, Any] = {"on": on.value if on else None, "address": address, "partition": partition, "wait": wait}
    runs = opened.train(arms=arm or (), seeds=seed or (), **where)
    told = f"{_runs(len(runs))} done" if wait else f"{sum(run.done for run in runs)} of {_runs(len(runs))} done"
    answer([{"arm": r.arm, "seed": r.seed, "path": str(r.path)} for r in runs], as_json, told)


def _runs(n: int) -> str:
    return f"{n} run{'s' if n != 1 else ''}"


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
