"""Saliency maps of all classes, or of one an image, from one pass: Grad-CAM, HiResCAM, CAM, and random maps as null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from raresight.core.errors import listed, nearest
from raresight.core.seeds import torch_rng
from raresight.explain.split_head import Split, SplitError, can_replay, linear_head, split
from raresight.explain.undisturbed import cannot_look, logits_of, named, undisturbed

METHODS = ("grad_cam", "hires_cam", "cam", "random")
ENOUGH = 2  # images on which a cut is proven before it is used

Proven = WeakKeyDictionary[nn.Module, dict[str, bool]]
_replayed: Proven = WeakKeyDictionary()
_linear: Proven = WeakKeyDictionary()


@dataclass(frozen=True)
class Said:
    """What a network said of B images: `logits` `(B, K)`, `maps` and `activations`, float32 and without a graph.

    `maps` has `(layer, method)` -> `(B, K, *s)`, at least 0, on the layer's own grid and in units of the logit: not
    scaled, so that two arms can be compared, and all zero where nothing spoke for the class. `activations` has layer ->
    `(B, C, *s)`.
    """

    logits: Tensor
    maps: dict[tuple[str, str], Tensor]
    activations: dict[str, Tensor]


def class_maps(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[str],
    methods: Sequence[str] = ("grad_cam", "hires_cam"),
    *,
    cases: Sequence[object] = (),
) -> Said:
    """Maps of every class at every layer, for images x `(B, C, *S)` in [0, 1].

    Equation: with a the layer's output and z_k the logit (no sigmoid, no softmax, no argmax),
    grad_cam_k = ReLU(sum_c mean_s(dz_k/da_c) a_c); hires_cam_k = ReLU(sum_c dz_k/da_c a_c);
    cam_k = ReLU(sum_c W_kc a_c) where z = W mean_s(a) + b (`linear_head`), and there it is grad_cam times the number
    of cells; random_k = ReLU of noise smoothed by (1, 2, 1)/4 along each axis, which depends on the case's name (its
    position where `cases` is empty), the layer and the grid, and on no network.
    Shapes: `maps` `(B, K, *s)` for grids s of any dimension; a `(B,)` output is K = 1.
    Cost: one forward pass and K gradients through what follows the shallowest layer (behind the last stage, pooling and
    a linear layer: nearly nothing; a stage earlier, K backward passes of the last stage). The body keeps no graph. The
    first time a network's layer is met, two passes of two images prove that the cut pass gives the plain pass's logits
    (for `cam` two more).
    Modes: evaluation, float32, batch-norm statistics untouched; everything as before afterwards.
    Absent class: classes are logits, so a class without an image has its maps too. `cam` is left out at layers where it
    is not defined.

    Raises: `ConfigError` RS-R49 for unknown layers or methods, logits that are not finite, a layer that cannot be cut
    and where Captum fails too, and where `cam` alone is asked for and nowhere defined; RS-X01, naming the extra
    `explain`, where a layer cannot be cut and Captum is not installed.
    Source: Selvaraju et al., ICCV 2017, eq. 1-2; Draelos and Carin 2020 (HiResCAM), eq. 5; Zhou et al., CVPR 2016,
    eq. 2. Only the positive part is kept in all three.
    """
    return _look(model, x, layers, methods, None, cases)


def label_maps(
    model: nn.Module,
    x: Tensor,
    labels: Sequence[int] | np.ndarray | Tensor,
    layers: Sequence[str],
    methods: Sequence[str] = ("grad_cam", "hires_cam"),
    *,
    cases: Sequence[object] = (),
) -> dict[tuple[str, str], Tensor]:
    """The map of one class an image at every layer, for images x `(B, C, *S)` in [0, 1] and classes `labels` `(B,)`.

    Equation: those of `class_maps`, k being the image's own class.
    Shapes: `(layer, method)` -> `(B, *s)`, which is `class_maps(...).maps[layer, method][b, labels[b]]` for image b.
    Cost: one forward pass and one gradient, that of the sum over images of z[b, labels[b]]: in evaluation mode no
    image's logits depend on another image. Where a layer cannot be cut, as much as `class_maps`.
    Modes, absent class, source: as `class_maps`.

    Raises: as `class_maps`; `ValueError` where `labels` are not one class of the network for every image.
    """
    label = torch.as_tensor(labels, dtype=torch.long, device=x.device)
    said = _look(model, x, layers, methods, label, cases)
    return {key: maps[:, 0] for key, maps in said.maps.items()}


def as_proven(model: nn.Module, twin: nn.Module) -> None:
    """What was proven of `model`'s layers holds of a copy with other weights: it is a matter of the code."""
    for proven in (_replayed, _linear):
        proven[twin] = dict(proven.get(model, {}))


