"""From cached pixels to a batch on the device: which cases, in which order, and how they are gathered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raresight.core.seeds import numpy_rng, torch_rng
from raresight.train.runtime import Runtime

# Share of the free device memory that the training images may take, so as to be copied there once.
RESIDENT_SHARE = 0.25


@dataclass(frozen=True)
class Cases:
    """Cases of one part: `pixels` `(M, H, W, C)` uint8 or uint16 (often a memory map); case i is row `rows[i]`.

    `rows` `(N,)` int64; `target` `(N, K)` float32, 0 or 1, NaN where unknown; `cases` `(N,)` their names.
    """

    pixels: np.ndarray
    rows: np.ndarray
    target: np.ndarray
    cases: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> tuple[Tensor, Tensor]:
        """Target (0 where unknown) and mask (0 where unknown), `(N, K)` float32."""
        target = torch.from_numpy(np.ascontiguousarray(self.target, dtype=np.float32))
        return target.nan_to_num(0.0), (~target.isnan()).float()


class Order:
    """Which rows make batch `step`: a pure function of the seeds and of `weights`, so it has no state of its own.

    An epoch is `per_epoch` = ceil(cases / batch) batches of nearly equal size: no batch is too small for batch
    normalisation. `cases` is the number of training cases; the number of rows, `n`, is larger where synthetic ones
    are added. `weights` `(n,)`, or a callable asked at the first batch of every epoch, says how an epoch is made.
    None: its batches are the next ones of a permutation of all rows drawn from (study seed, run seed, `name`, pass),
    the same for every arm; no row is dropped. Weights: `cases` draws with replacement from a stream of their own. A
    callable must give the same answer where a resumed run asks within the epoch.
    """

    def __init__(
        self,
        n: int,
        batch: int,
        *,
        study_seed: int,
        run_seed: int,
        name: str = "order",
        weights: Tensor | Callable[[], Tensor | None] | None = None,
        cases: int | None = None,
    ) -> None:
        self.n = n
        self.cases = n if cases is None else cases
        self.per_epoch = math.ceil(self.cases / batch)
        self.per_pass = math.ceil(n / batch)
        self.seeds = (study_seed, run_seed)
        self.name = name
        self.weights: Callable[[], Tensor | None] = weights if callable(weights) else lambda: weights
        self._drawn: tuple[int, np.ndarray | None] = (-1, None)
        self._permuted: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def epoch(self, step: int) -> int:
        return step // self.per_epoch

    def rows(self, step: int) -> np.ndarray:
        epoch, k = divmod(step, self.per_epoch)
        if self._drawn[0] != epoch:
            self._drawn = (epoch, self._draw(epoch))
        drawn = self._drawn[1]
        if drawn is not None:
            return drawn[self.cases * k // self.per_epoch : self.cases * (k + 1) // self.per_epoch]
        number, k = divmod(step, self.per_pass)
        if self._permuted[0] != number:
            self._permuted = (number, numpy_rng(*self.seeds, self.name, number).permutation(self.n))
        return self._permuted[1][self.n * k // self.per_pass : self.n * (k + 1) // self.per_pass]

    def _draw(self, epoch: int) -> np.ndarray | None:
        weights = self.weights()
        if weights is None:
            return None
        stream = torch_rng(*self.seeds, f"{self.name} by weight", epoch)
        return torch.multinomial(
            weights.detach().cpu().double(), self.cases, replacement=True, generator=stream
        ).numpy()


class Images:
    """Gather cases as float images in [0, 1], `(B, C, H, W)` on the device.

    Pixels travel as integers and become floats on the device. A graphics card that has room keeps them all.
    """

    def __init__(self, cases: Cases, runtime: Runtime, *, resident: bool = True) -> None:
        self.pixels = np.asarray(cases.pixels)  # a plain view: indexing a np.memmap object costs more than the copy
        self.rows = np.asarray(cases.rows, dtype=np.int64)
        self.runtime = runtime
        self.scale = float(np.iinfo(self.pixels.dtype).max)
        self.resident: Tensor | None = None
        if resident and runtime.device.type == "cuda" and self.pixels.dtype == np.uint8:
            size = len(self.rows) * int(np.prod(self.pixels.shape[1:]))
            if size < RESIDENT_SHARE * torch.cuda.mem_get_info(runtime.device)[0]:
                self.resident = torch.from_numpy(self.pixels[self.rows]).to(runtime.device)

    def __call__(self, positions: np.ndarray | Sequence[int]) -> Tensor:
        if self.resident is not None:
            block = self.resident[torch.as_tensor(positions, device=self.runtime.device)]
        else:
            block = torch.from_numpy(self.pixels[self.rows[positions]]).to(self.runtime.device)
        # The cache stores (H, W, C), which *is* the channels-last layout: the permutation moves no memory.
        x = block.permute(0, 3, 1, 2).to(torch.float32).div_(self.scale)
        return x if self.runtime.channels_last else x.contiguous()
