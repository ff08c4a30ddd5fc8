"""Looking into networks of your own: python examples/06_looking_inside.py OUT

Two ways of training, three seeds each, on pictures whose findings are known. Then OUT/look.html, OUT/explain.json and
the tables say where they look, what their units detect, and whether the ways differ more than their seeds do.
"""

import sys

import numpy as np
import torch
from torch import nn

import raresight

rng = np.random.default_rng(0)
classes = ("common", "rare")


def pictures(n):
    """A third has a square (common), a tenth a ring (rare); two pictures a patient."""
    images = rng.normal(0.4, 0.08, (n, 1, 32, 32)).astype(np.float32).clip(0, 1)
    labels = (rng.random((n, 2)) < [0.33, 0.1]).astype(float)
    rows, of_class, masks = [], [], []
    for i, k in zip(*np.nonzero(labels), strict=True):
        y, x = rng.integers(0, 24, 2)
        mask = np.zeros((32, 32), dtype=bool)
        mask[y : y + 8, x : x + 8] = True
        shown = mask.copy()
        shown[y + 2 : y + 6, x + 2 : x + 6] &= k == 0
        images[i, 0][shown] += 0.4
        rows, of_class, masks = [*rows, i], [*of_class, k], [*masks, mask]
    regions = raresight.Regions.of(rows, of_class, np.array(masks))
    return raresight.ProbeSet(images.clip(0, 1), labels, np.arange(n) // 2, classes, regions=regions)


def trained(seed, weight, train):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight))
    x, y = torch.from_numpy(train.images), torch.from_numpy(train.labels).float()
    for _ in range(60):
        optimiser.zero_grad()
        loss(net(x), y).backward()
        optimiser.step()
    return net


train, val, test = pictures(160), pictures(120), pictures(160)
arms = {"plain": (1.0, 1.0), "weighted": (2.0, 9.0)}
networks = {name: [trained(seed, weight, train) for seed in (0, 1, 2)] for name, weight in arms.items()}
counts = {name: int(n) for name, n in zip(classes, train.labels.sum(0), strict=True)}
look = raresight.look(arms=networks, probe=test, choose=val, counts=counts)
found = look.run(["alignment", "dissect", "geometry"]).report(sys.argv[1])
print("verdicts:", [(row["class"], row["verdict"]) for row in found["tables"]["verdict"] if row["metric"] == "verdict"])
