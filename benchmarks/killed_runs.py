"""Does a run that is killed with SIGKILL end as an unkilled one? python benchmarks/killed_runs.py WORK [--kills 10]

Trains a hybrid arm with EMA on the phantom twice: once undisturbed, once killed at random moments, at least once in the
head phase and at least once while a checkpoint is being written. Compares predictions bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from raresight.core.files import read_jsonl
from raresight.data.phantom import make_phantom
from raresight.data.read import ReadOptions, read

HEAD = ["in the head phase", "writing in the head phase", "in the head phase"]
PLAN = ["anywhere", "while writing", *["anywhere"] * 4, "while writing", *HEAD]
ARM = ["heavy_augment", "smote", "ema", {"focal": {"gamma": 2}}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    random.seed(0)
    phantom = options.work / "phantom"
    if not phantom.exists():
        make_phantom(phantom, n_patients=60, size=48, seed=1)
    calm, killed = (study(options.work / name, phantom, options.steps) for name in ("calm", "killed"))
    train(calm).wait()
    shutil.copy(
        calm / "lock.json", killed / "lock.json"
    )  # "bit for bit" holds under one lock: the same precision, layout
    moments = []
    for number in range(options.kills):
        moment = kill_once(killed, PLAN[number % len(PLAN)])
        if moment:
            moments.append(moment)
            print("killed", moment, flush=True)
    if train(killed).wait() != 0:
        raise SystemExit("the resumed run failed; run `raresight train` on the killed study to see why")
    first, second = (table(folder) for folder in (calm, killed))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    print(f"{len(moments)} kills ({', '.join(moments)}); predictions of {len(first)} cases identical bit for bit")


def study(folder: Path, phantom: Path, steps: int) -> Path:
    if not (folder / "study.yaml").exists():
        reading = read("csv", phantom / "manifest.csv", ReadOptions(group_col="lesion_id"))
        reading.manifest.save(folder / "data/manifest.csv")
        config = {
            "data": {"manifest": "data/manifest.csv", "root": str(phantom.resolve())},
            "task": {"kind": "exclusive", "classes": list(reading.classes), "critical": ["melanoma"]},
            "image": {"size": 32, "preset": "dermoscopy"},
            "model": {"backbone": "resnet18", "pretrained": False},
            "train": {"steps": steps, "head_steps": steps // 2, "batch": 32, "precision": "fp32", "threads": 2},
            "arms": {"hybrid": ARM},
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        for verb in ("check", "split"):
            subprocess.run([sys.executable, "-m", "raresight.cli", verb, str(folder)], check=True, capture_output=True)
    return folder


def train(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "raresight.cli", "train", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_once(folder: Path, when: str) -> str:
    """Start, wait for the moment, SIGKILL; the moment in words, or "" where the run ended first."""
    run = folder / "arms/hybrid/seed-0"
    before, started = changed(run), time.time()
    process = train(folder)
    limit = None
    while process.poll() is None:
        writing = unfinished_writes(run, started)
        goes_on = changed(run) != before
        if limit is None and goes_on:  # from here a random moment
            limit = time.monotonic() + random.uniform(0, 2)
        due = {
            "while writing": writing,
            "in the head phase": goes_on and phase(run) == "head",
            "writing in the head phase": writing and phase(run) == "head",
            "anywhere": limit is not None and time.monotonic() > limit,
        }[when]
        if due:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return f"{'while writing a checkpoint' if writing else 'between writes'} in the {phase(run)} phase"
        time.sleep(0.001)
    return ""


def unfinished_writes(run: Path, since: float) -> bool:
    """Whether a temporary file of this process lies in the run folder (it may vanish while we look)."""
    for path in run.glob(".*.tmp"):
        try:
            if path.stat().st_mtime >= since:
                return True
        except FileNotFoundError:
            continue
    return False


def changed(run: Path) -> float:
    """When the run last left a checkpoint, 0 before the first."""
    path = run / "resume.pt"
    return path.stat().st_mtime if path.exists() else 0.0


def phase(run: Path) -> str:
    try:
        events = read_jsonl(run / "events.jsonl")
    except (OSError, ValueError):
        events = []
    return str(events[-1].get("phase", "first")) if events else "first"


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "arms/hybrid/seed-0/val/predictions.parquet")


if __name__ == "__main__":
    main()
