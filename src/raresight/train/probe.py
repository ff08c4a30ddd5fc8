"""The probe: which precision and memory format make a study's steps fastest on this machine, in two seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.config import StudyConfig
from raresight.core.task import Task
from raresight.models.backbones import build
from raresight.train.compiled import decide, missing_compiler, refuse_without
from raresight.train.dead_taps import has_dead_taps
from raresight.train.peak import PEAK_SECONDS, matmul_peak
from raresight.train.race import batch_for, race, winner
from raresight.train.runtime import Runtime, present, processor, refused

PROBE_SECONDS = 2.0


def probe(config: StudyConfig, task: Task, *, n_cases: int | None = None) -> dict[str, Any]:
    """Choose precision and layout by timing steps of the study's own network within two seconds, once a study.

    On the CPU they are seconds of this process's work, so on a busy machine it takes longer and chooses the same. To
    load what builds networks, and to build this one, takes no part of them: training does both anyway.

    The answer is the runtime part of `lock.json`: `device`, `dtype`, `channels_last`, `threads`, `compile` and
    `compile_reason`, `torch`, `processor`, `peak_gflops` of the choice, and the times measured. bf16 must be at least
    15% faster than fp32, and an unusual layout than the usual one (`train/race.py`). With a `precision` given, the
    layout alone is timed. The batch is made smaller where the study's own would take too long. Compiling takes longer
    than the probe has, so a rule decides it (`train/compiled.py`), for which `n_cases` of the training part tell the
    length of a run.

    Raises: `ConfigError` RS-R45 for a device that is not here and for `compile: true` without a compiler, RS-C34 for
    fp16.
    """
    settings = config.train
    if settings.precision == "fp16":
        raise refused(
            "RS-C34",
            "train.precision",
            "fp16 is not offered",
            "its narrow range needs loss scaling, which two-pass optimiser steps do not survive",
            "write `precision: bf16` (or `auto`)",
        )
    device = present(settings.device)
    threads = settings.threads or torch.get_num_threads()
    dtypes = ["fp32", "bf16"] if settings.precision == "auto" and device.type != "mps" else [settings.precision]
    dtypes = ["fp32"] if dtypes == ["auto"] else dtypes
    choices = [Runtime(device, dtype, layout, threads) for dtype in dtypes for layout in (False, True)]
    if settings.compile is True:
        refuse_without(device)
    networks = _networks(config, task)
    with choices[0].settled():
        model = next(networks)
        unsafe = device.type == "cpu" and "bf16" in dtypes and _shrinks((model, *networks), config)
    safe = [choice for choice in choices if not (unsafe and choice.dtype == "bf16")]
    if not safe:
        raise refused(
            "RS-R45",
            "train.precision",
            f"bf16 on this CPU at {config.image.size} px",
            "the images shrink to less than a filter's reach, where the CPU library leaves part of the bf16 gradients "
            "unwritten, so that no two runs are equal",
            "write `precision: fp32` (or `auto`), or use larger images",
        )
    with choices[0].settled():
        batch, seconds = _time(safe, config, model)
    chosen = winner(seconds)
    compiles, reason = decide(
        settings.compile,
        device.type,
        steps=_steps(config, n_cases),
        step_seconds=seconds[chosen] / batch * settings.batch,
        missing=missing_compiler(device),
    )
    return {
        "device": device.type,
        "dtype": chosen.dtype,
        "channels_last": chosen.channels_last,
        "threads": threads,
        "compile": compiles,
        "compile_reason": reason,
        "torch": torch.__version__,
        "processor": processor(device),
        "peak_gflops": round(matmul_peak(chosen), 2),
        "probe": {
            "batch": batch,
            "ms_per_image": {_label(choice): round(1000 * value / batch, 4) for choice, value in seconds.items()},
        },
    }


def _steps(config: StudyConfig, n_cases: int | None) -> int | None:
    """Optimiser steps of a run; None where neither settings nor cases tell."""
    if config.train.steps is not None or n_cases is None:
        return config.train.steps
    return config.train.epochs * math.ceil(n_cases / config.train.batch)


def _time(choices: list[Runtime], config: StudyConfig, model: nn.Module) -> tuple[int, dict[Runtime, float]]:
    """The batch used, and the least seconds of a forward and backward pass per choice."""
    clock = _clock(choices[0])
    deadline = clock() + PROBE_SECONDS - PEAK_SECONDS
    side, channels, n_classes = config.image.size, config.image.channels, len(config.task.classes)

    def once(choice: Runtime, batch: int) -> float:
        placed = choice.place(model).train()
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        placed.to(memory_format=layout)  # type: ignore[call-overload]
        x = torch.rand(batch, channels, side, side, device=choice.device).contiguous(memory_format=layout)
        y = torch.zeros(batch, n_classes, device=choice.device)
        placed.zero_grad(set_to_none=True)
        choice.wait()
        start = clock()
        with choice.autocast():
            logits = placed(x)
        binary_cross_entropy_with_logits(logits.float(), y).backward()
        choice.wait()
        return clock() - start

    torch.manual_seed(0)
    reference = Runtime(choices[0].device, "fp32", False, choices[0].threads)
    limits = range(2, max(2, config.train.batch) + 1)  # one image is too few for batch normalisation
    batch = batch_for(reference, once, clock, deadline, limits, len(choices))
    return batch, race(choices, once, clock, deadline, batch)


def _clock(runtime: Runtime) -> Callable[[], float]:
    """Seconds; on the CPU this process's own, so that another program chooses neither precision nor size of batch."""
    if runtime.device.type == "cpu":
        return lambda: time.process_time() / runtime.threads
    return time.perf_counter


def _networks(config: StudyConfig, task: Task) -> Iterator[nn.Module]:
    """The study's network, and those that some arms have of their own."""
    others = {arm.backbone for arm in config.parsed_arms if arm.backbone is not None}
    for name in [config.model.backbone, *sorted(others)]:
        channels, size = config.image.channels, config.image.size
        yield build(name, task, channels=channels, pretrained=False, rng_seed=0, size=size)


def _shrinks(networks: Iterable[nn.Module], config: StudyConfig) -> bool:
    """Whether some network makes the study's images smaller than its filters reach."""
    image = torch.rand(1, config.image.channels, config.image.size, config.image.size)
    return any(has_dead_taps(network, image) for network in networks)


def _label(choice: Runtime) -> str:
    return f"{choice.dtype} channels_last" if choice.channels_last else choice.dtype
