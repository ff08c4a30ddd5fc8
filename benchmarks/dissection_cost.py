"""What dissection costs: thresholds and overlap of all units with all concepts, pruned against everything upsampled.

Made-up activations: rectified white noise, which spreads the large values over as many images as can be, so that little
is pruned; float16, as they are cached. Boxes of 14 concepts with 10% of the images each. Two dense computations: our
own, which upsamples every image and unit and gives the same counts to the last pixel, and the usual one, torch's
bilinear interpolation with a comparison and a product with the masks; both are timed on some of the images and scaled
up. Variants take turns in one process; CPU time of one thread, ratios within rounds. Peak memory is that of a process
of its own which opens the activations as a memory map, less what it held before.

    python benchmarks/dissection_cost.py --table dissection-cost.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from interleaved import Turn, heading, interleave, machine, ratios, spread, write  # noqa: E402

from raresight.explain.concepts import concepts  # noqa: E402
from raresight.explain.dissect import Dissection, dissect  # noqa: E402
from raresight.explain.firing import unpacked  # noqa: E402
from raresight.explain.legacy import legacy_concept_count  # noqa: E402
from raresight.explain.probe import ProbeSet, Regions  # noqa: E402
from raresight.explain.thresholds import histogram_thresholds, thresholds  # noqa: E402
from raresight.explain.unit_auroc import pixel_auroc, pooled, unit_auroc  # noqa: E402
from raresight.explain.unit_null import unit_null  # noqa: E402
from raresight.train.runtime import Runtime  # noqa: E402

GRID, SIDE, CLASSES = (56, 56), 224, 14

PEAK = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from dissection_cost import probe_of, dissect, unit_null
activations = np.load(sys.argv[1], mmap_mode="r")
small, probe = activations[:4], probe_of(len(activations))
dissect(small, probe.take(np.arange(4)))
# Not ru_maxrss, which begins with what the parent process held; the mark is set back to what is held now.
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
Path("/proc/self/clear_refs").write_text("5")
before = peak()
found = dissect(activations, probe)
after = peak()
if sys.argv[3] == "null":
    unit_null(activations, probe, found)
print(json.dumps([before, after, peak()]))
"""


