"""What one network said of the probe: read through once, kept on disk, and never asked again while nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256 as sha
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.files import read_json, sha256_of
from raresight.core.progress import Advance
from raresight.explain.kept import DAMAGED
from raresight.explain.layers import Layer, spatial_layers
from raresight.explain.probe import ProbeSet
from raresight.explain.saliency import Said, class_maps
from raresight.explain.split_head import linear_head
from raresight.explain.undisturbed import logits_of, undisturbed

VERSION = 1  # of what is kept: counts up when its meaning changes
FACTS = "seen.json"
MOST_STAGES = 3  # the deepest resolutions that are looked at unless layers are named


@dataclass(frozen=True)
class Network:
    """One trained network of an arm. `make` builds it, so that of many networks one is in memory at a time.

    `sha256` says which weights it has; empty: they are hashed when it is made. `adjust` is what the arm's decision
    strategies do to `(N, K)` logits before they are scores; maps are those of the logits themselves.
    """

    arm: str
    seed: int
    make: Callable[[], nn.Module]
    sha256: str = ""
    adjust: Callable[[np.ndarray], np.ndarray] | None = None

    @cached_property
    def weights_sha256(self) -> str:
        return self.sha256 or hash_of(self.make())


@dataclass(frozen=True)
class Asked:
    """What is kept of a network's visit to a probe.

    `stages`: how many of the deepest resolutions are recorded; `names`: layers by name instead. `mapped`: the positions
    among them whose maps are made (0 is the shallowest). `methods`: the kinds of maps. `kept`: the probe's rows whose
    activations are kept.
    """

    names: tuple[str, ...] = ()
    stages: int = MOST_STAGES
    mapped: tuple[int, ...] = (-1,)
    methods: tuple[str, ...] = ("grad_cam", "hires_cam")
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"kept": [int(row) for row in self.kept]}


@dataclass(frozen=True)
class Seen:
    """What one network said of N images, K classes, F features and layers of C channels on grids `(*s)`.

    `logits` and `scores` `(N, K)` float32 (scores after the decision strategies), `features` `(N, F)` float32, `head`
    the linear layer `(W (K, F), b (K,))` behind them or None where there is none, `pooled` layer -> `(N, C)` float32
    means over space, `activations` layer -> `(len(kept), C, *s)` float16 of the rows in `kept`, `maps` (layer, method)
    -> `(N, K, *s)` float32, not scaled. `layers` are the network's own, in the order of the names used here.
    """

    arm: str
    seed: int
    weights_sha256: str
    key: str
    logits: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    head: tuple[np.ndarray, np.ndarray] | None
    pooled: dict[str, np.ndarray]
    kept: np.ndarray
    activations: dict[str, np.ndarray]
    maps: dict[tuple[str, str], np.ndarray]
    layers: tuple[Layer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)


def hash_of(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a module's parameters and buffers."""
    digest = sha()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_of_probe(probe: ProbeSet) -> str:
    """SHA-256 over what the networks are asked about: pixels, labels, patients, cases, and regions.

    Pixels are read through once; a probe of a study is hashed by the study instead (`verbs/explain.py`).
    """
    digest = sha()
    for rows in probe.batches(64):
        digest.update(np.ascontiguousarray(probe.pixels(rows)).tobytes())
    return sha256_of([digest.hexdigest(), hash_of_labels(probe)])


def hash_of_labels(probe: ProbeSet) -> str:
    """SHA-256 over everything of a probe but its pixels."""
    digest = sha(np.ascontiguousarray(probe.labels).tobytes())
    assert probe.cases is not None
    digest.update(json.dumps([list(map(str, probe.patients)), list(map(str, probe.cases)), probe.classes]).encode())
    if probe.regions is not None:
        for part in (probe.regions.row, probe.regions.label, probe.regions.packed):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(f"{probe.regions.shape} {probe.regions.kind}".encode())
    return digest.hexdigest()


