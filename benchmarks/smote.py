"""Setting up SMOTE on 100,000 x 512 features of seven long-tailed classes: ours against imbalanced-learn.

Both take turns in one process with equal threads, after one round that warms up. Ours is `fit_features`, which answers
with recipes (base, neighbour, gap); theirs is `fit_resample`, which answers with copied rows. CPU time of the process,
so that other programs do not count. Then, each alone in a process of its own: how far resident memory rises above what
it was before set-up (peak, read every millisecond by a thread that needs no interpreter time of the main one, since
torch and numpy release the lock) and what the answer itself holds. Recall is against scikit-learn's exact neighbours.

    python benchmarks/smote.py --rows 100000 --table smote.md
"""

from __future__ import annotations

import argparse
import gc
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import imblearn.over_sampling as imblearn  # type: ignore[import-untyped]
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from raresight.strategies.features.neighbours import neighbours_within
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.strategy import Facts, SyntheticRows

SHARES = (0.669, 0.111, 0.110, 0.051, 0.033, 0.0142, 0.0118)  # HAM10000: nv, mel, bkl, bcc, akiec, vasc, df
PAGE = 4096
SAMPLE = 500  # cases of each class whose neighbours are compared


def features(n: int, width: int) -> tuple[Tensor, Tensor]:
    """Noise with a class mean, `(n, width)` float32, and one-hot labels."""
    counts = (torch.tensor(SHARES, dtype=torch.float64) * n).round().long()
    counts[0] += n - counts.sum()
    label = torch.repeat_interleave(torch.arange(7), counts)
    rng = torch.Generator().manual_seed(0)
    label = label[torch.randperm(n, generator=rng)]
    z = torch.randn(n, width, generator=rng)
    z += 0.3 * torch.randn(7, width, generator=rng)[label]
    return z, torch.eye(7)[label]


def ours(z: Tensor, y: Tensor) -> SyntheticRows | None:
    mask = torch.ones(1, 1).expand_as(y)
    method = SMOTE()
    method.fit(Facts("exclusive", tuple("abcdefg"), y, mask))
    return method.fit_features(z, y, mask, torch.arange(len(z)), torch.Generator().manual_seed(0))


def theirs(z: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    made: tuple[np.ndarray, np.ndarray] = imblearn.SMOTE(random_state=0).fit_resample(z.numpy(), y.argmax(1).numpy())
    return made


METHODS: dict[str, Callable[[Tensor, Tensor], object]] = {"ours": ours, "theirs": theirs}


def recall(z: Tensor, y: Tensor, k: int = 5) -> tuple[float, int]:
    """Share of scikit-learn's nearest k that ours finds too, over a sample of every class that is filled."""
    found = total = 0
    for c in range(1, 7):
        members = y[:, c].nonzero().squeeze(1)
        near = neighbours_within(z, members, k)[:SAMPLE]
        search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(z[members].double().numpy())
        place = search.kneighbors(z[members[:SAMPLE]].double().numpy(), return_distance=False)[:, 1:]
        exact = members[torch.from_numpy(place)]
        found += int((near.unsqueeze(2) == exact.unsqueeze(1)).any(2).sum())
        total += exact.numel()
    return found / total, total


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def memory(name: str, n: int, width: int) -> tuple[int, int]:
    """Bytes above those before set-up: at the peak, and after it while the answer is held."""
    METHODS[name](*features(2000, width))  # libraries loaded, threads started
    z, y = features(n, width)
    gc.collect()
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    answer = METHODS[name](z, y)
    done.set()
    watcher.join()
    return peak - before, _held(answer)


def _held(answer: object) -> int:
    """Bytes of the answer's own arrays (an expanded cell counts once)."""
    if isinstance(answer, SyntheticRows):
        parts = (answer.base, answer.neighbour, answer.gap, answer.target, answer.mask)
        return sum(part.untyped_storage().nbytes() for part in parts)
    assert isinstance(answer, tuple)
    return sum(part.nbytes for part in answer)


def _memory_alone(name: str, asked: argparse.Namespace) -> tuple[float, float]:
    """As shares of the features, measured in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name]
    for option in ("rows", "width", "threads"):
        command += [f"--{option}", str(getattr(asked, option))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    size = 4 * asked.rows * asked.width
    return int(said[-2]) / size, int(said[-1]) / size


def _spread(values: list[float]) -> str:
    low, middle, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def seconds_of(
    methods: Mapping[str, Callable[[Tensor, Tensor], object]], z: Tensor, y: Tensor, rounds: int
) -> dict[str, list[float]]:
    """CPU seconds of each set-up, in turns; one more round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(rounds + 1):
        for name in list(methods)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            methods[name](z, y)
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def report(asked: argparse.Namespace) -> str:
    z, y = features(asked.rows, asked.width)
    seconds = seconds_of(METHODS, z, y, asked.rounds)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    share, compared = recall(z, y)
    held = {name: _memory_alone(name, asked) for name in METHODS}
    rows = [
        ("set-up, CPU seconds", _spread(seconds["ours"]), _spread(seconds["theirs"])),
        ("memory at the peak, of the features", *(f"{100 * held[name][0]:.1f}%" for name in METHODS)),
        ("memory held after set-up, of the features", *(f"{100 * held[name][1]:.1f}%" for name in METHODS)),
    ]
    lines = [
        f"SMOTE, k = 5, {asked.rows:,} x {asked.width} float32, seven classes as frequent as in HAM10000; "
        f"{asked.threads} thread(s), {asked.rounds} rounds in turn, median (quartiles).",
        "",
        f"torch {torch.__version__}, imbalanced-learn {version('imbalanced-learn')}, "
        f"scikit-learn {version('scikit-learn')}, {platform.machine()}.",
        "",
        "| | ours | imbalanced-learn |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Set-up is {_spread(ratios)} times as fast, pair by pair. "
        f"Neighbour recall {share:.6f} over {compared:,} neighbours (exact: scikit-learn, float64).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=Path, help="write the table there as well")
    parser.add_argument("--memory-of", choices=list(METHODS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with threadpool_limits(asked.threads):
        if asked.memory_of:
            print(*memory(asked.memory_of, asked.rows, asked.width))
            return
        text = report(asked)
    print(text)
    if asked.table:
        asked.table.parent.mkdir(parents=True, exist_ok=True)
        asked.table.write_text(text)


if __name__ == "__main__":
    main()
