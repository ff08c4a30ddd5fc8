"""Logits for cases: in validation while training, and for any part once a run is trained."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.run import RunFolder
from raresight.models.backbones import Classifier, build
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Facts
from raresight.train.batches import Cases, Images
from raresight.train.checkpoint import load_labels, load_weights
from raresight.train.runtime import Runtime
from raresight.train.trouble import named_trouble

LABELS = "labels.safetensors"


def predict(run: RunFolder, stack: Stack, config: StudyConfig, cases: Cases, runtime: Runtime) -> np.ndarray:
    """`(N, K)` float32 logits of the run's best weights, after the decision strategies' `adjust`.

    Needs the run folder alone: the strategies are fitted again from the training labels kept there. The same machine
    and lock give the same logits, whatever ran before. An empty part gives `(0, K)`.

    Raises: `ConfigError` RS-R44b where the run has no trained weights yet.
    """
    labels = run.path / LABELS
    if not (run.best.exists() and labels.exists()):
        raise ConfigError(
            Problem(
                code="RS-R44b",
                level="error",
                file=str(run.path.name),
                found=f"arm '{run.arm}', seed {run.seed} has no trained weights",
                why="there is nothing to predict with",
                remedy="raresight train STUDY",
            )
        )
    with runtime.settled(), named_trouble(config):
        target, mask = load_labels(labels)
        stack.fit(facts_of(target, mask, config))
        model = new_model(config, runtime, rng_seed=0, random_weights=True)
        load_weights(run.best, model, stack)
        logits = logits_of(model, extract(model, cases, config.train.batch, runtime))
        return stack.adjust(logits).numpy().astype(np.float32)


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


def extract(model: Classifier, cases: Cases, batch: int, runtime: Runtime) -> Tensor:
    """Pooled features `(N, F)` float32 on the device: evaluation mode, no augmentation, gradients off."""
    images = Images(cases, runtime, resident=False)
    was_training = model.training
    model.eval()
    parts = [torch.empty(0, model.head.in_features, device=runtime.device)]
    with torch.no_grad():
        for start in range(0, len(cases), batch):
            x = model.normalise(images(np.arange(start, min(start + batch, len(cases)))))
            with runtime.autocast():
                z = model.features(x)
            parts.append(z.float())
    model.train(was_training)
    return torch.cat(parts)


def logits_of(model: Classifier, features: Tensor) -> Tensor:
    """`(N, K)` float32 logits on the CPU, where the decision strategies act."""
    with torch.no_grad():
        return model.head(features).float().cpu()


def probabilities(logits: Tensor, kind: str) -> np.ndarray:
    """Softmax (exclusive) or logistic (independent) of `(N, K)` logits, in float64."""
    z = logits.double()
    return (z.softmax(1) if kind == "exclusive" else z.sigmoid()).numpy()
