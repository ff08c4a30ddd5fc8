"""Whether torchrun started this process as one of several, and as which of them."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launched:
    """One process of `world`: `rank` counts over all machines, `local` over the `local_world` ones of this machine."""

    rank: int
    world: int
    local: int
    local_world: int


def launched() -> Launched | None:
    """What torchrun says in the environment; None for a process that works alone, whoever started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Launched(*(int(os.environ[name]) for name in names))


def silent() -> bool:
    """Whether another process speaks for this one: of several, the first alone talks."""
    place = launched()
    return place is not None and place.rank > 0
