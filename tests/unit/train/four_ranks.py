"""What four gloo processes do together, and two of them; each writes down what it saw for `test_ranks.py` to judge.

Started once for all tests of that file: importing torch in four processes costs more than everything below.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tiny_study import CLASSES, CPU, Bench, Witness, make_cases
from torch import Tensor, nn

from raresight.core.config import parse_config
from raresight.core.errors import ConfigError, GateError, Problem
from raresight.core.seeds import torch_rng
from raresight.core.task import Kind, Task
from raresight.models.backbones import Classifier
from raresight.strategies.inputs.mixup import Mixup
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.schedules.ema import EMA
from raresight.strategies.stack import Stack
from raresight.strategies.steps.imbalanced_sam import ImbSAM
from raresight.strategies.steps.looksam import LookSAM
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.steps.sam import SAM
from raresight.strategies.strategy import Facts, Strategy
from raresight.train import ranks as ranks_module
from raresight.train.closure import Closure, batch_norms
from raresight.train.predict import extract
from raresight.train.ranks import ALONE, Ranks
from raresight.train.replica import replica

STEPS = 2  # the second has a momentum, and a direction that LookSAM kept


def network(norm: Callable[[int], nn.Module]) -> Classifier:
    """Two convolutions and a head, the same weights in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), norm(8), nn.ReLU()]
        backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(backbone, 8, 3, [0.5] * 3, [0.25] * 3, "random")


def grouped(width: int) -> nn.Module:
    return nn.GroupNorm(2, width)


def labels(kind: Kind, n: int, *, known: bool) -> Tensor:
    """Labels `(n, 3)`; where not all are known, a third of the cases (exclusive) or a third of the labels is not."""
    draw = torch.Generator().manual_seed(3)
    if kind == "exclusive":
        y = torch.eye(3)[torch.randint(0, 3, (n,), generator=draw)]
        unknown = (torch.rand(n, 1, generator=draw) < 0.34).expand(n, 3)
    else:
        y = (torch.rand(n, 3, generator=draw) < 0.4).float()
        unknown = torch.rand(n, 3, generator=draw) < 0.34
    return y if known else y.masked_fill(unknown, torch.nan)


def steps(
    ranks: Ranks,
    *methods: Strategy,
    kind: Kind = "exclusive",
    n: int = 10,
    known: bool = True,
    accumulate: int = 1,
    norm: Callable[[int], nn.Module] = grouped,
    frozen: bool = False,
    side: int = 16,
) -> dict[str, Any]:
    """Gradients, loss and what was seen in the last of some optimiser steps on one batch of `n` cases."""
    model = network(norm).train()
    if frozen:
        for layer in batch_norms(model):
            layer.eval()
    target = labels(kind, n, known=known)
    stack = Stack(methods, Task(kind, tuple(CLASSES)))
    rare = torch.eye(3)[[0] * 30 + [1] * 2 + [2] * 9]  # class 1 has 2 of 41: the tail of ImbSAM
    stack.fit(Facts(kind, tuple(CLASSES), rare, torch.ones_like(rare), steps=STEPS))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    copy = replica(model, CPU, ranks)
    x = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(4))
    batch = (x, target, torch.arange(n) + 100)
    for step in range(STEPS):
        closure = Closure(
            model,
            stack,
            optimiser,
            CPU,
            batch,
            epoch=0,
            stream=lambda name, step=step: torch_rng(name, step),
            model_seed=7,
            accumulate=accumulate,
            ranks=ranks,
            replica=copy,
        )
        seen = {"target": target.nan_to_num(0.0), "mask": (~target.isnan()).float()}
        loss = stack.step(closure, optimiser, seen)
    assert closure.per_case is not None
    return {
        "gradients": torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]),
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]),
        "buffers": torch.cat([b.detach().double().flatten() for b in model.buffers()]),
        "loss": loss,
        "seen": closure.seen,
        "per_case": closure.per_case,
    }


