"""`make bench`: measure each published ratio again, in a quick size, and fail where one has become worse.

A ratio fails when it is worse than its reference in `ratios.json` by more than 10% beyond the A/A spread: how far the
quartiles of equal work over equal work lie from 1, in this run or in that of the reference, whichever is larger.
Seconds are printed nowhere and judged nowhere. Ratios depend on the processor and on the libraries all the same, so the
reference says where it was measured; on another machine write one of your own before a change, and judge after it.

    python benchmarks/gate.py                 # exit 1 and the names of the ratios that became worse
    python benchmarks/gate.py --write         # measure, and take the figures as the reference
    python benchmarks/gate.py --only flatness smote
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":  # before numpy and torch count the processors
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[threads] = "1"

import numpy as np

REFERENCE = Path(__file__).with_name("ratios.json")
BEYOND = 0.10
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Measured:
    """A ratio and, where the benchmark has one, the A/A control; a value a round."""

    ratios: Sequence[float]
    control: Sequence[float]
    better: Better
    command: str

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> float:
        """How far the control's quartiles lie from 1, the farther of the two."""
        low, high = np.quantile(self.control, [0.25, 0.75])
        return max(abs(float(low) - 1), abs(float(high) - 1))


@dataclass(frozen=True)
class Verdict:
    worse: float  # how many times as bad as the reference; below 1 it is better
    limit: float

    @property
    def holds(self) -> bool:
        return math.isfinite(self.worse) and self.worse <= self.limit


def judge(reference: float, measured: float, better: Better, spread: float) -> Verdict:
    """Whether a measured ratio holds against its reference.

    Equation: worse = measured / reference where lower is better, reference / measured where higher is; it holds while
    worse <= 1 + 0.10 + spread.
    Ranges: ratios > 0, `spread` >= 0, the larger A/A spread of the two runs. A ratio that is no number never holds.
    """
    worse = measured / reference if better == "lower" else reference / measured
    return Verdict(worse, 1 + BEYOND + spread)


# What is measured. Each function measures its ratios in the size given there and names them as `ratios.json` does.


def flatness() -> dict[str, Measured]:
    import flatness_cost as bench
    from interleaved import ratios

    names = ("MSAM norm + EMA", "MSAM all + EMA", "SAM")
    seconds = bench.seconds_of(bench.Setting(64, 64, "sgd", (*bench.FREE, "SAM"), most=2), bench.placed("bf16"), 9)
    control = ratios(seconds[bench.CONTROL], seconds[bench.PLAIN])
    command = "benchmarks/flatness_cost.py --only sgd64"
    return {
        f"{name} over a plain step, 64 px": Measured(
            ratios(seconds[name], seconds[bench.PLAIN]), control, "lower", command
        )
        for name in names
    }


def step() -> dict[str, Measured]:
    import step_speed as bench
    from interleaved import ratios

    found = {}
    for size in (224, 64):
        seconds, _, _ = bench.seconds_of(size, 5, parts=False)
        reference = seconds[bench.REFERENCE]
        found[f"training step, times as fast as eager fp32, {size} px"] = Measured(
            ratios(reference, seconds[bench.CHOSEN]),
            ratios(reference, seconds[bench.CONTROL]),
            "higher",
            f"benchmarks/step_speed.py --sizes {size}",
        )
    return found


def input_wait() -> dict[str, Measured]:
    """Steps on gathered batches over the same steps on a batch in memory."""
    import input_cost as bench
    from flatness_cost import configured, placed
    from interleaved import ratios

    found, runtime = {}, placed("bf16")
    with tempfile.TemporaryDirectory() as folder, runtime.settled():
        cases = bench.synthetic(Path(folder), 1024, 64)
        for methods in ([], ["heavy_augment"]):
            seconds = bench.seconds_of(methods, configured(64, 64), cases, runtime, 9, 2)
            named = " + ".join(methods) or "no augmentation"
            found[f"step with its input over a step without, 64 px, {named}"] = Measured(
                ratios(seconds["ours"], seconds["memory"]),
                ratios(seconds["control"], seconds["memory"]),
                "lower",
                "benchmarks/input_cost.py --arm --arm heavy_augment",
            )
    return found


def input_peer() -> dict[str, Measured]:
    import input_peer as bench

    taken, control = bench.quick()
    command = "benchmarks/input_peer.py"
    return {"later epochs, times as cheap per image as torchvision": Measured(taken, control, "higher", command)}