def see(
    network: Network,
    probe: ProbeSet,
    asked: Asked,
    folder: Path,
    *,
    probe_sha256: str,
    model: Callable[[], nn.Module] | None = None,
    batch: int = 32,
    advance: Advance = lambda done, total: None,
) -> Seen:
    """What `network` says of `probe`: read from `folder` where it lies there whole and nothing changed, else found out.

    One forward pass over the probe. The folder is written beside its place and moved there whole, so a killed process
    leaves either nothing or all of it. `model` gives the network where it is already in memory.

    Raises: `ConfigError` RS-R49 for a network that cannot be looked into.
    """
    key = sha256_of([VERSION, network.weights_sha256, probe_sha256, asked.as_dict()])
    before = _before(folder, key)
    if before is not None:
        return before
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        net = (model or network.make)()
        with undisturbed(net):
            facts = _read_through(network, net, probe, asked, fresh, batch, advance)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    facts |= {"key": key, "arm": network.arm, "seed": network.seed, "weights_sha256": network.weights_sha256}
    (fresh / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return opened(folder)


def _before(folder: Path, key: str) -> Seen | None:
    """What lies in `folder`, where it was found out for this key and can still be read."""
    try:
        return opened(folder) if read_json(folder / FACTS)["key"] == key else None
    except DAMAGED:
        return None


def opened(folder: Path) -> Seen:
    """What lies in a folder that `see` wrote; large arrays stay on disk until they are read."""
    facts = read_json(folder / FACTS)
    layers = tuple(Layer(**_as_layer(written)) for written in facts["layers"])
    arrays = np.load(folder / "arrays.npz")
    head = (arrays["weight"], arrays["bias"]) if "weight" in arrays else None

    def mapped(name: str) -> np.ndarray:
        return np.load(folder / name, mmap_mode="r")  # type: ignore[no-any-return]

    return Seen(
        facts["arm"],
        facts["seed"],
        facts["weights_sha256"],
        facts["key"],
        arrays["logits"],
        arrays["scores"],
        arrays["features"],
        head,
        {layer.name: arrays[f"pooled {layer.name}"] for layer in layers},
        arrays["kept"],
        {layer.name: mapped(_activations(i)) for i, layer in enumerate(layers) if len(arrays["kept"])},
        {(layers[i].name, method): mapped(_maps(i, method)) for i, method in facts["maps"]},
        layers,
    )


def stages(model: nn.Module, x: Tensor, asked: Asked) -> list[Layer]:
    """The layers that are looked at, shallow to deep: those named, in whatever order, else the deepest resolutions.

    None for a network that keeps no places apart (a vision transformer): its scores and features can still be compared.

    Raises: `ConfigError` RS-R49 where a named layer is not there.
    """
    try:
        found = spatial_layers(model, x)
    except ConfigError:
        if asked.names:
            raise
        return []
    if asked.names:
        named = _named(model, x, asked.names)
        missing = [name for name in asked.names if name not in {layer.name for layer in named}]
        if missing:
            raise _no_layer(missing[0], [layer.name for layer in found], model)
        return named
    return found[-asked.stages :]


def _read_through(
    network: Network, model: nn.Module, probe: ProbeSet, asked: Asked, folder: Path, batch: int, advance: Advance
) -> dict[str, Any]:
    """Every image once; what is large goes to disk as it comes."""
    n, place = len(probe), {int(row): i for i, row in enumerate(asked.kept)}
    cases = np.asarray(probe.cases)
    device = next(iter(model.parameters()), torch.empty(0)).device
    tensor = _tensors(probe, device)
    first = tensor(np.arange(min(2, n)))
    layers = stages(model, first, asked)
    names = [layer.name for layer in layers]
    depth = len(layers)  # a network with fewer layers than the baseline has its shallowest mapped instead
    positions = sorted({max(at, -depth) % depth for at in asked.mapped if at < depth}) if depth else []
    mapped = [names[i] for i in positions]
    files: dict[str, np.ndarray] = {}
    logits: list[np.ndarray] = []
    features: list[np.ndarray] = []
    pooled: dict[str, list[np.ndarray]] = {name: [] for name in names}
    head = _head_of(model, first, names[-1] if names else "")
    for rows in probe.batches(batch):
        x = tensor(rows)
        keep = np.array([i for i, row in enumerate(rows) if int(row) in place], dtype=np.int64)
        with recorded(model, names, keep, len(x)) as heard, heard_before(head.module) as before:
            names_of = [str(case) for case in cases[rows]]
            said = class_maps(model, x, mapped, asked.methods, cases=names_of) if mapped else _unmapped(model, x)
        logits.append(_plain(said.logits))
        pooled_last = heard.pooled[names[-1]] if names else logits[-1]
        features.append(_plain(before[-1]) if head.module is not None else pooled_last)
        for i, name in enumerate(names):
            pooled[name].append(heard.pooled[name])
            if len(keep):
                at = [place[int(rows[j])] for j in keep]
                _into(files, folder / _activations(i), len(asked.kept), heard.kept[name])[at] = heard.kept[name]
        for i in positions:
            for method in asked.methods:
                if (names[i], method) in said.maps:
                    maps = _plain(said.maps[names[i], method])
                    _into(files, folder / _maps(i, method), n, maps)[rows] = maps
        advance(int(rows[-1]) + 1, n)
    for file in files.values():
        file.flush()  # type: ignore[attr-defined]
    raw = np.concatenate(logits)
    arrays = {"logits": raw, "scores": raw if network.adjust is None else network.adjust(raw), "kept": asked.kept}
    arrays |= {"features": np.concatenate(features)}
    arrays |= {f"pooled {name}": np.concatenate(parts) for name, parts in pooled.items()}
    if head.weight is not None and head.bias is not None:
        arrays |= {"weight": head.weight, "bias": head.bias}
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    made = [(i, method) for i in positions for method in asked.methods if str(folder / _maps(i, method)) in files]
    return {"layers": [asdict(layer) for layer in layers], "maps": made}


@dataclass
class Heard:
    """What the hooks of one batch heard: means over space, and activations of the rows that are kept."""

    pooled: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)


