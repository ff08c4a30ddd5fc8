"""Forward and backward of one batch, as often as the arm's optimiser step asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack, Stream
from raresight.strategies.strategy import owners
from raresight.train.ranks import ALONE, Ranks
from raresight.train.runtime import Runtime


class Closure:
    """`closure(rows=None)`: zero the gradients, run forward and backward on the batch, return the loss.

    The mixed images are made once and used again; dropout and feature mixing are replayed from the same seeds;
    batch-norm statistics move in the first call alone. `rows` takes the part that some rows of the *mixed* batch have
    in its loss. Where batch normalisation or feature mixing joins the rows of a batch, all of them pass and these are
    counted: a few rows that normalise themselves, or by fixed statistics, are another network with another gradient
    (docs/findings/flat_minima.md). Elsewhere they pass alone.

    With `accumulate` > 1 the batch passes in so many pieces of nearly equal size, whose gradients add up to those of
    the whole batch (batch normalisation sees a piece at a time).

    Of several ranks each gets the whole batch, passes its own share of the rows through its `replica`, in pieces of its
    own with `accumulate`, and ends with the gradients, the loss and the `per_case` of the whole batch. Batch
    normalisation sees a share at a time; its running statistics become their mean over the ranks.

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
        ranks: Ranks = ALONE,
        replica: DistributedDataParallel | None = None,
    ) -> None:
        self.model, self.stack, self.optimiser, self.runtime = model, stack, optimiser, runtime
        x, target, self.ids = batch
        self.x, self.y = stack.mix_inputs(x, target, stream)
        self.epoch, self.stream, self.model_seed = epoch, stream, model_seed
        self.accumulate = accumulate
        self.ranks, self.replica = ranks, replica
        self.n_known = self._known(self.y)
        self.mixes_features = bool(owners(stack.strategies, "mix_features"))
        self.joined = self.mixes_features or any(layer.training for layer in batch_norms(model))
        self.seen = self.ids
        self.per_case: Tensor | None = None
        self.calls = 0
        self.n_passed = 0

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(self.model_seed)
        total = torch.zeros((), device=self.x.device)
        seen = []
        pieces = self._pieces(rows)
        with self._statistics(rows):
            for number, (passed, counted) in enumerate(pieces, 1):
                with self._adding_up(last=number == len(pieces)):
                    part, per_case, ids = self._loss(passed, counted)
                    (part if self.ranks.alone else part * self.ranks.world).backward()  # a replica takes the mean
                total += part.detach()
                seen.append((ids, per_case))
        self.ranks.sum_(total)
        if self.calls == 0:
            losses = [per_case for _, per_case in seen if per_case is not None]
            self.seen = torch.cat([ids for ids, _ in seen])
            self.per_case = torch.cat(losses) if losses else None
            if not self.ranks.alone:
                self._join(rows)
        self.calls += 1
        return total

    def _join(self, rows: Tensor | None) -> None:
        """After the first call: what the other ranks saw."""
        shares = [self._within(rows, rank) for rank in range(self.ranks.world)]
        counts = [len(share) for share in shares]
        self.seen = self.ids[torch.cat(shares)]
        if self.per_case is not None:
            self.per_case = self.ranks.joined(self.per_case, counts)
        if rows is None:
            self.ranks.mean_buffers(self.model, counts[self.ranks.rank], len(self.x))

    def _adding_up(self, *, last: bool) -> AbstractContextManager[None]:
        """Around a piece: the gradients of all pieces travel to the other ranks once, with the last."""
        return nullcontext() if last or self.replica is None else self.replica.no_sync()

    def _statistics(self, rows: Tensor | None) -> AbstractContextManager[None]:
        if not len(self._within(rows, self.ranks.rank)):  # one row stands in, too few to be normalised by themselves
            return running_statistics(self.model)
        return nullcontext() if self.calls == 0 else frozen_statistics(self.model)

    def _pieces(self, rows: Tensor | None) -> Sequence[tuple[Tensor | None, Tensor | None]]:
        """Which rows pass together, and which of them count; None: all."""
        if self.accumulate == 1 and self.ranks.alone:
            return [(None if self.joined else rows, rows)]
        own = self._within(None if self.joined else rows, self.ranks.rank)
        together = own.tensor_split(max(1, min(self.accumulate, len(own))))
        if rows is None or not self.joined:
            return [(piece, piece) for piece in together]
        counted = [piece[torch.isin(piece, rows)] for piece in together]
        some = [(piece, few) for piece, few in zip(together, counted, strict=True) if len(few)]
        return some or [(counted[0], counted[0])]

    def _within(self, rows: Tensor | None, rank: int) -> Tensor:
        """Those of `rows` (None: all) that are in a rank's share of the batch."""
        share = self.ranks.share(len(self.x), rank)
        if rows is None:
            return torch.arange(share.start, share.stop, device=self.x.device)
        return rows[(rows >= share.start) & (rows < share.stop)]

    def _known(self, y: Tensor) -> Tensor:
        """What the mean of a loss over these rows divides by: known labels, or rows whose labels are all known."""
        known = ~y.isnan()
        return (known.all(1) if self.stack.task.kind == "exclusive" else known).sum()

    def _loss(self, passed: Tensor | None, counted: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        x, y, ids = self.x, self.y, self.ids
        if passed is not None:
            x, y, ids = x[passed], y[passed], ids[passed]
        n_known, n_own = self.n_known, len(x)
        if not n_own:  # the other ranks wait for the gradients of one without rows: those of a row without labels
            x, y, ids = self.x[:1], torch.full_like(self.y[:1], torch.nan), self.ids[:1]
        self.n_passed += n_own
        if self.replica is not None:
            logits = self.replica(x)  # no features are mixed: several ranks refuse an arm that does
        else:
            with self.runtime.autocast():
                z = self.model.features(self.model.normalise(x))
            z, y = self.stack.mix_features(z.float(), y, self.stream)
            logits = self.model.head(z).float()
            if self.mixes_features:
                n_known = self._known(y)
        if counted is not None and counted is not passed:
            place = counted if passed is None else torch.isin(passed, counted).nonzero().squeeze(1)
            logits, y, ids = logits[place], y[place], ids[place]
        target, mask = y.nan_to_num(0.0), (~y.isnan()).to(y.dtype)
        total, per_case = self.stack.loss(logits, target, mask, ids, self.epoch, self.model)
        if counted is not None:
            total = total * (self._known(y) / n_known.clamp(min=1))
        if not n_own:
            per_case, ids = None if per_case is None else per_case[:0], ids[:0]
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
