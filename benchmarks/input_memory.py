"""Anonymous memory of training as the data set grows: a memory map of 112,120 images beside one of 10,000.

Random uint8 images of 64 px with one of 14 classes each; the study's own loop (`train.loop.train`) trains on them with
`augment`, evaluates 512 of them and writes its checkpoints, every case in a process of its own. What counts is the
largest RssAnon of /proc/self/status, sampled every 20 ms: pages of the map belong to the system's cache and are given
up when memory is short. Linux alone tells.

With `--verbs`, the commands themselves: a table of `file.npz#array[index]` (a compressed array of blocky noise) goes
through init, check, split, audit and train, each a process of its own whose memory is watched from outside.

    python benchmarks/input_memory.py --table input-memory.md
    python benchmarks/input_memory.py --verbs --networks resnet10t:20
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SIZE, CLASSES = 64, 14
LIMIT = 2.0  # GiB


def write_map(path: Path, n: int) -> None:
    """`n` noise images, written a block at a time."""
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (n, SIZE, SIZE, 3))
    for start in range(0, n, 4096):
        part = pixels[start : start + 4096]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    pixels.flush()


def anonymous(process: int | str = "self") -> float:
    """GiB of memory that belongs to a process alone and to no file; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = status.partition("RssAnon:")[2].split()
    return int(found[0]) / 2**20 if found else 0.0


class Peak:
    """The largest `anonymous()` while it runs."""

    def __init__(self) -> None:
        self.most, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, anonymous())

    def end(self) -> float:
        self._ended.set()
        self._thread.join()
        return max(self.most, anonymous())


def one(path: Path, backbone: str, steps: int) -> None:
    """Train in this process and print anonymous memory with everything imported, and its peak."""
    import torch

    from raresight.core.arm import Arm
    from raresight.core.config import parse_config
    from raresight.core.run import RunFolder
    from raresight.strategies import build
    from raresight.train.loop import Cases, train
    from raresight.train.runtime import Runtime

    config = parse_config(
        {
            "task": {"kind": "exclusive", "classes": [f"c{k}" for k in range(CLASSES)]},
            "image": {"size": SIZE, "preset": "dermoscopy"},
            "model": {"backbone": backbone, "pretrained": False},
            "train": {"batch": 64, "steps": steps, "evaluate_every": steps, "threads": 1},
        }
    )
    pixels = np.load(path, mmap_mode="r")
    n = len(pixels)
    target = np.eye(CLASSES, dtype=np.float32)[np.random.default_rng(1).integers(0, CLASSES, n)]
    names = np.array([f"{i:08d}_000.png" for i in range(n)], dtype=object)
    rows = np.random.default_rng(2).permutation(n)
    val, training = rows[:512], rows[512:]
    parts = [Cases(pixels, part, target[part], names[part]) for part in (training, val)]
    arm = Arm.parse("arm", ["augment"])
    runtime = Runtime(torch.device("cpu"), "bf16", channels_last=True, threads=1)
    before, peak = anonymous(), Peak()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run", "arm", 0)
        run.path.mkdir(parents=True)
        train(run, arm, build(arm, config.problem), config, *parts, runtime, study_seed=0, data_hash="none")
    print(f"{before:.3f} {peak.end():.3f}")


def write_source(folder: Path, n: int) -> Path:
    """A table of `n` pictures in one compressed array, about four to a patient; 10 of the 14 classes are rare."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (n, SIZE // 4, SIZE // 4, 3), dtype=np.uint8)
    np.savez_compressed(folder / "pictures.npz", images=blocks.repeat(4, axis=1).repeat(4, axis=2))
    shares = np.array([20] * 4 + [2] * (CLASSES - 4)) / 100
    rows = zip(rng.integers(0, max(n // 4, 60), n), rng.choice(CLASSES, n, p=shares), strict=True)
    lines = [f"pictures.npz#images[{i}],p{patient},c{label:02d}" for i, (patient, label) in enumerate(rows)]
    (folder / "table.csv").write_text("\n".join(["image,patient_id,label", *lines]) + "\n", encoding="utf-8")
    return folder / "table.csv"


def peak_of(*command: str) -> float:
    """The largest `anonymous` of `raresight COMMAND`, which must succeed."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "raresight", *command], stdout=said, stderr=said)
        most = 0.0
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.02)
        if process.returncode:
            said.seek(0)
            sys.exit(said.read())
    return most


def through_the_verbs(folder: Path, n: int, backbone: str, steps: int) -> dict[str, float]:
    """Peak of each command on a study of one arm with `augment`."""
    study = folder / "study"
    peaks = {"init": peak_of("init", str(study), str(write_source(folder, n)), "--from", "csv", "--quick")}
    written = (study / "study.yaml").read_text(encoding="utf-8")
    written = re.sub(r"epochs: \d+", f"steps: {steps}, evaluate_every: {steps}, threads: 1", written)
    written = written.replace("backbone: resnet18", f"backbone: {backbone}").replace(
        "preset: none", "preset: dermoscopy"
    )
    written = re.sub(r"(?s)\narms:.*?\n\n", "\narms:\n  baseline: [augment]\n\n", written, count=1)
    (study / "study.yaml").write_text(written, encoding="utf-8")
    return peaks | {verb: peak_of(verb, str(study)) for verb in ("check", "split", "audit", "train")}


def verbs(images: list[int], network: str) -> list[str]:
    name, _, steps = network.partition(":")
    lines = [f"| images | init | check | split | audit | train {name}, {steps} steps |", "|---|---|---|---|---|---|"]
    for n in images:
        with tempfile.TemporaryDirectory() as folder:
            peaks = through_the_verbs(Path(folder), n, name, int(steps))
        lines.append(f"| {n:,} | " + " | ".join(f"{peak:.3f}" for peak in peaks.values()) + " |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 112_120])
    parser.add_argument("--networks", nargs="+", default=["resnet18:20", "resnet10t:100"], help="NAME:STEPS")
    parser.add_argument("--verbs", action="store_true", help="the commands, with the last of NETWORKS")
    parser.add_argument("--one", nargs=3, metavar=("MAP", "NETWORK", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.one:
        one(Path(asked.one[0]), asked.one[1], int(asked.one[2]))
        return
    lines = [
        "# Anonymous memory of training",
        "",
        f"{time.strftime('%Y-%m-%d')}; `python benchmarks/input_memory.py`. GiB of RssAnon, batch 64, 64 px, bf16 on a "
        f"CPU; aim: at most {LIMIT:g}, and the same for both.",
        "",
    ]
    lines += verbs(asked.images, asked.networks[-1]) if asked.verbs else maps(asked.images, asked.networks)
    print("\n".join(lines))
    if asked.table:
        asked.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def maps(images: list[int], networks: list[str]) -> list[str]:
    lines = ["| images | map, GiB | network, steps | before training | peak |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for n in images:
            path = Path(folder) / f"{n}.npy"
            write_map(path, n)
            for network in networks:
                name, _, steps = network.partition(":")
                command = [sys.executable, __file__, "--one", str(path), name, steps]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(done.stderr)
                before, peak = done.stdout.split()[-2:]
                lines.append(f"| {n:,} | {path.stat().st_size / 2**30:.2f} | {name}, {steps} | {before} | {peak} |")
                print(lines[-1], flush=True)
            path.unlink()
    return lines


if __name__ == "__main__":
    main()