@contextmanager
def recorded(model: nn.Module, names: Sequence[str], keep: np.ndarray, size: int) -> Iterator[Heard]:
    """Hear what the named layers give for `size` images; copied at once, for later layers may overwrite."""
    heard, modules, hooks = Heard(), dict(model.named_modules()), []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hear(module: nn.Module, given: Any, output: Tensor) -> None:
            a = output.detach()
            if len(a) != size:  # a pass of fewer images, by which a cut was proven
                return
            heard.pooled[name] = _plain(a.flatten(2).mean(2))
            heard.kept[name] = a[torch.from_numpy(keep).to(a.device)].to(torch.float16).cpu().numpy()

        return hear

    try:
        # The first of all hooks: whoever replaces the output for a graph of its own comes after.
        hooks = [modules[name].register_forward_hook(hook(name), prepend=True) for name in names]
        yield heard
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def heard_before(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """What a module is given, `(B, F)`, in the passes that follow."""
    given: list[Tensor] = []
    if module is None:
        yield given
        return
    handle = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().clone()))
    try:
        yield given
    finally:
        handle.remove()


@dataclass(frozen=True)
class Head:
    """The linear layer whose output are the logits; or, where its input is a mean over space, its weights alone."""

    module: nn.Module | None = None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


def _unmapped(model: nn.Module, x: Tensor) -> Said:
    """The pass of a network without places, or of whose places no maps are asked."""
    with torch.no_grad():
        return Said(logits_of(model, x), {}, {})


def _head_of(model: nn.Module, x: Tensor, last: str) -> Head:
    """The last linear layer that gives the very logits; else what `linear_head` finds of the deepest layer's means."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_hook(lambda m, _, y: outputs.append((m, y.detach()))) for module in linear]
    try:
        with torch.no_grad():
            logits = logits_of(model, x)
    finally:
        for handle in handles:
            handle.remove()
    for module, output in reversed(outputs):
        if output.shape == logits.shape and torch.equal(output, logits):
            assert isinstance(module, nn.Linear)
            bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias
            return Head(module, _plain(module.weight), _plain(bias))
    found = linear_head(model, last, x) if last else None
    return Head() if found is None else Head(None, _plain(found[0]), _plain(found[1]))


def _named(model: nn.Module, x: Tensor, names: Sequence[str]) -> list[Layer]:
    """Layers asked for by name, in the order in which the network is through with them."""
    modules, found, handles = dict(model.named_modules()), {}, []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hear(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == x.ndim:
                grid = tuple(int(size) for size in output.shape[2:])
                stride = tuple(size / cell for size, cell in zip(x.shape[2:], grid, strict=True))
                found[name] = Layer(name, int(output.shape[1]), grid, stride)

        return hear

    try:
        handles = [modules[name].register_forward_hook(hook(name)) for name in names if name in modules]
        with torch.no_grad():
            logits_of(model, x)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _tensors(probe: ProbeSet, device: torch.device) -> Callable[[np.ndarray], Tensor]:
    return lambda rows: torch.from_numpy(np.ascontiguousarray(probe.pixels(rows))).to(device)


def _into(files: dict[str, np.ndarray], path: Path, n: int, block: np.ndarray) -> np.ndarray:
    """The array on disk that `block` is a part of, made when its first part comes."""
    if str(path) not in files:
        files[str(path)] = open_memmap(path, mode="w+", dtype=block.dtype, shape=(n, *block.shape[1:]))
    return files[str(path)]


def _plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _as_layer(written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}


def _activations(position: int) -> str:
    return f"activations-{position}.npy"


def _maps(position: int, method: str) -> str:
    return f"maps-{position}-{method}.npy"


def _no_layer(name: str, known: Sequence[str], model: nn.Module) -> ConfigError:
    why = "there is nothing to look at where a network keeps no places apart"
    if name not in dict(model.named_modules()):
        why = f"{type(model).__name__} has no module of this name"
    close = nearest(name, known)
    hint = f"did you mean '{close}'? " if close else ""
    return ConfigError(
        Problem(
            code="RS-R49",
            level="error",
            found=f"no layer '{name}' with a map over the image",
            why=why,
            remedy=f"{hint}name one of {listed(known)}, or leave the choice to `layers: auto`",
        )
    )
