"""Where the synthetic rows of heads on frozen features lie: an audit after training, which no head depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from raresight.core.seeds import torch_rng
from raresight.strategies.strategy import SyntheticRows
from raresight.train.head_job import HeadJob, TrainedHead


def safety_of(jobs: Sequence[HeadJob], trained: Sequence[TrainedHead], study_seed: int) -> list[list[dict[str, Any]]]:
    """`Stack.safety` of every head, in their order; asked once for all heads with the same rows on one table and seed.

    Empty for a head without synthetic rows.
    """
    asked: list[tuple[HeadJob, SyntheticRows, list[dict[str, Any]]]] = []
    answers: list[list[dict[str, Any]]] = []
    for job, head in zip(jobs, trained, strict=True):
        rows = head.synthetic
        if rows is None:
            answers.append([])
            continue
        known = (answer for other, theirs, answer in asked if _alike(job, rows, other, theirs))
        answer = next(known, None)
        if answer is None:
            answer = _asked(job, rows, study_seed)
            asked.append((job, rows, answer))
        answers.append(answer)
    return answers


def _asked(job: HeadJob, rows: SyntheticRows, study_seed: int) -> list[dict[str, Any]]:
    table = job.table
    return job.stack.safety(
        table.z, table.target, table.mask, table.ids, rows, lambda name: torch_rng(study_seed, job.seed, name, "safety")
    )


def _alike(job: HeadJob, rows: SyntheticRows, other: HeadJob, theirs: SyntheticRows) -> bool:
    if job.table is not other.table or job.seed != other.seed or len(rows.base) != len(theirs.base):
        return False
    columns = ("base", "neighbour", "gap", "target", "mask")
    return all(torch.equal(getattr(rows, name), getattr(theirs, name)) for name in columns)
