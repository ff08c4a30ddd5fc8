"""Six arms over a Ray cluster of two nodes, a worker killed, beside serial training: python benchmarks/ray_kill.py

Trains a study of the phantom once in one process and once over a real cluster on this machine (the pieces of
tests/flows/killed_on_ray.py), where one worker gets SIGKILL before the middle of its run. Compares weights and
validation predictions bit for bit; leaves with 1 where they differ.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from interleaved import heading, machine, write

from raresight.api import Study
from raresight.core.files import sha256
from raresight.data.phantom import make_phantom
from raresight.train.runtime import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.flows.conftest import TINY, write_study
from tests.flows.killed_on_ray import ARMS, Ran, job_log, two_nodes, with_a_kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        serial = trained(Path(work), options.steps)
        clustered = Path(shutil.copytree(serial, Path(work) / "clustered", ignore=shutil.ignore_patterns("arms")))
        with two_nodes() as address:
            ran = with_a_kill(clustered, address, options.steps)
        if ran.code:
            raise SystemExit(ran.said)
        differ = [arm for arm in ARMS if not equal(clustered, serial, arm)]
        write("\n".join(page(ran, differ, options.steps)), options.table)
    sys.exit(bool(differ))


def trained(work: Path, steps: int) -> Path:
    """The study as one process trains it."""
    phantom = make_phantom(work / "phantom", n_patients=60, size=48, seed=3).parent
    short = {**TINY["train"], "steps": steps, "head_steps": 10, "evaluate_every": 4}
    folder = write_study(work / "serial", phantom, arms=ARMS, train=short)
    study = Study.open(folder)
    study.check()
    study.split()
    study.train()
    return folder


def equal(ours: Path, theirs: Path, arm: str) -> bool:
    one, other = (study / f"arms/{arm}/seed-0" for study in (ours, theirs))
    tables = [pd.read_parquet(run / "val/predictions.parquet") for run in (one, other)]
    return tables[0].equals(tables[1]) and sha256(one / "best.safetensors") == sha256(other / "best.safetensors")


def page(ran: Ran, differ: list[str], steps: int) -> list[str]:
    found = "**differ in " + ", ".join(differ) + "**" if differ else "equal those of serial training **bit for bit**"
    here = machine(Runtime(torch.device("cpu"), "fp32", False, 1))
    lines = [
        f"{here}, Ray {version('ray')}.",
        "A real cluster of two nodes of one CPU each, on one machine; the phantom at 32 px, one seed,",
        f"{steps} steps. Several machines, and GPUs: **not tried**.",
        "",
        f"Process {ran.pid}, which trained `{ran.arm}`, got SIGKILL after step {ran.step} of {steps}; another one",
        f"was given the job and went on. Weights and validation predictions of all six arms {found}.",
        "Seconds are those of a busy machine.",
    ]
    rows = ["| job | processes that had it | seconds from first begun to done |", "|---|---|---|"]
    for path in sorted((ran.folder / "jobs").glob("*.jsonl")):
        log = job_log(ran.folder, path.stem)
        pids = ", ".join(str(row["pid"]) for row in log if row["event"] == "begun")
        begun, done = (datetime.fromisoformat(log[i]["time"]) for i in (0, -1))
        rows.append(f"| {path.stem} | {pids} | {(done - begun).total_seconds():.0f} |")
    return [*heading("A study over a Ray cluster, a worker killed", "make study-ray", lines), *rows]


if __name__ == "__main__":
    main()
