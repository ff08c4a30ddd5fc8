"""Saliency maps of all classes from one forward pass: Grad-CAM, HiResCAM, CAM, and random maps as the null method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

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
    _known(methods)
    named(model, layers)
    some = x[:ENOUGH]
    with undisturbed(model), torch.autocast(x.device.type, enabled=False):
        cut = [layer for layer in layers if _cut_at(model, layer, some)]
        asked = cut if "cam" in methods else []
        linear = [layer for layer in asked if _linear_at(model, layer, some)]
        try:
            said = _by_split(model, x, cut, methods, linear)
        except SplitError:  # the images decide which way they go through this network
            cut = []
            said = _by_split(model, x, cut, methods, linear)
        _finite(said.logits, model)
        for layer in layers:
            if layer not in cut:
                _by_captum(said, model, x, layer, methods)
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
            said.maps[layer, "random"] = random_maps(cases if len(cases) else range(n), k, grid, layer).to(x.device)
    return said


def random_maps(cases: Sequence[object], n_classes: int, grid: tuple[int, ...], *names: object) -> Tensor:
    """Maps `(B, K, *s)` that no network made: ReLU of smoothed noise, drawn for each case's name and `names` alone."""
    draws = [torch.randn((n_classes, *grid), generator=torch_rng("random map", grid, *names, case)) for case in cases]
    return _smooth(torch.stack(draws)).relu()


def _by_split(model: nn.Module, x: Tensor, layers: list[str], methods: Sequence[str], linear: list[str]) -> Said:
    """One pass, K gradients, and what the maps make of them; a class's gradient is forgotten before the next's."""
    if not layers:
        with torch.no_grad():
            return Said(logits_of(model, x), {}, {})
    pass_ = split(model, x, layers)
    logits = pass_.logits.detach()
    activations = {layer: a.detach().float() for layer, a in pass_.activations.items()}
    n, k = logits.shape
    maps = {
        (layer, method): logits.new_empty((n, k, *a.shape[2:]))
        for layer, a in activations.items()
        for method in methods
        if method in ("grad_cam", "hires_cam") or (method == "cam" and layer in linear)
    }
    for label in range(k if maps else 0):
        _draw(maps, activations, pass_, label, last=label == k - 1)
    return Said(logits, maps, activations)


def _draw(
    maps: dict[tuple[str, str], Tensor], activations: dict[str, Tensor], pass_: Split, label: int, *, last: bool
) -> None:
    for layer, gradient in pass_.gradients(label, last=last).items():
        a = activations[layer]
        for method in (method for name, method in maps if name == layer):
            maps[layer, method][:, label] = FORMULAS[method](gradient.float(), a).relu_()


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


def _by_captum(said: Said, model: nn.Module, x: Tensor, layer: str, methods: Sequence[str]) -> None:
    from raresight.explain.attribution import maps_by_captum

    wanted = [method for method in ("grad_cam", "hires_cam") if method in methods]
    maps, said.activations[layer] = maps_by_captum(model, x, layer, wanted, n_classes=said.logits.shape[1])
    said.maps.update({(layer, method): found for method, found in maps.items()})


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


def _finite(logits: Tensor, model: nn.Module) -> None:
    if not logits.isfinite().all():
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
