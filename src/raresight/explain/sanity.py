"""Do a network's maps come from what it learned? The gate that maps must pass before anything is read from them.

A kind of map that shows edges shows them whatever the weights are. So parts of the network are drawn anew, and the maps
must change: **top-down** (the head, then the head and the last stage, and so on to the input) and each depth
**independently**. How much must they change? As much as from one image to another.

The rule. For each image, r is the likeness of its map before and after, b the mean likeness of its map to the maps of
other images of the same class; kept = (mean r - mean b) / (1 - mean b) is 0 where a map keeps no more than another
image's map has in common with it, and 1 where it does not change. The maps pass where, for the head and the stages down
to the layer of the maps drawn anew, and again for the whole network drawn anew, by Spearman's correlation and by SSIM,

1. kept is at most 0.2: an untrained network still sees edges and blobs, so r may lie a little above b; and
2. the upper end of kept's one-sided 95% interval over draws (Student's t) is below 0.5: the draws can tell.

Maps that are empty after drawing anew count with likeness 0, images whose map is empty before are left out. Fewer than
5 images with a map and a companion of their class, or more than half of the maps empty: not passed, and said so. The
independent draws, and the depths between, are shown and not judged.

Source: Adebayo et al. 2018 (cascading and independent randomisation; rank correlation and SSIM). The comparison with
other images and both limits are ours: the likeness alone depends on grid and preprocessing (Hedström et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from raresight.explain.overlap import spearman, ssim
from raresight.explain.randomised import depths, randomised
from raresight.explain.saliency import class_maps
from raresight.explain.undisturbed import undisturbed

DRAWS = 5
KEPT_AT_MOST, SURELY_BELOW = 0.2, 0.5
FEWEST = 5
BATCH = 16
LIKENESS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"spearman": spearman, "ssim": ssim}
IN_WORDS = {"spearman": "rank correlation", "ssim": "structural similarity"}

Maps = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """One part of the network drawn anew: the likeness of the maps before and after, mean over images and draws.

    `order` is `top-down` or `independent`, `depth` the last (or only) depth that was drawn. `kept` and `kept_upper`
    (NaN for one draw) are as in the rule, `judged` whether the gate asks this step.
    """

    order: str
    depth: str
    measure: str
    likeness: float
    between: float
    kept: float
    kept_upper: float
    draws: int
    judged: bool

    @property
    def passed(self) -> bool:
        return self.kept <= KEPT_AT_MOST and self.kept_upper < SURELY_BELOW


@dataclass(frozen=True)
class Gate:
    """Whether one network's maps of one kind and layer can be read, and why not; `steps` are what it rests on."""

    passed: bool
    reason: str
    layer: str
    method: str
    n_images: int
    steps: tuple[Step, ...] = ()

    def facts(self) -> list[dict[str, Any]]:
        """Lines for table T5: the likeness after each step, and between images, with `other_layer` the depth."""
        about = {"layer": self.layer, "method": self.method, "n_images": self.n_images}
        said = [
            about
            | {"metric": f"{s.measure}_{s.order.replace('-', '_')}", "other_layer": s.depth, "value": s.likeness}
            | {
                "reason": f"{s.kept:.0%} kept beyond another image's map; {s.draws} draws"
                + ("" if s.judged else ", shown")
            }
            for s in self.steps
        ]
        seen = {s.measure: s.between for s in self.steps}
        return said + [about | {"metric": f"{name}_between_images", "value": value} for name, value in seen.items()]


