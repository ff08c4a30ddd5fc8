"""One small network trained from a seed: the loop of the studies that bring networks of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

Draw = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def trained_or_read(
    model: nn.Module,
    path: Path,
    draw: Draw,
    *,
    seed: int,
    steps: int,
    rate: float,
    weights: Tensor | None = None,
) -> nn.Module:
    """The network with the weights of its file, or trained for so many steps and written there; not training any more.

    AdamW with a decay of 0.05 on one cycle up to `rate`; cross-entropy, in which classes count by `weights` `(K,)`, or
    alike. `draw` gives a batch, images `(B, C, *S)` and labels `(B,)`, and leaves all chance to the generator that it
    is handed: this one depends on `seed` alone, so all networks of a seed see the same batches.
    """
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    draws = torch.Generator().manual_seed(1000 + seed)
    model.train()
    for step in range(1, steps + 1):
        images, labels = draw(draws)
        loss = functional.cross_entropy(model(images), labels, weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{path.stem}: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()