def _look(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[str],
    methods: Sequence[str],
    labels: Tensor | None,
    cases: Sequence[object],
) -> Said:
    """`class_maps`, or with `labels` `(B,)` the maps `(B, 1, *s)` of one class an image."""
    _known(methods)
    named(model, layers)
    some = x[:ENOUGH]
    with undisturbed(model), torch.autocast(x.device.type, enabled=False):
        cut = [layer for layer in layers if _cut_at(model, layer, some)]
        asked = cut if "cam" in methods else []
        linear = [layer for layer in asked if _linear_at(model, layer, some)]
        try:
            said = _by_split(model, x, cut, methods, linear, labels)
        except SplitError:  # the images decide which way they go through this network
            cut = []
            said = _by_split(model, x, cut, methods, linear, labels)
        _finite(said.logits, x, model)
        for layer in layers:
            if layer not in cut:
                _by_captum(said, model, x, layer, methods, labels)
    if set(methods) == {"cam"} and not said.maps:
        raise cannot_look(
            f"class activation maps are not defined at {listed(layers)}",
            "they need a layer whose mean over space goes straight into a linear layer",
            "ask for hires_cam, which is the same where cam is defined",
        )
    if "random" in methods:
        n, k = said.logits.shape
        for layer in layers:
            grid = tuple(said.activations[layer].shape[2:])
            drawn = random_maps(cases if len(cases) else range(n), k, grid, layer).to(x.device)
            said.maps[layer, "random"] = _of(drawn, labels)
    return said


def random_maps(cases: Sequence[object], n_classes: int, grid: tuple[int, ...], *names: object) -> Tensor:
    """Maps `(B, K, *s)` that no network made: ReLU of smoothed noise, drawn for each case's name and `names` alone."""
    draws = [torch.randn((n_classes, *grid), generator=torch_rng("random map", grid, *names, case)) for case in cases]
    return _smooth(torch.stack(draws)).relu()


def _by_split(
    model: nn.Module,
    x: Tensor,
    layers: list[str],
    methods: Sequence[str],
    linear: list[str],
    labels: Tensor | None,
) -> Said:
    """One pass, a gradient for each map, and what the maps make of them; one is forgotten before the next."""
    pass_ = split(model, x, layers) if layers else _uncut(model, x)
    logits = pass_.logits.detach()
    activations = {layer: a.detach().float() for layer, a in pass_.activations.items()}
    each = _each(labels, logits)
    maps = {
        (layer, method): logits.new_empty((len(x), len(each), *a.shape[2:]))
        for layer, a in activations.items()
        for method in methods
        if method in ("grad_cam", "hires_cam") or (method == "cam" and layer in linear)
    }
    for i, label in enumerate(each if maps else ()):
        for layer, gradient in pass_.gradients(label, last=i == len(each) - 1).items():
            for method in (method for name, method in maps if name == layer):
                maps[layer, method][:, i] = FORMULAS[method](gradient.float(), activations[layer]).relu_()
    return Said(logits, maps, activations)