def gate(
    model: nn.Module,
    x: Tensor,
    labels: Sequence[int] | np.ndarray | Tensor,
    layer: str,
    method: str = "grad_cam",
    *,
    maps: Maps | None = None,
    draws: int = DRAWS,
    names: Sequence[object] = (),
) -> Gate:
    """Judges the maps of one network by the rule at the head of this file, on images of findings.

    Shapes: x `(B, C, *S)` in [0, 1], labels `(B,)` the class whose map is judged, one that the image has; several
    images of each class (20 to 40 images are enough). `maps` gives `(B, K, *s)` for a network and images; where it is
    None, they are those of `class_maps` at `layer`. `names` seed the draws.
    The network stays as it is (weights, modes and batch-norm statistics): all drawing is done on copies.
    Cost: about 20 passes over x for a network of five depths and 5 draws.
    Absent class: a class with one image has no companion, and that image is left out.
    Raises: `ConfigError` RS-R49 where the network cannot be looked into.
    """
    label = torch.as_tensor(np.asarray(labels), dtype=torch.long)
    how = maps or (lambda net, some: class_maps(net, some, [layer], [method]).maps[layer, method])

    def of(net: nn.Module) -> np.ndarray:
        blocks = []
        for start in range(0, len(x), BATCH):
            block = how(net, x[start : start + BATCH]).detach().float().cpu()
            blocks.append(block[torch.arange(len(block)), label[start : start + BATCH]])
        return torch.cat(blocks).numpy()

    with undisturbed(model):
        before = of(model)
    spoke = np.asarray(before.reshape(len(before), -1).any(axis=1))
    companions = np.array([(spoke & (label.numpy() == k)).sum() - 1 for k in label.tolist()])
    rows = np.flatnonzero(spoke & (companions > 0))
    if spoke.mean() <= 0.5:
        empty = f"{(~spoke).sum()} of {len(spoke)} maps are empty: there is little to judge"
        return Gate(False, empty, layer, method, len(rows))
    if len(rows) < FEWEST:
        few = f"{len(rows)} images have a map and another image of their class to compare with; {FEWEST} are needed"
        return Gate(False, few, layer, method, len(rows))

    before = before[rows]
    between = {name: _between(before, label.numpy()[rows], like) for name, like in LIKENESS.items()}
    order = depths(model, x, layer)
    steps = []
    for how_drawn, depth, modules, judged in _plan(order, layer):
        after = [
            of(randomised(model, x, modules, *names, how_drawn, depth, draw))[rows]
            for draw in range(draws if judged else 1)
        ]
        for name, like in LIKENESS.items():
            per_draw = np.array([np.nan_to_num(like(before, now)).mean() for now in after])
            steps.append(_step(how_drawn, depth, name, per_draw, between[name], judged))
    failed = [step for step in steps if step.judged and not step.passed]
    return Gate(not failed, _reason(failed, steps), layer, method, len(rows), tuple(steps))


def _plan(order: dict[str, list[str]], layer: str) -> list[tuple[str, str, list[str], bool]]:
    """`(top-down or independent, depth, modules to draw, judged)`; the first depth alone is both, and is drawn once."""
    plan = []
    above: list[str] = []
    for i, (depth, modules) in enumerate(order.items()):
        above = above + modules
        plan.append(("top-down", depth, above, depth == layer or i == len(order) - 1))
        if i:
            plan.append(("independent", depth, modules, False))
    return plan


def _between(maps: np.ndarray, label: np.ndarray, like: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Mean over images of the mean likeness to the other images of the class; constant maps are like nothing."""
    means = []
    for i in range(len(maps)):
        others = np.flatnonzero((label == label[i]) & (np.arange(len(maps)) != i))
        means.append(np.nan_to_num(like(np.repeat(maps[i : i + 1], len(others), axis=0), maps[others])).mean())
    return float(np.mean(means))


def _step(order: str, depth: str, measure: str, per_draw: np.ndarray, between: float, judged: bool) -> Step:
    room = max(1.0 - between, 1e-9)  # all maps alike: then one that stays is kept, one that changes is not
    n, likeness = len(per_draw), float(per_draw.mean())
    kept = (likeness - between) / room if between < 1 - 1e-9 else float(likeness >= between)
    upper = math.nan
    if n > 1:
        upper = kept + float(student.ppf(0.95, n - 1) * per_draw.std(ddof=1)) / math.sqrt(n) / room
    return Step(order, depth, measure, likeness, between, kept, upper, n, judged)


def _reason(failed: list[Step], steps: list[Step]) -> str:
    judged = [step for step in steps if step.judged]
    if not failed:
        worst = max(judged, key=lambda step: step.kept)
        return (
            f"maps follow the weights: drawn anew, they are hardly more like themselves than other images' maps are "
            f"({IN_WORDS[worst.measure]} {worst.likeness:.2f} against {worst.between:.2f} between images)"
        )
    worst = max(failed, key=lambda step: step.kept)
    numbers = f"{IN_WORDS[worst.measure]} {worst.likeness:.2f} after, {worst.between:.2f} between images"
    if worst.kept > KEPT_AT_MOST:
        return f"maps stay much the same when the weights down to '{worst.depth}' are drawn anew ({numbers})"
    return f"{worst.draws} draws of the weights cannot tell whether the maps change ({numbers})"
