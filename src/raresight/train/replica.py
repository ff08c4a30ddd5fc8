"""The network as each of several ranks holds it: one call from images to logits, its gradients added up over all."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raresight.models.backbones import Classifier
from raresight.train.ranks import Ranks
from raresight.train.runtime import Runtime


class Forward(nn.Module):
    """Logits `(B, K)` float32 of images `(B, C, H, W)` in [0, 1]: normalise, features (autocast), head.

    `unused` takes part in nothing. DistributedDataParallel lays its gradients out anew after the first step, in the
    order in which they came, unless it is told that some may never come; a run resumed in the middle would then add up
    in another order than one that was not. It is told so, and would warn if none were missing.
    """

    def __init__(self, model: Classifier, runtime: Runtime) -> None:
        super().__init__()
        self.model, self.runtime = model, runtime
        self.unused = nn.Parameter(torch.zeros(1, device=runtime.device))

    def forward(self, x: Tensor) -> Tensor:
        with self.runtime.autocast():
            z = self.model.features(self.model.normalise(x))
        logits: Tensor = self.model.head(z.float()).float()
        return logits


def replica(model: Classifier, runtime: Runtime, ranks: Ranks) -> DistributedDataParallel | None:
    """The network for this rank's share of a batch, as rank 0 has it to the last buffer; None where one works alone.

    Buffers stay this rank's own within a step; `Ranks.mean_buffers` joins them.
    """
    if ranks.alone:
        return None
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a newer name for `broadcast_buffers`, unknown to older torch
        copy = DistributedDataParallel(
            Forward(model, runtime), process_group=ranks.group, broadcast_buffers=False, find_unused_parameters=True
        )
    ranks.lead_buffers(model)
    return copy
