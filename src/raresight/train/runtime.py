"""Where and in which precision a study trains: chosen once (`train/probe.py`), the same for every arm and resume."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raresight.core.errors import ConfigError, Problem
from raresight.train.memory import freed_memory_kept

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
    """Device, precision ("fp32" or "bf16"), layout, CPU threads, and whether backbones are compiled.

    fp16 is not offered: bf16 needs no loss scaling. `peak_gflops` is what the device multiplies in a second at most, as
    measured for the lock; None where it was not, or on another processor. No number of training depends on it.
    """

    device: torch.device
    dtype: str = "fp32"
    channels_last: bool = False
    threads: int = 1
    compile: bool = False
    peak_gflops: float | None = field(default=None, compare=False)

    @classmethod
    def from_lock(cls, lock: dict[str, Any]) -> Runtime:
        """Locks of older versions, without `compile` and `peak_gflops`, mean eager training and an unknown peak.

        Raises: `ConfigError` RS-R45 where the locked device is not on this machine.
        """
        device = present(lock["device"])
        peak = lock.get("peak_gflops") if lock.get("processor") == processor(device) else None
        settings = (lock["dtype"], bool(lock["channels_last"]), int(lock["threads"]), bool(lock.get("compile", False)))
        return cls(device, *settings, peak_gflops=peak)

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
        """Threads, deterministic algorithms, a private global random state, freed memory kept; all ends with it.

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
        with torch.random.fork_rng(devices=cards), freed_memory_kept():
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
            "compile": self.compile,
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


def present(name: str) -> torch.device:
    """The device of this name, or with `auto` the fastest kind that is here. Raises: `ConfigError` RS-R45."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in here.items() if present))
    if not here[name]:
        raise refused(
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


def refused(code: str, column: str, found: str, why: str, remedy: str) -> ConfigError:
    """A setting of `study.yaml` that this machine cannot follow."""
    return ConfigError(
        Problem(code=code, level="error", file="study.yaml", column=column, found=found, why=why, remedy=remedy)
    )
