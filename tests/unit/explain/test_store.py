"""What a network said is kept whole, keyed by everything it depends on, and is what the network says."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raresight.core.errors import ConfigError, Problem
from raresight.explain import store
from raresight.explain.probe import ProbeSet
from raresight.explain.store import Asked, Network, hash_of, hash_of_labels, hash_of_probe, see

ASKED = Asked(stages=2, mapped=(-1,), methods=("grad_cam", "hires_cam"), kept=np.array([1, 4]))


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )  # fmt: skip


@pytest.fixture
def probe() -> ProbeSet:
    rng = np.random.default_rng(0)
    labels = np.array([[1, 0], [0, 1], [0, 0], [1, 1], [0, np.nan]])
    return ProbeSet(rng.random((5, 1, 16, 16)).astype(np.float32), labels, np.array(list("aabcd")), ("one", "two"))


def test_what_is_kept_is_what_the_network_says(probe: ProbeSet, tmp_path: Path) -> None:
    model = tiny()
    network = Network("bce", 3, lambda: model, adjust=lambda z: z + np.array([1.0, -2.0], np.float32))
    seen = see(network, probe, ASKED, tmp_path / "val", probe_sha256="p", batch=2)
    model.eval()
    with torch.no_grad():
        a = model[:3](torch.from_numpy(probe.images))
        b = model[3:5](a.clone())
        logits = model[5:](b).numpy()
    np.testing.assert_allclose(seen.logits, logits, atol=1e-6)
    np.testing.assert_allclose(seen.scores, logits + np.array([1, -2]), atol=1e-6)
    np.testing.assert_allclose(seen.features, b.mean((2, 3)), atol=1e-6)
    assert seen.head is not None
    np.testing.assert_allclose(seen.features @ seen.head[0].T + seen.head[1], logits, atol=1e-5)
    assert [layer.grid for layer in seen.layers] == [(8, 8), (4, 4)] and list(seen.kept) == [1, 4]
    shallow, deep = seen.names
    np.testing.assert_allclose(seen.pooled[shallow], a.mean((2, 3)), atol=1e-6)
    np.testing.assert_array_equal(seen.activations[deep], b[[1, 4]].numpy().astype(np.float16))
    assert seen.activations[deep].dtype == np.float16 and isinstance(seen.activations[deep], np.memmap)
    assert set(seen.maps) == {(deep, "grad_cam"), (deep, "hires_cam")}
    # The head is linear on means, so HiResCAM summed over space is the sum of positive parts of w_c a_c.
    cam = torch.einsum("kc,nchw->nkhw", model[7].weight.detach() / 16, b).relu()
    np.testing.assert_allclose(seen.maps[deep, "hires_cam"], cam, atol=1e-6)
    assert (seen.arm, seen.seed) == ("bce", 3)


def test_the_network_is_as_it_was(probe: ProbeSet, tmp_path: Path) -> None:
    model = tiny()
    model[1].eval()
    before = hash_of(model)
    see(Network("a", 0, lambda: model), probe, ASKED, tmp_path / "val", probe_sha256="p")
    assert hash_of(model) == before and model.training and not model[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_asked_twice_found_out_once(probe: ProbeSet, tmp_path: Path) -> None:
    made = []

    def make() -> nn.Module:
        made.append(1)
        return tiny()

    first = see(Network("a", 0, make, sha256="w"), probe, ASKED, tmp_path / "val", probe_sha256="p")
    second = see(Network("a", 0, make, sha256="w"), probe, ASKED, tmp_path / "val", probe_sha256="p")
    assert len(made) == 1 and first.key == second.key
    np.testing.assert_array_equal(first.logits, second.logits)
    others = [
        (Network("a", 0, make, sha256="v"), "p", ASKED),
        (Network("a", 0, make, sha256="w"), "q", ASKED),
        (Network("a", 0, make, sha256="w"), "p", Asked(stages=1, kept=np.array([1, 4]))),
        (Network("a", 0, make, sha256="w"), "p", Asked(stages=2, kept=np.array([1, 3]))),
    ]
    keys = {first.key}
    for network, sha, asked in others:
        keys.add(see(network, probe, asked, tmp_path / "val", probe_sha256=sha).key)
    assert len(keys) == 5 and len(made) == 5


def test_a_stopped_visit_leaves_nothing(probe: ProbeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = store.class_maps, []

    def dies(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "class_maps", dies)
    with pytest.raises(KeyboardInterrupt):
        see(Network("a", 0, tiny), probe, ASKED, tmp_path / "val", probe_sha256="p", batch=2)
    assert not (tmp_path / "val").exists()
    monkeypatch.setattr(store, "class_maps", real)
    assert len(see(Network("a", 0, tiny), probe, ASKED, tmp_path / "val", probe_sha256="p", batch=2).logits) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_layers_by_name(probe: ProbeSet, tmp_path: Path) -> None:
    """A named layer need not be the last of its resolution; one that is not there is told with the others."""
    seen = see(Network("a", 0, tiny), probe, Asked(names=("3",)), tmp_path / "val", probe_sha256="p")
    assert seen.names == ("3",) and seen.pooled["3"].min() < 0  # before the ReLU that would overwrite it
    with pytest.raises(ConfigError, match="no layer 'layer4'"):
        see(Network("a", 0, tiny), probe, Asked(names=("layer4",)), tmp_path / "other", probe_sha256="p")


def test_a_misspelt_layer_is_answered_with_the_nearest_one_and_one_without_places_with_those_that_have_some(
    probe: ProbeSet, tmp_path: Path
) -> None:
    def spelt() -> nn.Module:
        parts = dict(zip(("stage1", "bn", "relu", "stage2", "relu2", "pool", "flat", "head"), tiny(), strict=True))
        return nn.Sequential(OrderedDict(parts))

    def answer(name: str) -> Problem:
        with pytest.raises(ConfigError) as refused:
            see(Network("a", 0, spelt), probe, Asked(names=(name,)), tmp_path / name, probe_sha256="p")
        return refused.value.problems[0]

    misspelt, flat = answer("rellu"), answer("head")
    assert "has no module of this name" in misspelt.why
    assert misspelt.remedy.startswith("did you mean 'relu'? name one of ")
    assert "keeps no places apart" in flat.why and "did you mean" not in flat.remedy


def test_a_network_without_places_has_scores_and_features(probe: ProbeSet, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 7), nn.Tanh(), nn.Linear(7, 2))
    seen = see(Network("a", 0, lambda: flat), probe, ASKED, tmp_path / "val", probe_sha256="p")
    assert seen.layers == () and not seen.maps and seen.features.shape == (5, 7) and seen.logits.shape == (5, 2)


def test_hashes_tell_what_differs(probe: ProbeSet) -> None:
    assert hash_of(tiny(0)) == hash_of(tiny(0)) != hash_of(tiny(1))
    brighter = ProbeSet(probe.images + np.float32(0.1), probe.labels, probe.patients, probe.classes)  # type: ignore[operator]
    assert hash_of_probe(probe) != hash_of_probe(brighter) and hash_of_labels(probe) == hash_of_labels(brighter)
    other = ProbeSet(probe.images, probe.labels, np.array(list("abbcd")), probe.classes)
    assert hash_of_labels(probe) != hash_of_labels(other)
