"""What can go wrong between the processes that train together, said in one line with its remedy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raresight.core.errors import ConfigError, Problem
from raresight.core.launched import Launched
from raresight.core.run import RunFolder


@contextmanager
def told(world: int) -> Iterator[None]:
    """Turn what the connections say when a process is gone into a `ConfigError` RS-R47 with the way to go on."""
    try:
        yield
    except RuntimeError as cause:
        if not _of_connections(cause):
            raise
        raise ConfigError(_lost(world, cause)) from cause


def _of_connections(cause: RuntimeError) -> bool:
    import torch.distributed as dist

    words = str(cause).lower()
    return isinstance(cause, dist.DistError) or any(word in words for word in ("gloo", "nccl", "c10d"))


def _lost(world: int, cause: RuntimeError) -> Problem:
    return Problem(
        code="RS-R47",
        level="error",
        found=f"one of the {world} processes is gone, or did not answer in time ({str(cause).splitlines()[0][:160]})",
        why="each has a share of every batch, so none can go on without the others; the last checkpoint is kept",
        remedy="give the same torchrun command again: it goes on where it was left "
        "(torchrun --max-restarts 3 does so by itself)",
    )


def drifted() -> Problem:
    """RS-R47: the copies of the network differ."""
    return Problem(
        code="RS-R47",
        level="error",
        found="the processes no longer have the same weights",
        why="machines of different kinds round differently, or a method draws outside of its own stream",
        remedy="run on machines of one kind; if they are, leave out methods of your own one by one",
    )


def not_shared(rank: int, folder: Path) -> Problem:
    """RS-R45: a process sees another folder than rank 0."""
    return Problem(
        code="RS-R45",
        level="error",
        file=str(folder),
        found=f"rank {rank} (on {platform.node()}) does not see what rank 0 writes into the study's folder",
        why="all processes read the data and the state to resume from there",
        remedy="put the study on a file system that all machines share, at the same path",
    )


def not_enough(place: Launched, device: str, cards: int) -> Problem | None:
    """RS-R45 where the processes of a machine cannot have a device each; None where they can."""
    if device in ("cpu", "cuda") and cards >= place.local_world:
        return None
    what = f"{cards} graphics cards" if device == "cuda" else f"device '{device}'"
    return Problem(
        code="RS-R45",
        level="error",
        file="study.yaml",
        column="train.device",
        found=f"{place.local_world} processes on a machine with {what}, and the study is locked to '{device}'",
        why="each process trains on a card of its own" if device == "cuda" else "several processes need cpu or cuda",
        remedy=f"torchrun --nproc-per-node {max(1, cards)} ..." if device == "cuda" else "start it without torchrun",
    )


def refuse_small(batch: int, world: int) -> None:
    """Raise a `ConfigError` RS-C34 where the batch has fewer rows than there are processes."""
    if batch < world:
        raise ConfigError(
            Problem(
                code="RS-C34",
                level="error",
                file="study.yaml",
                column="train.batch",
                found=f"a batch of {batch} for {world} processes",
                why="the batch of study.yaml is that of all processes together: some would have nothing to do",
                remedy=f"use `batch: {world}` or more, for all arms alike, or fewer processes",
            )
        )


def other_number(then: int, now: int, run: RunFolder) -> Problem:
    """RS-R44: a run that `then` processes began cannot go on with `now`."""
    start = f"torchrun --nproc-per-node {then} -m raresight train ..." if then > 1 else "raresight train ..."
    return Problem(
        code="RS-R44",
        level="error",
        file=str(run.path),
        found=f"the run of arm '{run.arm}', seed {run.seed}, was begun by {then} and would go on with {now} processes",
        why="batch normalisation sees the share of a batch that one process has, so it would be another training",
        remedy=f"go on with {start}, or remove this folder",
    )
