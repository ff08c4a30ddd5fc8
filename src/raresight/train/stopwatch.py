"""How long a device waited for something, on devices that work behind the program as well."""

from __future__ import annotations

import time
from typing import Any

import torch


class Stopwatch:
    """Seconds from its making to `stop()`, as the device sees them; `seconds()` is asked once the device got there.

    The CPU does what it is told at once, so its clock is the program's. A CUDA device works through a queue: the
    program's clock would count waiting for the previous step as waiting for input. There two marks travel in the queue
    and the device writes the time when it meets them. What the program did while the device was busy takes no time.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._began, self._ended = self._now(), None

    def stop(self) -> Stopwatch:
        self._ended = self._now()
        return self

    def seconds(self) -> float:
        """Raises: `RuntimeError` on a CUDA device that has not reached the second mark."""
        if self._ended is None:
            raise RuntimeError("the stopwatch was not stopped")
        if self._cuda:
            return float(self._began.elapsed_time(self._ended)) / 1000
        return float(self._ended - self._began)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark
