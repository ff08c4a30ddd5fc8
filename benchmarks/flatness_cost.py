"""What flat minima cost: a step of every sharpness-aware method and of averaging, over a plain step of our own loop.

All variants share one network, one batch order and one process, and take turns of a few steps; only the methods (and
for the peers the optimiser) are swapped, so that no variant has memory of its own but for what its method keeps. The
peers are pytorch_optimizer's SAM and LookSAM and torch's AveragedModel, called by the same loop on the same batches.
A plain step once more is the A/A control. Seed 0, noise images, seven classes of which one, with 10%, is the tail.

    python benchmarks/flatness_cost.py --table flatness-cost.md
    python benchmarks/flatness_cost.py --only sgd64-short layernorm64 --rounds 15

ImbSAM passes the rows of the tail alone where nothing joins the rows of a batch; where batch normalisation does, it
passes whole batches. `layernorm64` therefore takes a network without batch normalisation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_optimizer
import torch
from interleaved import Turn, heading, interleave, machine, ratios, spread, write
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.run import RunFolder
from raresight.strategies import build
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases
from raresight.train.course import Course
from raresight.train.loop import Stepper
from raresight.train.predict import facts_of, new_model
from raresight.train.runtime import Runtime
from raresight.train.schedule import optimiser_for
from raresight.train.statistics import IMAGES, estimated

PLAIN, CONTROL = "plain step", "plain step, again (A/A)"
DECAY = 0.999


@dataclass(frozen=True)
class Variant:
    """`methods` of an arm, or a `peer`; `aim` is the most its step may cost, in plain steps."""

    methods: tuple[Any, ...] = ()
    peer: str = ""
    steps: int = 4  # a multiple of the method's interval
    aim: str = ""


NORM, ALL = {"msam": {"rho": 0.3, "scope": "norm"}}, {"msam": {"rho": 0.3}}
EVERY, SPARSE = {"ema": {"decay": DECAY}}, {"ema": {"decay": DECAY, "every": 8}}
VARIANTS: dict[str, Variant] = {
    PLAIN: Variant(),
    CONTROL: Variant(),
    "MSAM norm + EMA": Variant((NORM, EVERY), aim="1.02"),
    "MSAM norm + EMA every 8": Variant((NORM, SPARSE), steps=8, aim="1.02"),
    "MSAM all + EMA": Variant((ALL, EVERY), aim="1.06"),
    "EMA": Variant((EVERY,)),
    "peer: torch AveragedModel (EMA)": Variant(peer="AveragedModel"),
    "SAM": Variant(("sam",), steps=2, aim="about 2"),
    "peer: pytorch_optimizer SAM": Variant(peer="SAM", steps=2),
    "SAM every 5": Variant(({"sam": {"every": 5}},), steps=5),
    "LookSAM, k = 5": Variant(({"looksam": {"every": 5}},), steps=5),
    "peer: pytorch_optimizer LookSAM, k = 5": Variant(peer="LookSAM", steps=5),
    "ImbSAM, 10% tail": Variant(({"imbsam": {"below": 0.12}},), steps=3, aim="1.2 on a GPU"),
}


class Borrowed(Stack):
    """A stack whose step, or whose averaging, is another library's."""

    def __init__(self, name: str, config: StudyConfig, model: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__([], config.problem)
        self.mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY)) if name == "AveragedModel" else None
        self.optimiser: Any = None
        if self.mean is None:
            kind = torch.optim.SGD if config.train.optimiser == "sgd" else torch.optim.AdamW
            k = {"k": 5} if name == "LookSAM" else {}
            self.optimiser = getattr(pytorch_optimizer, name)(model.parameters(), kind, rho=0.05, **k, **options)

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        if self.optimiser is None:
            return super().step(closure, optimiser, batch)
        loss = closure()
        self.optimiser.step(closure)
        return loss

    def after_step(self, step: int, model: nn.Module) -> None:
        if self.mean is not None:
            self.mean.update_parameters(model)


def configured(size: int, batch: int, optimiser: str = "sgd", backbone: str = "resnet18", **train: Any) -> StudyConfig:
    return parse_config(
        {
            "task": {"kind": "exclusive", "classes": list("abcdefg")},
            "image": {"size": size, "preset": "dermoscopy"},
            "model": {"backbone": backbone, "pretrained": False},
            "train": {"batch": batch, "optimiser": optimiser, "lr": 1e-3, "threads": 1, **train},
        }
    )


def noise(folder: Path, n: int, size: int) -> Cases:
    """`n` noise images in a uint8 memory map; a tenth of them are of the last class, the others of six equal ones."""
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(folder / f"{size}.npy", "w+", np.uint8, (n, size, size, 3))
    pixels[:] = rng.integers(0, 256, pixels.shape, dtype=np.uint8)
    pixels.flush()
    label = np.where(np.arange(n) % 10 == 0, 6, np.arange(n) % 6)
    target = np.eye(7, dtype=np.float32)[label]
    mapped = np.load(folder / f"{size}.npy", mmap_mode="r")
    return Cases(mapped, rng.permutation(n), target, np.arange(n).astype(object))


def stepper_for(stack: Stack, config: StudyConfig, cases: Cases, runtime: Runtime) -> Stepper:
    """Our loop's step on a network of its own, as `train_representation` sets it up."""
    stack.fit(facts_of(*cases.labels(), config))
    course = Course(RunFolder(Path(), "arm", 0), stack, config, cases, cases, runtime, 0, 10**6, 0)
    model = new_model(config, runtime, rng_seed=0)
    model.train()
    order = course.order(len(cases), "order", lambda: None)
    return Stepper(course, model, optimiser_for(model.parameters(), config.train), order)


