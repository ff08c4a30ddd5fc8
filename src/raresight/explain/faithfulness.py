"""Does the logit depend on what the map shows? Pixels are taken away and brought back in the map's order.

A pixel that is taken away is replaced by the blurred image, which holds no detail but keeps brightness: black or grey
pixels would be an edge of their own. How much the logit moves is compared with orders that know nothing: smooth random
ones, since single scattered pixels disturb a network by their texture. Works in 2D and 3D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from raresight.core.seeds import torch_rng
from raresight.explain.undisturbed import logits_of, undisturbed

CELLS = 7
BLUR = 1 / 8
BATCH = 16


def deletion_insertion(
    model: nn.Module,
    x: Tensor,
    label: Sequence[int] | np.ndarray | Tensor,
    maps: np.ndarray | Tensor,
    *,
    steps: int = 10,
    draws: int = 2,
    blur: float = BLUR,
    names: Sequence[object] = (),
) -> pd.DataFrame:
    """How much of a logit goes with the map's brightest pixels, and comes back with them; one row per image.

    Equation: z(f) is the logit of `label` after the brightest share f of the pixels was blurred, y(f) that of the
    blurred image after they were restored; `deletion` = z(0) - integral of z over [0, 1], `insertion` = integral of y -
    y(0) (trapezoid, `steps` steps). `deletion_random` and `insertion_random` are the same in random order, mean of
    `draws`; `deletion_gain` and `insertion_gain` the differences.
    Shapes: x `(B, C, *S)` in [0, 1], label `(B,)`, maps `(B, *S)` on the images' grid (see `resized`). `blur` is the
    standard deviation of the blur as a share of the longest side. `logit` is z(0), `logit_blurred` y(0).
    Ranges: logits; a gain above 0 means that the network depends more on what the map shows than on other places, below
    0 less. Ties (the zeros of a map) are taken in a random order, so an empty map has a gain near 0.
    Absent class: no images give no rows. A class without evidence has little to lose: read gains of true positives.
    Raises: `ValueError` where maps are not on the images' grid.
    Source: Petsiuk et al. 2018 (RISE; deletion and insertion, with blurred start); logits and the random order as
    reference are ours, since an area alone depends on the image and on the scale of an arm's logits.
    """
    maps, label = _checked(x, label, maps)
    if len(x) == 0:
        return pd.DataFrame(columns=_COLUMNS, dtype=np.float64)
    with undisturbed(model), torch.no_grad():
        soft = blurred(x, blur)
        whole, empty = _logit(model, x, label), _logit(model, soft, label)
        noise = [_smooth_noise(x, *names, "order", draw) for draw in range(draws)]
        found = _areas(model, x, soft, label, _order(maps, _smooth_noise(x, *names, "ties")), (whole, empty), steps)
        chance = [_areas(model, x, soft, label, _order(n, n), (whole, empty), steps) for n in noise]
    table = pd.DataFrame({"logit": whole, "logit_blurred": empty, "deletion": found[0], "insertion": found[1]})
    for i, name in enumerate(("deletion", "insertion")):
        table[f"{name}_random"] = np.mean([areas[i] for areas in chance], axis=0) if chance else np.nan
        table[f"{name}_gain"] = table[name] - table[f"{name}_random"]
    return table[_COLUMNS]


_COLUMNS = ["logit", "logit_blurred"] + [f"{n}{s}" for n in ("deletion", "insertion") for s in ("", "_random", "_gain")]


def sensitivity_n(
    model: nn.Module,
    x: Tensor,
    label: Sequence[int] | np.ndarray | Tensor,
    maps: np.ndarray | Tensor,
    n: int,
    *,
    draws: int = 30,
    cells: int = CELLS,
    blur: float = BLUR,
    names: Sequence[object] = (),
) -> np.ndarray:
    """Whether the map's mass in random places tells how much the logit loses without them.

    Equation: Pearson's correlation, over `draws` sets Q of n cells each, of sum of S over Q and z(x) - z(x, Q blurred).
    Cells cut every side into `cells` parts (as many as pixels: the pixels of the source).
    Shapes: as `deletion_insertion` -> `(B,)` in [-1, 1]. Absent class: NaN where map or logit does not vary over the
    sets, as for an empty map. Raises: `ValueError` for n that leaves nothing to choose, or maps on another grid.
    Source: Ancona et al. 2018; cells instead of pixels, and blurred instead of zero, are ours.
    """
    maps, label = _checked(x, label, maps)
    sides = tuple(x.shape[2:])
    grid = tuple(min(cells, side) for side in sides)
    if not 0 < n < math.prod(grid):
        raise ValueError(f"sets of {n} of {math.prod(grid)} cells: choose 1 to {math.prod(grid) - 1}")
    mass, lost = [], []
    with undisturbed(model), torch.no_grad():
        soft, whole = blurred(x, blur), _logit(model, x, label)
        for draw in range(draws):
            chosen = torch.randperm(math.prod(grid), generator=torch_rng("sensitivity-n", *names, draw))[:n]
            coarse = torch.zeros(math.prod(grid)).index_fill_(0, chosen, 1.0).reshape(1, 1, *grid)
            taken = functional.interpolate(coarse, size=sides, mode="nearest")[0, 0].bool().to(x.device)
            mass.append(maps[:, taken].sum(1).double().cpu().numpy())
            lost.append(whole - _logit(model, torch.where(taken, soft, x), label))
    s, d = (np.stack(values) - np.mean(values, axis=0) for values in (mass, lost))
    spread = np.sqrt((s**2).sum(0) * (d**2).sum(0))
    still = (np.abs(s).max(0) <= 1e-9 * np.abs(mass).max(0)) | (np.abs(d).max(0) <= 1e-6 * np.abs(whole))
    return np.where(still, np.nan, (s * d).sum(0) / np.where(still, 1.0, spread))


def blurred(x: Tensor, share: float = BLUR) -> Tensor:
    """Images `(B, C, *S)` under a Gaussian whose deviation is `share` of the longest side; the border is repeated."""
    sigma = share * max(x.shape[2:])
    reach = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    line = line / line.sum()
    for axis in range(2, x.ndim):
        moved = x.movedim(axis, -1)
        rows = functional.pad(moved.reshape(-1, 1, moved.shape[-1]), (reach, reach), mode="replicate")
        x = functional.conv1d(rows, line.view(1, 1, -1)).reshape(moved.shape).movedim(-1, axis)
    return x


def _checked(x: Tensor, label: Sequence[int] | np.ndarray | Tensor, maps: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    maps = torch.as_tensor(maps, dtype=torch.float32, device=x.device)
    if maps.shape != (len(x), *x.shape[2:]):
        raise ValueError(f"maps are {tuple(maps.shape)}; they must be {(len(x), *x.shape[2:])}, the images' own grid")
    return maps, torch.as_tensor(np.asarray(label), dtype=torch.long, device=x.device)


def _areas(
    model: nn.Module,
    x: Tensor,
    soft: Tensor,
    label: Tensor,
    place: Tensor,
    ends: tuple[np.ndarray, np.ndarray],
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What is lost and what is won on average, when pixels go in the order of `place` `(B, *S)`; both `(B,)`."""
    whole, empty = ends
    pixels = math.prod(x.shape[2:])
    deleted, inserted = [whole], [empty]
    for step in range(1, steps):
        first = (place < round(step / steps * pixels))[:, None]
        deleted.append(_logit(model, torch.where(first, soft, x), label))
        inserted.append(_logit(model, torch.where(first, x, soft), label))
    deleted.append(empty)
    inserted.append(whole)
    return whole - np.trapezoid(deleted, dx=1 / steps, axis=0), np.trapezoid(inserted, dx=1 / steps, axis=0) - empty


