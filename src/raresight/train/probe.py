"""The probe: which precision and memory format make a study's steps fastest on this machine, in two seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.config import StudyConfig
from raresight.core.task import Task
from raresight.models.backbones import build
from raresight.train.compiled import decide, missing_compiler, refuse_without
from raresight.train.peak import PEAK_SECONDS, matmul_peak
from raresight.train.runtime import Runtime, present, processor, refused

PROBE_SECONDS = 2.0
MARGIN = 1.15  # a choice other than the plain one must be this much faster, or timing noise would decide


def probe(config: StudyConfig, task: Task, *, n_cases: int | None = None) -> dict[str, Any]:
    """Choose precision and layout by timing steps of the study's own network within two seconds, once a study.

    On the CPU they are seconds of this process's work, so on a busy machine it takes longer and chooses the same.

    The answer is the runtime part of `lock.json`: `device`, `dtype`, `channels_last`, `threads`, `compile` and
    `compile_reason`, `torch`, `processor`, `peak_gflops` of the choice, and the times measured. Another choice than
    fp32 in the usual layout must be at least 15% faster. With a `precision` given, the layout alone is timed. The batch
    is made smaller where the study's own would take too long. Compiling takes longer than the probe has, so a rule
    decides it (`train/compiled.py`), for which `n_cases` of the training part tell the length of a run.

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
    batch, seconds, unsafe = _time(choices, config, task)
    if choices[0] in unsafe:
        raise refused(
            "RS-R45",
            "train.precision",
            f"bf16 on this CPU at {config.image.size} px",
            "the images shrink to less than a filter's reach, where the CPU library leaves part of the bf16 gradients "
            "unwritten, so that no two runs are equal",
            "write `precision: fp32` (or `auto`), or use larger images",
        )
    seconds = {choice: value for choice, value in seconds.items() if choice not in unsafe}
    fastest = min(seconds, key=lambda choice: seconds[choice])
    chosen = fastest if seconds[fastest] * MARGIN <= seconds[choices[0]] else choices[0]
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


def _time(choices: list[Runtime], config: StudyConfig, task: Task) -> tuple[int, dict[Runtime, float], list[Runtime]]:
    """The batch used, the least seconds of a forward and backward pass per choice (in turns), and choices to avoid."""
    clock = _clock(choices[0])
    deadline = clock() + PROBE_SECONDS - PEAK_SECONDS
    model = build(
        config.model.backbone,
        task,
        channels=config.image.channels,
        pretrained=False,
        rng_seed=0,
        size=config.image.size,
    )
    side, channels = config.image.size, config.image.channels
    plain = choices[0]

    def once(choice: Runtime, batch: int) -> float:
        placed = choice.place(model).train()
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        placed.to(memory_format=layout)  # type: ignore[call-overload]
        x = torch.rand(batch, channels, side, side, device=choice.device).contiguous(memory_format=layout)
        y = torch.zeros(batch, task.n_classes, device=choice.device)
        placed.zero_grad(set_to_none=True)
        choice.wait()
        start = clock()
        with choice.autocast():
            logits = placed(x)
        binary_cross_entropy_with_logits(logits.float(), y).backward()
        choice.wait()
        return clock() - start

    with plain.settled():
        torch.manual_seed(0)
        small = min(2, config.train.batch) if config.train.batch > 1 else 2
        reference = Runtime(plain.device, "fp32", False, plain.threads)
        per_image = min(once(reference, small) for _ in range(2)) / small
        unsafe = [choice for choice in choices if choice.dtype == "bf16" and choice.device.type == "cpu"]
        image = torch.rand(1, channels, side, side)
        if unsafe and not any(_has_dead_taps(network, image) for network in (model, *_other_networks(config, task))):
            unsafe = []
        # Every choice is warmed up once and timed at least once; half of the time is kept for the repeats.
        left = max(0.0, deadline - clock())
        affordable = int(left / 2 / (2 * len(choices) * per_image))
        batch = max(small, min(config.train.batch, affordable))
        seconds: dict[Runtime, float] = {}
        for choice in choices:
            warm = once(choice, batch)
            hopeless = seconds and warm > 4 * min(seconds.values())
            seconds[choice] = warm if hopeless else once(choice, batch)
        while clock() + sum(seconds.values()) < deadline:
            for choice in choices:
                seconds[choice] = min(seconds[choice], once(choice, batch))
    return batch, seconds, unsafe


def _clock(runtime: Runtime) -> Callable[[], float]:
    """Seconds; on the CPU this process's own, so that another program chooses neither precision nor size of batch."""
    if runtime.device.type == "cpu":
        return lambda: time.process_time() / runtime.threads
    return time.perf_counter


def _other_networks(config: StudyConfig, task: Task) -> Iterator[nn.Module]:
    """The networks that some arms have of their own."""
    for name in sorted({arm.backbone for arm in config.parsed_arms if arm.backbone is not None}):
        channels, size = config.image.channels, config.image.size
        yield build(name, task, channels=channels, pretrained=False, rng_seed=0, size=size)


def _has_dead_taps(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether some filter has a tap that no pixel of its input reaches (a 3 x 3 filter on a 1 x 1 image has eight).

    Its gradient is 0. oneDNN's bf16 kernels on the CPU may leave it unwritten, so that whatever the memory held ends up
    in the weights; the outputs do not show it, but no two runs are equal (seen with torch 2.15).
    """
    found = []

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        for axis, side in enumerate(inputs[0].shape[2:]):
            padding = layer.padding[axis] if isinstance(layer.padding, tuple) else 0
            reach = (layer.kernel_size[axis], layer.stride[axis], int(padding), layer.dilation[axis])
            found.append(_unreached(side, *reach))

    hooks = [layer.register_forward_pre_hook(look) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return any(found)


def _unreached(side: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether some tap of a one-dimensional filter only ever meets padding on an input of `side` pixels."""
    n_out = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    places = [
        range(tap * dilation - padding, tap * dilation - padding + n_out * stride, stride) for tap in range(kernel)
    ]
    return any(not any(0 <= place < side for place in taps) for taps in places)


def _label(choice: Runtime) -> str:
    return f"{choice.dtype} channels_last" if choice.channels_last else choice.dtype
