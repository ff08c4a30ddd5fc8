"""Where and in which precision a study trains: probed once, locked, and the same for every arm and every resume."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.task import Task
from raresight.models.backbones import build

PROBE_SECONDS = 2.0
MARGIN = 1.15  # a choice other than the plain one must be this much faster, or timing noise would decide
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak_gb() -> float | None:
    """The largest resident memory of this process so far, in GB (10^9 bytes); None where the system does not tell.

    It is the process's, so of an arm trained after others it is the largest of them all.
    """
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows has no such module
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * unit / 1e9


@dataclass(frozen=True)
class Runtime:
    """Device, precision ("fp32" or "bf16"), layout and CPU threads. fp16 is not offered: bf16 needs no loss scaling."""

    device: torch.device
    dtype: str = "fp32"
    channels_last: bool = False
    threads: int = 1

    @classmethod
    def from_lock(cls, lock: dict[str, Any]) -> Runtime:
        """Raises: `ConfigError` RS-R45 where the locked device is not on this machine."""
        return cls(_device(lock["device"]), lock["dtype"], bool(lock["channels_last"]), int(lock["threads"]))

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.dtype])

    def place(self, model: nn.Module) -> nn.Module:
        model.to(self.device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Threads, deterministic algorithms and a private global random state; all as before afterwards.

        On the CPU two runs are equal bit for bit; on other devices where the device's libraries allow it.
        """
        threads = torch.get_num_threads()
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        deterministic_settings: Any = torch.utils.deterministic
        fill = deterministic_settings.fill_uninitialized_memory
        onednn: Any = torch.backends.mkldnn
        onednn_deterministic = getattr(onednn, "deterministic", None)
        cards = [self.device] if self.device.type == "cuda" else []
        if cards:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        with torch.random.fork_rng(devices=cards):
            torch.set_num_threads(self.threads)
            torch.use_deterministic_algorithms(True, warn_only=self.device.type != "cpu")
            deterministic_settings.fill_uninitialized_memory = False  # costs time, and nothing here reads it
            if onednn_deterministic is not None:
                onednn.deterministic = True  # bf16 weight gradients of some layers differ between runs without it
            try:
                yield
            finally:
                if onednn_deterministic is not None:
                    onednn.deterministic = onednn_deterministic
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
                deterministic_settings.fill_uninitialized_memory = fill

    def described(self) -> dict[str, Any]:
        """What numbers may depend on beside settings and seeds: device, precision, and the versions at work."""
        return {
            "device": self.device.type,
            "dtype": self.dtype,
            "channels_last": self.channels_last,
            "threads": self.threads,
            "processor": processor(self.device),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }

    def wait(self) -> None:
        """Until the device has done its work, so that a clock read now means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def probe(config: StudyConfig, task: Task) -> dict[str, Any]:
    """Choose precision and layout by timing steps of the study's own network for about two seconds, once a study.

    The answer is the runtime part of `lock.json`: `device`, `dtype`, `channels_last`, `threads`, `torch`, `processor`,
    and the times measured. Another choice than fp32 in the usual layout must be at least 15% faster. With a
    `precision` given, the layout alone is timed. The batch is made smaller where the study's own would take too long.

    Raises: `ConfigError` RS-R45 for a device that is not here, RS-C34 for fp16.
    """
    settings = config.train
    if settings.precision == "fp16":
        raise _refused(
            "RS-C34",
            "train.precision",
            "fp16 is not offered",
            "its narrow range needs loss scaling, which two-pass optimiser steps do not survive",
            "write `precision: bf16` (or `auto`)",
        )
    device = _device(settings.device)
    threads = settings.threads or torch.get_num_threads()
    dtypes = ["fp32", "bf16"] if settings.precision == "auto" and device.type != "mps" else [settings.precision]
    dtypes = ["fp32"] if dtypes == ["auto"] else dtypes
    choices = [Runtime(device, dtype, layout, threads) for dtype in dtypes for layout in (False, True)]
    batch, seconds, unsafe = _time(choices, config, task)
    if choices[0] in unsafe:
        raise _refused(
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
    return {
        "device": device.type,
        "dtype": chosen.dtype,
        "channels_last": chosen.channels_last,
        "threads": threads,
        "torch": torch.__version__,
        "processor": processor(device),
        "probe": {
            "batch": batch,
            "ms_per_image": {_label(choice): round(1000 * value / batch, 4) for choice, value in seconds.items()},
        },
    }


def _time(choices: list[Runtime], config: StudyConfig, task: Task) -> tuple[int, dict[Runtime, float], list[Runtime]]:
    """The batch used, the least seconds of a forward and backward pass per choice (in turns), and choices to avoid."""
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

    # On the CPU this process's own time counts: another program's work must not choose the precision.
    on_cpu = plain.device.type == "cpu"
    clock, lanes = (time.process_time, plain.threads) if on_cpu else (time.perf_counter, 1)

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
        return (clock() - start) / lanes

    with plain.settled():
        torch.manual_seed(0)
        deadline = time.perf_counter() + PROBE_SECONDS
        small = min(2, config.train.batch) if config.train.batch > 1 else 2
        reference = Runtime(plain.device, "fp32", False, plain.threads)
        per_image = min(once(reference, small) for _ in range(2)) / small
        unsafe = [choice for choice in choices if choice.dtype == "bf16" and choice.device.type == "cpu"]
        image = torch.rand(1, channels, side, side)
        if unsafe and not any(_has_dead_taps(network, image) for network in (model, *_other_networks(config, task))):
            unsafe = []
        # Every choice is warmed up once and timed at least once; half of the time is kept for the repeats.
        affordable = int(PROBE_SECONDS / 2 / (2 * len(choices) * per_image))
        batch = max(small, min(config.train.batch, affordable))
        seconds: dict[Runtime, float] = {}
        for choice in choices:
            warm = once(choice, batch)
            hopeless = seconds and warm > 4 * min(seconds.values())
            seconds[choice] = warm if hopeless else once(choice, batch)
        while time.perf_counter() + sum(seconds.values()) < deadline:
            for choice in choices:
                seconds[choice] = min(seconds[choice], once(choice, batch))
    return batch, seconds, unsafe


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


def _device(name: str) -> torch.device:
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in here.items() if present))
    if not here[name]:
        raise _refused(
            "RS-R45",
            "train.device",
            f"device '{name}' asked for or locked, but this machine (as torch sees it) has none",
            "another device gives other numbers than the rest of the study",
            "run on a machine that has one, or write `device: cpu` in a study that has not been trained yet",
        )
    return torch.device(name)


def processor(device: torch.device) -> str:
    """The model name of the graphics card or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", maxsplit=1)[1].strip()
    return platform.processor() or platform.machine()


def _refused(code: str, column: str, found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        Problem(code=code, level="error", file="study.yaml", column=column, found=found, why=why, remedy=remedy)
    )
