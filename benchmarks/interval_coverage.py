"""Do 95% intervals hold 95%? `python benchmarks/interval_coverage.py --replicates 2000 --table FILE`

Rates (recall, specificity, precision) and AUROC are simulated from patients whose images resemble one another, and
our intervals are counted: how often they hold the true value, and how wide they are beside an oracle's.

Patients. Each has one image, or a number drawn evenly from 1 to 5 ("about 3") or from 1 to 15 ("about 8"), anew in
every replicate. Recall: every patient's chance of a hit is Beta with the true recall as mean and the intra-patient
correlation rho, B(p(1-rho)/rho, (1-p)(1-rho)/rho). AUROC: scores are normal, sqrt(rho) patient + sqrt(1-rho) image,
positives moved by sqrt(2) Phi^-1(AUROC); 200 negative patients with as many images each as positive ones, and, where
patients have several images, one negative image of every positive patient beside its positive ones.

Oracles know the design. Of a rate: Wilson with the normal quantile on N / deff images, N all images of the replicate
and deff = 1 + rho (sum n_g^2 / N - 1), the true design effect of its patients. Of an AUROC: the logit-normal interval
around the true value with the true sampling standard deviation (that of the areas of all replicates of the cell),
expit(logit(A) +- 1.96 sd / (A(1-A))); one width a cell.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri

from raresight.core.binomial import wilson
from raresight.core.files import write_text
from raresight.core.seeds import numpy_rng
from raresight.evaluate.intervals import auroc_interval, rate

PATIENTS = (8, 15, 40, 100)
DESIGNS = ((1, 0.0), (3, 0.0), (3, 0.3), (3, 0.7), (8, 0.0), (8, 0.3), (8, 0.7))
RECALLS = (0.5, 0.7, 0.9, 0.95, 0.98)
AREAS = (0.7, 0.9, 0.97)
NEGATIVE_PATIENTS = 200
LEAST, WIDEST = 0.93, 1.25


@dataclass(frozen=True)
class Cell:
    """What is simulated: a rate or an AUROC of some value, in so many positive patients of some design."""

    figure: str
    value: float
    patients: int
    images: int
    correlation: float


class Drawn(NamedTuple):
    """One replicate: the estimate, our bounds, and the oracle's width (NaN where it takes the whole cell to know)."""

    value: float
    low: float
    high: float
    oracle: float


class Found(NamedTuple):
    """Coverage and mean width of a cell, beside the oracle's mean width."""

    coverage: float
    width: float
    oracle: float

    @property
    def ratio(self) -> float:
        return self.width / self.oracle


def cells(figure: str, values: tuple[float, ...]) -> Iterator[Cell]:
    for images, correlation in DESIGNS:
        for patients in PATIENTS:
            for value in values:
                yield Cell(figure, value, patients, images, correlation)


def measure(cell: Cell, replicates: int, seed: int) -> Found:
    rng = numpy_rng("coverage", seed, *vars(cell).values())
    draw: Callable[[Cell, np.random.Generator], Drawn] = recall if cell.figure == "recall" else area
    drawn = np.array([draw(cell, rng) for _ in range(replicates)])
    value, low, high, oracle = drawn.T
    covered = float(np.mean((low <= cell.value) & (cell.value <= high)))
    wide = float(oracle.mean()) if cell.figure == "recall" else logit_normal(cell.value, float(value.std(ddof=1)))
    return Found(covered, float(np.mean(high - low)), wide)


def sizes(cell: Cell, patients: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 2 * cell.images, patients)


def recall(cell: Cell, rng: np.random.Generator) -> Drawn:
    images, p, rho = sizes(cell, cell.patients, rng), cell.value, cell.correlation
    spread = (1 - rho) / rho if rho else math.inf
    chance = rng.beta(p * spread, (1 - p) * spread, cell.patients) if rho else np.full(cell.patients, p)
    patient = np.repeat(np.arange(cell.patients), images)
    hit = rng.random(len(patient)) < chance[patient]
    found = rate(hit, patient)
    n = len(patient)
    low, high = wilson(float(hit.mean()), n / (1 + rho * (float(images @ images) / n - 1)))
    return Drawn(found.value, found.low, found.high, high - low)


