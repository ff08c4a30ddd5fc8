"""What can go wrong on a machine in the middle of a run, said in one line with its remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem, RaresightError, listed

KEPT = "the run stopped; its last complete checkpoint is kept"


@contextmanager
def named_trouble(config: StudyConfig) -> Iterator[None]:
    """Turn a full memory or disk, a batch too small for batch normalisation and a failed compiler into RS-R45.

    Nothing half-written stays: every file of a run is renamed into place when complete.
    """
    try:
        yield
    except RaresightError:
        raise
    except Exception as cause:
        problem = _problem(cause, config)
        if problem is None:
            raise
        raise ConfigError(problem) from cause


def not_finite(step: int, cases: Sequence[str]) -> RaresightError:
    """RS-R46: the loss of optimiser step `step` (from 1) is NaN or infinite on these cases."""
    return ConfigError(
        Problem(
            code="RS-R46",
            level="error",
            file="study.yaml",
            column="train.lr",
            found=f"the loss of step {step} is not a number; the cases of that batch: {listed(cases)}",
            why="every later step would be lost; the last good checkpoint is kept",
            remedy="lower `lr` or write `precision: fp32`; if it stops again at this step, look at these images",
        )
    )


def _problem(cause: Exception, config: StudyConfig) -> Problem | None:
    text = str(cause)
    settings = config.train
    out_of_memory = ("not enough memory", "can't allocate memory", "out of memory")
    if isinstance(cause, torch.OutOfMemoryError | MemoryError) or any(words in text for words in out_of_memory):
        return _stopped(
            f"memory ran out with batch {settings.batch} at {config.image.size} px",
            f"use `batch: {max(1, settings.batch // 2)}` or a smaller image size, for all arms alike",
            "train.batch",
        )
    # safetensors and torch.save report a full disk in words of their own
    full = isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
    if full or "No space left" in text or "file write failed" in text:
        return _stopped("the disk is full", "free some space and give the same command again: it resumes", None)
    if "more than 1 value per channel" in text:
        return _stopped(
            f"a batch of one image at {config.image.size} px gives batch normalisation one value per channel",
            "use `batch: 2` or more, or larger images",
            "train.batch",
        )
    if type(cause).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return _stopped(
            f"the backbone cannot be compiled ({(text.strip() or type(cause).__name__).splitlines()[0][:160]})",
            "write `compile: false` in a study that has not been trained yet, or install what the message names",
            "train.compile",
        )
    return None


def _stopped(found: str, remedy: str, column: str | None) -> Problem:
    return Problem(code="RS-R45", level="error", file="study.yaml", column=column, found=found, why=KEPT, remedy=remedy)
