"""`raresight score` on a table of 25,596 images and 14 labels, figures and report included: time and memory.

The table is made up: independent labels from 0.2% to 18% of images, about three images a patient, scores one standard
deviation apart, and a validation table of other patients, so that thresholds and calibrators are fitted. `score` runs
as a user runs it, in a process of its own: wall and CPU seconds, the largest resident memory, and whether torch was
imported, which it never may be. Later runs find compiled code on the disk.

    python benchmarks/score_speed.py --table score.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
start, cpu = time.perf_counter(), time.process_time()
from raresight.verbs.score import score
tests, val, out, resamples, profile = json.loads(sys.argv[1])
work = lambda: score([Path(tests)], Path(out), val=[Path(val)] if val else (), resamples=resamples)
if profile:
    import cProfile
    cProfile.runctx("work()", globals(), {}, profile)
else:
    work()
used = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps([*used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "torch" in sys.modules]))
"""


def table(rng: np.random.Generator, images: int, patients: int, classes: int, first: int) -> pd.DataFrame:
    """A predictions table: `case`, `patient_id`, `sex`, `age`, `label_*`, `prob_*`."""
    patient = np.append(np.arange(patients), rng.integers(0, patients, images - patients))
    share = np.geomspace(0.002, 0.18, classes)
    target = rng.random((images, classes)) < share
    prob = 1 / (1 + np.exp(-(rng.normal(size=target.shape) + 2 * target + np.log(share) - 1)))
    columns: dict[str, object] = {
        "case": [f"{first + i:08d}" for i in range(images)],
        "patient_id": [f"P{first + g:06d}" for g in patient],
        "sex": rng.choice(["F", "M"], patients)[patient],
        "age": rng.integers(18, 90, patients)[patient],
    }
    columns |= {f"label_c{k}": target[:, k].astype(int) for k in range(classes)}
    columns |= {f"prob_c{k}": prob[:, k].round(6) for k in range(classes)}
    return pd.DataFrame(columns)


def run(tests: Path, val: Path | None, out: Path, resamples: int, profile: Path | None = None) -> list[float]:
    """Wall seconds, CPU seconds, GiB at the peak, and torch imported (0 or 1), of one `score`."""
    given = json.dumps([str(tests), str(val) if val else None, str(out), resamples, str(profile) if profile else None])
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | threads
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, given], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return [float(value) for value in json.loads(answer.stdout.splitlines()[-1])]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=25_596)
    ask.add_argument("--patients", type=int, default=9_000)
    ask.add_argument("--classes", type=int, default=14)
    ask.add_argument("--resamples", type=int, default=2000)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--profile", type=Path, help="write the profile of one more run there")
    ask.add_argument("--table", type=Path)
    given = ask.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        tests, val, out = (Path(folder) / name for name in ("model.csv", "val.csv", "out"))
        table(rng, given.images, given.patients, given.classes, 0).to_csv(tests, index=False)
        table(rng, given.images // 2, given.patients // 2, given.classes, given.images).to_csv(val, index=False)
        lines = [
            f"`score` of {given.images:,} images x {given.classes} independent labels ({given.patients:,} patients), "
            f"{given.resamples:,} resamples, report and figures included; one thread.",
            "",
            "| run | wall s | CPU s | peak GiB | torch imported | report MB |",
            "|---|---|---|---|---|---|",
        ]
        for name, fitted in (("without validation", None), ("thresholds fitted on validation", val)):
            for turn in range(given.rounds):
                wall, cpu, memory, torch = run(tests, fitted, out, given.resamples)
                size = (out / "report.html").stat().st_size / 1e6
                said = "yes" if torch else "no"
                lines.append(f"| {name}, {turn + 1} | {wall:.1f} | {cpu:.1f} | {memory:.2f} | {said} | {size:.1f} |")
        if given.profile:
            run(tests, val, out, given.resamples, given.profile)
    print("\n".join(lines))
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