def area(cell: Cell, rng: np.random.Generator) -> Drawn:
    here, there = sizes(cell, cell.patients, rng), sizes(cell, NEGATIVE_PATIENTS, rng)
    beside = np.arange(cell.patients) if cell.images > 1 else np.zeros(0, dtype=int)
    positive = np.repeat(np.arange(cell.patients), here)
    negative = np.repeat(cell.patients + np.arange(NEGATIVE_PATIENTS), there)
    patient = np.concatenate([positive, negative, beside])
    target = (np.arange(len(patient)) < len(positive)).astype(np.float64)
    shared = rng.normal(size=cell.patients + NEGATIVE_PATIENTS)[patient]
    own = rng.normal(size=len(patient))
    score = math.sqrt(2) * ndtri(cell.value) * target
    score += math.sqrt(cell.correlation) * shared + math.sqrt(1 - cell.correlation) * own
    found = auroc_interval(target, score, patient)
    return Drawn(found.value, found.low, found.high, math.nan)


def logit_normal(value: float, deviation: float) -> float:
    half = ndtri(0.975) * deviation / (value * (1 - value))
    return float(expit(logit(value) + half) - expit(logit(value) - half))


def table(found: dict[Cell, Found], replicates: int) -> str:
    """The cells as Markdown: coverage in per cent, width, and times the oracle's width."""
    lines = []
    for figure, values in (("recall", RECALLS), ("AUROC", AREAS)):
        names = " | ".join(f"{figure} {value:g}" for value in values)
        lines += [
            "",
            f"## {figure.capitalize() if figure == 'recall' else figure}",
            "",
            summary(found, figure, replicates),
        ]
        lines += ["", "Coverage in per cent, mean width, times the oracle's width. Bold: below 93%, or above 1.25.", ""]
        lines += [f"| images a patient | correlation | positive patients | {names} |", "|---" * (3 + len(values)) + "|"]
        for images, rho in DESIGNS:
            for patients in PATIENTS:
                row = [found[Cell(figure, value, patients, images, rho)] for value in values]
                said = "1" if images == 1 else f"about {images}"
                correlation = "-" if images == 1 else f"{rho:g}"
                lines.append(f"| {said} | {correlation} | {patients} | " + " | ".join(map(entry, row)) + " |")
    return "\n".join(lines) + "\n"


def entry(cell: Found) -> str:
    held, times = f"{100 * cell.coverage:.1f}", f"x{cell.ratio:.2f}"
    held = f"**{held}**" if cell.coverage < LEAST else held
    return f"{held}; {cell.width:.3f}; " + (f"**{times}**" if cell.ratio > WIDEST else times)


def summary(found: dict[Cell, Found], figure: str, replicates: int) -> str:
    mine = {cell: result for cell, result in found.items() if cell.figure == figure}
    lowest = min(mine, key=lambda cell: mine[cell].coverage)
    short = [result for result in mine.values() if result.coverage < LEAST]
    error = math.sqrt(0.95 * 0.05 / replicates)
    surely = [result for result in short if result.coverage < LEAST - 2 * error]
    wide = [result for result in mine.values() if result.ratio > WIDEST]
    widest = max(mine, key=lambda cell: mine[cell].ratio)
    return (
        f"{len(mine)} cells of {replicates} replicates (standard error at 95%: {100 * error:.1f} points). "
        f"Lowest coverage: {100 * mine[lowest].coverage:.1f}% ({described(lowest)}); below 93%: {len(short)} cells, "
        f"by more than two standard errors: {len(surely)}. Wider than 1.25 times the oracle: {len(wide)} cells, at "
        f"most {mine[widest].ratio:.2f} times ({described(widest)})."
    )


def described(cell: Cell) -> str:
    images = (
        "one image each" if cell.images == 1 else f"about {cell.images} images each, correlation {cell.correlation:g}"
    )
    return f"{cell.value:g}, {cell.patients} patients, {images}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="write the table here, as Markdown")
    options = parser.parse_args()
    started = time.perf_counter()
    found = {}
    for cell in [*cells("recall", RECALLS), *cells("AUROC", AREAS)]:
        found[cell] = measure(cell, options.replicates, options.seed)
        print(f"{cell.figure} {described(cell)}: {entry(found[cell])}", flush=True)
    minutes = (time.perf_counter() - started) / 60
    head = f"# Coverage of 95% intervals\n\n{date.today()}; {minutes:.0f} minutes on one thread, seed {options.seed}.\n"
    written = head + table(found, options.replicates)
    if options.table:
        write_text(options.table, written)
    print(written)


if __name__ == "__main__":
    main()
