"""Logits for cases: in validation while training, and for any part once a run is trained."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, sha256
from raresight.core.run import RunFolder
from raresight.models.backbones import Classifier, build
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Facts
from raresight.train.batches import Cases, Images
from raresight.train.checkpoint import load_head, load_labels, load_network, load_weights
from raresight.train.ranks import ALONE, Ranks
from raresight.train.runtime import Runtime
from raresight.train.trouble import named_trouble

LABELS = "labels.safetensors"
MOST_KEPT = 1 << 30  # bytes of features kept for the next head


def predict(
    run: RunFolder,
    stack: Stack,
    config: StudyConfig,
    cases: Cases,
    runtime: Runtime,
    *,
    source: RunFolder | None = None,
    features: Features | None = None,
) -> np.ndarray:
    """`(N, K)` float32 logits of the run's best weights, after the decision strategies' `adjust`.

    Needs the run folder alone: the strategies are fitted again from the training labels kept there. The same machine
    and lock give the same logits, whatever ran before. An empty part gives `(0, K)`. A frozen arm keeps a head alone:
    its `source` is the run that it takes its network from, and `features` remembers what that network said.

    Raises: `ConfigError` RS-R44b where the run (or its source) has no trained weights yet, RS-R44 where the source is
    no longer the one that the head was trained on.
    """
    labels = run.path / LABELS
    if not (run.best.exists() and labels.exists()):
        raise no_weights(run)
    with runtime.settled(), named_trouble(config):
        target, mask = load_labels(labels)
        stack.fit(facts_of(target, mask, config))
        if source is not None:
            require_source(run, source)
            weight, bias = load_head(run.best, stack)
            z = (features or Features())(source, config, cases, runtime)
            with torch.no_grad():
                logits = torch.nn.functional.linear(z, weight.to(z.device), bias.to(z.device)).float().cpu()
        else:
            model = new_model(config, runtime, rng_seed=0, random_weights=True)
            load_weights(run.best, model, stack)
            logits = logits_of(model, extract(model, cases, config.train.batch, runtime))
        return stack.adjust(logits).numpy().astype(np.float32)


@dataclass
class Features:
    """Features of cases under a run's best weights: extracted at the first call, remembered for the heads that follow.

    The latest `most` bytes are kept, in memory alone. Weights count by their content, cases by name and row.
    """

    most: int = MOST_KEPT
    _kept: dict[tuple[object, ...], tuple[np.ndarray, Tensor]] = field(default_factory=dict)

    def __call__(self, source: RunFolder, config: StudyConfig, cases: Cases, runtime: Runtime) -> Tensor:
        """`(N, F)` float32 on the device. Raises: `ConfigError` RS-R44b where the source has no weights yet."""
        if not source.best.exists():
            raise no_weights(source)
        names = blake2b("\x1f".join(map(str, cases.cases)).encode() + cases.rows.tobytes()).digest()
        key = (sha256(source.best), config.train.batch, runtime, names)
        pixels, z = self._kept.pop(key, (None, None))
        if z is None or pixels is not cases.pixels:
            model = new_model(config, runtime, rng_seed=0, random_weights=True)
            load_network(source.best, model)
            z = extract(model, cases, config.train.batch, runtime)
        self._kept[key] = (cases.pixels, z)
        while len(self._kept) > 1 and sum(z.numel() * z.element_size() for _, z in self._kept.values()) > self.most:
            del self._kept[next(iter(self._kept))]
        return z


def no_weights(run: RunFolder) -> ConfigError:
    """RS-R44b: a run that was not trained yet, or whose weights somebody removed; training skips what is done."""
    train = f"raresight train {shlex.quote(str(run.study))}"
    lost = f"put the file back from a copy, or remove the folder {run.path} and make the run anew: `{train}`"
    return ConfigError(
        Problem(
            code="RS-R44b",
            level="error",
            file=str(run.best),
            found=f"arm '{run.arm}', seed {run.seed}, has no trained weights" + (": the file is gone" * run.done),
            why="the network is made of them",
            remedy=lost if run.done else train,
        )
    )


def require_source(run: RunFolder, source: RunFolder) -> None:
    """Raise a `ConfigError` RS-R44 where a frozen arm's head was trained on other weights than its source has now."""
    trained_on = read_json(run.arm_json).get("frozen_sha256")
    if source.best.exists() and trained_on != sha256(source.best):
        raise ConfigError(
            Problem(
                code="RS-R44",
                level="error",
                file=str(run.path),
                found=f"arm '{run.arm}', seed {run.seed}, was trained on features of other weights than '{source.arm}' "
                "has now",
                why="a head means nothing on features that it was not trained on",
                remedy=f"remove {run.path} and run `raresight train` again: a head takes seconds",
            )
        )


def new_model(config: StudyConfig, runtime: Runtime, *, rng_seed: int, random_weights: bool = False) -> Classifier:
    """The study's network on its device; with `random_weights` nothing is loaded or fetched first."""
    model = build(
        config.model.backbone,
        config.problem,
        channels=config.image.channels,
        pretrained=False if random_weights else config.model.pretrained,
        rng_seed=rng_seed,
        size=config.image.size,
    )
    runtime.place(model)
    return model


def steps_of(config: StudyConfig, n_cases: int) -> tuple[int, int]:
    """Optimiser steps of a run and steps of an epoch: the same for every arm, whatever its sampler or phases."""
    per_epoch = math.ceil(n_cases / config.train.batch)
    return config.train.steps or config.train.epochs * per_epoch, per_epoch


def facts_of(target: Tensor, mask: Tensor, config: StudyConfig) -> Facts:
    steps, per_epoch = steps_of(config, len(target))
    task = config.problem
    epochs = math.ceil(steps / per_epoch)
    return Facts(task.kind, task.classes, target, mask, steps=steps, epochs=epochs, preset=config.image.preset)


def extract(model: Classifier, cases: Cases, batch: int, runtime: Runtime, ranks: Ranks = ALONE) -> Tensor:
    """Pooled features `(N, F)` float32 on the device: evaluation mode, no augmentation, gradients off.

    Several ranks deal the batches out among themselves, the very batches that one process makes, and each answers with
    all features.
    """
    images = Images(cases, runtime, resident=False)
    was_training = model.training
    model.eval()
    parts = [torch.empty(0, model.head.in_features, device=runtime.device)]
    starts = range(0, len(cases), batch)
    dealt = [ranks.share(len(starts), rank) for rank in range(ranks.world)]
    with torch.no_grad():
        for start in starts[dealt[ranks.rank].start : dealt[ranks.rank].stop]:
            x = model.normalise(images(np.arange(start, min(start + batch, len(cases)))))
            with runtime.autocast():
                z = model.features(x)
            parts.append(z.float())
    model.train(was_training)
    counts = [min(part.stop * batch, len(cases)) - min(part.start * batch, len(cases)) for part in dealt]
    return ranks.joined(torch.cat(parts), counts)


def logits_of(model: Classifier, features: Tensor) -> Tensor:
    """`(N, K)` float32 logits on the CPU, where the decision strategies act."""
    with torch.no_grad():
        return model.head(features).float().cpu()


def probabilities(logits: Tensor, kind: str) -> np.ndarray:
    """Softmax (exclusive) or logistic (independent) of `(N, K)` logits, in float64."""
    z = logits.double()
    return (z.softmax(1) if kind == "exclusive" else z.sigmoid()).numpy()