def _uncut(model: nn.Module, x: Tensor) -> Split:
    with torch.no_grad():
        return Split(logits_of(model, x), {})


def _each(labels: Tensor | None, logits: Tensor) -> Sequence[int | Tensor]:
    """What to ask for a gradient each: every class, or at once one class an image."""
    n, k = logits.shape
    if labels is None:
        return range(k)
    if labels.shape != (n,) or not bool(((labels >= 0) & (labels < k)).all()):
        raise ValueError(f"labels {labels.tolist()} are not one of {k} classes for each of {n} images")
    return [labels]


def _of(maps: Tensor, labels: Tensor | None) -> Tensor:
    """From maps of all classes, all, or those of one class an image `(B, 1, *s)`."""
    return maps if labels is None else maps[torch.arange(len(maps)), labels][:, None]


def _grad_cam(gradient: Tensor, a: Tensor) -> Tensor:
    return torch.einsum("bc,bc...->b...", gradient.flatten(2).mean(2), a)


def _hires_cam(gradient: Tensor, a: Tensor) -> Tensor:
    return (gradient * a).sum(1)


def _cam(gradient: Tensor, a: Tensor) -> Tensor:
    """Where z = W mean(a) + b the gradient is W / cells everywhere, so the weights need not be looked for."""
    return prod(a.shape[2:]) * _grad_cam(gradient, a)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam": _grad_cam,
    "hires_cam": _hires_cam,
    "cam": _cam,
}


def _by_captum(
    said: Said, model: nn.Module, x: Tensor, layer: str, methods: Sequence[str], labels: Tensor | None
) -> None:
    from raresight.explain.attribution import maps_by_captum

    wanted = [method for method in ("grad_cam", "hires_cam") if method in methods]
    maps, said.activations[layer] = maps_by_captum(model, x, layer, wanted, n_classes=said.logits.shape[1])
    said.maps.update({(layer, method): _of(found, labels) for method, found in maps.items()})


def _cut_at(model: nn.Module, layer: str, some: Tensor) -> bool:
    """Asked of a network once, like the next: it is a matter of its code, not of its weights."""
    known = _replayed.setdefault(model, {})
    if layer not in known:
        known[layer] = can_replay(model, some, layer)
    return known[layer]


def _linear_at(model: nn.Module, layer: str, some: Tensor) -> bool:
    known = _linear.setdefault(model, {})
    if layer not in known:
        known[layer] = linear_head(model, layer, some) is not None
    return known[layer]


def _smooth(noise: Tensor) -> Tensor:
    """By (1, 2, 1)/4 along every spatial axis of `(B, K, *s)`, the edge repeated."""
    for axis in range(2, noise.ndim):
        first, final = noise.narrow(axis, 0, 1), noise.narrow(axis, noise.shape[axis] - 1, 1)
        wide = torch.cat([first, noise, final], axis)
        n = noise.shape[axis]
        noise = (wide.narrow(axis, 0, n) + 2 * wide.narrow(axis, 1, n) + wide.narrow(axis, 2, n)) / 4
    return noise


def _finite(logits: Tensor, x: Tensor, model: nn.Module) -> None:
    if not logits.isfinite().all():
        broken = int((~x.flatten(1).isfinite().all(1)).sum())
        if broken:
            raise cannot_look(
                f"{broken} of {len(x)} images of a batch hold values that are not finite",
                "a network has nothing to say of them",
                "images hold finite values in [0, 1]: correct them, or leave them out of the probe",
            )
        raise cannot_look(
            f"{type(model).__name__} gives logits that are not finite",
            "their gradients point nowhere",
            "look at the weights: the run that made them may have diverged",
        )


def _known(methods: Sequence[str]) -> None:
    for method in methods:
        if method not in METHODS:
            close = nearest(method, METHODS)
            raise cannot_look(
                f"'{method}' is no kind of map",
                "each kind has its own formula",
                f"did you mean '{close}'?" if close else f"there are {listed(METHODS)}",
            )
