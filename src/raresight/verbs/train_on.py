"""Where a study is trained: in this process, over a Ray cluster, or as jobs of SLURM."""

from __future__ import annotations

from collections.abc import Sequence

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.run import RunFolder
from raresight.verbs.opened import OpenStudy
from raresight.verbs.train import train

ENGINES = ("ray", "slurm")


def train_on(
    study: OpenStudy,
    on: str | None = None,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    address: str | None = None,
    partition: str | None = None,
    wait: bool = True,
) -> list[RunFolder]:
    """`train` here (`on` None), `train_on_ray` or `train_on_slurm`; the study folder ends the same.

    Raises: `ConfigError` RS-C33 for an unknown engine, RS-C34 for an option of another one; what the engines raise.
    """
    if on is not None and on not in ENGINES:
        close = nearest(on, ENGINES)
        raise _refused("RS-C33", "on", f"'{on}' is no engine", f"did you mean '{close}'?" if close else listed(ENGINES))
    given = {"address": (address is not None, "ray"), "partition": (partition is not None, "slurm")}
    given["no-wait"] = (not wait, "slurm")
    for option, (is_given, engine) in given.items():
        if is_given and on != engine:
            raise _refused("RS-C34", option, f"--{option} without --on {engine}", f"add --on {engine}, or leave it out")
    if on == "ray":
        from raresight.verbs.on_ray import train_on_ray

        return train_on_ray(study, arms=arms, seeds=seeds, address=address)
    if on == "slurm":
        from raresight.verbs.on_slurm import train_on_slurm

        return train_on_slurm(study, arms=arms, seeds=seeds, partition=partition, wait=wait)
    return train(study, arms=arms, seeds=seeds)


def _refused(code: str, column: str, found: str, remedy: str) -> ConfigError:
    why = "the runs would be trained elsewhere than you asked"
    return ConfigError(Problem(code=code, level="error", column=column, found=found, why=why, remedy=remedy))