def _order(maps: Tensor, ties: Tensor) -> Tensor:
    """Each pixel's place from the brightest, 0, down; equal values in the order of `ties`."""
    by_ties = ties.flatten(1).argsort(dim=1, descending=True)
    by_value = maps.flatten(1).gather(1, by_ties).argsort(dim=1, descending=True, stable=True)
    order = by_ties.gather(1, by_value)
    counted = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, counted).reshape(maps.shape)


def _smooth_noise(x: Tensor, *names: object) -> Tensor:
    """`(B, *S)`: noise of `CELLS` cells a side, interpolated."""
    sides = tuple(x.shape[2:])
    grid = tuple(min(CELLS, side) for side in sides)
    noise = torch.randn((len(x), 1, *grid), generator=torch_rng("random order", *names))
    how = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    return functional.interpolate(noise, size=sides, mode=how, align_corners=False)[:, 0].to(x.device)


def _logit(model: nn.Module, x: Tensor, label: Tensor) -> np.ndarray:
    """The logit of each image's label, `(B,)` float64."""
    blocks = [
        logits_of(model, x[s : s + BATCH]).gather(1, label[s : s + BATCH, None])[:, 0] for s in range(0, len(x), BATCH)
    ]
    return torch.cat(blocks).double().cpu().numpy()