@dataclass
class Loop:
    """One stepper whose methods are swapped."""

    config: StudyConfig
    cases: Cases
    runtime: Runtime
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stepper = stepper_for(Stack([], self.config.problem), self.config, self.cases, self.runtime)

    def stack(self, variant: Variant) -> Stack:
        if variant.peer:
            usual = self.stepper.optimiser.defaults
            options: dict[str, Any] = {
                key: usual[key] for key in ("lr", "momentum", "nesterov", "fused") if key in usual
            }
            return Borrowed(variant.peer, self.config, self.stepper.model, options)
        stack = build(Arm.parse("arm", list(variant.methods)), self.config.problem)
        stack.fit(facts_of(*self.cases.labels(), self.config))
        stack.start_epoch(0, self.stepper.model, self.stepper.course.stream("epoch", 0))
        return stack

    def turn(self, name: str, variant: Variant, most: int = 8) -> Turn:
        course = replace(self.stepper.course, stack=self.stack(variant))
        self.done[name] = 0

        def step() -> None:
            self.stepper.course = course
            self.stepper(self.done[name])
            self.done[name] += 1

        return Turn(step, min(variant.steps, most))

    def statistics(self) -> Turn:
        """One estimation of batch-norm statistics, as around an evaluation."""

        def once() -> None:
            with estimated(self.stepper.course, self.stepper.model, self.stepper.images):
                pass

        return Turn(once)


STATISTICS = f"batch-norm statistics of {IMAGES} images, once an evaluation"


@dataclass(frozen=True)
class Setting:
    size: int
    batch: int
    optimiser: str
    names: tuple[str, ...]
    most: int = 8  # steps of a turn
    backbone: str = "resnet18"

    def __str__(self) -> str:
        kind = "SGD with momentum" if self.optimiser == "sgd" else "AdamW"
        return f"{self.size} px, batch {self.batch}, {kind}"


FREE = (PLAIN, CONTROL, "MSAM norm + EMA", "MSAM all + EMA")
IMBSAM = "ImbSAM, 10% tail"
SETTINGS = {
    "sgd64": Setting(64, 64, "sgd", (*VARIANTS, STATISTICS)),
    "adamw64": Setting(64, 64, "adamw", (*FREE, "SAM", "peer: pytorch_optimizer SAM")),
    "sgd64-short": Setting(64, 64, "sgd", (*FREE, "SAM", "peer: pytorch_optimizer SAM", IMBSAM), most=2),
    "layernorm64": Setting(64, 64, "sgd", (PLAIN, CONTROL, "SAM", IMBSAM), most=2, backbone="convnext_atto"),
    "imbsam64": Setting(64, 64, "sgd", (PLAIN, CONTROL, IMBSAM), most=1),
    "sgd224": Setting(224, 16, "sgd", (*FREE, "SAM"), most=2),
}


def placed(precision: str) -> Runtime:
    """One thread of the CPU, or the graphics card where there is one; channels_last."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Runtime(device, precision, channels_last=True, threads=1)


def seconds_of(setting: Setting, runtime: Runtime, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each variant, round by round."""
    config = configured(setting.size, setting.batch, setting.optimiser, setting.backbone)
    with tempfile.TemporaryDirectory() as folder, runtime.settled():
        loop = Loop(config, noise(Path(folder), 2048, setting.size), runtime)
        turns = {
            name: loop.statistics() if name == STATISTICS else loop.turn(name, VARIANTS[name], setting.most)
            for name in setting.names
        }
        return interleave(turns, rounds, runtime)


def rows(setting: Setting, seconds: dict[str, list[float]]) -> list[str]:
    lines = [
        "| step | over a plain step, median (quartiles) | aim | met |",
        "|---|---|---|---|",
    ]
    for name in setting.names[1:]:
        found = ratios(seconds[name], seconds[PLAIN])
        aim = VARIANTS[name].aim if name in VARIANTS else ""
        met = (
            "" if not aim[:1].isdigit() or " " in aim else "yes" if statistics.median(found) <= float(aim) else "**no**"
        )
        lines.append(f"| {name} | {spread(found, 1 if name == STATISTICS else 3)} | {aim} | {met} |")
    return lines


def report(setting: Setting, runtime: Runtime, rounds: int) -> list[str]:
    seconds = seconds_of(setting, runtime, rounds)
    plain = 1000 * statistics.median(seconds[PLAIN])
    return [
        f"## {setting}",
        "",
        f"{setting.backbone}, {runtime.dtype}, channels_last, {rounds} rounds; a plain step takes {plain:.0f} ms.",
        "",
        *rows(setting, seconds),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--only", nargs="+", choices=list(SETTINGS), default=["sgd64", "adamw64", "layernorm64", "sgd224"]
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    runtime = placed(asked.precision)
    about = [
        f"{machine(runtime)}, pytorch_optimizer {version('pytorch_optimizer')}.",
        "Variants in turns in one process; CPU time of one thread on a CPU, wall time with the device waited for on a",
        "GPU; ratios within rounds. Seed 0, noise images. Figures for a GPU: "
        + ("those below." if runtime.device.type == "cuda" else "not measured."),
    ]
    lines = heading("What flat minima cost", "python benchmarks/flatness_cost.py", about)
    for name in asked.only:
        lines += report(SETTINGS[name], runtime, asked.rounds)
        write("\n".join(lines), asked.table)


if __name__ == "__main__":
    main()
