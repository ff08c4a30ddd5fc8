"""What a run's speed is measured against: how fast the device multiplies, and how much one training image asks for."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raresight.train.runtime import PRECISIONS, Runtime

PEAK_SECONDS = 0.3
SIDES = (256, 512, 1024, 2048, 4096, 8192)  # of the square matrices; larger ones while the time lasts
CALLS = 10  # at most so many multiplications between two looks at the clock


def matmul_peak(runtime: Runtime, budget: float = PEAK_SECONDS) -> float:
    """GFLOP/s of the fastest product of two square matrices, on the runtime's device, in its precision and threads.

    Equation: 2 n^3 / (10^9 seconds), the largest over n in `SIDES` as far as `budget` seconds allow.
    Ranges: above 0. On the CPU the seconds, the budget's too, are the process's own divided by the threads, so that
    another program's work does not lower the peak. On a CUDA device in fp32 products may use TF32 where convolutions
    may.
    Source: Williams, Waterman and Patterson 2009, "Roofline": the measured ceiling takes the place of the vendor's.
    """
    on_cpu = runtime.device.type == "cpu"
    clock, lanes = (time.process_time, runtime.threads) if on_cpu else (time.perf_counter, 1)

    def once(a: Tensor, b: Tensor, calls: int) -> float:
        runtime.wait()
        start = clock()
        for _ in range(calls):
            torch.mm(a, b)
        runtime.wait()
        return max((clock() - start) / lanes / calls, 1e-9)

    best = 0.0
    with runtime.settled(), _products_as_convolutions(runtime.device):
        tiny = torch.rand(8, 8, device=runtime.device).to(PRECISIONS[runtime.dtype])
        once(tiny, tiny, 1)  # threads and libraries start here, once a process, which is no part of the budget
        deadline = clock() / lanes + budget
        for side in SIDES:
            a, b = torch.rand(2, side, side, device=runtime.device).to(PRECISIONS[runtime.dtype])
            seconds = once(a, b, 1)
            left = deadline - clock() / lanes
            if left > 0:
                calls = max(1, min(CALLS, int(left / 8 / seconds)))
                seconds = min(seconds, once(a, b, calls), once(a, b, calls))
            best = max(best, 2 * side**3 / seconds / 1e9)
            if clock() / lanes + 3 * 8 * seconds > deadline:  # the next side has eight times the work
                break
    return best


@contextmanager
def _products_as_convolutions(device: torch.device) -> Iterator[None]:
    """On a CUDA device matrix products may round to TF32 where convolutions do, or a share could exceed its whole."""
    if device.type != "cuda":
        yield
        return
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def gflop_per_image(model: nn.Module, *, channels: int, size: int) -> float | None:
    """GFLOP (10^9 floating-point operations) of one training image: once forward and once backward through `model`.

    Equation: the sum over matrix products and convolutions of 2 x multiplications, forward, and backward to the weights
    and, behind the first layer, to the inputs: about three times the forward pass.
    Counted from shapes on a copy without numbers, so no time passes on the device and no state of the model moves.
    Ranges: >= 0; None where a network cannot run without numbers (it decides by what it sees).
    Source: `torch.utils.flop_counter`, which counts no normalisation, activation or pooling.
    """
    real: list[tuple[Tensor, Tensor]] = [
        (p, nn.Parameter(p.detach().to("meta"), p.requires_grad)) for p in model.parameters()
    ]
    real += [(buffer, buffer.to("meta")) for buffer in model.buffers()]
    try:
        ghost = copy.deepcopy(model, {id(tensor): shape for tensor, shape in real}).train()
        images = torch.empty(2, channels, size, size, device="meta")  # one alone is too few for batch normalisation
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            ghost(images).sum().backward()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return counter.get_total_flops() / len(images) / 1e9
