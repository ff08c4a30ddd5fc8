"""Is a shortcut found by looking? python benchmarks/look_shortcut.py STUDY [--table FILE]

The built-in phantom is drawn twice with the same lesions: once plainly, and once with a ruler in nine of ten
photographs of a melanoma and in 2% of the others, as where doctors measure what worries them. One arm learns from the
plain photographs, the other from those with rulers, three seeds each, the same small network, order and steps. Both are
then looked into on photographs of other patients, with rulers where melanomas are: the score of the second arm should
be the higher and its gaze the further from the lesion, and the verdict should say so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from look_tables import look_table
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import raresight
from raresight.core.files import write_text
from raresight.core.progress import Terminal
from raresight.data.phantom import make_phantom
from raresight.data.phantom_lesion import SHARES
from raresight.explain.probe import ProbeSet, Regions

CLASSES = tuple(SHARES)
SEEDS = (0, 1, 2)
LINES = (
    "`python benchmarks/look_shortcut.py STUDY`: the phantom with the same lesions drawn twice, with a ruler in 90% of",
    "the photographs of a melanoma (2% of the others), and with rulers anywhere (5%). Both arms are judged on",
    "photographs with the planted rulers, of patients that no network saw. One CPU thread.",
)
BATCH = 32
ARMS = {"plain": False, "with rulers": True}


def main() -> None:
    given = arguments()
    drawn = {arm: read(given.study / arm.replace(" ", "-"), rulers, given.patients) for arm, rulers in ARMS.items()}
    train = drawn["plain"]["table"]["part"].to_numpy() == "train"
    models = {arm: [trained(arm, seed, drawn[arm], train, given) for seed in SEEDS] for arm in ARMS}
    if not given.train_only:
        look_at(models, drawn["with rulers"], train, given)


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("study", type=Path)
    asked.add_argument("--patients", type=int, default=2000)
    asked.add_argument("--steps", type=int, default=600)
    asked.add_argument("--train-only", action="store_true")
    asked.add_argument("--table", type=Path)
    return asked.parse_args()


def read(folder: Path, rulers: bool, patients: int) -> dict[str, object]:
    """Photographs `(N, 3, 96, 96)`, labels `(N,)`, masks `(N, 96, 96)` and the table, half of the patients to test."""
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        make_phantom(folder, n_patients=patients, size=96, seed=6, shortcut=rulers)
    table = pd.read_csv(manifest)
    images = np.stack([np.asarray(Image.open(folder / path)) for path in table["image"]])
    masks = np.stack([np.asarray(Image.open(folder / path)) > 0 for path in table["mask"]])
    who = np.array(sorted(table["patient_id"].unique()))
    np.random.default_rng(6).shuffle(who)
    testing = set(who[: len(who) // 2])
    table["part"] = ["test" if patient in testing else "train" for patient in table["patient_id"]]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    y = torch.tensor([CLASSES.index(name) for name in table["label"]])
    return {"x": x, "y": y, "masks": masks, "table": table}


def network(seed: int) -> nn.Module:
    """Four convolutions, the last on a grid of 12 x 12, a mean over it, and one linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 24, 2), (24, 48, 2), (48, 96, 2), (96, 96, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(CLASSES)))


def trained(arm: str, seed: int, drawn: dict[str, object], train: np.ndarray, given: argparse.Namespace) -> nn.Module:
    """The network of an arm and a seed; both arms of a seed begin from the same weights and see the same lesions."""
    path = given.study / "weights" / f"{arm.replace(' ', '-')}-{seed}.pt"
    model = network(seed)
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    x, y = drawn["x"], drawn["y"]
    assert isinstance(x, Tensor) and isinstance(y, Tensor)
    rows = torch.from_numpy(np.flatnonzero(train))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=given.steps)
    draws = torch.Generator().manual_seed(1000 + seed)
    model.train()
    for step in range(given.steps):
        some = rows[torch.randint(len(rows), (BATCH,), generator=draws)]
        batch = x[some]
        for axis in (2, 3):
            if torch.rand((), generator=draws) < 0.5:
                batch = batch.flip(axis)
        loss = functional.cross_entropy(model(batch), y[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{arm}, seed {seed}: step {step + 1} of {given.steps}, loss {loss.item():.3f}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()


def look_at(
    models: dict[str, list[nn.Module]], drawn: dict[str, object], train: np.ndarray, given: argparse.Namespace
) -> None:
    """Photographs with rulers, of patients that no network has seen; cuts are chosen across halves of them."""
    rows = np.flatnonzero(~train)
    x, y, masks, table = drawn["x"], drawn["y"], drawn["masks"], drawn["table"]
    assert isinstance(x, Tensor) and isinstance(y, Tensor)
    assert isinstance(masks, np.ndarray) and isinstance(table, pd.DataFrame)
    labels = np.eye(len(CLASSES))[y[rows]]
    lesions = Regions.of(np.arange(len(rows)), y[rows].tolist(), masks[rows])
    patients = table["patient_id"].to_numpy()[rows]
    probe = ProbeSet(x[rows].numpy(), labels, patients, CLASSES, regions=lesions, part="test")
    counts = {name: int((y[torch.from_numpy(train)] == k).sum()) for k, name in enumerate(CLASSES)}
    said = []
    for where, layers in (("the layer that alignment chose", "auto"), ("the last stage", ["0"])):
        out = given.study / f"look-{where.split()[-1]}"
        look = raresight.look(
            arms=models,
            probe=probe,
            counts=counts,
            kind="exclusive",
            layers=layers,
            cache=out,
            progress=Terminal(),
        )
        said.append(look_table(look.run().report(out), f"A planted shortcut, looked into at {where}", LINES))
    if given.table:
        write_text(given.table, "\n".join(said))


if __name__ == "__main__":
    main()