def batch_normalised(width: int) -> nn.Module:
    return nn.BatchNorm2d(width)


SCENES: dict[str, Callable[[Ranks], dict[str, Any]]] = {
    "plain": steps,
    "mixup": lambda ranks: steps(ranks, Mixup(alpha=1.0)),
    "weights, exclusive, unknown labels": lambda ranks: steps(ranks, ClassWeights(), n=13, known=False),
    "weights, independent, unknown labels": lambda ranks: steps(
        ranks, ClassWeights(), kind="independent", n=13, known=False
    ),
    "sam": lambda ranks: steps(ranks, SAM(rho=0.5)),
    "sam, weights, unknown labels": lambda ranks: steps(ranks, SAM(rho=0.5), ClassWeights(), known=False),
    "msam": lambda ranks: steps(ranks, MSAM(rho=0.5)),
    "looksam": lambda ranks: steps(ranks, LookSAM(rho=0.5, every=2)),
    "imbsam": lambda ranks: steps(ranks, ImbSAM(rho=0.5)),
    "imbsam, few rows": lambda ranks: steps(ranks, ImbSAM(rho=0.5), n=5),
    "accumulate": lambda ranks: steps(ranks, accumulate=3, n=13),
    "accumulate, sam, independent": lambda ranks: steps(
        ranks, SAM(rho=0.5), kind="independent", accumulate=2, known=False
    ),
    "accumulate, imbsam": lambda ranks: steps(ranks, ImbSAM(rho=0.5), accumulate=2),
    "fewer rows than ranks": lambda ranks: steps(ranks, n=1),
    "frozen batch norm": lambda ranks: steps(ranks, norm=batch_normalised, frozen=True),
    "batch norm": lambda ranks: steps(ranks, norm=batch_normalised),
    "frozen batch norm, imbsam": lambda ranks: steps(ranks, ImbSAM(rho=0.5), norm=batch_normalised, frozen=True, n=5),
    # The last layer normalises 1 x 1 images: a rank without rows of the tail passes one, too few for it.
    "batch norm, imbsam": lambda ranks: steps(ranks, ImbSAM(rho=0.5), norm=batch_normalised, side=4),
    "batch norm, imbsam, pieces": lambda ranks: steps(ranks, ImbSAM(rho=0.5), norm=batch_normalised, accumulate=2),
    "batch norm, fewer rows than ranks": lambda ranks: steps(ranks, norm=batch_normalised, n=3),
}


def bench(folder: Path, backbone: str) -> Bench:
    """16 px images; `test_convnext` normalises by layers, `test_resnet` by batches."""
    config = parse_config(
        {
            "task": {"kind": "exclusive", "classes": CLASSES},
            "image": {"size": 32 if backbone == "test_convnext" else 16},
            "model": {"backbone": backbone, "pretrained": False},
            "train": {"epochs": 2, "batch": 16, "lr": 0.01, "device": "cpu", "threads": 1, "optimiser": "sgd"},
        }
    )
    size = config.image.size
    return Bench(folder, config, make_cases(30, 0, size=size), make_cases(21, 1, size=size))


def trained(folder: Path, ranks: Ranks, backbone: str) -> dict[str, Any]:
    """A run from beginning to end: which cases each step saw, and what it left on this rank and on disk."""
    witness, ema = Witness(), EMA(decay=0.5)
    kept: dict[str, Any] = {}
    line = bench(folder, backbone)
    line.ranks = ranks
    run = line.train("run", ClassBalancedSampling(), Mixup(alpha=1.0), SAM(rho=0.05), ema, witness)
    average = torch.cat([value.flatten() for key, value in ema.average_.items() if value.is_floating_point()])
    kept |= {"ids": witness.ids, "average": average}
    if ranks.leads:
        kept["events"] = run.events.read_text(encoding="utf-8")
    return kept


