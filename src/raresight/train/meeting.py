"""How processes that torchrun started find one another, and nobody who is gone."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

POLL_SECONDS = 0.05


def meeting(store: Store, rank: int, world: int) -> str:
    """A name for this start of `world` processes, the same on every rank and never used before.

    torchrun starts processes again with the store of those that died, in which their addresses still stand; who reads
    one waits for a dead process. So each rank leaves a word of its own, rank 0 reads them out under a new name until
    all have heard their own, and what follows is kept under that name. torchrun's count of restarts would not do: it
    counts apart on each machine.
    """
    if rank > 0:
        word = secrets.token_hex(8)
        store.set(f"here/{rank}", word)
        while True:
            name, *words = store.get("meeting").decode().split()
            if words[rank - 1 : rank] == [word]:
                store.add(f"heard/{name}", 1)
                return name
            time.sleep(POLL_SECONDS)
    name = secrets.token_hex(8)
    while store.add(f"heard/{name}", 0) < world - 1:
        words = [store.get(f"here/{other}").decode() for other in range(1, world)]
        store.set("meeting", " ".join([name, *words]))
        time.sleep(POLL_SECONDS)
    return name
