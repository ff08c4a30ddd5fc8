"""What an image costs on its way to the network in a later epoch: ours against torchvision v2 under a DataLoader.

Ours reads a random batch from the memory map, makes floats of it and augments it (`augment`, one preset). The peer
opens the JPEG files of the same pictures, 600 x 450, resizes and crops, and puts each through the same transforms,
within the same bounds and with the same probabilities, an image at a time; a DataLoader collates. Both end at float32
batches of the same size. CPU time of the process and of its workers, variants in turns in one process, one thread each.

    python benchmarks/input_peer.py --table input-peer.md
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from interleaved import heading, machine, ratios, spread, write
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import adjust_gamma

from raresight.core.manifest import Manifest
from raresight.core.presets import PRESETS, Preset
from raresight.data.cache import build_cache
from raresight.strategies.inputs.plausible import Augment
from raresight.train.batches import Cases, Images
from raresight.train.memory import freed_memory_kept
from raresight.train.runtime import Runtime

WIDTH, HEIGHT = 600, 450
OURS, AGAIN = "ours", "ours, again (A/A)"
Reader = Literal["PIL", "torchvision.io"]


@dataclass(frozen=True)
class Peer:
    """How the peer reads and augments: on Pillow's images, or on uint8 tensors."""

    reader: Reader
    workers: int

    @property
    def name(self) -> str:
        return f"{self.reader}, {f'{self.workers} workers' if self.workers else 'no workers'}"


PEERS = tuple(Peer(reader, workers) for workers in (0, 2) for reader in ("PIL", "torchvision.io"))  # type: ignore[arg-type]


def pictures(folder: Path, n: int) -> None:
    """`n` JPEG files with blobs of all sizes and a little noise: of 60 to 80 kB, as photographs of skin are."""
    rng = np.random.default_rng(0)
    for i in range(n):
        layers = [
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (HEIGHT // step, WIDTH // step, 3), dtype=np.uint8)).resize(
                    (WIDTH, HEIGHT), Image.Resampling.BICUBIC
                ),
                dtype=np.float32,
            )
            * share
            for step, share in ((150, 0.5), (50, 0.3), (10, 0.17), (1, 0.03))
        ]
        image = Image.fromarray(np.clip(sum(layers), 0, 255).astype(np.uint8))
        image.save(folder / f"{i:04d}.jpg", "JPEG", quality=90)