def bootstrap() -> dict[str, Measured]:
    import bootstrap_speed as bench
    from interleaved import ratios

    data, rounds = bench.table(25_596, 9_000, 14), 7
    bench.ours(data, 64, True)
    taken, difference = bench.race(data, 500, rounds, 1)
    assert difference < 1e-12, "the areas are not scikit-learn's"
    return {
        "bootstrap of AUROC and AP, times as fast as scikit-learn, 500 resamples": Measured(
            ratios(bench.by_turn(taken["loop"], rounds), taken["shared"]),
            ratios(taken["shared, again"], taken["shared"]),
            "higher",
            "benchmarks/bootstrap_speed.py",
        )
    }


def smote() -> dict[str, Measured]:
    import smote as bench
    from interleaved import ratios

    methods = {"ours": bench.ours, "theirs": bench.theirs, "again": bench.ours}
    seconds = bench.seconds_of(methods, *bench.features(20_000, 512), 7)
    return {
        "SMOTE's set-up, times as fast as imbalanced-learn, 20,000 rows": Measured(
            ratios(seconds["theirs"], seconds["ours"]),
            ratios(seconds["again"], seconds["ours"]),
            "higher",
            "benchmarks/smote.py",
        )
    }


def heads() -> dict[str, Measured]:
    import heads as bench
    from interleaved import ratios

    every = bench.variants_of(2000, 512, 300)
    cpu, _ = bench.in_turns({name: every[name] for name in (bench.MANY, bench.ONE, bench.AGAIN)}, 7)
    return {
        "32 heads over one head, 300 steps": Measured(
            ratios(cpu[bench.MANY], cpu[bench.ONE]),
            ratios(cpu[bench.AGAIN], cpu[bench.ONE]),
            "lower",
            "benchmarks/heads.py",
        )
    }


CHECKS: dict[str, Callable[[], dict[str, Measured]]] = {
    "flatness": flatness,
    "step": step,
    "input": input_wait,
    "bootstrap": bootstrap,
    "smote": smote,
    "heads": heads,
    "input_peer": input_peer,
}
PEERS = {"flatness": "pytorch_optimizer", "bootstrap": "sklearn", "smote": "imblearn", "input_peer": "torchvision"}


def line(name: str, reference: dict[str, Any] | None, found: Measured) -> tuple[str, bool]:
    """What the gate says about one ratio, and whether it holds."""
    if reference is None:
        return f"  new  {name}: {found.ratio:.3f}, A/A spread {found.spread:.3f}; no reference", True
    spread = max(found.spread, reference["spread"])
    verdict = judge(reference["ratio"], found.ratio, found.better, spread)
    said = f"{name}: {found.ratio:.3f}, reference {reference['ratio']:.3f} ({found.better} is better)"
    if verdict.holds:
        return f"holds  {said}; A/A spread {spread:.3f}", True
    return (
        f"WORSE  {said}: {verdict.worse:.2f} times as bad, allowed {verdict.limit:.2f} "
        f"(1 + {BEYOND:.2f} + A/A spread {spread:.3f}); at full size: python {found.command}",
        False,
    )


def here() -> dict[str, str]:
    from importlib.metadata import version

    import torch

    from raresight.train.runtime import processor

    return {"processor": processor(torch.device("cpu")), "torch": version("torch"), "numpy": version("numpy")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--write", action="store_true", help="take what is measured as the reference")
    asked = parser.parse_args()
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {"ratios": {}}
    if kept.get("machine") not in (None, here()):
        print(f"note: the reference is of {kept['machine']}, this is {here()}; `--write` makes one for this machine")
        if asked.write:
            kept = {"ratios": {}}  # a reference is of one machine
    failed = []
    with threadpool_limits(1):
        for check in asked.only:
            if check in PEERS and not importlib.util.find_spec(PEERS[check]):
                print(f"  out  {check}: the peer, {PEERS[check]}, is not installed")
                continue
            for name, found in CHECKS[check]().items():
                said, holds = line(name, kept["ratios"].get(name), found)
                print(said, flush=True)
                failed += [] if holds else [name]
                if asked.write:
                    kept["ratios"][name] = {
                        "ratio": round(found.ratio, 3),
                        "better": found.better,
                        "spread": round(found.spread, 3),
                        "command": f"python {found.command}",
                        "quick": f"python benchmarks/gate.py --only {check}",
                        "date": str(date.today()),
                    }
            if asked.write:
                REFERENCE.write_text(json.dumps(kept | {"machine": here()}, indent=2) + "\n", encoding="utf-8")
    if asked.write:
        return 0
    if failed:
        print(f"{len(failed)} ratio(s) became worse: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
