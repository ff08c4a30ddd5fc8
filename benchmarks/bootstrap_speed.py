"""AUROC and AP of every resample of the patients: ours against a loop over scikit-learn, in one process, one thread.

Both read the same table (independent labels, several images a patient) and the same resamples: our draws are
materialised as image rows for scikit-learn, which is then asked for `roc_auc_score` and `average_precision_score` of
every class. Ours is timed whole: sorting, drawing and walking. The loop's time does not hold the draws, but it holds
taking the rows, as a loop has to. Two thousand rounds of scikit-learn take minutes, so `--sampled` resamples are timed
and scaled up; they are spread over the turns, so both sides see the machine in the same moods. CPU time of the process.

Two kinds of ours: `shared`, one draw settled within each patient's rarest class (what macro figures use), which is
what the loop does; and `by class`, settled anew within "has class k" for every class (what each class's figures use).

    python benchmarks/bootstrap_speed.py --table bootstrap.md
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: E402

from raresight.evaluate.bootstrap import Strata, drawn, kernels  # noqa: E402
from raresight.evaluate.ranked import Ranked  # noqa: E402


@dataclass(frozen=True)
class Table:
    """`target`, `score` `(N, K)`, `patient` `(N,)` and which patients have which class, `(G, K)`."""

    target: np.ndarray
    score: np.ndarray
    patient: np.ndarray
    has: np.ndarray

    @property
    def rarest(self) -> np.ndarray:
        order = np.argsort(self.has.sum(axis=0))
        held = self.has[:, order]
        return np.where(held.any(axis=1), order[held.argmax(axis=1)], self.has.shape[1])


def table(images: int, patients: int, classes: int) -> Table:
    """Labels from 0.2% to 18% of images, as in ChestX-ray14, and scores one standard deviation apart."""
    rng = np.random.default_rng(0)
    patient = np.append(np.arange(patients), rng.integers(0, patients, images - patients))
    target = (rng.random((images, classes)) < np.geomspace(0.002, 0.18, classes)).astype(float)
    has = np.stack([np.bincount(patient, weights=target[:, k], minlength=patients) > 0 for k in range(classes)], axis=1)
    return Table(target, rng.normal(size=target.shape) + target, patient, has)


def ours(given: Table, resamples: int, by_class: bool) -> np.ndarray:
    """AUROC and AP, `(2, K, B)`."""
    n_patients, classes = given.has.shape
    ranked = [Ranked(given.target[:, k], given.score[:, k], given.patient, n_patients) for k in range(classes)]
    strata = [Strata(given.has[:, k]) for k in range(classes)] if by_class else [Strata(given.rarest)]
    parts = []
    for block in drawn(n_patients, resamples, "speed"):
        settled = [block.within(each) for each in strata]
        weights = settled if by_class else settled * classes
        parts.append([one.metrics(weight)[:2] for one, weight in zip(ranked, weights, strict=True)])
    return np.concatenate([np.array(part).transpose(1, 0, 2) for part in parts], axis=2)


def theirs(given: Table, weight: np.ndarray) -> np.ndarray:
    """The same of one resample by scikit-learn, `(2, K)`."""
    rows = np.repeat(np.arange(len(given.patient)), weight[given.patient])
    target, score = given.target[rows], given.score[rows]
    each = range(target.shape[1])
    return np.array([[f(target[:, k], score[:, k]) for k in each] for f in (roc_auc_score, average_precision_score)])


def race(given: Table, resamples: int, rounds: int, each: int) -> tuple[dict[str, list[float]], float]:
    """CPU seconds of our variants (a value a turn) and of the loop (`each` a turn, scaled up), all in turns, and the
    largest difference between our areas and the loop's."""
    weights = next(iter(drawn(given.has.shape[0], 64, "speed"))).within(Strata(given.rarest))
    theirs(given, weights[:, 0])
    taken: dict[str, list[float]] = {"shared": [], "shared, again": [], "by class": [], "loop": []}
    difference, area = 0.0, np.zeros(0)
    for turn in range(rounds):
        for name, by_class in (("shared", False), ("by class", True), ("shared, again", False)):
            start = time.process_time()
            found = ours(given, resamples, by_class)
            taken[name].append(time.process_time() - start)
            area = area if by_class else found
        for b in range(turn * each, (turn + 1) * each):
            start = time.process_time()
            reference = theirs(given, weights[:, b % 64])
            taken["loop"].append((time.process_time() - start) * resamples)
            difference = max(difference, float(np.abs(area[:, :, b % 64] - reference).max()))
    return taken, difference


def by_turn(loop: list[float], rounds: int) -> list[float]:
    each = len(loop) // rounds
    return [statistics.fmean(loop[i * each : (i + 1) * each]) for i in range(rounds)]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def spread(values: list[float], form: str = ".3f") -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=25_596)
    ask.add_argument("--patients", type=int, default=9_000)
    ask.add_argument("--classes", type=int, default=14)
    ask.add_argument("--resamples", type=int, default=2000)
    ask.add_argument("--rounds", type=int, default=9, help="turns of ours, at least 7 for a median")
    ask.add_argument("--sampled", type=int, default=27, help="resamples of scikit-learn, over all turns")
    ask.add_argument("--table", type=Path)
    given = ask.parse_args()
    data = table(given.images, given.patients, given.classes)
    first = seconds(lambda: ours(data, 64, True))  # warm: what is compiled is compiled or read now
    ours(data, 64, False)
    taken, difference = race(data, given.resamples, given.rounds, max(1, given.sampled // given.rounds))
    loop = by_turn(taken["loop"], given.rounds)
    timed, versions = len(taken["loop"]), [f"{name} {version(name)}" for name in ("numba", "numpy", "scikit-learn")]
    lines = [
        f"AUROC + AP of {given.classes} classes x {given.images:,} images ({given.patients:,} patients) x "
        f"{given.resamples:,} resamples; one thread, {given.rounds} turns each, interleaved; median (quartiles).",
        f"{', '.join(versions)}; our loops are {kernels().NAME}.",
        "",
        "| | CPU seconds | scikit-learn over ours, turn by turn |",
        "|---|---|---|",
        f"| scikit-learn, from {timed} resamples scaled to {given.resamples:,} | {spread(loop, '.0f')} | |",
    ]
    for name in ("shared", "by class"):
        ratio = [a / b for a, b in zip(loop, taken[name], strict=True)]
        label = "ours, one draw for all classes" if name == "shared" else "ours, settled anew for every class"
        lines.append(f"| {label} | {spread(taken[name])} | {spread(ratio, ',.0f')} |")
    control = [a / b for a, b in zip(taken["shared"], taken["shared, again"], strict=True)]
    lines += [
        "",
        f"A/A control, ours over ours: {spread(control)}. First call, of 64 resamples, with loading what was "
        f"compiled before (or compiling it): {first:.1f} s.",
        f"Largest difference from scikit-learn over {2 * given.classes * min(64, timed)} areas: {difference:.1e}.",
    ]
    print("\n".join(lines))
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert difference < 1e-12, "the areas are not scikit-learn's"


if __name__ == "__main__":
    main()