def activations_of(images: int, units: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = np.empty((images, units, 7, 7), dtype=np.float16)
    for i in range(images):
        found[i] = np.maximum(rng.standard_normal((units, 7, 7), dtype=np.float32), 0)
    return found


def probe_of(images: int) -> ProbeSet:
    rng = np.random.default_rng(1)
    labels = (rng.random((images, CLASSES)) < 0.1).astype(float)
    row, label = np.nonzero(labels)
    height, width = rng.integers(10, 80, (2, len(row)))
    y, x = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
    regions = Regions.of_boxes(row, label, np.stack([y, x, y + height, x + width], axis=1), (SIDE, SIDE))
    return ProbeSet(np.zeros((images, 1, 1), dtype=np.float32), labels, np.arange(images), regions=regions)


def usual(activations: np.ndarray, probe: ProbeSet, level: np.ndarray, batch: int = 20) -> np.ndarray:
    """IoU `(U, C)` as everybody computes it: all maps upsampled in float32, compared, multiplied with the masks."""
    sets = concepts(probe, GRID)
    n, units = activations.shape[:2]
    masks = np.zeros((n, len(sets.names), sets.n_pixels), dtype=np.float32)
    masks[sets.row, sets.concept] = unpacked(sets.bits, sets.n_pixels)
    limit, inside = torch.from_numpy(level)[None, :, None, None], torch.from_numpy(masks)
    shared, area = torch.zeros(units, len(sets.names)), torch.zeros(units)
    for start in range(0, n, batch):
        some = torch.from_numpy(activations[start : start + batch].astype(np.float32))
        above = torch.nn.functional.interpolate(some, GRID, mode="bilinear", align_corners=False) > limit
        flat = above.flatten(2).float()
        shared += (flat @ inside[start : start + batch].transpose(1, 2)).sum(dim=0)
        area += flat.sum(dim=(0, 2))
    either = area[:, None] + inside.sum(dim=(0, 2))[None] - shared
    return (shared / either).numpy()


def peak(images: int, units: int, what: str) -> list[float]:
    """MiB that a process holds before, after dissection, and after the null, of activations on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "activations.npy"
        np.save(file, activations_of(images, units))
        run = subprocess.run(
            [sys.executable, "-c", PEAK, str(file), str(Path(__file__).parent), what],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return [float(value) for value in json.loads(run.stdout.splitlines()[-1])]


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def same(one: Dissection, other: Dissection) -> str:
    equal = (one.area == other.area).all() and (one.shared == other.shared).all()
    return "every count is the same" if equal else "**counts differ**"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=1000)
    ask.add_argument("--units", type=int, default=512)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--dense", type=int, default=150, help="images of the dense computations, scaled up")
    ask.add_argument("--table", type=Path)
    given = ask.parse_args()
    torch.set_num_threads(1)
    runtime = Runtime(device=torch.device("cpu"))
    a, probe = activations_of(given.images, given.units), probe_of(given.images)
    level = thresholds(a)
    pruned = dissect(a, probe, grid=GRID, levels=level)
    some = np.arange(min(given.dense, given.images))
    few, of_few = a[some], probe.take(some)
    part = dissect(few, of_few, grid=GRID, levels=level)
    whole = dissect(few, of_few, grid=GRID, levels=level, pruned=False)
    farthest = float(np.nanmax(np.abs(usual(few, of_few, level.value) - part.iou)))
    turns = {
        "thresholds": Turn(lambda: thresholds(a)),
        "pruned overlap": Turn(lambda: dissect(a, probe, grid=GRID, levels=level)),
        "pruned overlap, again (A/A)": Turn(lambda: dissect(a, probe, grid=GRID, levels=level)),
        "dense overlap, torch": Turn(lambda: usual(few, of_few, level.value)),
        "dense overlap, ours": Turn(lambda: dissect(few, of_few, grid=GRID, levels=level, pruned=False)),
    }
    taken = interleave(turns, given.rounds, runtime)
    for name in turns:
        if "dense" in name:
            taken[name] = [seconds * given.images / len(some) for seconds in taken[name]]
    beside: dict[str, Callable[[], object]] = {
        "thresholds by histograms of 4,096 bins": lambda: histogram_thresholds(lambda: np.array_split(a, 20)),
        "null of the units, masks dealt anew (`unit_null`)": lambda: unit_null(a, probe, pruned),
        "AUROC of units for labels, with p (`unit_auroc`)": lambda: unit_auroc(pooled(a), probe.labels, probe.patients),
        "AUROC over positions (`pixel_auroc`)": lambda: pixel_auroc(a, concepts(probe, GRID)),
        "the seed's count and its null (`legacy_concept_count`)": lambda: legacy_concept_count(a, probe),
    }
    others = {name: seconds_of(work) for name, work in beside.items()}
    both = [x + y for x, y in zip(taken["thresholds"], taken["pruned overlap"], strict=True)]
    met = "yes" if max(both) < 5 else "**no**"
    above = float((a.reshape(*a.shape[:2], -1).max(axis=2) > level.value).mean())
    lines = heading(
        "What dissection costs",
        "python benchmarks/dissection_cost.py",
        [
            f"{machine(runtime)}. {given.units} units x {given.images:,} images at 7 x 7 on {GRID[0]} x {GRID[1]}, "
            f"{CLASSES} concepts and their union, {len(pruned.row):,} masks; seed 0, float16 noise.",
            f"Variants in turns, {given.rounds} rounds; CPU seconds of one thread, median (quartiles); ratios within "
            f"rounds. Dense: {len(some)} images, scaled to {given.images:,}.",
            f"{100 * above:.0f}% of the pairs of image and unit exceed the threshold anywhere; these are upsampled.",
        ],
    )
    lines += ["| | CPU seconds | over pruned overlap | aim | met |", "|---|---|---|---|---|"]
    for name, seconds in taken.items():
        over = "" if name in {"thresholds", "pruned overlap"} else spread(ratios(seconds, taken["pruned overlap"]), 2)
        lines.append(f"| {name} | {spread(seconds, 2)} | {over} |  |  |")
    dense = [x + y for x, y in zip(taken["thresholds"], taken["dense overlap, torch"], strict=True)]
    lines.append(f"| **thresholds + pruned overlap** | {spread(both, 2)} |  | under 5 s | {met} |")
    lines.append(
        f"| thresholds + dense overlap, torch: over the line above | | {spread(ratios(dense, both), 1)} |  |  |"
    )
    lines += [
        "",
        f"Pruned against our dense computation, {len(some)} images: {same(part, whole)}. Against torch's, which is in "
        f"float32: the largest difference of an IoU is {farthest:.1e}.",
        "",
        "| beside, measured once | CPU seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.1f} |" for name, seconds in others.items()),
        "",
        "Memory of a process that opens the activations on the disk (MiB; pages of the file, which the system may drop "
        "at any time, are counted too):",
        "",
        "| images | file | added by dissection | added by it and the null |",
        "|---|---|---|---|",
    ]
    for images in (given.images, 3 * given.images):
        before, after, last = peak(images, given.units, "null" if images == given.images else "")
        size, null = images * given.units * 49 * 2 / 2**20, f"{last - before:.0f}" if images == given.images else ""
        lines.append(f"| {images:,} | {size:.0f} | {after - before:.0f} | {null} |")
    write("\n".join(lines), given.table)


if __name__ == "__main__":
    main()
