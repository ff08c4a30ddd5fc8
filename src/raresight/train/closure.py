"""Forward and backward of one batch, as often as the arm's optimiser step asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack, Stream
from raresight.strategies.strategy import owners
from raresight.train.runtime import Runtime


class Closure:
    """`closure(rows=None)`: zero the gradients, run forward and backward on the batch, return the loss.

    The mixed images are made once and used again; dropout and feature mixing are replayed from the same seeds;
    batch-norm statistics move in the first call alone. `rows` restricts the loss to some rows of the *mixed* batch.

    Shapes: `x` `(B, C, H, W)` in [0, 1]; `target` `(B, K)`, NaN where unknown. NaN travels through the mixing, so a
    label mixed from a known and an unknown one is unknown, and is masked only afterwards.
    `per_case` holds the unweighted losses of the first call, for the rows in `seen`.
    """

    def __init__(
        self,
        model: Classifier,
        stack: Stack,
        optimiser: torch.optim.Optimizer,
        runtime: Runtime,
        batch: tuple[Tensor, Tensor, Tensor],
        *,
        epoch: int,
        stream: Stream,
        model_seed: int,
    ) -> None:
        self.model, self.stack, self.optimiser, self.runtime = model, stack, optimiser, runtime
        x, target, self.ids = batch
        self.x, self.y = stack.mix_inputs(x, target, stream)
        self.epoch, self.stream, self.model_seed = epoch, stream, model_seed
        self.mixes_features = bool(owners(stack.strategies, "mix_features"))
        self.seen = self.ids
        self.per_case: Tensor | None = None
        self.calls = 0

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(self.model_seed)
        with nullcontext() if self.calls == 0 else frozen_statistics(self.model):
            total, per_case, ids = self._loss(rows)
            total.backward()
        if self.calls == 0:
            self.seen, self.per_case = ids, per_case
        self.calls += 1
        return total.detach()

    def _loss(self, rows: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        x, y, ids = self.x, self.y, self.ids
        # Feature mixing draws partners from the whole batch: to replay it, all rows must pass before some are taken.
        early = rows is not None and not self.mixes_features
        if early:
            x, y, ids = x[rows], y[rows], ids[rows]
        with self.runtime.autocast():
            z = self.model.features(self.model.normalise(x))
        z, y = self.stack.mix_features(z.float(), y, self.stream)
        if rows is not None and not early:
            z, y, ids = z[rows], y[rows], ids[rows]
        logits = self.model.head(z).float()
        target, mask = y.nan_to_num(0.0), (~y.isnan()).to(y.dtype)
        total, per_case = self.stack.loss(logits, target, mask, ids, self.epoch, self.model)
        return total, per_case, ids


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation keeps using the batch's own statistics, without moving the running ones."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