def evaluated(ranks: Ranks) -> Tensor:
    """Features of 21 cases in batches of 4, of a network with batch normalisation."""
    return extract(network(batch_normalised), make_cases(21, 1), 4, CPU, ranks)


def copied(ranks: Ranks) -> Tensor:
    """All weights and buffers of a network that is another one on every rank, once they share it."""
    model = network(batch_normalised)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(ranks.rank)  # of rank 0: 0
    replica(model, CPU, ranks)
    return torch.cat([tensor.detach().double().flatten() for tensor in (*model.parameters(), *model.buffers())])


def refused(action: Callable[[], Any]) -> str:
    try:
        action()
    except (ConfigError, GateError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def _shut() -> None:
    raise GateError(Problem(code="RS-X00", level="error", found="rank 0 found it", why="so", remedy="mend it"))


def _agreements(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """What all ranks hear of what one of them met."""
    mine = Problem(code="RS-X01", level="error", found=f"met by {ranks.rank}", why="so", remedy="mend it")
    ranks_module.SHARED_SECONDS = 0.5
    apart = folder if ranks.rank != 1 else folder / "elsewhere"
    odd = network(grouped)
    with torch.no_grad():
        odd.head.bias[0] += ranks.rank == 1
    return {
        "answer": ranks.first(lambda: f"of rank {ranks.rank}"),
        "nested": ranks.first(lambda: ranks.first(lambda: ranks.rank) + 10),
        "error": refused(lambda: ranks.first(_shut)),
        "agreed": refused(lambda: ranks.agree(mine if ranks.rank == 1 else None)),
        "content": refused(lambda: ranks.agree(None)),
        "shared": refused(lambda: ranks.require_shared(folder)),
        "apart": refused(lambda: ranks.require_shared(apart)),
        "equal": refused(lambda: ranks.require_equal(network(grouped))),
        "unequal": refused(lambda: ranks.require_equal(odd)),
    }


def work(rank: int, port: int, folder: Path) -> None:
    """The whole programme of one process."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=4, timeout=timedelta(seconds=60))
    two, four = dist.new_group([0, 1]), dist.new_group([0, 1, 2, 3])
    for world, group in ((2, two), (4, four)):
        if rank >= world:
            continue
        here = folder / f"of {world}"
        here.mkdir(exist_ok=True)
        ranks = Ranks(rank, world, group=group, waiting=group)
        result: dict[str, Any] = {name: scene(ranks) for name, scene in SCENES.items()}
        result |= {"features": evaluated(ranks), "copied": copied(ranks), **_agreements(ranks, here)}
        result |= {name: trained(here / name, ranks, name) for name in ("test_convnext", "test_resnet")}
        torch.save(result, here / f"rank {rank}.pt")
    if rank == 0:
        alone: dict[str, Any] = {name: scene(ALONE) for name, scene in SCENES.items()}
        alone |= {"features": evaluated(ALONE), "copied": copied(ALONE)}
        alone |= {name: trained(folder / "alone" / name, ALONE, name) for name in ("test_convnext", "test_resnet")}
        torch.save(alone, folder / "alone.pt")
    dist.barrier()
    if rank == 3:
        os._exit(9)  # as a process that was killed
    ranks = Ranks(rank, 4, group=four, waiting=four)
    (folder / f"lost {rank}").write_text(refused(lambda: _gone(ranks)), encoding="utf-8")
    os._exit(0)


def started(folder: Path, seconds: float = 300) -> list[int | None]:
    """Run `work` in four processes that write into `folder`; their exit codes, None for one that did not end in time.

    The last one leaves with 9, as if killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawned = torch.multiprocessing.get_context("spawn")
    processes = [spawned.Process(target=work, args=(rank, port, folder)) for rank in range(4)]
    deadline = time.monotonic() + seconds
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()  # one that hangs must not outlive the tests
    return codes


def _gone(ranks: Ranks) -> None:
    with ranks.watched():
        for _ in range(3):
            ranks.sum_(torch.from_numpy(np.ones(3)))
