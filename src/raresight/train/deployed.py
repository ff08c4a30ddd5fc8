"""What a bundle keeps of a trained run, and the network that a bundle becomes again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raresight.core.bundle import Bundle
from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import replacing
from raresight.core.run import RunFolder
from raresight.models.backbones import Classifier, build
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases
from raresight.train.checkpoint import load_head, load_labels, load_network, load_weights
from raresight.train.predict import LABELS, extract, facts_of, logits_of, new_model, require_source
from raresight.train.runtime import Runtime

TRIALS = 64  # random logits on which a decision strategy is held to be one shift for all


@dataclass(frozen=True)
class Member:
    """One network of a bundle: its whole weights, and what the decision strategies add to its logits, `(K,)`."""

    tensors: dict[str, Tensor]
    offset: list[float]

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            save_file(self.tensors, temporary)


def member(run: RunFolder, stack: Stack, config: StudyConfig, *, source: RunFolder | None = None) -> Member:
    """A finished run as one network: its best weights; those of a frozen arm's `source` with its own head in them.

    Raises: `ConfigError` RS-R44 where the source has other weights than the head was trained on, RS-B06 where a
    decision strategy does more than shift the logits.
    """
    runtime = Runtime(torch.device("cpu"))
    with runtime.settled():
        target, mask = load_labels(run.path / LABELS)
        stack.fit(facts_of(target, mask, config))
        model = new_model(config, runtime, rng_seed=0, random_weights=True)
        if source is None:
            load_weights(run.best, model, stack)
        else:
            require_source(run, source)
            load_network(source.best, model)
            weight, bias = load_head(run.best, stack)
            with torch.no_grad():
                model.head.weight.copy_(weight)
                model.head.bias.copy_(bias)
        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
        return Member(tensors, _offset(stack, run.arm))


def _offset(stack: Stack, arm: str) -> list[float]:
    """The constant that the decision strategies add to logits of any value."""
    stream = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(TRIALS, stack.task.n_classes, generator=stream, dtype=torch.float64)
    moved = stack.adjust(logits.clone()).to(torch.float64) - logits
    if not torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-5, rtol=0):
        raise ConfigError(
            Problem(
                code="RS-B06",
                level="error",
                file="study.yaml",
                column=f"arms.{arm}",
                found="a decision strategy of this arm does more than add a constant to each class's logit",
                why="a bundle keeps that constant and no code of yours, so it could not decide as the study did",
                remedy="freeze another arm, or write the strategy as a shift of the logits",
            )
        )
    return [float(value) for value in moved[0]]


@dataclass(frozen=True)
class Networks:
    """The networks of a bundle, ready to predict."""

    members: tuple[tuple[Classifier, Tensor], ...]
    runtime: Runtime
    batch: int

    @classmethod
    def open(cls, bundle: Bundle) -> Networks:
        """On the device and in the precision of the study where this machine has them, else on the CPU in fp32."""
        image, runtime = bundle.facts["image"], runtime_for(bundle)
        opened = []
        with runtime.settled():
            for written in bundle.facts["network"]["members"]:
                model = build(
                    bundle.facts["network"]["backbone"],
                    bundle.task,
                    channels=image["channels"],
                    pretrained=False,
                    rng_seed=0,
                    size=image["size"],
                )
                model.load_state_dict(load_file(bundle.folder / written["weights"]))
                runtime.place(model)
                model.eval()
                opened.append((model, torch.tensor(written["offset"], dtype=torch.float32)))
        return cls(tuple(opened), runtime, int(bundle.facts["batch"]))

    def logits(self, pixels: np.ndarray) -> list[np.ndarray]:
        """`(N, K)` float32 logits of `(N, H, W, C)` uint8 or uint16 pixels, one array for each network."""
        n = len(pixels)
        held = Cases(pixels, np.arange(n), np.empty((n, 0), np.float32), np.arange(n).astype(str))
        with self.runtime.settled():
            return [
                (logits_of(model, extract(model, held, self.batch, self.runtime)) + offset).numpy().astype(np.float32)
                for model, offset in self.members
            ]


def runtime_for(bundle: Bundle) -> Runtime:
    """The study's own runtime, or plain float32 on the CPU where its device is not here."""
    try:
        return Runtime.from_lock(bundle.facts["runtime"])
    except ConfigError:
        return Runtime(torch.device("cpu"), threads=torch.get_num_threads())


def joined(parts: Sequence[list[np.ndarray]], n_classes: int) -> list[np.ndarray]:
    """The logits of several stretches of pictures, one array for each network."""
    if not parts:
        return [np.empty((0, n_classes), np.float32)]
    return [np.concatenate(stretch) for stretch in zip(*parts, strict=True)]
