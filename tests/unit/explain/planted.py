"""Images with planted findings, and a small network trained on them in seconds: a clean one, or one with a shortcut.

Discs (class 0) and bars (class 1) lie anywhere in smooth noise, independently of each other. With the shortcut, images
with a disc also carry a bright patch in the corner, as a hospital's marker would be. Discs are more or less faint, some
beyond seeing, so that only the shortcut scores perfectly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

SIDE = 32


@dataclass(frozen=True)
class Planted:
    """`images` `(N, 1, 32, 32)` in [0, 1], `labels` `(N, 2)`, `masks` `(N, 2, 32, 32)` bool."""

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def plant(n: int, seed: int, *, shortcut: bool) -> Planted:
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, 1, 1))
    images = 0.4 + 0.08 * noise / noise.std()
    labels = (rng.random((n, 2)) < 0.4).astype(np.float64)
    masks = np.zeros((n, 2, SIDE, SIDE), dtype=bool)
    y, x = np.mgrid[:SIDE, :SIDE]
    for i in range(n):
        cy, cx = rng.integers(7, SIDE - 5, size=2)
        masks[i, 0] = (y - cy) ** 2 + (x - cx) ** 2 <= 9
        cy, cx = rng.integers(7, SIDE - 6, size=2)
        masks[i, 1] = (abs(y - cy) <= 0.5) & (abs(x - cx) <= 5)
        masks[i] &= labels[i, :, None, None] == 1
    faint = rng.uniform(0.0, 0.2, size=(n, 1, 1))
    images += faint * masks[:, 0] + 0.2 * masks[:, 1]
    if shortcut:
        images[labels[:, 0] == 1, 1:5, 1:5] = 0.95
    return Planted(np.clip(images, 0, 1)[:, None].astype(np.float32), labels, masks)


class SmallNet(nn.Module):
    """Three convolutions with batch norm, the mean over an 8 x 8 grid, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.two = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.three = nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.three(self.two(self.one(x))).mean((2, 3)))
        return logits


def trained(data: Planted, seed: int, *, epochs: int = 8) -> SmallNet:
    """Trained by Adam with a one-cycle rate on one thread; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SmallNet()
        x, y = torch.from_numpy(data.images), torch.from_numpy(data.labels).float()
        batches = len(x) // 50
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=epochs * batches)
        for _ in range(epochs):
            for rows in torch.randperm(len(x))[: batches * 50].reshape(batches, 50):
                optimiser.zero_grad()
                functional.binary_cross_entropy_with_logits(net(x[rows]), y[rows]).backward()
                optimiser.step()
                rate.step()
    return net.eval()


@cache
def network(seed: int, *, shortcut: bool = False) -> SmallNet:
    """The network of this seed, trained once a test session on 800 images; not to be changed."""
    return trained(plant(800, 10 + seed, shortcut=shortcut), seed)


def grad_cam(net: SmallNet, x: Tensor) -> Tensor:
    """Grad-CAM of both classes at the last stage, written out: the network's head is linear in the mean activation."""
    with torch.no_grad():
        a = net.three(net.two(net.one(x)))
    return torch.einsum("kc,bchw->bkhw", net.head.weight.detach(), a).relu() / a[0, 0].numel()
