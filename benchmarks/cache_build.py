"""What building the cache costs over the decoder's own work: `build_cache` against a bare loop over the same files.

The bare loop opens each file with Pillow, decodes the JPEG at the smallest scale that still has twice the size, and
resizes it; it hashes, checks and writes nothing. CPU time of the process, in turns, with the same number of threads.
Enough images that what is fixed of a build (some 16 ms) vanishes; the files repeat a few dozen drawn ones.

    python benchmarks/cache_build.py --table cache-build.md
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from input_peer import pictures
from interleaved import heading, machine, ratios, spread, write
from PIL import Image

from raresight.core.manifest import Manifest
from raresight.data.cache import build_cache
from raresight.data.transforms import centre_square
from raresight.train.runtime import Runtime


def bare(path: Path, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        opened.draft("RGB", (2 * size, 2 * size))
        image = opened.convert("RGB")
    box = centre_square(*image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def race(folder: Path, size: int, threads: int, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds an image, per variant and round."""
    paths = sorted(folder.glob("*.jpg"))
    names = [path.name for path in paths]
    manifest = Manifest(pd.DataFrame({"case": names, "patient_id": names, "label_a": 1, "image": names}))

    def loop() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda path: bare(path, size), paths):
                pass

    def ours() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        build_cache(manifest, folder, folder / "cache", size=size, channels=3, threads=threads)

    turns: dict[str, Callable[[], None]] = {"bare": loop, "ours": ours, "again": loop}
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        order = list(turns)[turn % 3 :] + list(turns)[: turn % 3]
        for name in order:
            start = time.process_time()
            turns[name]()
            if turn:
                taken[name].append(1000 * (time.process_time() - start) / len(paths))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--distinct", type=int, default=48, help="pictures drawn; the files are these, repeated")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    lines = heading(
        "Building the image cache",
        "python benchmarks/cache_build.py",
        [
            f"{machine(Runtime(torch.device('cpu')))}. CPU milliseconds an image; median (quartiles) of the ratios.",
            "",
            "| files | cache | bare decoding, ms | build, ms | build / bare | A/A |",
            "|---|---|---|---|---|---|",
        ],
    )
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name, "small"), Path(name, "large")
        small.mkdir()
        large.mkdir()
        pictures(small, min(asked.distinct, asked.images))
        for path in small.glob("*.jpg"):
            Image.open(path).resize((1024, 1024), Image.Resampling.BICUBIC).save(large / path.name, quality=90)
        for folder in (small, large):
            drawn = sorted(folder.glob("*.jpg"))
            for i in range(len(drawn), asked.images):
                shutil.copy(drawn[i % len(drawn)], folder / f"{i:04d}.jpg")
        for folder, label in ((small, "600 x 450"), (large, "1024 x 1024")):
            weight = statistics.mean(path.stat().st_size for path in folder.glob("*.jpg")) / 1000
            for size in asked.sizes:
                taken = race(folder, size, asked.threads, asked.rounds)
                lines.append(
                    f"| {label}, {weight:.0f} kB | {size} px | {statistics.median(taken['bare']):.2f} "
                    f"| {statistics.median(taken['ours']):.2f} | {spread(ratios(taken['ours'], taken['bare']))} "
                    f"| {spread(ratios(taken['again'], taken['bare']))} |"
                )
                print(lines[-1], flush=True)
    write("\n".join(lines), asked.table)


if __name__ == "__main__":
    main()
