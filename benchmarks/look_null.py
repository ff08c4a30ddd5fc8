"""How often are arms that do not differ flagged? Is a planted change? `python benchmarks/look_null.py --table FILE`

Every run simulates one study and lets `explain.arm_rows` and `explain.verdict` make T1 of it: arms x seeds of networks
that look at the same images. Patients have 1 to 4 images, all with the patient's one class of seven, as rare as in
HAM10000. A network's logit and its chance-corrected alignment are the image's own and the patient's own, which all
networks share, plus what an arm does (nothing, unless it is planted), what a seed does to all images of a class, and
what a seed does to this patient and this image. A study is flagged where any class of any arm is `same score, different
model` or `better score, worse look`.

`--resamples` is smaller than the default's 2,000: below 10 resamples beyond 0 p is Student's t, so more change little.

So many studies take hours, and Holm looks at tests far out in the tail. `--tails N` therefore draws N sets of figures
that are normal from the start (40 patients' worth of patient noise, which both arms share, and seeds' noise `ratio`
times as large), and counts how often p as `explain.paired` makes it lies below .05/m, in multiples of that: once with
the two arms' own seed variance, and once with the larger of that and the pooled one, as it is done. At most 1 is asked
of a test that is exact; m is 21 a compared arm (7 classes, 3 looks).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from raresight.core.files import write_text
from raresight.core.seeds import numpy_rng
from raresight.explain.arm_rows import Sides, alignment_rows, detector_rows, score_rows
from raresight.explain.draws import Draws
from raresight.explain.ranked_pairs import detector_figures
from raresight.explain.tables import Row
from raresight.explain.verdict import SAME_SCORE, WORSE_LOOK
from raresight.explain.verdict_table import verdict_rows

CLASSES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")
SHARES = (0.67, 0.11, 0.11, 0.05, 0.033, 0.014, 0.013)
UNITS = 24


@dataclass(frozen=True)
class Setting:
    """What is simulated. Effects of an arm are those of arm `one` on class `mel`."""

    name: str
    patients: int = 400
    arms: int = 4
    seeds: int = 3
    seed_noise: float = 0.05  # of alignment, on all images of a class; of logits, three times that
    own_noise: float = 0.15  # of a seed at a patient, and again at an image
    hits: bool = False  # alignment is yes or no
    detectors: bool = False
    last_layer: bool = False  # maps of a second layer, with the same lot of images and half of its noise in common
    alignment: float = 0.0
    alone: bool = False  # the planted change of alignment is at the last layer and not at the chosen one
    logit: float = 0.0
    expected: str = ""
    bound: float = 0.05
    classes: tuple[str, ...] = field(default=CLASSES)


SETTINGS = (
    Setting("as on HAM10000"),
    Setting("with detectors", detectors=True),
    Setting("two layers", last_layer=True, detectors=True),
    Setting("seeds rule", seed_noise=0.15, own_noise=0.05),
    Setting("seeds do nothing", seed_noise=0.0),
    Setting("hit or miss", hits=True),
    Setting("few patients", patients=150),
    Setting("five seeds", seeds=5),
    Setting("eight arms", arms=8),
    Setting("alignment lost", seeds=5, alignment=-0.25, expected=SAME_SCORE),
    Setting("alignment lost, score won", seeds=5, alignment=-0.25, logit=1.5, expected=WORSE_LOOK),
    Setting(
        "lost at the last layer, score won",
        seeds=5,
        last_layer=True,
        alignment=-0.25,
        alone=True,
        logit=1.5,
        expected=WORSE_LOOK,
    ),
)


@dataclass(frozen=True)
class Study:
    """What was measured of one study."""

    logits: dict[str, dict[int, np.ndarray]]
    labels: np.ndarray
    patients: np.ndarray
    rows: pd.DataFrame
    cells: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]


def simulate(setting: Setting, rng: np.random.Generator) -> Study:
    k = len(setting.classes)
    shares = np.array(SHARES[:k]) / sum(SHARES[:k])
    of_patient = rng.choice(k, setting.patients, p=shares)
    patient = np.repeat(np.arange(setting.patients), rng.integers(1, 5, setting.patients))
    label, n = of_patient[patient], len(patient)
    labels = np.eye(k)[label]
    hard = 0.1 * rng.normal(size=setting.patients)[patient] + 0.1 * rng.normal(size=n)  # what all networks share
    chance = np.clip(0.2 + 0.05 * rng.normal(size=n), 0, 1)
    seen = 2 * labels + rng.normal(size=(setting.patients, k))[patient] + rng.normal(size=(n, k))
    base = rng.random((UNITS, k)) * 0.1  # how well a unit of any network covers a concept
    logits: dict[str, dict[int, np.ndarray]] = {}
    cells: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    frames = []
    for a in range(setting.arms):
        arm = ("baseline", "one", "two", "three", "four", "five", "six", "seven")[a]
        logits[arm], cells[arm] = {}, {}
        planted = (a == 1) * (label == 1)
        for seed in range(setting.seeds):
            own = setting.own_noise * (rng.normal(size=setting.patients)[patient] + rng.normal(size=n))
            luck = setting.seed_noise * rng.normal(size=k)[label]
            mass = 0.55 + hard + luck + own + setting.alignment * planted
            z = seen + 3 * setting.seed_noise * labels * rng.normal(size=k)
            z = z + 3 * setting.own_noise * rng.normal(size=(n, k))
            z[:, 1] += setting.logit * planted
            logits[arm][seed] = z
            maps = {"chosen": mass}
            if setting.last_layer:
                other = setting.own_noise * (rng.normal(size=setting.patients)[patient] + rng.normal(size=n))
                maps["last"] = mass + (other - own + setting.seed_noise * rng.normal(size=k)[label] - luck) / 2
            if setting.alone:
                maps["chosen"] = mass - setting.alignment * planted
            for layer, shown in maps.items():
                values = (rng.random(n) < shown) * 1.0 if setting.hits else np.clip(shown, 0, 1)
                frames.append(
                    pd.DataFrame({
                        "arm": arm, "seed": seed, "class": np.array(setting.classes)[label], "case": np.arange(n),
                        "patient": patient, "layer": layer, "mass": values, "mass_0": chance,
                    })
                )  # fmt: skip
            if setting.detectors:
                cells[arm][seed] = _pixels(base, label, setting, rng)
    return Study(logits, labels, patient, pd.concat(frames), cells)


def _pixels(
    base: np.ndarray, label: np.ndarray, setting: Setting, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Intersections and unions `(N, U, K)` of one network: units cover concepts as in any other, and by luck."""
    u, k = base.shape
    cover = np.clip(base + setting.seed_noise * 0.4 * rng.normal(size=(u, k)), 0, 1)
    union = np.zeros((len(label), u, k))
    at = np.arange(len(label))
    union[at, :, label] = rng.integers(50, 200, (len(label), u))
    inter = union.copy()
    inter[at, :, label] *= np.clip(cover[:, label].T * (1 + 0.5 * rng.normal(size=(len(label), u))), 0, 1)
    return inter, union


