"""What 32 heads on frozen features cost against one: eight methods by four seeds, in one batched pass.

Variants take turns, repeat by repeat, in one process: the 32 heads; one plain head through the same engine, twice (the
second is the A/A control); one plain head by an ordinary loop over `nn.Linear`, `torch.optim` and autograd. Times cover
everything from labels and features to the chosen weights: fitting the methods, SMOTE's neighbours, training and
validation. CPU time of the process, and wall time beside it; the ratio is taken within each repeat. The audit of where
SMOTE's rows lie is a row of its own and not part of the 32 heads: it follows training, and no head depends on it.

    python benchmarks/heads.py --repeats 7 --table heads.md
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.seeds import torch_rng
from raresight.evaluate.select import score
from raresight.strategies import build
from raresight.strategies.stack import Stack
from raresight.train.batches import Order
from raresight.train.course import EVALUATIONS
from raresight.train.head import EVALUATIONS_AT_LEAST, HeadRows
from raresight.train.head_bank import Bank
from raresight.train.head_safety import safety_of
from raresight.train.heads import HeadJob, HeadTable, head_steps_of, train_heads
from raresight.train.predict import facts_of, probabilities
from raresight.train.schedule import optimiser_for, rate, set_rate

ARMS: dict[str, list[Any]] = {
    "baseline": [],
    "class-balanced sampling": ["class_balanced_sampling"],
    "SMOTE": ["smote"],
    "LDAM": ["ldam"],
    "focal loss": ["focal"],
    "balanced softmax": ["balanced_softmax"],
    "class weights": ["class_weights"],
    "logit adjustment": ["logit_adjustment"],
}
MANY, ONE, AGAIN, LOOP = (
    "32 heads",
    "one head, same engine",
    "one head, same engine, again (A/A)",
    "one head, ordinary loop",
)
SEEDS = range(4)
SHARES = np.array([0.67, 0.11, 0.11, 0.05, 0.033, 0.015, 0.012])  # of the seven classes: about those of HAM10000


def cases(n: int, n_features: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features of `n` simulated cases: classes lie apart by about as much as they spread."""
    rng = np.random.default_rng(seed)
    label = rng.choice(len(SHARES), n, p=SHARES / SHARES.sum())
    label[: 2 * len(SHARES)] = np.tile(np.arange(len(SHARES)), 2)
    centre = np.random.default_rng(0).normal(size=(len(SHARES), n_features)) * 2.5 / math.sqrt(n_features)
    z = (centre[label] + rng.normal(size=(n, n_features)) * 0.5).astype(np.float32)
    return torch.from_numpy(z), np.eye(len(SHARES), dtype=np.float32)[label]


