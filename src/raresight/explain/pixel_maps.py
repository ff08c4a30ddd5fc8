"""Maps on the image itself, integrated gradients and occlusion: of annotated findings alone, as they cost the most.

A class's map of one image takes about a hundred passes of the network, where all classes' maps of a layer take one. So
they are made for the pairs of image and class that are measured, a class at a time, and each class's are kept on disk:
a call that was stopped goes on with the class where it was. They are not put to the gate, which would cost ten times as
much again, and therefore no verdict rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raresight.core.extras import need
from raresight.core.progress import Advance
from raresight.explain.kept import kept_arrays
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen

PIXEL_METHODS = ("integrated_gradients", "occlusion")
PLACE = "image"  # what stands in the column of layers
NOT_GATED = "not gated: no verdict rests on this kind of map"
VERSION = 1
STEPS = 50
WINDOW = {1: 7, 2: 7, 3: 4}  # a covered window is this part of a side; windows lie half of it apart
BLOCK = 8


@dataclass
class PairMaps:
    """The maps of some pairs of image and class, read as an array `(N, K, *S)` is: `maps[rows, labels]` -> `(r, *S)`.

    `rows` class -> the images that have a map, sorted; `of` gives a class's maps in that order.
    """

    shape: tuple[int, ...]
    rows: Mapping[int, np.ndarray]
    of: Callable[[int], np.ndarray]
    _last: dict[int, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, labels = at
        found = np.empty((len(rows), *self.shape[2:]), dtype=np.float32)
        for k in map(int, np.unique(labels)):
            if k not in self._last:
                self._last = {k: self.of(k)}  # one class in memory
            mine = labels == k
            found[mine] = self._last[k][np.searchsorted(self.rows[k], rows[mine])]
        return found


def require_captum(methods: Sequence[str]) -> None:
    """Raises: `ConfigError` RS-X01 where one of them is a map on the image and Captum is not installed."""
    asked = [method.replace("_", " ") for method in methods if method in PIXEL_METHODS]
    if asked:
        need("captum.attr", extra="explain", feature=" and ".join(asked))


def pixel_maps(
    seen: Seen,
    probe: ProbeSet,
    which: np.ndarray,
    method: str,
    model: Callable[[], nn.Module],
    folder: Path,
    *,
    probe_sha256: str,
    advance: Advance = lambda done, total: None,
) -> PairMaps:
    """The maps of the regions in `which`, each of its own class and on the images' grid; made where they do not lie.

    Equations: see `attribution.integrated_gradients` (50 steps from a black image) and `attribution.occlusion` (windows
    of a seventh of every side, a quarter in volumes, half of that apart, covered with black); the positive part.
    Kept as float16 beside each map's largest value.

    Raises: `ConfigError` RS-X01 where Captum is not installed.
    """
    assert probe.regions is not None
    row, label = probe.regions.row[which], probe.regions.label[which]
    rows = {int(k): np.unique(row[label == k]) for k in np.unique(label)}
    total, done = sum(map(len, rows.values())), 0

    def kept(k: int, begun: int = 0) -> np.ndarray:
        key = [VERSION, seen.weights_sha256, probe_sha256, method, STEPS, WINDOW, rows[k].tolist()]

        def make() -> dict[str, np.ndarray]:
            return _packed(_made(model(), probe, rows[k], k, method, lambda n: advance(begun + n, total)))

        stored = kept_arrays(folder, f"{probe.part or 'probe'}-{method}-{k}", key, make)
        return stored["maps"].astype(np.float32) * stored["peak"].reshape(-1, *[1] * (stored["maps"].ndim - 1))

    for k, some in rows.items():
        kept(k, done)
        done += len(some)
        advance(done, total)
    return PairMaps((*probe.labels.shape, *probe.regions.shape), rows, kept)


def with_maps(seen: Seen, maps: Mapping[str, PairMaps]) -> Seen:
    """`seen` with these maps alone, by kind, so that they are measured as those of a layer are."""
    found: dict[tuple[str, str], Any] = {(PLACE, method): one for method, one in maps.items()}
    return replace(seen, maps=found)


def _made(
    model: nn.Module, probe: ProbeSet, rows: np.ndarray, k: int, method: str, advance: Callable[[int], None]
) -> np.ndarray:
    device = next(iter(model.parameters()), torch.empty(0)).device
    made = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        x = torch.from_numpy(np.ascontiguousarray(probe.pixels(block))).to(device)
        made.append(_map(model, x, k, method).cpu().numpy())
        advance(start + len(block))
    return np.concatenate(made)


def _map(model: nn.Module, x: Tensor, k: int, method: str) -> Tensor:
    from raresight.explain.attribution import integrated_gradients, occlusion

    if method == "integrated_gradients":
        return integrated_gradients(model, x, k, steps=STEPS)
    return occlusion(model, x, k, window=[max(1, side // WINDOW[x.ndim - 2]) for side in x.shape[2:]])


def _packed(maps: np.ndarray) -> dict[str, np.ndarray]:
    peak = maps.reshape(len(maps), -1).max(axis=1)
    scale = np.where(peak > 0, peak, 1.0).reshape(-1, *[1] * (maps.ndim - 1))
    return {"maps": (maps / scale).astype(np.float16), "peak": peak.astype(np.float32)}
