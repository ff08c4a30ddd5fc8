"""How fast a training step is under the settings that the probe chooses, over eager float32 in the usual layout.

Every variant is our own loop's step (gathering, mixing, forward, backward, optimiser) on a network of its own; they
take turns in one process and ratios are taken within rounds. "eager fp32" is the reference; the same once more is the
A/A control; "ordinary loop" is the same network, batch and optimiser in the few lines that one writes without us. The
rows below the probe's choice say what each of its parts gives. Kernels are deterministic in all of them, as in a study;
the last row says what that costs. Seed 0, noise images, resnet18, SGD with Nesterov momentum.

On a graphics card the share of the measured matmul peak stands beside it, and with `--timm FILE` (timm's own
`benchmark.py`, from its repository) what that measures for the same network, size and batch.

    python benchmarks/step_speed.py --table step-speed.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flatness_cost import configured, noise, stepper_for
from interleaved import Turn, heading, interleave, machine, ratios, spread, write
from torch import nn

from raresight.core.config import StudyConfig
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases
from raresight.train.peak import gflop_per_image, matmul_peak
from raresight.train.predict import new_model
from raresight.train.probe import probe
from raresight.train.runtime import Runtime

REFERENCE, CONTROL, ORDINARY, CHOSEN = (
    "eager fp32",
    "eager fp32, again (A/A)",
    "ordinary loop, fp32",
    "the probe's choice",
)
LOOSE = "bf16 channels_last, kernels free to differ between runs"
BATCH = {"cpu": {224: 16, 64: 64}, "cuda": {224: 256, 64: 1024}}
AIMS = {224: 3.0, 64: 1.6}  # on a CPU with bf16 units


def step_of(config: StudyConfig, cases: Cases, runtime: Runtime) -> Callable[[], object]:
    """Our loop's next step."""
    stepper, done = stepper_for(Stack([], config.problem), config, cases, runtime), iter(range(10**9))
    return lambda: stepper(next(done))


def ordinary(config: StudyConfig, cases: Cases, runtime: Runtime) -> Callable[[], object]:
    """The step of an ordinary PyTorch loop, float images and labels already in memory."""
    model = new_model(config, runtime, rng_seed=0).train()
    sgd = torch.optim.SGD(model.parameters(), lr=config.train.lr, momentum=0.9, nesterov=True)
    batch = config.train.batch
    x = (
        torch.from_numpy(np.array(cases.pixels[:batch]))
        .permute(0, 3, 1, 2)
        .float()
        .div(255)
        .contiguous()
        .to(runtime.device)
    )
    x = model.normalise(x)
    label = torch.from_numpy(cases.target[:batch]).argmax(1).to(runtime.device)

    def step() -> None:
        sgd.zero_grad()
        nn.functional.cross_entropy(model(x), label).backward()
        sgd.step()

    return step


def unfettered(step: Callable[[], object]) -> Callable[[], object]:
    def free() -> None:
        onednn: Any = torch.backends.mkldnn
        torch.use_deterministic_algorithms(False)
        onednn.deterministic = False
        step()
        onednn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)

    return free


def seconds_of(size: int, rounds: int, *, parts: bool = True) -> tuple[dict[str, list[float]], Runtime, StudyConfig]:
    """Seconds of a step of each variant, round by round, and the probe's choice."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = configured(size, BATCH[device][size])
    chosen = Runtime.from_lock(probe(config, config.problem))

    def placed(dtype: str, channels_last: bool) -> Runtime:
        return Runtime(chosen.device, dtype, channels_last, chosen.threads)

    plain = placed("fp32", False)
    with tempfile.TemporaryDirectory() as folder, chosen.settled():
        cases = noise(Path(folder), max(1024, 4 * config.train.batch), size)
        reference = step_of(config, cases, plain)
        work = {REFERENCE: reference, CONTROL: reference, CHOSEN: step_of(config, cases, chosen)}
        if parts:
            work[ORDINARY] = ordinary(config, cases, plain)
            for dtype, layout in (("fp32", True), ("bf16", False), ("bf16", True)):
                name = f"{dtype} channels_last" if layout else dtype
                work[name] = step_of(config, cases, placed(dtype, layout))
            work[LOOSE] = unfettered(step_of(config, cases, placed("bf16", True)))
        return interleave({name: Turn(each) for name, each in work.items()}, rounds, chosen), chosen, config


def timm(script: Path, config: StudyConfig) -> float:
    """Images a second of timm's own benchmark script."""
    size, batch = config.image.size, config.train.batch
    command = [sys.executable, str(script), "--model", "resnet18", "--bench", "train", "--amp", "--amp-dtype"]
    command += ["bfloat16", "--channels-last", "-b", str(batch), "--img-size", str(size)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(said[said.index("{") : said.rindex("}") + 1])["train_samples_per_sec"])


def report(size: int, rounds: int, script: Path | None) -> list[str]:
    seconds, chosen, config = seconds_of(size, rounds)
    batch, on_gpu = config.train.batch, chosen.device.type == "cuda"
    choice = f"{chosen.dtype}, {'channels_last' if chosen.channels_last else 'contiguous'}"
    lines = [
        f"## {size} px, batch {batch}",
        "",
        f"The probe chose {choice}; {rounds} rounds.",
        "",
        "| step | ms/image | times as fast as eager fp32, median (quartiles) |",
        "|---|---|---|",
    ]
    for name, taken in seconds.items():
        faster = "" if name == REFERENCE else spread(ratios(seconds[REFERENCE], taken), 2)
        lines.append(f"| {name} | {1000 * statistics.median(taken) / batch:.2f} | {faster} |")
    found = statistics.median(ratios(seconds[REFERENCE], seconds[CHOSEN]))
    rate = batch / statistics.median(seconds[CHOSEN])
    peak = matmul_peak(chosen, 2.0)
    each = gflop_per_image(new_model(config, chosen, rng_seed=0), channels=3, size=size) or 0.0
    plain = matmul_peak(replace(chosen, dtype="fp32"), 2.0)
    most = statistics.median(seconds[REFERENCE]) / batch * peak / each
    if not on_gpu:
        lines += ["", f"Aim {AIMS[size]:g}x: {'met' if found >= AIMS[size] else '**not met**'}."]
    lines += [
        "",
        f"{each:.2f} GFLOP an image at {rate:.0f} images/s are {100 * each * rate / peak:.0f}% of the matmul peak "
        f"measured here, {peak:,.0f} GFLOP/s in {chosen.dtype} ({plain:,.0f} in fp32). At that peak and with nothing "
        f"else to do, a step would be {most:.2f} times as fast as eager fp32 is now.",
    ]
    if on_gpu and script:
        lines.append(f"timm's own benchmark script: {timm(script, config):.0f} images/s.")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", choices=[224, 64], default=[224, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--timm", type=Path, help="timm's benchmark.py, run beside ours on a graphics card")
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    card = torch.cuda.is_available()
    about = [
        f"{machine(Runtime(torch.device('cuda' if card else 'cpu')))}.",
        "Variants in turns in one process, ratios within rounds; CPU time of one thread on a CPU, wall time with the",
        f"device waited for on a GPU. Share of a GPU's peak, and timm's script: {'below' if card else 'not measured'}.",
    ]
    lines = heading("A training step against eager float32", "python benchmarks/step_speed.py", about)
    for size in asked.sizes:
        lines += report(size, asked.rounds, asked.timm)
        write("\n".join(lines), asked.table)


if __name__ == "__main__":
    main()
