"""Forward and backward of one batch, as often as the arm's optimiser step asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
    batch-norm statistics move in the first call alone. `rows` takes the part that some rows of the *mixed* batch have
    in its loss, batch normalisation using its running statistics: those of a few rows would be another network's.

    With `accumulate` > 1 the batch passes in so many pieces of nearly equal size, whose gradients add up to those of
    the whole batch (batch normalisation sees a piece at a time).

    Shapes: `x` `(B, C, H, W)` in [0, 1]; `target` `(B, K)`, NaN where unknown. NaN travels through the mixing, so a
    label mixed from a known and an unknown one is unknown, and is masked only afterwards.
    `per_case` holds the unweighted losses of the first call, for the rows in `seen`. `n_passed` counts the images that
    went forward and backward in all calls together.
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
        accumulate: int = 1,
    ) -> None:
        self.model, self.stack, self.optimiser, self.runtime = model, stack, optimiser, runtime
        x, target, self.ids = batch
        self.x, self.y = stack.mix_inputs(x, target, stream)
        self.epoch, self.stream, self.model_seed = epoch, stream, model_seed
        self.accumulate = accumulate
        self.n_known = self._known(self.y)
        self.mixes_features = bool(owners(stack.strategies, "mix_features"))
        self.seen = self.ids
        self.per_case: Tensor | None = None
        self.calls = 0
        self.n_passed = 0

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(self.model_seed)
        total = torch.zeros((), device=self.x.device)
        seen = []
        with self._statistics(rows):
            for piece in self._pieces(rows):
                part, per_case, ids = self._loss(piece)
                part.backward()
                total += part.detach()
                seen.append((ids, per_case))
        if self.calls == 0:
            losses = [per_case for _, per_case in seen if per_case is not None]
            self.seen = torch.cat([ids for ids, _ in seen])
            self.per_case = torch.cat(losses) if losses else None
        self.calls += 1
        return total

    def _statistics(self, rows: Tensor | None) -> AbstractContextManager[None]:
        if rows is not None:
            return running_statistics(self.model)
        return nullcontext() if self.calls == 0 else frozen_statistics(self.model)

    def _pieces(self, rows: Tensor | None) -> Sequence[Tensor | None]:
        if self.accumulate == 1:
            return [rows]
        every = torch.arange(len(self.x), device=self.x.device) if rows is None else rows
        return every.tensor_split(min(self.accumulate, len(every)))

    def _known(self, y: Tensor) -> Tensor:
        """What the mean of a loss over these rows divides by: known labels, or rows whose labels are all known."""
        known = ~y.isnan()
        return (known.all(1) if self.stack.task.kind == "exclusive" else known).sum()

    def _loss(self, rows: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        x, y, ids = self.x, self.y, self.ids
        # Feature mixing draws partners from the whole batch: to replay it, all rows must pass before some are taken.
        early = rows is not None and not self.mixes_features
        if early:
            x, y, ids = x[rows], y[rows], ids[rows]
        self.n_passed += len(x)
        with self.runtime.autocast():
            z = self.model.features(self.model.normalise(x))
        z, y = self.stack.mix_features(z.float(), y, self.stream)
        n_known = self.n_known
        if rows is not None and not early:
            n_known = self._known(y)
            z, y, ids = z[rows], y[rows], ids[rows]
        logits = self.model.head(z).float()
        target, mask = y.nan_to_num(0.0), (~y.isnan()).to(y.dtype)
        total, per_case = self.stack.loss(logits, target, mask, ids, self.epoch, self.model)
        if rows is not None:
            total = total * (self._known(y) / n_known.clamp(min=1))
        return total, per_case, ids


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation keeps using the batch's own statistics, without moving the running ones."""
    layers = batch_norms(model)
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation uses its running statistics, as in evaluation; everything else goes on training."""
    layers = [layer for layer in batch_norms(model) if layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The model's batch normalisation layers that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
