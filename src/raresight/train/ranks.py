"""The processes that train one arm together: who leads, who has which rows, and what they tell each other.

torchrun starts them (`torchrun --nproc-per-node 4 -m raresight train STUDY`). Every rank draws the same order, the same
samples and the same changes of the images for the whole batch; it passes its own share of the rows, and what the shares
say is added up (`train/closure.py`). So the batch of `study.yaml` is that of all ranks together. Rank 0 alone writes
and talks. One process alone is a `Ranks` too: then everything here does nothing.
"""

from __future__ import annotations

import atexit
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raresight.core.errors import ConfigError, Problem, RaresightError
from raresight.core.extras import need
from raresight.core.files import write_text
from raresight.core.launched import launched
from raresight.train.meeting import meeting
from raresight.train.ranks_trouble import drifted, not_enough, not_shared, told

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

STEP = timedelta(minutes=30)  # the longest that ranks wait for each other within an optimiser step or an evaluation
TASK = timedelta(days=1)  # the longest that they wait for what rank 0 does alone: heads, predictions, pooling
SHARED_SECONDS = 30.0  # a network's file system may show a new file this much later

Answer = TypeVar("Answer")


class Ranks:
    """Rank `rank` of `world`. `group` carries gradients and features, `waiting` whatever rank 0 does for all.

    A day is given to what rank 0 does alone; a rank that dies is noticed at once all the same, since its connections
    close and torchrun stops the others.
    """

    def __init__(
        self, rank: int = 0, world: int = 1, *, group: ProcessGroup | None = None, waiting: ProcessGroup | None = None
    ) -> None:
        self.rank, self.world = rank, world
        self.group, self.waiting = group, waiting
        self._busy = False

    @classmethod
    def join(cls) -> Ranks:
        """This process among those that torchrun started; alone where it did not, or started one."""
        place = launched()
        if place is None:
            return ALONE
        need("torch", extra="train", feature="training")
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        if not dist.is_initialized():
            with told(place.world):
                store, rank, world = next(rendezvous("env://", place.rank, place.world, timeout=TASK))
                store = dist.PrefixStore(meeting(store, rank, world), store)
                dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=TASK)
            atexit.register(_leave)
        return cls(place.rank, place.world)

    @property
    def alone(self) -> bool:
        return self.world == 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    # once for all

    def first(self, action: Callable[[], Answer]) -> Answer:
        """What `action` answers on rank 0, which alone runs it while the others wait. Its error is everybody's.

        Within `action` rank 0 is as if alone: `first` inside of it runs at once.
        """
        if self.alone or self._busy:
            return action()
        outcome: list[Any] = [None, None]
        if self.leads:
            self._busy = True
            try:
                outcome[0] = action()
            except RaresightError as error:
                outcome[1] = (type(error), error.problems)
            finally:
                self._busy = False
        self._broadcast(outcome)
        if outcome[1] is not None:
            kind, problems = outcome[1]
            raise kind(*problems)
        answer: Answer = outcome[0]
        return answer

    def agree(self, problem: Problem | None) -> None:
        """Raise a `ConfigError` on every rank where any of them has a problem; the lowest rank's is the one told."""
        if self.alone:
            return
        import torch.distributed as dist

        problems: list[Problem | None] = [None] * self.world
        dist.all_gather_object(problems, problem, group=self.waiting)
        met = next((one for one in problems if one is not None), None)
        if met is not None:
            raise ConfigError(met)

    def require_shared(self, folder: Path) -> None:
        """Raise a `ConfigError` RS-R45 where some rank does not see what rank 0 writes into `folder`."""
        if self.alone:
            return
        token = folder / f".shared-{self.first(lambda: secrets.token_hex(8))}.tmp"
        self.first(lambda: write_text(token, ""))
        deadline = time.monotonic() + SHARED_SECONDS
        while not (seen := token.exists()) and time.monotonic() < deadline:
            time.sleep(0.2)
        try:
            self.agree(None if seen else not_shared(self.rank, folder))
        finally:
            if self.leads:
                token.unlink(missing_ok=True)

    def serve(self, device: torch.device) -> None:
        """Let every rank have a device of its own kind, and open the connection that carries gradients.

        Raises: `ConfigError` RS-R45 where a machine has fewer graphics cards than ranks, or the device takes no part
        in training by several processes.
        """
        if self.alone or self.group is not None:
            return
        import torch
        import torch.distributed as dist

        place = launched()
        assert place is not None
        cards = torch.cuda.device_count() if device.type == "cuda" else place.local_world
        self.agree(not_enough(place, device.type, cards))
        if device.type == "cuda":
            torch.cuda.set_device(place.local)
        group: Any = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo", timeout=STEP)
        self.group = group

    # within a step or an evaluation

    def share(self, n: int, rank: int | None = None) -> range:
        """The rows of `n` that a rank has (this one, where none is named): contiguous, in the order of the ranks.

        Shares differ by one row at most; rank 0 has rows wherever there are any.
        """
        rank = self.rank if rank is None else rank
        return range(-(-n * rank // self.world), -(-n * (rank + 1) // self.world))

    def sum_(self, values: Tensor) -> Tensor:
        """Replace `values` by their sum over the ranks, the same bits on each."""
        if not self.alone:
            import torch.distributed as dist

            dist.all_reduce(values, group=self.group)
        return values

    def joined(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all ranks, `(sum of counts, ...)`, in the order of the ranks; rank r brings `counts[r]` rows."""
        if self.alone or not any(counts):
            return rows
        import torch
        import torch.distributed as dist

        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        pieces = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(pieces, padded, group=self.group)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    def mean_buffers(self, model: nn.Module, n_rows: int, n_all: int) -> None:
        """Batch-norm statistics become their mean over the ranks, weighed by rows; other buffers those of rank 0.

        Every rank saw the statistics of its share: so no share is lost, and all ranks go on with the same network.
        """
        if self.alone:
            return
        import torch
        from torch.nn.modules.batchnorm import _BatchNorm

        averaged = {
            id(buffer)
            for layer in model.modules()
            if isinstance(layer, _BatchNorm)
            for buffer in (layer.running_mean, layer.running_var)
        }
        buffers = list(model.buffers())
        if not buffers:
            return
        weights = [n_rows / n_all if id(buffer) in averaged else float(self.leads) for buffer in buffers]
        parts = [buffer.detach().double().flatten() * w for buffer, w in zip(buffers, weights, strict=True)]
        mean = self.sum_(torch.cat(parts)).split([buffer.numel() for buffer in buffers])
        for buffer, values in zip(buffers, mean, strict=True):
            buffer.copy_(values.view_as(buffer))

    def lead_buffers(self, model: nn.Module) -> None:
        """Every rank takes over rank 0's buffers."""
        self.mean_buffers(model, int(self.leads), 1)

    def require_equal(self, model: nn.Module) -> None:
        """Raise a `ConfigError` RS-R47 where the ranks' networks differ in a single bit."""
        if self.alone:
            return
        import torch
        import torch.distributed as dist

        own = 0
        for tensor in (*model.parameters(), *model.buffers()):
            own = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, own)
        every = [0] * self.world
        dist.all_gather_object(every, own, group=self.waiting)
        if len(set(every)) > 1:
            raise ConfigError(drifted())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn what the connections say when a rank is gone into a `ConfigError` RS-R47 with the way to go on."""
        if self.alone:
            yield
            return
        with told(self.world):
            yield

    def _broadcast(self, outcome: list[Any]) -> None:
        import torch.distributed as dist

        dist.broadcast_object_list(outcome, src=0, group=self.waiting)


ALONE = Ranks()


def _leave() -> None:
    import torch.distributed as dist

    with suppress(Exception):  # the others may be gone, and so is this one in a moment
        dist.destroy_process_group()
