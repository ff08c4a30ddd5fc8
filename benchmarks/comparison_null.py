"""Does the declared family of `compare` hold its 5%? `python benchmarks/comparison_null.py --table FILE`

Every run simulates one validation part and calls `compare` itself: four arms, of which one is the baseline, and two
critical classes, so that Holm adjusts six tests of recall at matched specificity. Patients have 1 to 5 images, all with
the patient's findings; scores are normal and resemble each other within patients and between arms. `--resamples` is
small, as the bootstrap enters the intervals and not the p of the family, and exploratory rows are left out;
permutations are the default's 2,000.

- `permuted labels`: skilled scores, and labels dealt anew among patients of equally many images; arms differ in spread.
- `a gain of 20 points`: one arm finds 80% of the first class where the others find 60%, at 200 positive patients.
- `exchangeable arms`: equal skill, each arm with noise of its own, half of it the patient's.
- `many positives`: the same with 200 and 300 positive patients of 600, where the noise of the matched thresholds weighs
  most beside that of recall.
- `unlike noise`: equal skill at every specificity, but the baseline errs by patients (nine tenths of its own noise is
  the patient's) and the others by images, on scales of their own: a null in which arms cannot be swapped.
- `two seeds`: equal skill; every arm twice, with noise of the arm and noise of the seed.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from raresight.core.files import write_text
from raresight.core.predictions import Predictions
from raresight.core.seeds import numpy_rng
from raresight.core.task import Task
from raresight.evaluate.compare import compare

TASK = Task("independent", ("first", "second", "common"), ("first", "second"))
ARMS = ("baseline", "one", "two", "three")
PATIENTS = 600
SPECIFICITY = 0.9  # of the baseline at its default operating point


@dataclass(frozen=True)
class Setting:
    """What is simulated: how many patients have each class, and how the arms err."""

    name: str
    positive: tuple[int, int, int] = (30, 60, 250)
    recall: float = 0.6  # at the matched specificity
    gained: float | None = None  # recall of arm "one" in the first class
    seeds: int = 1
    permuted: bool = False
    by_patient: tuple[float, float] = (0.5, 0.5)  # the patient's share in an arm's own noise: baseline, others
    scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    stress: bool = False


SETTINGS = (
    Setting("permuted labels", permuted=True, scales=(1.0, 0.5, 2.0, 1.0)),
    Setting("a gain of 20 points", positive=(200, 60, 250), gained=0.8),
    Setting("exchangeable arms", stress=True),
    Setting("many positives", positive=(200, 300, 250), stress=True),
    Setting("unlike noise", by_patient=(0.9, 0.0), scales=(1.0, 0.5, 2.0, 1.5), stress=True),
    Setting("two seeds", seeds=2, stress=True),
)


def draw(setting: Setting, rng: np.random.Generator) -> dict[str, list[Predictions]]:
    """The predictions of one run, `{arm: [one a seed]}`."""
    images = np.sort(rng.integers(1, 6, PATIENTS))
    has = np.stack([rng.permutation(PATIENTS) < n for n in setting.positive], axis=1)
    patient = np.repeat(np.arange(PATIENTS), images)
    given = has[dealt(images, rng)] if setting.permuted else has
    n, k = len(patient), len(TASK.classes)
    both = math.sqrt(0.25) * rng.normal(size=(PATIENTS, k))[patient] + math.sqrt(0.25) * rng.normal(size=(n, k))
    arms = {}
    for arm, scale in zip(ARMS, setting.scales, strict=True):
        share = setting.by_patient[0 if arm == "baseline" else 1]
        shift = np.full(k, ndtri(setting.recall) - ndtri(1 - SPECIFICITY))
        if arm == "one" and setting.gained is not None:
            shift[0] = ndtri(setting.gained) - ndtri(1 - SPECIFICITY)
        lasting = own(share, patient, k, rng)
        arms[arm] = []
        for seed in range(setting.seeds):
            noise = lasting if setting.seeds == 1 else (lasting + own(share, patient, k, rng)) / math.sqrt(2)
            z = scale * (shift * has[patient] + both + math.sqrt(0.5) * noise + ndtri(1 - SPECIFICITY))
            arms[arm].append(predictions(given[patient], expit(z), patient, arm, seed))
    return arms


def dealt(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For every patient another one with as many images, `(G,)`."""
    order = np.arange(len(images))
    for size in np.unique(images):
        order[images == size] = rng.permutation(order[images == size])
    return order


