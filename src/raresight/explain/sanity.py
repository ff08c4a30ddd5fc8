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

Maps that are empty after drawing anew count with likeness 0, images whose map is empty before are left out: an empty
map is data, not a fault of the network (where a class's maps are mostly empty, that class is not judged: `told`). Fewer
than 5 images with a map and a companion of their class: not passed, and said so. The independent draws, and the depths
between, are shown and not judged.

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
from raresight.explain.saliency import as_proven, label_maps
from raresight.explain.undisturbed import undisturbed

DRAWS = 5
KEPT_AT_MOST, SURELY_BELOW = 0.2, 0.5
FEWEST = 5
BATCH = 16
LIKENESS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"spearman": spearman, "ssim": ssim}
IN_WORDS = {"spearman": "rank correlation", "ssim": "structural similarity"}

Maps = Callable[[nn.Module, Tensor], Tensor]
Key = tuple[str, str]  # layer and kind of map


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
                "reason": f"{s.kept:.0%} kept beyond another image's map; "
                + (f"{s.draws} draws" if s.judged else "one draw, shown and not judged")
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
    Cost: about 40 passes over x for a network of five depths and 5 draws.
    Absent class: a class with one image has no companion, and that image is left out.
    Raises: `ConfigError` RS-R49 where the network cannot be looked into.
    """
    if maps is None:
        return gates(model, x, labels, [layer], [method], draws=draws, names=names)[layer, method]

    def made(net: nn.Module, some: Tensor, label: Tensor, layers: Sequence[str]) -> dict[Key, Tensor]:
        found = maps(net, some).detach()
        return {(layer, method): found[torch.arange(len(found)), label]}

    return _judged(model, x, labels, [layer], made, draws, names)[layer, method]


def gates(
    model: nn.Module,
    x: Tensor,
    labels: Sequence[int] | np.ndarray | Tensor,
    layers: Sequence[str],
    methods: Sequence[str] = ("grad_cam",),
    *,
    draws: int = DRAWS,
    names: Sequence[object] = (),
) -> dict[Key, Gate]:
    """`gate` of every kind of map at every layer, `(layer, method)` -> its judgement; each copy is drawn once for all.

    Each is as it would be alone where the layers are stages (`spatial_layers`): the same copies, the same steps. A
    layer that is no stage is one more depth, which all layers show. `cam` is left out at layers where it is not
    defined, unless it is asked for alone and defined nowhere.
    Shapes, absent class, raises: as `gate`.
    Cost: a copy costs two passes over x and one gradient for all layers and methods; of the depths that are judged
    there are 5 copies (that of each layer, and the whole network), of the others 1.
    """

    def made(net: nn.Module, some: Tensor, label: Tensor, layers: Sequence[str]) -> dict[Key, Tensor]:
        return label_maps(net, some, label, layers, methods)

    return _judged(model, x, labels, list(dict.fromkeys(layers)), made, draws, names)


def _judged(
    model: nn.Module,
    x: Tensor,
    labels: Sequence[int] | np.ndarray | Tensor,
    layers: Sequence[str],
    made: Callable[[nn.Module, Tensor, Tensor, Sequence[str]], dict[Key, Tensor]],
    draws: int,
    names: Sequence[object],
) -> dict[Key, Gate]:
    """`made` gives the maps `(B, *s)` of a network, images, their classes and layers, by layer and method."""
    label = torch.as_tensor(np.asarray(labels), dtype=torch.long)

    def of(net: nn.Module, at: Sequence[str]) -> dict[Key, np.ndarray]:
        blocks = [made(net, x[i : i + BATCH], label[i : i + BATCH], at) for i in range(0, len(x), BATCH)]
        return {key: torch.cat([block[key].float().cpu() for block in blocks]).numpy() for key in blocks[0]}

    def after(drawn: _Drawn, draw: int, at: Sequence[str]) -> dict[Key, np.ndarray]:
        """The copy is gone when its maps are made: one at a time is in memory."""
        twin = randomised(model, x, drawn.modules, *names, drawn.order, drawn.depth, draw)
        as_proven(model, twin)
        return of(twin, at)

    with undisturbed(model):
        found = {key: _before(*key, maps, label.numpy()) for key, maps in of(model, layers).items()}
    told: dict[Key, Gate] = {key: before for key, before in found.items() if isinstance(before, Gate)}
    open_ = {key: before for key, before in found.items() if isinstance(before, _Before)}
    steps: dict[Key, list[Step]] = {key: [] for key in open_}
    at = [layer for layer in layers if any(layer == name for name, _ in open_)]
    for drawn in _plan(depths(model, x, *at), at) if at else ():
        likeness: dict[Key, list[dict[str, float]]] = {key: [] for key in open_}
        for draw in range(draws if drawn.judged else 1):
            now = after(drawn, draw, [layer for layer in at if draw == 0 or layer in drawn.judged])
            for key in open_.keys() & now.keys():
                likeness[key].append(open_[key].likeness(now[key]))
        for key, before in open_.items():
            for name in LIKENESS:
                per_draw = np.array([one[name] for one in likeness[key]])
                judged = key[0] in drawn.judged
                steps[key].append(_step(drawn.order, drawn.depth, name, per_draw, before.between[name], judged))
    told |= {key: _verdict(*key, len(before.rows), steps[key]) for key, before in open_.items()}
    return {key: told[key] for key in found}


@dataclass(frozen=True)
class _Before:
    """The maps before anything is drawn: of the images `rows`, which have a map and a companion of their class."""

    rows: np.ndarray
    maps: np.ndarray
    between: dict[str, float]

    def likeness(self, now: np.ndarray) -> dict[str, float]:
        """To the maps of the same images afterwards; constant maps are like nothing."""
        return {name: float(np.nan_to_num(like(self.maps, now[self.rows])).mean()) for name, like in LIKENESS.items()}


def _before(layer: str, method: str, maps: np.ndarray, label: np.ndarray) -> _Before | Gate:
    """What there is to judge; where it is too little, the judgement."""
    spoke = np.asarray(maps.reshape(len(maps), -1).any(axis=1))
    companions = np.array([(spoke & (label == k)).sum() - 1 for k in label.tolist()])
    rows = np.flatnonzero(spoke & (companions > 0))
    if len(rows) < FEWEST:
        few = f"{len(rows)} images have a map and another image of their class to compare with; {FEWEST} are needed"
        if not spoke.all():
            few += f" ({(~spoke).sum()} of {len(spoke)} maps are empty)"
        return Gate(False, few, layer, method, len(rows))
    between = {name: _between(maps[rows], label[rows], like) for name, like in LIKENESS.items()}
    return _Before(rows, maps[rows], between)


@dataclass(frozen=True)
class _Drawn:
    """Modules to draw anew, `top-down` to a depth or one depth on its own, and the layers that are judged by it."""

    order: str
    depth: str
    modules: list[str]
    judged: set[str]


def _plan(order: dict[str, list[str]], layers: Sequence[str]) -> list[_Drawn]:
    """A layer is judged at its own depth, top-down, and with everything drawn; the first depth alone is both orders.

    A layer whose depth is empty is judged where the depth above it is drawn: no weights lie between them.
    """
    down: list[_Drawn] = []
    plan: list[_Drawn] = []
    for depth, modules in order.items():
        if modules:
            alone = _Drawn("independent", depth, modules, set())
            down.append(_Drawn("top-down", depth, (down[-1].modules if down else []) + modules, set()))
            plan += [down[-1], alone] if len(down) > 1 else [down[-1]]
        if depth in layers:
            down[-1].judged.add(depth)
    down[-1].judged.update(layers)
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


def _verdict(layer: str, method: str, n_images: int, steps: list[Step]) -> Gate:
    failed = [step for step in steps if step.judged and not step.passed]
    return Gate(not failed, _reason(failed, steps), layer, method, n_images, tuple(steps))


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
