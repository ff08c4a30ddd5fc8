"""One network put to the test: do its maps follow its weights, and its logits follow its maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from raresight.core.files import finite
from raresight.core.seeds import numpy_rng
from raresight.explain import sanity
from raresight.explain.alignment import resized
from raresight.explain.faithfulness import deletion_insertion
from raresight.explain.kept import kept_json, kept_table
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Seen

VERSION, GATE_VERSION = 3, 4
FAITHFUL_IMAGES = 28
STEPS = 8  # of the pixels that are taken away and brought back
GATE_IMAGES = 28  # dealt over the classes, one a patient


def judged(
    probe: ProbeSet, most: int, *names: object, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images with findings, equally many of each class as far as there are, and the class that each stands for.

    One image a patient, drawn by name; `(n,)` rows and classes with n <= `most`, classes in turn. `among` `(N, K)`: the
    images that can stand for a class, where not all of its images can.
    """
    can = probe.labels == 1 if among is None else (probe.labels == 1) & among
    chosen: list[tuple[int, int]] = []
    met: set[object] = set()
    queues = [list(numpy_rng("judged", name, *names).permutation(np.flatnonzero(can[:, k])))
              for k, name in enumerate(probe.classes)]  # fmt: skip
    while len(chosen) < most and any(queues):
        for k, queue in enumerate(queues):
            while queue and probe.patients[queue[0]] in met:
                queue.pop(0)
            if queue and len(chosen) < most:
                row = int(queue.pop(0))
                met.add(probe.patients[row])
                chosen.append((row, k))
    rows, labels = np.array(chosen, dtype=np.int64).reshape(-1, 2).T
    return rows, labels


def gates(
    seen: Seen,
    probe: ProbeSet,
    layers: Sequence[str],
    methods: Sequence[str],
    model: Callable[[], nn.Module],
    folder: Path,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Layer -> kind of map -> `passed`, `reason` and the `facts` of `sanity.gates`; kept in `folder`.

    Judged on images whose map of the first kind at the first layer is not empty, as far as there are any.
    """
    layers = list(dict.fromkeys(layers))

    def make() -> dict[str, dict[str, dict[str, Any]]]:
        maps = np.asarray(seen.maps[layers[0], methods[0]])
        speaks = np.any(maps.reshape(*maps.shape[:2], -1), axis=2)
        rows, labels = judged(
            probe, GATE_IMAGES, "gate", among=speaks if (speaks & (probe.labels == 1)).any() else None
        )
        net = model()
        device = next(iter(net.parameters()), torch.empty(0)).device
        x = torch.from_numpy(np.ascontiguousarray(probe.pixels(rows))).to(device)
        said: dict[str, dict[str, dict[str, Any]]] = {layer: {} for layer in layers}
        for (layer, method), found in sanity.gates(net, x, labels, layers, methods, names=("explain",)).items():
            facts = [fact | {"value": finite(fact["value"])} for fact in found.facts()]
            said[layer][method] = {"passed": found.passed, "reason": found.reason, "facts": facts}
        return said

    result: dict[str, dict[str, dict[str, Any]]] = kept_json(
        folder, "gate", [GATE_VERSION, seen.key, layers, list(methods)], make
    )
    return result


def faithful(
    seen: Seen, probe: ProbeSet, layer: str, method: str, model: Callable[[], nn.Module], folder: Path
) -> pd.DataFrame:
    """What a class's logit loses with the brightest pixels of its map and wins with them, a line an image.

    The columns of `deletion_insertion`, with `class case patient method`; on images as those of the gate.

    `sensitivity_n` is not among them. Its correlation over 30 sets has a standard error of up to 0.19 for one image, so
    it would take as many passes again as all that is done here, to ask of random places what taking away and bringing
    back ask of the brightest. It stays a function for single maps.
    """

    def make() -> pd.DataFrame:
        rows, labels = judged(probe, FAITHFUL_IMAGES, "faithful")
        net = model()
        device = next(iter(net.parameters()), torch.empty(0)).device
        x = torch.from_numpy(np.ascontiguousarray(probe.pixels(rows))).to(device)
        maps = resized(np.asarray(seen.maps[(layer, method)][rows, labels]), x.shape[2:])
        table = deletion_insertion(net, x, labels, maps, steps=STEPS, draws=1, names=("explain",))
        assert probe.cases is not None
        return table.assign(
            **{"class": [probe.classes[k] for k in labels]},
            case=probe.cases[rows].astype(str),
            patient=probe.patients[rows].astype(str),
            method=method,
        )

    return kept_table(folder, "faithfulness", [VERSION, seen.key, layer, method], make)
