"""A tiny study: 16 px images, a test network, a few steps, and small strategies that leave marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, parse_config
from raresight.core.run import RunFolder
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy, SyntheticRows
from raresight.train.loop import Cases, train
from raresight.train.predict import predict
from raresight.train.ranks import ALONE, Ranks
from raresight.train.runtime import Runtime

CLASSES = ["common", "rare", "other"]
TIMES = ("images_per_s", "share_of_peak", "input_share", "train_seconds", "seconds")
CPU = Runtime(torch.device("cpu"), "fp32", False, 1)


class Mixing(Strategy):
    """Mixup by half of a random partner: draws from its own stream in every step."""

    name: ClassVar[str] = "mixing"
    place: ClassVar[Any] = "inputs"

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        partner = torch.randperm(len(x), generator=rng)
        return 0.5 * (x + x[partner]), 0.5 * (y + y[partner])


class Balanced(Strategy):
    name: ClassVar[str] = "balanced"
    place: ClassVar[Any] = "sampling"

    def sample_weights(self) -> Tensor | None:
        return torch.linspace(1, 3, 30)


class Average(Strategy):
    """EMA of the weights: state that a resume needs, and deployed weights that are not the trained ones."""

    name: ClassVar[str] = "average"
    place: ClassVar[Any] = "schedules"

    def __init__(self) -> None:
        self.mean_: dict[str, Tensor] = {}

    def after_step(self, step: int, model: nn.Module) -> None:
        for key, value in model.named_parameters():
            old = self.mean_.get(key, value.detach())
            self.mean_[key] = 0.7 * old + 0.3 * value.detach()

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        kept = {key: value.detach().clone() for key, value in model.named_parameters()}
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.copy_(self.mean_[key])
            yield
            for key, value in model.named_parameters():
                value.copy_(kept[key])

    def state_dict(self) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in self.mean_.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean_ = dict(state)


class Retrained(Strategy):
    """A head phase with a fresh head, a synthetic row for every third case, and a sampler of its own."""

    name: ClassVar[str] = "retrained"
    place: ClassVar[Any] = "schedules"
    head_phase: ClassVar[bool] = True

    def start_head(self, model: nn.Module, rng: torch.Generator) -> None:
        with torch.no_grad():
            model.head.weight.copy_(0.01 * torch.randn(model.head.weight.shape, generator=rng))  # type: ignore[union-attr, operator]
            model.head.bias.zero_()  # type: ignore[union-attr, operator]

    def fit_features(
        self, z: Tensor, y: Tensor, mask: Tensor, ids: Tensor, rng: torch.Generator
    ) -> SyntheticRows | None:
        base = torch.arange(0, len(z), 3)
        gap = torch.rand(len(base), generator=rng)
        return SyntheticRows(base, (base + 1) % len(z), gap, y[base], mask[base])

    def head_sample_weights(self, y: Tensor, mask: Tensor) -> Tensor | None:
        return torch.ones(len(y))


class TwoPasses(Strategy):
    """Calls the closure twice, as sharpness-aware methods do, and keeps both losses."""

    name: ClassVar[str] = "two_passes"
    place: ClassVar[Any] = "steps"

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        first = closure()
        second = closure()
        self.pairs.append((float(first), float(second)))
        optimiser.step()
        return first


class Witness(Strategy):
    """Writes down which cases every step saw; changes nothing."""

    name: ClassVar[str] = "witness"
    place: ClassVar[Any] = "schedules"

    def __init__(self) -> None:
        self.ids: list[list[int]] = []

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        self.ids.append(ids.tolist())


@dataclass
class Bench:
    """Trains arms in a folder of their own and reads back what they left."""

    folder: Path
    config: StudyConfig
    train_cases: Cases
    val_cases: Cases
    runtime: Runtime = CPU
    data_hash: str = "data"
    ranks: Ranks = ALONE

    def with_train(self, **changes: Any) -> Bench:
        return replace(
            self, config=self.config.model_copy(update={"train": self.config.train.model_copy(update=changes)})
        )

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name, name, 0)

    def train(self, name: str, *strategies: Strategy, on_event: Callable[[dict], None] | None = None) -> RunFolder:
        run = self.run(name)
        arm = Arm.parse("arm", [strategy.name for strategy in strategies])
        stack = Stack(strategies, self.config.problem)
        train(
            run,
            arm,
            stack,
            self.config,
            self.train_cases,
            self.val_cases,
            self.runtime,
            study_seed=1,
            data_hash=self.data_hash,
            on_event=on_event,
            ranks=self.ranks,
        )
        return run

    def predict(self, run: RunFolder, *strategies: Strategy) -> np.ndarray:
        return predict(run, Stack(strategies, self.config.problem), self.config, self.val_cases, self.runtime)


def events_of(run: RunFolder) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in run.events.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def make_cases(n: int, seed: int, kind: str = "exclusive", size: int = 16) -> Cases:
    rng = np.random.default_rng(seed)
    label = rng.choice(3, n, p=[0.6, 0.15, 0.25])
    label[:3] = [0, 1, 2]
    pixels = rng.integers(0, 120, (n + 2, size, size, 3), dtype=np.uint8)
    rows = rng.permutation(n + 2)[:n]
    for position, row in enumerate(rows):
        pixels[row, :, :, label[position]] += 90
    target = np.eye(3, dtype=np.float32)[label]
    return Cases(pixels, rows, target, np.array([f"case{i}" for i in range(n)], dtype=object))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    config = parse_config(
        {
            "task": {"kind": "exclusive", "classes": CLASSES},
            "image": {"size": 16},
            "model": {"backbone": "test_resnet", "pretrained": False},
            "train": {"epochs": 3, "batch": 8, "lr": 0.01, "device": "cpu", "threads": 1},
        }
    )
    return Bench(tmp_path, config, make_cases(30, 0), make_cases(20, 1))
