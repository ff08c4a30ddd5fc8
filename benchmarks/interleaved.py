"""How the benchmarks of a training step measure: variants take turns in one process, and ratios are taken in a round.

A busy or slow moment of the machine meets all variants of a round alike, so ratios within rounds are steadier than
times. On a CPU the clock is that of the process, so that other programs do not count (they still share its caches and
its memory); elsewhere it is wall time, with the device waited for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from raresight.train.runtime import Runtime


@dataclass(frozen=True)
class Turn:
    """What a variant does in its turn: `steps` calls of `work`, the cost of which is their mean."""

    work: Callable[[], object]
    steps: int = 1


def interleave(turns: Mapping[str, Turn], rounds: int, runtime: Runtime) -> dict[str, list[float]]:
    """Seconds of a call, per variant and round; every round has an order of its own, and one more warms up.

    The orders are drawn (seed 0) rather than rotated: what a variant leaves in the caches would else always meet the
    same neighbour.
    """
    clock = time.process_time if runtime.device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    names, rng = list(turns), random.Random(0)
    for turn in range(rounds + 1):
        rng.shuffle(names)
        for name in names:
            runtime.wait()
            start = clock()
            for _ in range(turns[name].steps):
                turns[name].work()
            runtime.wait()
            if turn:
                seconds[name].append((clock() - start) / turns[name].steps)
    return seconds


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median (quartiles)."""
    low, middle, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine(runtime: Runtime) -> str:
    said = runtime.described()
    threads = f", {said['threads']} thread(s)" if runtime.device.type == "cpu" else ""
    return f"{said['processor']}{threads}, torch {torch.__version__}, Python {said['python']}"


def write(text: str, table: Path | None) -> None:
    """Print the table, and write it to a file where one is asked for."""
    print(text)
    if table:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(text + "\n", encoding="utf-8")


def heading(title: str, command: str, lines: Sequence[str]) -> list[str]:
    return [f"# {title}", "", f"{date.today()}; `{command}`.", *lines, ""]
