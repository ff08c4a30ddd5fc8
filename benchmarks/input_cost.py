"""How much of an epoch is input: real batches from a memory map against the same steps on one batch in memory.

Three variants take turns, epoch by epoch, in one process: steps on cached uint8 images gathered for every batch,
the same steps on one repeated batch that already lies on the device, and the latter once more as an A/A control.
CPU time of the process where the device is the CPU (other programs do not count), wall time otherwise.

    python benchmarks/input_cost.py --arm --arm heavy_augment --size 64 --batch 64
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from interleaved import ratios, spread

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.run import RunFolder
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases
from raresight.train.course import Course
from raresight.train.loop import Stepper
from raresight.train.predict import facts_of, new_model
from raresight.train.probe import probe
from raresight.train.runtime import Runtime
from raresight.train.schedule import optimiser_for


def synthetic(folder: Path, n: int, size: int) -> Cases:
    """`n` noise images in a uint8 memory map, of which a random permutation is read."""
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (n, size, size, 3))
    pixels[:] = rng.integers(0, 256, pixels.shape, dtype=np.uint8)
    pixels.flush()
    target = np.eye(7, dtype=np.float32)[rng.integers(0, 7, n)]
    return Cases(np.load(folder / "pixels.npy", mmap_mode="r"), rng.permutation(n), target, np.arange(n).astype(object))


def make_stack(methods: list[str], config: StudyConfig) -> Stack:
    if not methods:
        return Stack([], config.problem)
    from raresight.strategies import build

    return build(Arm.parse("arm", methods), config.problem)


def stepper_for(stack: Stack, config: StudyConfig, cases: Cases, runtime: Runtime) -> Stepper:
    stack.fit(facts_of(*cases.labels(), config))
    course = Course(RunFolder(Path(), "arm", 0), stack, config, cases, cases, runtime, 0, 10**6, 0)
    model = new_model(config, runtime, rng_seed=0)
    model.train()
    return Stepper(
        course, model, optimiser_for(model.parameters(), config.train), course.order(len(cases), "order", lambda: None)
    )


def seconds_of(
    methods: list[str], config: StudyConfig, cases: Cases, runtime: Runtime, epochs: int, steps: int
) -> dict[str, list[float]]:
    """Seconds of a step, per variant and epoch."""
    clock = time.process_time if runtime.device.type == "cpu" else time.perf_counter
    # One stepper, so that the variants share network, optimiser and memory; only the source of images is swapped.
    # The repeated batch meets the bare step: augmentation belongs to what an epoch's input costs.
    stack, bare = make_stack(methods, config), Stack([], config.problem)
    stepper = stepper_for(stack, config, cases, runtime)
    gather = stepper.images
    batch = gather(stepper.order.rows(0))
    seconds: dict[str, list[float]] = {"ours": [], "memory": [], "control": []}
    done = 0
    for epoch in range(epochs + 1):
        names = list(seconds)
        for name in names[epoch % 3 :] + names[: epoch % 3]:
            real = name == "ours"
            object.__setattr__(stepper.course, "stack", stack if real else bare)
            stepper.images = gather if real else (lambda rows: batch)  # type: ignore[assignment]
            runtime.wait()
            start = clock()
            for _ in range(steps):
                stepper(done)
                done += 1
            runtime.wait()
            if epoch:  # the first round warms up
                seconds[name].append((clock() - start) / steps)
    return seconds


def row(methods: list[str], seconds: dict[str, list[float]]) -> str:
    label = " + ".join(methods) or "no augmentation"
    milliseconds = 1000 * statistics.median(seconds["memory"])
    ours, control = (spread(ratios(seconds[name], seconds["memory"])) for name in ("ours", "control"))
    return f"{label:28s} {milliseconds:9.1f}   {ours}   {control}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arm", nargs="*", action="append", help="methods of one arm; may be repeated")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cases", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="steps of a round")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    settings = {"batch": asked.batch, "precision": asked.precision, "threads": asked.threads}
    config = parse_config(
        {
            "task": {"kind": "exclusive", "classes": list("abcdefg")},
            "image": {"size": asked.size, "preset": "dermoscopy"},
            "model": {"backbone": asked.backbone, "pretrained": False},
            "train": settings,
        }
    )
    lock = probe(config, config.problem)
    runtime = Runtime.from_lock(lock)
    print(f"{asked.backbone}, {asked.size} px, batch {asked.batch}; {lock['processor']}, torch {torch.__version__}")
    print(f"{lock['dtype']}, channels_last {lock['channels_last']}, {lock['threads']} thread(s); median (quartiles)")
    print(f"{'arm':28s} {'ms/step':>9s}   {'ours / memory':24s}   {'A/A control':24s}")
    with tempfile.TemporaryDirectory() as folder, runtime.settled():
        cases = synthetic(Path(folder), asked.cases, asked.size)
        for methods in asked.arm or [[]]:
            taken = seconds_of(methods, config, cases, runtime, asked.rounds, asked.steps)
            print(row(methods, taken), flush=True)


if __name__ == "__main__":
    main()
