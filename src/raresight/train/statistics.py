"""Batch-norm statistics for the weights that are deployed, where training collected them at others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from raresight.models.backbones import Classifier
from raresight.train.batches import Images
from raresight.train.closure import batch_norms
from raresight.train.course import Course

IMAGES = 1024


@contextmanager
def estimated(course: Course, model: Classifier, images: Images) -> Iterator[None]:
    """Within this context batch normalisation has statistics of the model's present weights, and afterwards its own.

    The mean of the batch statistics over `IMAGES` training images (all, where there are fewer), drawn and changed as in
    training: by the arm's sampler and input methods, from streams of their own that depend on the seeds alone. The
    weights, the mode of the model and every random state are left as they were. A model without batch normalisation is
    left alone.
    Source: `torch.optim.swa_utils.update_bn` (the cumulative mean); Wu and Johnson 2021, "Rethinking batch in
    BatchNorm", precise BN.
    """
    layers = batch_norms(model)
    if not layers:
        yield
        return
    kept = [
        (layer, layer.momentum, {name: value.clone() for name, value in layer.named_buffers(recurse=False)})
        for layer in layers
    ]
    training = model.training
    try:
        _estimate(course, model, images)
        model.train(training)
        yield
    finally:
        for layer, momentum, buffers in kept:
            layer.momentum = momentum
            for name, value in layer.named_buffers(recurse=False):
                value.copy_(buffers[name])
        model.train(training)


def _estimate(course: Course, model: Classifier, images: Images) -> None:
    model.eval()
    for layer in batch_norms(model):
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    rows, target = _rows(course), torch.from_numpy(np.asarray(course.train.target, dtype=np.float32))
    n_batches = math.ceil(len(rows) / course.config.train.batch)
    with torch.no_grad():
        for k, batch in enumerate(np.array_split(rows, n_batches)):
            x = images(batch)
            # labels too: some methods choose by them who is mixed with whom
            x, _ = course.stack.mix_inputs(x, target[batch].to(x.device), course.stream("statistics", k))
            with course.runtime.autocast():
                model.features(model.normalise(x))


def _rows(course: Course) -> np.ndarray:
    """Training rows as the arm's sampler draws them."""
    n = min(IMAGES, len(course.train))
    rng = course.stream("statistics")("rows")
    weights: Tensor | None = course.stack.sample_weights()
    if weights is None:
        return torch.randperm(len(course.train), generator=rng)[:n].numpy()
    return torch.multinomial(weights.detach().cpu().double(), n, replacement=True, generator=rng).numpy()