def own(by_patient: float, patient: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    shared, alone = rng.normal(size=(patient.max() + 1, k))[patient], rng.normal(size=(len(patient), k))
    return math.sqrt(by_patient) * shared + math.sqrt(1 - by_patient) * alone


def predictions(target: np.ndarray, prob: np.ndarray, patient: np.ndarray, arm: str, seed: int) -> Predictions:
    columns: dict[str, np.ndarray] = {"case": np.arange(len(patient)).astype(str), "patient_id": patient}
    columns |= {f"prob_{name}": prob[:, i] for i, name in enumerate(TASK.classes)}
    columns |= {f"label_{name}": target[:, i].astype(float) for i, name in enumerate(TASK.classes)}
    return Predictions(pd.DataFrame(columns), TASK, arm, seed, "val")


@dataclass
class Tally:
    """Of how many runs: with any winner, with the planted winner, and single p-values of at most 5% of all of them."""

    runs: int = 0
    winners: int = 0
    planted: int = 0
    small: int = 0
    tests: int = 0

    def add(self, rows: list[dict]) -> None:
        family = [row for row in rows if row["family"] == "primary" and row["p"] is not None]
        won = [row for row in family if row["p_adjusted"] <= 0.05]
        self.runs += 1
        self.winners += bool(won)
        self.planted += any((row["arm"], row["class"]) == ("one", "first") and row["difference"] > 0 for row in won)
        self.small += sum(row["p"] <= 0.05 for row in family)
        self.tests += len(family)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))


def simulate(setting: Setting, runs: range, seed: int, resamples: int) -> Tally:
    tally = Tally()
    for run in runs:
        arms = draw(setting, numpy_rng("comparison null", seed, setting.name, run))
        tally.add(compare(arms, baseline="baseline", part="val", resamples=resamples, seed=run, exploratory=False))
    return tally


def row(setting: Setting, tally: Tally) -> str:
    share = tally.winners / tally.runs
    bound = 0.05 + 2 * math.sqrt(0.05 * 0.95 / tally.runs)
    if setting.gained is None:
        verdict = f"at most {100 * bound:.1f}%: " + ("held" if share <= bound else "**missed**")
        said = f"{100 * share:.1f}%"
    else:
        said = f"{100 * tally.planted / tally.runs:.1f}% (the planted one)"
        verdict = "at least 80%: " + ("held" if tally.planted >= 0.8 * tally.runs else "**missed**")
    single = f"{100 * tally.small / tally.tests:.1f}%"
    return f"| {setting.name} | {tally.runs} | {said} | {verdict} | {single} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--stress", type=int, default=1000, help="runs of the settings that try the test harder")
    parser.add_argument("--resamples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="changes nothing but the time")
    parser.add_argument("--table", type=Path, help="write the table here, as Markdown")
    options = parser.parse_args()
    started = time.perf_counter()
    lines = ["| setting | runs | a Holm winner in | asked | single tests with p <= 0.05 |", "|---|---|---|---|---|"]
    with ProcessPoolExecutor(options.processes) as pool:
        at_work = {
            setting: [
                pool.submit(simulate, setting, range(start, min(start + 25, runs)), options.seed, options.resamples)
                for start in range(0, runs, 25)
            ]
            for setting in SETTINGS
            for runs in [options.stress if setting.stress else options.runs]
        }
        for setting, parts in at_work.items():
            lines.append(row(setting, sum((part.result() for part in parts), Tally())))
            print(lines[-1], flush=True)
    minutes = (time.perf_counter() - started) / 60
    head = (
        f"# The declared family under no difference\n\n{date.today()}; {minutes:.0f} minutes, seed {options.seed}.\n\n"
    )
    written = head + "\n".join(lines) + "\n"
    if options.table:
        write_text(options.table, written)
    print(written)


if __name__ == "__main__":
    main()