def ordinary(table: HeadTable, val_z: torch.Tensor, val_target: np.ndarray, config: StudyConfig) -> None:
    """One plain head of seed 0 by an ordinary loop, evaluated as often as the engine's."""
    settings, n = config.train, table.n_cases
    stack = Stack([], config.problem)
    stack.fit(facts_of(table.target, table.mask, config))
    steps, data = head_steps_of(config, n), HeadRows(table.z, table.target, table.mask, None)
    order = Order(n, settings.batch, study_seed=0, run_seed=0, name="head order")
    model = nn.Linear(table.z.shape[1], table.target.shape[1])
    rng, bound = torch_rng(0, 0, "fresh head"), table.z.shape[1] ** -0.5
    with torch.no_grad():
        for parameter in (model.weight, model.bias):
            parameter.uniform_(-bound, bound, generator=rng)
    optimiser = optimiser_for(model.parameters(), settings)
    interval = min(max(order.per_epoch, math.ceil(steps / EVALUATIONS)), math.ceil(steps / EVALUATIONS_AT_LEAST))
    best = -math.inf
    for step in range(steps):
        set_rate(optimiser, rate(step, steps, base=settings.lr, warmup=settings.warmup))
        rows = torch.from_numpy(order.rows(step))
        optimiser.zero_grad(set_to_none=True)
        logits = model(data.features(rows))
        loss, _ = stack.loss(logits, data.target[rows], data.mask[rows], data.ids[rows], order.epoch(step))
        loss.backward()
        optimiser.step()
        if (step + 1) % interval == 0 or step + 1 == steps:
            with torch.no_grad():
                prob = probabilities(model(val_z), config.task.kind)
            best = max(best, score(val_target, prob, config.task.kind, settings.select))


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def median_and_range(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def variants_of(n_cases: int, n_features: int, steps: int) -> dict[str, Callable[[], Any]]:
    """What takes turns: the 32 heads, the one head and its control, an ordinary loop, and parts of the work."""
    config = parse_config(
        {
            "task": {"kind": "exclusive", "classes": [f"class {k}" for k in range(len(SHARES))]},
            "train": {"batch": 64, "head_steps": steps, "device": "cpu"},
        }
    )
    z, target = cases(n_cases, n_features, 1)
    val_z, val_target = cases(n_cases // 7, n_features, 2)
    labels = torch.from_numpy(target)
    table = HeadTable(z, labels, torch.ones_like(labels))

    def jobs(arms: list[str], seeds: range) -> list[HeadJob]:
        return [HeadJob(a, build(Arm.parse(a, ARMS[a]), config.problem), table, seed) for a in arms for seed in seeds]

    def engine(arms: list[str], seeds: range) -> Callable[[], Any]:
        settings = {"val_z": val_z, "val_target": val_target, "config": config, "study_seed": 0}
        return lambda: train_heads(jobs(arms, seeds), **settings)  # type: ignore[arg-type]

    def prepared() -> Bank:
        return Bank(jobs(list(ARMS), SEEDS), val_z, val_target, config, 0, steps)

    @functools.cache
    def audited() -> tuple[list[HeadJob], Any]:
        smote = jobs(["SMOTE"], SEEDS)
        return smote, train_heads(smote, val_z=val_z, val_target=val_target, config=config, study_seed=0)

    return {
        MANY: engine(list(ARMS), SEEDS),
        ONE: engine(["baseline"], range(1)),
        AGAIN: engine(["baseline"], range(1)),
        LOOP: lambda: ordinary(table, val_z, val_target, config),
        "of the 32 heads: set-up (fit, neighbours)": prepared,
        "after the 32 heads: the audit of the four with SMOTE": lambda: safety_of(*audited(), 0),
    }


def in_turns(
    variants: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """CPU and wall seconds, per variant and repeat."""
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    wall: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        turn, first = list(variants), repeat % len(variants)
        for name in turn[first:] + turn[:first]:
            spent = timed(variants[name])
            if repeat:  # the first round warms up
                cpu[name].append(spent[0])
                wall[name].append(spent[1])
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path, help="write the figures there, as Markdown")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    variants = variants_of(given.cases, given.features, given.steps)
    cpu, wall = in_turns(variants, given.repeats)

    lines = [
        f"{given.cases} cases x {given.features} features, {len(SHARES)} classes (simulated), {given.steps} steps of "
        f"64, {given.cases // 7} validation cases, {given.threads} thread(s), {given.repeats} interleaved repeats; "
        "median (range).",
        "",
        "| what | CPU seconds | wall seconds |",
        "|---|---|---|",
        *(f"| {name} | {median_and_range(cpu[name], 3)} | {median_and_range(wall[name], 3)} |" for name in variants),
        "",
        "| ratio within a repeat | CPU | wall |",
        "|---|---|---|",
    ]
    for label, top, bottom in (
        ("32 heads / one head, same engine", MANY, ONE),
        ("32 heads / one head, ordinary loop", MANY, LOOP),
        ("A/A control: one head / one head", AGAIN, ONE),
    ):
        ratios = [
            median_and_range([a / b for a, b in zip(clock[top], clock[bottom], strict=True)]) for clock in (cpu, wall)
        ]
        lines.append(f"| {label} | {ratios[0]} | {ratios[1]} |")
    text = "\n".join(lines)
    print(text)
    if given.table:
        given.table.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
