"""Looking into 3D classifiers: python benchmarks/look_3d_study.py DATA STUDY [--table FILE]

Two arms of adrenalmnist3d (a gland of normal shape, or with a mass), each trained with three seeds by `look_training`:
cross-entropy, and cross-entropy whose classes weigh as much as each other. Then `raresight.look`: saliency and geometry
of the volumes, arms side by side. The networks are MONAI's 3D ResNet-10 with 16 to 128 channels, on volumes of 32 x 32
x 32 (each voxel the mean of eight). The parts are the data set's own; the first two train and choose, the third is
looked at. Patients are not identified, so each volume counts as one. Nobody drew where a mass begins; what is known is
the gland's own shape, so alignment here asks whether a map keeps to the gland at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from look_tables import look_table
from look_training import trained_or_read
from torch import Tensor, nn
from torch.nn import functional

import raresight
from raresight.core.files import write_text
from raresight.core.progress import Terminal
from raresight.explain.probe import ProbeSet, Regions
from raresight.strategies import ClassWeights, Facts
from raresight.strategies.strategy import Strategy

ARMS: dict[str, type[Strategy] | None] = {"cross_entropy": None, "class_weights": ClassWeights}
SEEDS = (0, 1, 2)
BATCH = 16
LINES = (
    "`python benchmarks/look_3d_study.py DATA STUDY`: adrenalmnist3d at 32 x 32 x 32, MONAI's 3D ResNet-10 with 16 to",
    "128 channels from random weights, AdamW, 200 steps of 16, one CPU thread. Each volume counts as a patient. The",
    "region of a mass is the whole gland: alignment says whether a map keeps to the gland, not if it finds a mass.",
)


def volumes(data: Path, part: str) -> tuple[Tensor, Tensor]:
    """Occupancy `(N, 1, 32, 32, 32)` in [0, 1] and labels `(N,)`, 1 = mass."""
    with np.load(data / "adrenalmnist3d_64.npz") as arrays:
        x = torch.from_numpy(arrays[f"{part}_images"]).float() / 255
        y = torch.from_numpy(arrays[f"{part}_labels"].reshape(-1).astype(np.int64))
    return functional.avg_pool3d(x[:, None], 2), y


def network(seed: int) -> nn.Module:
    """A 3D ResNet-10 of at most 128 channels with the random weights of a seed."""
    from monai.networks.nets import ResNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(
            "basic",
            [1, 1, 1, 1],
            [16, 32, 64, 128],
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=3,
            conv1_t_stride=2,
            no_max_pool=True,
            num_classes=2,
            bias_downsample=False,
        )


def trained(arm: str, seed: int, x: Tensor, y: Tensor, steps: int, path: Path) -> nn.Module:
    """The network of an arm and a seed; both arms of a seed begin from the same weights and see the same batches.

    Each volume is mirrored along each axis or not, as a coin falls.
    """

    def draw(draws: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(x), (BATCH,), generator=draws)
        batch = x[rows]
        for axis in (2, 3, 4):
            mirrored = torch.rand(BATCH, generator=draws) < 0.5
            batch[mirrored] = batch[mirrored].flip(axis)
        return batch, y[rows]

    return trained_or_read(
        network(seed), path, draw, seed=seed, steps=steps, rate=1e-3, weights=weights_of_classes(arm, y)
    )


def weights_of_classes(arm: str, y: Tensor) -> Tensor:
    """What an image of either class counts in an arm, `(2,)`."""
    kind = ARMS[arm]
    if kind is None:
        return torch.ones(2)
    strategy, target = kind(), functional.one_hot(y, 2).float()
    strategy.fit(Facts("exclusive", ("normal", "mass"), target, torch.ones_like(target)))
    return strategy.case_weights(torch.eye(2), torch.arange(2), 0).reshape(-1)


def probe_of(data: Path, part: str) -> ProbeSet:
    """Volumes, whether there is a mass, and the gland of those that have one."""
    x, y = volumes(data, part)
    labels = np.stack([y == 0, y == 1], axis=1).astype(np.float64)
    rows = np.flatnonzero(y.numpy())
    gland = Regions.of(rows, np.ones(len(rows), dtype=int), x[rows, 0].numpy() >= 0.5)
    return ProbeSet(x.numpy(), labels, np.arange(len(y)), ("normal", "mass"), regions=gland, part=part)


def look_at(models: dict[str, list[nn.Module]], counts: dict[str, int], given: argparse.Namespace) -> None:
    look = raresight.look(
        arms=models,
        probe=probe_of(given.data, "test"),
        choose=probe_of(given.data, "val"),
        counts=counts,
        kind="exclusive",
        cache=given.study / "look",
        progress=Terminal(),
    )
    found = look.run().report(given.study / "look")
    if given.table:
        write_text(given.table, look_table(found, "Looking into 3D classifiers", LINES))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("data", type=Path)
    asked.add_argument("study", type=Path)
    asked.add_argument("--steps", type=int, default=200)
    asked.add_argument("--train-only", action="store_true")
    asked.add_argument("--table", type=Path)
    given = asked.parse_args()
    x, y = volumes(given.data, "train")
    models = {
        arm: [trained(arm, seed, x, y, given.steps, given.study / "weights" / f"{arm}-{seed}.pt") for seed in SEEDS]
        for arm in ARMS
    }
    if not given.train_only:
        n_mass = int(y.sum())
        look_at(models, {"normal": len(y) - n_mass, "mass": n_mass}, given)


if __name__ == "__main__":
    main()