class Maybe(v2.Transform):
    """`transform` with probability 1/2, as each of ours is on."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        super().__init__()
        self.one = transform

    def forward(self, image: Any) -> Any:
        return self.one(image) if random.random() < 0.5 else image


def peer_transform(bounds: Preset, size: int, reader: Reader) -> v2.Compose:
    """The same set as `augment` with `bounds`: one affine, four changes of colour, gamma, blur and noise.

    What differs, each in the peer's favour: a rotation by any angle stands for quarter turn and rotation, all parts of
    the affine are one call, and what comes in from outside is black, not reflected.
    """

    def noise(image: Tensor) -> Any:
        return v2.GaussianNoise(sigma=random.uniform(0, bounds.noise))(image)

    def gamma(image: Any) -> Any:
        return adjust_gamma(image, random.uniform(1 - bounds.gamma, 1 + bounds.gamma))

    steps: list[Any] = [
        v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop(size),
    ]
    if bounds.flip_horizontal:
        steps.append(v2.RandomHorizontalFlip(0.5))
    if bounds.flip_vertical:
        steps.append(v2.RandomVerticalFlip(0.5))
    steps.append(
        v2.RandomAffine(
            180.0 if bounds.quarter_turns else bounds.rotate_deg,
            translate=(bounds.translate, bounds.translate),
            scale=(1 - bounds.zoom, 1 + bounds.zoom),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
    )
    if bounds.blur_px:
        scaled = bounds.blur_px * size / 224
        steps.append(Maybe(v2.GaussianBlur(2 * int(np.ceil(3 * scaled)) + 1, (0.01, scaled))))
    for name in ("brightness", "contrast", "saturation", "hue"):
        if getattr(bounds, name):
            steps.append(Maybe(v2.ColorJitter(**{name: getattr(bounds, name)})))
    if bounds.gamma:
        steps.append(Maybe(gamma))
    if reader == "PIL":
        steps.append(v2.ToImage())
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if bounds.noise:
        steps.append(Maybe(noise))
    return v2.Compose(steps)


class Files(Dataset[Tensor]):
    """The JPEG files of a folder, `n` of them, in an order of its own."""

    def __init__(self, folder: Path, n: int, transform: v2.Compose, reader: Reader) -> None:
        every = sorted(folder.glob("*.jpg"))
        self.paths = [every[i] for i in np.random.default_rng(1).permutation(len(every))[:n]]
        self.transform, self.reader = transform, reader

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        if self.reader == "PIL":
            with Image.open(self.paths[i]) as image:
                made = self.transform(image.convert("RGB"))
        else:
            read = torch.frombuffer(bytearray(self.paths[i].read_bytes()), dtype=torch.uint8)
            made = self.transform(tv_tensors.Image(decode_jpeg(read, ImageReadMode.RGB)))
        return made.as_subclass(Tensor)


def peer_epoch(files: Files, peer: Peer, batch: int) -> int:
    """Run through all files once; how many images came."""
    loader = DataLoader(files, batch, shuffle=True, num_workers=peer.workers)
    return sum(len(x) for x in loader)


class Ours:
    """Random batches from the memory map, augmented; a call is `n` images."""

    def __init__(self, folder: Path, size: int, bounds: Preset, batch: int, n: int) -> None:
        names = sorted(path.name for path in folder.glob("*.jpg"))
        frame = pd.DataFrame({"case": names, "patient_id": names, "label_a": 1, "image": names})
        cache = build_cache(Manifest(frame), folder, folder / f"cache-{size}", size=size, channels=3, threads=1)
        rows = np.arange(len(names))
        cases = Cases(cache.pixels, rows, np.zeros((len(rows), 1), np.float32), cache.cases)
        self.images = Images(cases, Runtime(torch.device("cpu"), channels_last=True))
        self.augment = Augment(preset=bounds.name)
        self.batch, self.n, self.epoch = batch, n, 0

    def __call__(self) -> int:
        rng, stream = np.random.default_rng(self.epoch), torch.Generator().manual_seed(self.epoch)
        self.epoch += 1
        for _ in range(0, self.n, self.batch):
            x = self.images(rng.integers(0, len(self.images.rows), self.batch))
            x, _ = self.augment.mix_inputs(x, torch.zeros(self.batch, 1), stream)
        return self.n


def spent() -> float:
    """CPU seconds of this process and of the workers that it has ended."""
    every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in every)


def race(
    folder: Path, size: int, bounds: Preset, peers: tuple[Peer, ...], *, rounds: int, batch: int, n: int
) -> dict[str, list[float]]:
    """CPU milliseconds an image, per variant and round; `n` images of the peer a turn, six times as many of ours."""
    ours = Ours(folder, size, bounds, batch, 6 * n)
    turns: dict[str, Callable[[], int]] = {OURS: ours, AGAIN: ours}
    for peer in peers:
        files = Files(folder, n, peer_transform(bounds, size, peer.reader), peer.reader)
        turns[peer.name] = lambda files=files, peer=peer: peer_epoch(files, peer, batch)  # type: ignore[misc]
    taken: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    with freed_memory_kept():  # as in training; the peer's batches gain by it too
        for turn in range(rounds + 1):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start = spent()
                seen = turns[name]()
                if turn:  # the first round warms up
                    taken[name].append(1000 * (spent() - start) / seen)
    return taken


def quick() -> tuple[list[float], list[float]]:
    """For the gate: times as cheap as the peer (Pillow, no workers) at 224 px, and the A/A control, a value a round."""
    peer = Peer("PIL", 0)
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder), 48)
        taken = race(Path(folder), 224, PRESETS["dermoscopy"], (peer,), rounds=7, batch=16, n=48)
    return ratios(taken[peer.name], taken[OURS]), ratios(taken[AGAIN], taken[OURS])


def lines_of(size: int, preset: str, taken: dict[str, list[float]]) -> Iterator[str]:
    control = spread(ratios(taken[AGAIN], taken[OURS]))
    cheapest = min(
        (name for name in taken if name not in (OURS, AGAIN)), key=lambda name: statistics.median(taken[name])
    )
    for name, values in taken.items():
        if name in (OURS, AGAIN):
            continue
        mark = " (the cheapest peer)" if name == cheapest else ""
        yield (
            f"| {size} px, {preset} | {name}{mark} | {statistics.median(values):.2f} "
            f"| {statistics.median(taken[OURS]):.3f} | {spread(ratios(values, taken[OURS]), 1)} | {control} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 64])
    parser.add_argument("--presets", nargs="+", default=["dermoscopy", "histology"], choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=192, help="of the peer, a turn")
    parser.add_argument("--no-workers", action="store_true", help="the peers without worker processes alone")
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    peers = tuple(peer for peer in PEERS if not (asked.no_workers and peer.workers))
    runtime = Runtime(torch.device("cpu"))
    lines = heading(
        "Input of later epochs beside torchvision v2 and a DataLoader",
        "python benchmarks/input_peer.py",
        [
            f"{machine(runtime)}, torchvision {version('torchvision')}, Pillow {version('pillow')}.",
            "CPU milliseconds an image (workers included), median; ratio: median (quartiles) over rounds.",
            "",
            "| pictures | peer | peer, ms | ours, ms | times as cheap | A/A |",
            "|---|---|---|---|---|---|",
        ],
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder), asked.images)
        for size in asked.sizes:
            for preset in asked.presets:
                taken = race(
                    Path(folder),
                    size,
                    PRESETS[preset],
                    peers,
                    rounds=asked.rounds,
                    batch=asked.batch,
                    n=asked.images,
                )
                lines += lines_of(size, preset, taken)
                print("\n".join(lines[-len(peers) :]), flush=True)
    lines += ["", f"The whole took {time.perf_counter() - started:.0f} s."]
    write("\n".join(lines), asked.table)


if __name__ == "__main__":
    main()