def table(study: Study, classes: Sequence[str], resamples: int, names: object) -> list[Row]:
    """T1 of a study."""
    sides = Sides("baseline", Draws(study.patients, resamples=resamples, names=names))
    scores = score_rows(study.logits, study.labels, study.patients, classes, sides)
    found = [] if not study.cells["baseline"] else detector_rows(
        {
            arm: {
                seed: detector_figures(*cells, study.patients, sides.draws, has=study.labels == 1)
                for seed, cells in seeds.items()
            }
            for arm, seeds in study.cells.items()
        },
        classes, sides,
    )  # fmt: skip
    alignment = alignment_rows(study.rows, sides, measures=("mass",))
    return verdict_rows(scores, alignment, found, measure="mass", layer="chosen", last=study.rows["layer"].iloc[-1])


@dataclass
class Tally:
    """Studies, those with a flag where nothing was planted, those in which the planted one got its flag, small p."""

    runs: int = 0
    flagged: int = 0
    found: int = 0
    small: int = 0
    tests: int = 0

    def add(self, rows: list[Row], expected: str) -> None:
        flags = {(one["arm"], one["class"]): one["verdict"] for one in rows if one["metric"] == "verdict"}
        right = flags.pop(("one", CLASSES[1])) == expected if expected else False
        looks = [one for one in rows if one["family"] == "look" and one["p"] is not None]
        self.runs += 1
        self.flagged += any(flag in (SAME_SCORE, WORSE_LOOK) for flag in flags.values())
        self.found += right
        self.small += sum(one["p"] <= 0.05 for one in looks)
        self.tests += len(looks)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


