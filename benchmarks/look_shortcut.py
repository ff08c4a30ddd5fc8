"""Is a shortcut found by looking? python benchmarks/look_shortcut.py STUDY [--seed N] [--table FILE]

The built-in phantom is drawn twice with the same lesions: once plainly, and once with a ruler in nine of ten
photographs of a melanoma and in 2% of the others, as where doctors measure what worries them. One arm learns from the
plain photographs, the other from those with rulers, three seeds each, the same small network, order and steps. Both are
then looked into on photographs of other patients, with rulers where melanomas are: the score of the second arm should
be the higher and its gaze the further from the lesion, and the verdict should say so.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from look_tables import look_table
from look_training import trained_or_read
from PIL import Image
from torch import Tensor, nn

import raresight
from raresight.core.files import write_text
from raresight.core.progress import Terminal
from raresight.data.phantom import make_phantom
from raresight.data.phantom_lesion import SHARES
from raresight.explain.probe import ProbeSet, Regions

CLASSES = tuple(SHARES)
SEEDS = (0, 1, 2)
LINES = (
    "`python benchmarks/look_shortcut.py STUDY --seed N`: the phantom with the same lesions drawn twice, with a ruler",
    "in 90% of the photographs of a melanoma (2% of the others), and with rulers anywhere (5%). Both arms are judged",
    "on photographs with the planted rulers, of patients that no network saw. One CPU thread.",
)
BATCH = 32
ARMS = {"plain": False, "with rulers": True}


def main() -> None:
    given = arguments()
    drawn = {arm: read(given.study / arm.replace(" ", "-"), rulers, given) for arm, rulers in ARMS.items()}
    models = {arm: [trained(arm, seed, drawn[arm], given) for seed in SEEDS] for arm in ARMS}
    if not given.train_only:
        look_at(models, drawn["with rulers"], given)


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("study", type=Path)
    asked.add_argument("--patients", type=int, default=2000)
    asked.add_argument("--steps", type=int, default=600)
    asked.add_argument("--seed", type=int, default=6, help="of the drawing, and of whose photographs are tested on")
    asked.add_argument("--train-only", action="store_true")
    asked.add_argument("--table", type=Path)
    return asked.parse_args()


@dataclass(frozen=True)
class Photographs:
    """N photographs: `x` `(N, 3, 96, 96)` float32 in [0, 1]; `y` `(N,)` int64, the class of each; `masks` `(N, 96, 96)`
    bool, its lesion; `patient` `(N,)`; `train` `(N,)` bool, whether it is trained on or kept for testing.
    """

    x: Tensor
    y: Tensor
    masks: np.ndarray
    patient: np.ndarray
    train: np.ndarray


def read(folder: Path, rulers: bool, given: argparse.Namespace) -> Photographs:
    """The phantom's photographs, drawn where they are not there yet; half of the patients are kept for testing."""
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        make_phantom(folder, n_patients=given.patients, size=96, seed=given.seed, shortcut=rulers)
    table = pd.read_csv(manifest)
    images = np.stack([np.asarray(Image.open(folder / path)) for path in table["image"]])
    masks = np.stack([np.asarray(Image.open(folder / path)) > 0 for path in table["mask"]])
    who = np.array(sorted(table["patient_id"].unique()))
    np.random.default_rng(given.seed).shuffle(who)
    train = ~table["patient_id"].isin(who[: len(who) // 2]).to_numpy()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    y = torch.tensor([CLASSES.index(name) for name in table["label"]])
    return Photographs(x, y, masks, table["patient_id"].to_numpy(), train)


def network(seed: int) -> nn.Module:
    """Four convolutions, the last on a grid of 12 x 12, a mean over it, and one linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 24, 2), (24, 48, 2), (48, 96, 2), (96, 96, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(CLASSES)))


def trained(arm: str, seed: int, drawn: Photographs, given: argparse.Namespace) -> nn.Module:
    """The network of an arm and a seed; both arms of a seed begin from the same weights and see the same lesions.

    Each batch is mirrored along each axis or not, as a coin falls.
    """
    rows = torch.from_numpy(np.flatnonzero(drawn.train))

    def draw(draws: torch.Generator) -> tuple[Tensor, Tensor]:
        some = rows[torch.randint(len(rows), (BATCH,), generator=draws)]
        batch = drawn.x[some]
        for axis in (2, 3):
            if torch.rand((), generator=draws) < 0.5:
                batch = batch.flip(axis)
        return batch, drawn.y[some]

    path = given.study / "weights" / f"{arm.replace(' ', '-')}-{seed}.pt"
    return trained_or_read(network(seed), path, draw, seed=seed, steps=given.steps, rate=2e-3)


def look_at(models: dict[str, list[nn.Module]], drawn: Photographs, given: argparse.Namespace) -> None:
    """Photographs with rulers, of patients that no network has seen; cuts are chosen across halves of them."""
    rows, y = np.flatnonzero(~drawn.train), drawn.y.numpy()
    labels = np.eye(len(CLASSES))[y[rows]]
    lesions = Regions.of(np.arange(len(rows)), y[rows].tolist(), drawn.masks[rows])
    probe = ProbeSet(drawn.x[rows].numpy(), labels, drawn.patient[rows], CLASSES, regions=lesions, part="test")
    counts = {name: int((y[drawn.train] == k).sum()) for k, name in enumerate(CLASSES)}
    out = given.study / "look"
    look = raresight.look(
        arms=models,
        probe=probe,
        counts=counts,
        kind="exclusive",
        cache=out,
        progress=Terminal(),
    )
    said = look_table(look.run().report(out), f"A planted shortcut, drawing {given.seed}", LINES)
    if given.table:
        write_text(given.table, said)


if __name__ == "__main__":
    main()
