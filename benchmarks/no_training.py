"""What everything but training takes, in CPU seconds: python benchmarks/no_training.py [--data DATA] [--repeats 3]

DATA is a folder with nih_cxr14_tables/; without it the parts on that table are left out. Median of the repeats, and
their spread; the machine's own speed is in every figure, so compare figures of one run only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.config import SplitSection
from raresight.core.predictions import Predictions, tabulate
from raresight.core.seeds import derive
from raresight.core.task import Task
from raresight.data.audit import audit
from raresight.data.read import ReadOptions, read
from raresight.data.split import split
from raresight.evaluate.compare import compare
from raresight.evaluate.estimates import estimate
from raresight.explain.cka import debiased
from raresight.explain.collapse import collapse
from raresight.explain.dprime import separations
from raresight.explain.matching import match
from raresight.explain.separability import separability
from raresight.report.content import ArmResult, Content
from raresight.report.explorer import explorer_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| what | CPU seconds, median | least | most |")
    print("|---|---|---|---|")
    for name, work in jobs(options.data).items():
        seconds = [timed(work) for _ in range(options.repeats)]
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |", flush=True)


def jobs(data: Path | None) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    if data is not None:
        table, options = data / "nih_cxr14_tables" / "labels.csv.gz", ReadOptions(no_images=True)
        reading = read("chestxray14", table, options)
        task, settings = Task(reading.kind, tuple(reading.classes)), SplitSection()
        by = settings.group
        found["read 112,120 x 14"] = lambda: read("chestxray14", table, options)
        found["audit 112,120 x 14"] = lambda: audit(reading.manifest, task, group_by=by, split=settings)
        found["split 112,120 x 14, 30,805 patients"] = lambda: split(reading.manifest, task, settings)
    large = predictions("independent", n=20_000, k=14, n_patients=6_000, arm="large")
    found["estimates 20,000 x 14, independent, 1,000 resamples"] = lambda: estimate(large)
    arms = {f"arm{a}": [predictions("exclusive", n=1_500, k=7, n_patients=900, arm=f"arm{a}")] for a in range(6)}
    found["estimates 1,500 x 7, exclusive, 1,000 resamples"] = lambda: estimate(arms["arm0"][0])
    found["comparison of 6 arms, 1,500 x 7"] = lambda: compare(arms, baseline="arm0", part="val")
    films = predictions("independent", n=25_596, k=14, n_patients=2_797, arm="films")
    page = Content(films.task, part="val", arms=(ArmResult("films", predictions=(films,)),), baseline="films")
    found["the page's explorer, 25,596 x 14"] = lambda: explorer_data(page)
    return found | looks()


def looks() -> dict[str, Callable[[], object]]:
    """The parts of a look that need no network, at HAM10000's size; what is compiled was compiled before."""
    rng = np.random.default_rng(0)
    of = rng.choice(7, 2_250, p=[0.67, 0.11, 0.11, 0.05, 0.03, 0.015, 0.015])
    labels, patients, tail = np.eye(7)[of], np.arange(2_250), np.arange(7) > 4
    a, b = rng.normal(size=(2, 2_250, 512))
    head = rng.normal(size=(7, 512))
    layers = {f"layer{units}": rng.normal(size=(2_250, units)) for units in (64, 128, 256, 512)}
    separability({"a": layers["layer64"]}, labels, patients, tail=tail, resamples=2)
    many = (rng.random((20_000, 14)) < 0.05).astype(float)
    logits = rng.normal(size=many.shape)
    return {
        "debiased CKA, 2,250 x 512": lambda: debiased(a, b),
        "collapse, 2,250 x 512, 7 classes": lambda: collapse(a, labels, kind="exclusive", rows=head, tail=tail),
        "partners of 512 units, 2,250 images": lambda: match(a, b, shared_initialisation=False),
        "separability of four layers, 2,250 images": lambda: separability(layers, labels, patients, tail=tail),
        "separation of logits, 20,000 x 14": lambda: separations(logits, many),
    }


def predictions(kind: str, *, n: int, k: int, n_patients: int, arm: str) -> Predictions:
    """Simulated predictions of an informative model with prevalences from 60% (or 20%) down to about 0.5%."""
    rng = np.random.default_rng(0)  # the same cases for every arm
    share = np.geomspace(0.6 if kind == "exclusive" else 0.2, 0.005, k)
    if kind == "exclusive":
        target = np.eye(k)[rng.choice(k, n, p=share / share.sum())]
    else:
        target = (rng.random((n, k)) < share).astype(float)
    patient = rng.integers(0, n_patients, n).astype(str).astype(object)
    own = np.random.default_rng(derive(arm))
    logits = np.log(share) + 1.5 * target + own.normal(size=(n, k))
    task = Task(
        "exclusive" if kind == "exclusive" else "independent", tuple(f"class{i}" for i in range(k)), ("class1",)
    )
    metadata = pd.DataFrame({"patient_id": patient})
    table = tabulate(task, np.arange(n).astype(str).astype(object), logits, target, metadata)
    return Predictions(table, task, arm=arm, seed=0, part="val")


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
