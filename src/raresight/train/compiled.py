"""Compiling the backbone: when it is worth it, and how a compiled run stays the run that it would have been."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import util
from typing import Literal

import torch
from torch import Tensor, nn

from raresight.models.backbones import Classifier
from raresight.train.runtime import Runtime, refused

COMPILE_SECONDS = 90.0  # what a run is taken to pay: graphs of two batch sizes, forward and backward
GAIN = 0.15  # share of a step that compiling is taken to save on a graphics card

Asked = Literal["auto"] | bool


def decide(
    asked: Asked, device: str, *, steps: int | None, step_seconds: float, missing: str | None
) -> tuple[bool, str]:
    """Whether a study compiles its backbones, and why: `train.compile`, or for `auto` a rule, as no probe can time it.

    Equation: on a CUDA device, steps x step_seconds x `GAIN` > `COMPILE_SECONDS`, for one run, since each run pays.
    Elsewhere never: on the CPU compiled steps were slower than eager ones in bf16.
    Ranges: `steps` of a run, None where not known; `step_seconds` as measured; `missing` names what a compiler lacks.
    Source: measured 0.77 (224 px) and 0.95 (64 px) times the eager speed for ResNet-18 in bf16 on a CPU with AMX; the
    gain on a graphics card is an assumption, below the published ones, and was not measured by us.
    """
    if asked != "auto":
        return asked, "asked for" if asked else "asked not to"
    if device != "cuda":
        return False, f"not on '{device}': eager steps were the faster ones there, and compiling costs time first"
    if missing is not None:
        return False, f"{missing} is not here"
    if steps is None:
        return False, "the length of a run was not known"
    saved = steps * step_seconds * GAIN
    words = f"{steps:,} steps of {1000 * step_seconds:.3g} ms, {100 * GAIN:.0f}% saved: {saved:.0f} s"
    against = f"{COMPILE_SECONDS:.0f} s of compiling"
    if saved > COMPILE_SECONDS:
        return True, f"{words}, more than {against}"
    return False, f"{words}, no more than {against}"


def missing_compiler(device: torch.device) -> str | None:
    """What this machine lacks to compile for `device`, in words; None where nothing does."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or usual
    if shutil.which(compiler) is None:
        return f"a C++ compiler ('{compiler}')"
    if device.type == "cuda" and util.find_spec("triton") is None:
        return "triton"
    return None


def refuse_without(device: torch.device) -> None:
    """Raises: `ConfigError` RS-R45 where this machine cannot compile for `device`, with what it lacks."""
    missing = missing_compiler(device)
    if missing is not None:
        raise refused(
            "RS-R45",
            "train.compile",
            f"`compile: true`, but {missing} is not on this machine",
            "a compiled run is not to the last digit an eager one, so no run falls back in silence",
            "install it (Debian, Ubuntu: apt-get install g++; triton: pip install triton), or write `compile: false` "
            "in a study that has not been trained yet",
        )


class Compiled:
    """A backbone, compiled for the batches that its training is made of; any other call runs it as written.

    One graph for each size and each mode of batch normalisation, so what a call gives depends on nothing that came
    before, and a resumed run equals an unbroken one. Evaluation, statistics and parts of a batch are eager: their sizes
    vary, and each would compile anew. Random layers draw what they would draw in an eager run.
    """

    def __init__(self, backbone: nn.Module, sizes: set[int]) -> None:
        self.backbone, self.sizes = backbone, sizes
        self._graphs = torch.compile(backbone, dynamic=False, options={"fallback_random": True})

    def __call__(self, x: Tensor) -> Tensor:
        usual = self.backbone.training and torch.is_grad_enabled() and len(x) in self.sizes
        features: Tensor = (self._graphs if usual else self.backbone)(x)
        return features


def compiled(model: Classifier, runtime: Runtime, *, n_cases: int, calls: int) -> None:
    """Compile the model's backbone where the lock says so; the weights keep their names and places.

    `calls` is in how many nearly equal parts an epoch of `n_cases` images passes: batches x pieces x processes. Parts
    of parts so made are of two sizes, the whole numbers around n_cases / calls.

    Raises: `ConfigError` RS-R45 where there is no compiler.
    """
    if not runtime.compile:
        return
    refuse_without(runtime.device)
    torch._dynamo.reset()  # graphs of runs before this one must not decide when torch stops compiling
    model.compiled = Compiled(model.backbone, {n_cases // calls, -(-n_cases // calls)})
