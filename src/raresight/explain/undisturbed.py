"""A network asked without a trace: evaluation mode, frozen, its statistics untouched, and everything put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError, Problem, listed, nearest


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, with frozen parameters and not compiled; afterwards it is as it was before.

    Every module's mode and every parameter's `requires_grad` come back, after an exception too. Buffers that are saved
    with the network (running means and variances) are put back to the bit, and a change of one is an error.

    Raises: `RuntimeError` naming the buffers that the work inside has changed, unless another exception ended it.
    """
    modes = [(module, module.training) for module in model.modules()]
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in _kept_buffers(model)}
    compiled = vars(model).get("compiled")
    try:
        for module, _ in modes:
            module.training = False
        for parameter in free:
            parameter.requires_grad_(False)
        if compiled is not None:
            vars(model)["compiled"] = None  # hooks are not heard inside a compiled backbone
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in free:
            parameter.requires_grad_(True)
        if compiled is not None:
            vars(model)["compiled"] = compiled
        changed = [name for name, (now, then) in buffers.items() if not _same(now, then)]
        with torch.no_grad():
            for name in changed:
                buffers[name][0].copy_(buffers[name][1])
    changed += [name for name, buffer in _kept_buffers(model) if name not in buffers or buffer is not buffers[name][0]]
    if changed:
        raise RuntimeError(f"looking into the network changed its {listed(changed)}; what was measured is not of it")


def logits_of(model: nn.Module, x: Tensor, n: int | None = None) -> Tensor:
    """The network's logits `(B, K)` for images `(B, C, *S)` in [0, 1], in float32.

    A network with a method `normalise` (`models.backbones.Classifier`) is given `normalise(x)`. One output an image,
    as `(B,)` or `(B, 1)`, is one class. Runs in the mode and under the gradient setting that it finds. `n`: how many
    images the logits are of, where a hook brings others than `x`.

    Raises: `ConfigError` RS-R49 for an output that is no tensor `(B, K)`.
    """
    normalise = getattr(model, "normalise", None)
    with torch.autocast(x.device.type, enabled=False):
        logits = model(normalise(x) if callable(normalise) else x)
    n = len(x) if n is None else n
    if isinstance(logits, Tensor) and logits.ndim < 2 and logits.numel() == n:
        logits = logits.reshape(-1, 1)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != n:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise cannot_look(
            f"{type(model).__name__} gives {given} for {n} images",
            "one number an image and class is explained",
            "wrap it in a module whose forward gives logits of shape (images, classes)",
        )
    return logits.float()


def named(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of these names, in their order.

    Raises: `ConfigError` RS-R49 for a name that the network does not have, the network itself (an empty name) included.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if not name or name not in modules:
            close = nearest(name, modules)
            raise cannot_look(
                f"{type(model).__name__} has no layer '{name}'",
                "maps are made where a module of this name gives its output",
                f"did you mean '{close}'?" if close else "`model.named_modules()` lists the names",
            )
    return {name: modules[name] for name in layers}


def cannot_look(found: str, why: str, remedy: str) -> ConfigError:
    """RS-R49: a network that cannot be looked into."""
    return ConfigError(Problem(code="RS-R49", level="error", file="the network", found=found, why=why, remedy=remedy))


def _same(now: Tensor, then: Tensor) -> bool:
    return torch.equal(now, then) or bool(((now == then) | (now.isnan() & then.isnan())).all())


def _kept_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that are saved with the network; others are caches, which a pass may fill."""
    for prefix, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and key not in module._non_persistent_buffers_set:
                yield f"{prefix}.{key}" if prefix else key, buffer
