"""Captum's attributions (extra `explain`): integrated gradients, occlusion, and maps of layers that cannot be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raresight.core.extras import need
from raresight.explain.undisturbed import cannot_look, logits_of, named, undisturbed

CHUNK = 16  # images that pass the network at once, whatever the number of steps


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    label: int | Tensor,
    *,
    steps: int = 50,
    baseline: float | Tensor = 0.0,
    signed: bool = False,
) -> Tensor:
    """What each pixel adds to the logit on the way from the baseline to the image, `(B, *S)` float32.

    Equation: sum over channels of (x - x') * integral over t in [0, 1] of dz_label/dx at x' + t (x - x'), by
    Gauss-Legendre quadrature with `steps` nodes; over all pixels it sums to z(x) - z(x').
    Shapes: x `(B, C, *S)` in [0, 1]; `label` one class or one an image `(B,)`; `baseline` x' one value (0 is black) or
    `(1, C, *S)`. What the map shows depends on it: pixels like the baseline get nothing.
    Ranges: logit; the positive part unless `signed`.

    Raises: `ConfigError` RS-X01 where Captum is not installed; RS-R49 where the network's output cannot be explained.
    Source: Sundararajan, Taly and Yan, ICML 2017, eq. 1; `captum.attr.IntegratedGradients`.
    """
    captum = _captum("integrated gradients")
    with _asked(model) as forward:
        found = captum.IntegratedGradients(forward).attribute(
            x, baselines=baseline, target=_target(label, x), n_steps=steps, internal_batch_size=CHUNK
        )
    return _one_map(found, signed)


def occlusion(
    model: nn.Module,
    x: Tensor,
    label: int | Tensor,
    *,
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    baseline: float | Tensor = 0.0,
    signed: bool = False,
) -> Tensor:
    """How far the logit falls where a window is covered, the mean over the windows that hold a pixel.

    Equation: mean over windows w that hold the pixel of z_label(x) - z_label(x with w set to `baseline`).
    Shapes: `(B, *S)` float32, the rest as in `integrated_gradients`; `window` and `stride` one number or one a spatial
    axis, in pixels; all channels are covered together. `stride` is half the window unless said.
    Ranges: logit; the positive part unless `signed`. Costs one pass a window.

    Raises: `ConfigError` RS-X01 where Captum is not installed; RS-R49 where the network's output cannot be explained.
    Source: Zeiler and Fergus, ECCV 2014, section 4.1; `captum.attr.Occlusion`.
    """
    captum = _captum("occlusion")
    axes = x.ndim - 2
    wide = (window,) * axes if isinstance(window, int) else tuple(window)
    far = tuple(max(w // 2, 1) for w in wide) if stride is None else stride
    far = (far,) * axes if isinstance(far, int) else tuple(far)
    with _asked(model) as forward, torch.no_grad():
        found = captum.Occlusion(forward).attribute(
            x,
            sliding_window_shapes=(x.shape[1], *wide),
            strides=(x.shape[1], *far),
            baselines=baseline,
            target=_target(label, x),
        )
    return _one_map(found / x.shape[1], signed)  # every channel has the window's value


def maps_by_captum(
    model: nn.Module, x: Tensor, layer: str, methods: Sequence[str], *, n_classes: int
) -> tuple[dict[str, Tensor], Tensor]:
    """`grad_cam` and `hires_cam` `(B, K, *s)` of a layer where the pass cannot be cut, and its output `(B, C, *s)`.

    One forward and backward pass for each class and kind of map. Of a layer that gives several tensors the first
    feature map is taken, of one that is called several times the last call.

    Raises: `ConfigError` RS-X01 where Captum is not installed; RS-R49 where it finds no gradient at the layer either.
    Source: `captum.attr.LayerGradCam`, and `LayerGradientXActivation` summed over channels.
    """
    captum = _captum(f"a map at '{layer}', where the pass cannot be cut,")
    module = named(model, [layer])[layer]
    kinds = {"grad_cam": captum.LayerGradCam, "hires_cam": captum.LayerGradientXActivation}
    with _asked(model) as forward:
        try:
            given = captum.LayerActivation(forward, module).attribute(x)
            output = _feature_map(given, x, layer).detach()
            # Of several tensors the logits may need one alone; of a single one that they do not need, there is no map.
            options = {"materialize_grads": True} if isinstance(given, tuple) else None
            maps = {method: output.new_empty((len(x), n_classes, *output.shape[2:])) for method in methods}
            for method, into in maps.items():
                explained = kinds[method](forward, module)
                for label in range(n_classes):
                    found = _feature_map(explained.attribute(x, target=label, grad_kwargs=options), x, layer)
                    into[:, label] = found.detach().sum(1).relu()
        except (RuntimeError, AssertionError, KeyError) as cause:
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise cannot_look(
                f"at '{layer}' of {type(model).__name__} neither our pass nor Captum's finds a gradient ({lines[0]})",
                "the logits cannot be followed back to this layer",
                "choose another layer: a block that gives one feature map on which the logits depend",
            ) from cause
    return maps, output


def _captum(feature: str) -> Any:
    return need("captum.attr", extra="explain", feature=feature)


@contextmanager
def _asked(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """The network's logits as a function, in evaluation mode and with gradients on."""
    with undisturbed(model), torch.inference_mode(False), torch.enable_grad():
        yield lambda x: logits_of(model, x)


def _target(label: int | Tensor, x: Tensor) -> int | Tensor:
    return label if isinstance(label, int) else label.to(x.device, torch.int64)


def _one_map(found: Tensor, signed: bool) -> Tensor:
    total = found.detach().sum(1).float()
    return total if signed else total.relu()


def _feature_map(found: Tensor | tuple[Tensor, ...], x: Tensor, layer: str) -> Tensor:
    for one in found if isinstance(found, tuple) else (found,):
        if isinstance(one, Tensor) and one.ndim == x.ndim:
            return one.float()
    raise RuntimeError(f"'{layer}' gives no feature map on a grid of places")
