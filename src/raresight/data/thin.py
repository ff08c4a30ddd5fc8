"""Thinning: one class made rarer in the training part, patient by patient, everything else left as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.manifest import Manifest
from raresight.core.seeds import numpy_rng
from raresight.core.task import Task
from raresight.data.units import group_ids

FEWEST_GROUPS = 2  # of a class known from one patient, nothing can be said about other patients


@dataclass(frozen=True)
class Thinned:
    """What stays of a training part.

    `rows` are row numbers of the manifest, ascending. `prevalence` (achieved) and `natural` (before) are shares in
    (0, 1] of the rows whose label for the class is known; `n_positive` counts cases with the class, `n_groups` the
    groups that they come from. `others` says of every other class how many positive cases it had before and has now:
    with independent labels a case that is taken out takes its other findings with it.
    """

    rows: np.ndarray
    prevalence: float
    natural: float
    n_positive: int
    n_groups: int
    others: dict[str, dict[str, int]]
    problems: list[Problem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "prevalence": self.prevalence,
            "natural_prevalence": self.natural,
            "n_images": len(self.rows),
            "n_positive": self.n_positive,
            "n_positive_groups": self.n_groups,
            "others": self.others,
            "problems": [problem.as_dict() for problem in self.problems],
        }


def thin(
    manifest: Manifest, rows: np.ndarray, task: Task, cls: str, prevalence: float | None, *, group: str, seed: int
) -> Thinned:
    """The training rows that stay so that class `cls` has at most this prevalence.

    The groups that hold the class stand in an order drawn from `seed`; the longest head of that order stays whose
    n₊ positive cases satisfy n₊ / (n₊ + n₋) <= `prevalence`, but at least one group. Of a group that goes, every case
    with the class goes, and no case without it or with an unknown label: n₋ never changes. For one seed a lower
    prevalence keeps a subset of what a higher one keeps.

    `rows` are row numbers of the manifest's training part, `group` the column that the study is split by. With
    `prevalence` None, or equal to the natural one, all rows stay. Independent labels: a case positive for `cls` goes
    whole, its other findings with it (`others` counts them).

    Absent class: refused, there is nothing to thin. Fewer than two groups left: a warning among `problems`.

    Raises: `ConfigError` RS-C33 for an unknown class, RS-C39 for a prevalence outside (0, 1) or above the natural one.
    """
    rows = np.asarray(rows, dtype=int)
    training = manifest.take(rows)
    target = training.targets(task)
    known, positive = ~np.isnan(target), target == 1
    require_class(task, cls)
    k = task.index(cls)
    natural = float(positive[:, k].sum() / max(known[:, k].sum(), 1))
    prevalence = natural if prevalence is None else prevalence
    _refuse_impossible(cls, prevalence, natural)
    groups = group_ids(training, group)
    holding = np.unique(groups[positive[:, k]].astype(str))
    ordered = holding[numpy_rng("thin", seed, cls).permutation(len(holding))]
    place = {name: i for i, name in enumerate(ordered)}
    where = np.array([place.get(name, -1) for name in groups.astype(str)])
    counts = np.bincount(where[positive[:, k]], minlength=len(ordered))
    n_negative = int((known[:, k] & ~positive[:, k]).sum())
    running = np.cumsum(counts)
    # One part in 10^12 of room, so that the natural prevalence written as a decimal keeps every case.
    allowed = running <= prevalence * (running + n_negative) * (1 + 1e-12)
    n_groups = max(1, int(allowed.sum()))
    stays = ~(positive[:, k] & (where >= n_groups))
    n_positive = int(running[n_groups - 1])
    before, after = positive.sum(axis=0), positive[stays].sum(axis=0)
    return Thinned(
        rows=rows[stays],
        prevalence=n_positive / (n_positive + n_negative),
        natural=natural,
        n_positive=n_positive,
        n_groups=n_groups,
        others={
            name: {"before": int(before[j]), "after": int(after[j])} for j, name in enumerate(task.classes) if j != k
        },
        problems=_warnings(cls, group, n_groups, n_positive / (n_positive + n_negative), prevalence),
    )


def require_class(task: Task, cls: str) -> None:
    """Raise a `ConfigError` RS-C33 with the nearest known name where `cls` is no class of the task."""
    if cls in task.classes:
        return
    close = nearest(cls, task.classes)
    raise ConfigError(
        Problem(
            code="RS-C33",
            level="error",
            column="class",
            found=f"no class is called '{cls}'",
            why="there is nothing to thin",
            remedy=f"did you mean '{close}'?" if close else f"classes: {listed(task.classes)}",
        )
    )


def _refuse_impossible(cls: str, prevalence: float, natural: float) -> None:
    if natural == 0:
        found, remedy = f"no training case has '{cls}'", "name a class that the training part holds"
    elif not 0 < prevalence <= 1:
        percent = f"did you mean {prevalence / 100:g} ({prevalence:g}%)?" if 1 <= prevalence < 100 else ""
        found, remedy = (
            f"a prevalence of {prevalence:g} lies outside (0, 1)",
            percent or "write a share between 0 and 1",
        )
    elif prevalence > natural * (1 + 1e-12):
        found = f"a prevalence of {prevalence:g} is above the natural {natural:.3g} of '{cls}' in the training part"
        remedy = f"write at most {_below(natural):g}; the natural prevalence is part of every sweep"
    else:
        return
    raise ConfigError(
        Problem(
            code="RS-C39",
            level="error",
            column="prevalence",
            found=found,
            why="thinning takes cases out; it cannot make a class commoner",
            remedy=remedy,
        )
    )


def _below(share: float) -> float:
    """Three digits of a share, never rounded up: 0.10666 -> 0.106."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 2)
    return math.floor(share / unit) * unit


def _warnings(cls: str, group: str, n_groups: int, achieved: float, asked: float) -> list[Problem]:
    if n_groups >= FEWEST_GROUPS:
        return []
    found = f"{n_groups} {group} with '{cls}' left in training"
    if achieved > asked * (1 + 1e-12):
        found += f", a prevalence of {achieved:.3g} where {asked:g} was asked: it has no smaller part"
    return [
        Problem(
            code="RS-C39",
            level="warning",
            column="prevalence",
            found=found,
            why="what was learnt is that one case of the disease; nothing can be concluded",
            remedy="ask for a higher prevalence",
        )
    ]