def run(setting: Setting, runs: range, seed: int, resamples: int) -> Tally:
    tally = Tally()
    for i in runs:
        study = simulate(setting, numpy_rng("look null", seed, setting.name, i))
        tally.add(table(study, setting.classes, resamples, (seed, i)), setting.expected)
    return tally


def line(setting: Setting, tally: Tally) -> str:
    share, bound = tally.flagged / tally.runs, 0.05 + 2 * math.sqrt(0.05 * 0.95 / tally.runs)
    verdict = f"at most {100 * bound:.1f}%: " + ("held" if share <= bound else "**missed**")
    found = f"{100 * tally.found / tally.runs:.1f}% {setting.expected}" if setting.expected else ""
    single = f"{100 * tally.small / tally.tests:.1f}%"
    who = f"{setting.name} ({setting.arms} arms, {setting.seeds} seeds, {setting.patients} patients)"
    return f"| {who} | {tally.runs} | {100 * share:.1f}% | {verdict} | {found} | {single} |"


def tails(draws: int, seed: int) -> list[str]:
    """How often p lies below .05/m, in multiples of .05/m, as Markdown."""
    lines = ["| seeds | arms | m | seeds' variance : patients' | own variance alone | as it is done |"]
    lines.append("|---|---|---|---|---|---|")
    for seeds, arms in ((3, 2), (3, 4), (3, 8), (5, 4), (2, 4)):
        alpha = 0.05 / (21 * (arms - 1))
        for ratio in (0, 1, 4, 10, 50):
            rng = numpy_rng("look tails", seed, seeds, arms, ratio)
            x = rng.normal(size=(draws, arms, seeds)) * math.sqrt(seeds / 2)  # the difference of two arms varies by 1
            difference = x[:, 1].mean(1) - x[:, 0].mean(1)
            patients = rng.chisquare(40, draws) / 40 / (1 + ratio)
            own = np.var(x[:, 1] - x[:, 0], axis=1, ddof=1) / seeds
            left = x - x.mean(2, keepdims=True)
            df = arms * (seeds - 1)
            if arms > 2:
                left, df = left - left.mean(1, keepdims=True), (arms - 1) * (seeds - 1)
            pooled = 2 * (left**2).sum((1, 2)) / df / seeds
            said = []
            for variance, freedom in ((own, seeds - 1), (np.maximum(own, pooled), df)):
                total = patients + variance
                satterthwaite = total**2 / (patients**2 / 40 + variance**2 / freedom)
                p = 2 * student.sf(np.abs(difference) / np.sqrt(total), satterthwaite)
                said.append(f"{np.mean(p < alpha) / alpha:.2f}")
            lines.append(f"| {seeds} | {arms} | {21 * (arms - 1)} | {ratio} | {said[0]} | {said[1]} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="changes nothing but the time")
    parser.add_argument("--tails", type=int, default=100_000, help="0: leave them out")
    parser.add_argument("--only", nargs="*", help="settings by name")
    parser.add_argument("--table", type=Path, help="write the table here, as Markdown")
    options = parser.parse_args()
    lines = [
        "| setting | studies | with a false flag | asked | planted change flagged | single tests with p <= 0.05 |",
        "|---|---|---|---|---|---|",
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        for setting in SETTINGS:
            if options.only and setting.name not in options.only:
                continue
            parts = [
                pool.submit(run, setting, range(s, min(s + 10, options.runs)), options.seed, options.resamples)
                for s in range(0, options.runs, 10)
            ]
            lines.append(line(setting, sum((part.result() for part in parts), Tally())))
            print(lines[-1], flush=True)
    head = f"# Arms that do not differ: how often is one flagged?\n\n{date.today()}; seed {options.seed}, "
    head += f"{options.resamples} resamples.\n\n"
    if options.tails:
        far = tails(options.tails, options.seed)
        print("\n".join(far), flush=True)
        lines += ["", "## Single tests far out in the tail", "", *far]
    if options.table:
        write_text(options.table, head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
