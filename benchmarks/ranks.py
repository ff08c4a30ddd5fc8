"""One step in 2 and 4 processes beside one process: gradients, metrics. python benchmarks/ranks.py [--table FILE]

The processes are those of tests/unit/train/four_ranks.py, over gloo on this machine: equal global batches, all methods
that look at more than one row of a batch. Says how far gradients and weights after two steps lie from one process's,
and whether features of a validation part, from which all metrics follow, are the same bits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from interleaved import heading, machine, write

from raresight.train.runtime import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/unit/train"))
import four_ranks

WORLDS = (2, 4)
AIM = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        codes = four_ranks.started(Path(folder), seconds=3600)  # the last one leaves as if killed: tested elsewhere
        if not (Path(folder) / "alone.pt").exists():
            raise SystemExit(f"the processes left with {codes}")
        one = torch.load(Path(folder) / "alone.pt", weights_only=False)
        several = {world: ranks(Path(folder), world) for world in WORLDS}
    write("\n".join(page(one, several)), options.table)


def ranks(folder: Path, world: int) -> list[dict[str, Any]]:
    return [torch.load(folder / f"of {world}/rank {rank}.pt", weights_only=False) for rank in range(world)]


def page(one: dict[str, Any], several: dict[int, list[dict[str, Any]]]) -> list[str]:
    equal = [name for name in four_ranks.SCENES if not name.startswith("batch norm")]
    others = [name for name in four_ranks.SCENES if name not in equal]
    worst = max(apart(one, told, name, "gradients") for name in equal for told in several.values())
    same = all(torch.equal(rank["features"], one["features"]) for told in several.values() for rank in told)
    lines = [
        f"{machine(Runtime(torch.device('cpu'), 'fp32', False, 1))}; gloo, fp32, one thread each; seeds fixed. Two",
        "optimiser steps on a small network; the global batch is the same for one process and for several.",
        "",
        f"Group or frozen normalisation: largest difference of any gradient **{worst:.1e}** (aim: {AIM:.0e}; "
        f"{'met' if worst < AIM else 'not met'}).",
        "Metrics of equal weights: features of the validation part are "
        f"{'the same bits' if same else '**not the same**'} on every process.",
        "nccl on several GPUs, and several machines: **not measured**.",
    ]
    return [
        *heading("Several processes beside one", "make bench-ranks", lines),
        *table("group or frozen normalisation", equal, one, several),
        "",
        "Batch normalisation takes its statistics from each process's share, so these steps are meant to differ:",
        "",
        *table("batch normalisation", others, one, several),
    ]


def table(title: str, names: list[str], one: dict[str, Any], several: dict[int, list[dict[str, Any]]]) -> list[str]:
    """Greatest differences from one process; `ranks` is whether all processes hold the same bits after the steps."""
    head = [f"{world}: {what}" for world in several for what in ("gradients", "weights", "ranks agree")]
    lines = [f"| {title} | largest gradient | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    for name in names:
        cells = [name, f"{one[name]['gradients'].abs().max():.2f}"]
        for told in several.values():
            cells += [f"{apart(one, told, name, what):.1e}" for what in ("gradients", "weights")]
            cells.append("to the bit" if agree(told, name) else "**no**")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def apart(one: dict[str, Any], told: list[dict[str, Any]], name: str, what: str) -> float:
    return max(float((rank[name][what] - one[name][what]).abs().max()) for rank in told)


def agree(told: list[dict[str, Any]], name: str) -> bool:
    return all(torch.equal(rank[name][what], told[0][name][what]) for rank in told for what in ("gradients", "weights"))


if __name__ == "__main__":
    main()
