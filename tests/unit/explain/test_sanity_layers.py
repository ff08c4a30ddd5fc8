"""Several layers and kinds of map at the gate: each as alone, from copies that are drawn once and let go."""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from planted import network, plant
from test_sanity import Backwards, probe
from torch import nn

from raresight.explain import sanity, tried
from raresight.explain.probe import ProbeSet
from raresight.explain.randomised import depths, randomised
from raresight.explain.saliency import class_maps
from raresight.explain.sanity import _between, _plan, gate, gates

METHODS = ("grad_cam", "hires_cam")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each part was drawn; that no copy is kept when the next is made."""
    times: Counter[tuple[str, str]] = Counter()
    alive: list[weakref.ref[nn.Module]] = []

    def counted(model: nn.Module, x: torch.Tensor, modules: list[str], *names: Any) -> nn.Module:
        assert all(twin() is None for twin in alive)
        times[names[-3], names[-2]] += 1
        twin = randomised(model, x, modules, *names)
        alive.append(weakref.ref(twin))
        return twin

    monkeypatch.setattr(sanity, "randomised", counted)
    return times


def test_each_layer_and_kind_is_as_alone(drawn: Counter[tuple[str, str]]) -> None:
    x, labels = probe()
    net = network(0)
    alone = {(layer, kind): gate(net, x, labels, layer, kind, names=("a",)) for layer in ("two", "three")
             for kind in METHODS}  # fmt: skip
    drawn.clear()
    together = gates(net, x, labels, ["two", "three"], METHODS, names=("a",))
    assert drawn == {
        ("top-down", "head"): 1,
        ("top-down", "three"): 5,
        ("independent", "three"): 1,
        ("top-down", "two"): 5,
        ("independent", "two"): 1,
    }
    assert list(together) == list(alone)
    for key, one in alone.items():
        both = together[key]
        assert (both.passed, both.reason, both.n_images) == (one.passed, one.reason, one.n_images)
        for step, expected in zip(both.steps, one.steps, strict=True):
            for name, value in vars(expected).items():
                assert getattr(step, name) == (pytest.approx(value, abs=1e-6, nan_ok=True) if name in (
                    "likeness", "between", "kept", "kept_upper") else value)  # fmt: skip
        for fact, expected_fact in zip(both.facts(), one.facts(), strict=True):
            assert fact == expected_fact | {"value": pytest.approx(expected_fact["value"], abs=1e-6)}
    draws = {(s.depth, s.judged): s.draws for s in together["two", "grad_cam"].steps if s.order == "top-down"}
    assert draws == {("head", False): 1, ("three", False): 1, ("two", True): 5}
    draws = {(s.depth, s.judged): s.draws for s in together["three", "grad_cam"].steps if s.order == "top-down"}
    assert draws == {("head", False): 1, ("three", True): 5, ("two", True): 5}


def test_the_map_of_each_images_own_class_is_judged() -> None:
    """Over the border of a block of images, with classes in no order."""
    x, labels = probe()
    rows = np.random.default_rng(0).permutation(len(x))
    found = gates(network(0), x[rows], labels[rows], ["two"], METHODS, draws=1)
    for method in METHODS:
        maps = class_maps(network(0), x[rows], ["two"], [method]).maps["two", method].numpy()
        own = maps[np.arange(len(rows)), labels[rows]]
        steps = {step.measure: step.between for step in found["two", method].steps}
        for name, like in sanity.LIKENESS.items():
            spoke = own.any(axis=(1, 2))
            assert steps[name] == pytest.approx(_between(own[spoke], labels[rows][spoke], like), abs=1e-5)


def test_a_layer_without_maps_is_said_and_costs_no_draws(drawn: Counter[tuple[str, str]]) -> None:
    x, labels = probe()
    net = network(0)
    few = gates(net, x[:4], labels[:4], ["two", "three"], METHODS)
    assert [found.steps for found in few.values()] == [()] * 4 and not drawn
    assert all("5 are needed" in found.reason and not found.passed for found in few.values())


def test_cam_is_left_out_where_it_is_not_defined() -> None:
    x, labels = probe()
    found = gates(network(0), x, labels, ["two", "three"], ("cam", "grad_cam"), draws=1)
    assert set(found) == {("two", "grad_cam"), ("three", "grad_cam"), ("three", "cam")}
    # cells times Grad-CAM: as like
    values = [[step.likeness for step in found["three", kind].steps] for kind in ("cam", "grad_cam")]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_a_copy_needs_no_proof_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from raresight.explain import saliency

    x, labels = probe()
    net = copy.deepcopy(network(0))
    proofs: list[str] = []
    proof = saliency.can_replay
    monkeypatch.setattr(
        saliency, "can_replay", lambda model, some, layer: proofs.append(layer) or proof(model, some, layer)
    )
    gates(net, x, labels, ["two", "three"], METHODS, draws=1)
    assert proofs == ["two", "three"]


def planned(order: dict[str, list[str]], *layers: str) -> list[tuple[str, str, str, str]]:
    return [(d.order, d.depth, "".join(d.modules), "".join(sorted(d.judged))) for d in _plan(order, layers)]


def test_what_is_drawn_for_whom() -> None:
    order = {"head": ["h"], "C": ["c"], "B": ["b"], "A": ["a", "s"]}
    assert planned(order, "B", "C") == [
        ("top-down", "head", "h", ""),
        ("top-down", "C", "hc", "C"),
        ("independent", "C", "c", ""),
        ("top-down", "B", "hcb", "B"),
        ("independent", "B", "b", ""),
        ("top-down", "A", "hcbas", "BC"),
        ("independent", "A", "as", ""),
    ]
    between = {"head": ["h"], "C": ["c"], "B": []}  # nothing is drawn between C and B, nor below B
    assert planned(between, "B") == [
        ("top-down", "head", "h", ""),
        ("top-down", "C", "hc", "B"),
        ("independent", "C", "c", ""),
    ]


def test_depths_of_several_layers() -> None:
    x = torch.rand(2, 1, 8, 8, 8)
    cut = depths(Backwards(), x, "stem.0", "deep")
    assert list(cut.items()) == [("head", ["head"]), ("deep", ["deep.0"]), ("stem", ["stem.1"]), ("stem.0", ["stem.0"])]
    alike = depths(Backwards(), x, "deep", "deep.1", "deep.0")  # which all end behind the same weights
    assert list(alike.items())[:4] == [("head", ["head"]), ("deep", ["deep.0"]), ("deep.1", []), ("deep.0", [])]
    before = nn.Sequential(nn.Identity(), nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert depths(before, torch.rand(2, 1, 8, 8), "0") == {"1": ["1"], "0": []}


def test_layers_behind_the_same_weights_are_judged_by_the_same_copies() -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 1, 12, 12, 12)
    found = gates(Backwards(), x, [0] * 8, ["deep.1", "deep"], ("grad_cam",), draws=2)
    inner, outer = found["deep.1", "grad_cam"], found["deep", "grad_cam"]
    assert inner.steps == outer.steps and inner.steps
    assert {(s.order, s.depth) for s in inner.steps if s.judged} == {("top-down", "deep"), ("top-down", "stem")}


def test_gates_are_kept_by_layers_and_kinds(tmp_path: Path) -> None:
    data = plant(60, 5, shortcut=False)
    some = ProbeSet(data.images, data.labels, np.arange(60), ("disc", "bar"))
    maps = np.ones((60, 2, 8, 8), dtype=np.float32)
    maps[::3] = 0  # a third of the images says nothing: the others are judged
    seen: Any = SimpleNamespace(key="one network", maps=dict.fromkeys([("three", "grad_cam")], maps))
    loaded: list[nn.Module] = []

    def model() -> nn.Module:
        loaded.append(network(0))
        return loaded[-1]

    first = tried.gates(seen, some, ["three", "two", "three"], METHODS, model, tmp_path)
    assert set(first) == {"three", "two"} and all(set(kinds) == set(METHODS) for kinds in first.values())
    assert tried.gates(seen, some, ["three", "two"], METHODS, model, tmp_path) == first and len(loaded) == 1
    rows, labels = tried.judged(some, tried.GATE_IMAGES, "gate", among=maps.any(axis=(2, 3)))
    assert len(rows) > 10 and (rows % 3 > 0).all()
    by_hand = gate(network(0), torch.from_numpy(data.images[rows]), labels, "two", "hires_cam", names=("explain",))
    said = first["two"]["hires_cam"]
    assert (said["passed"], said["reason"]) == (by_hand.passed, by_hand.reason)
    assert [fact["value"] for fact in said["facts"]] == pytest.approx([f["value"] for f in by_hand.facts()], abs=1e-6)
    alone = tried.gates(seen, some, ["three"], METHODS, model, tmp_path)
    assert set(alone) == {"three"} and len(loaded) == 2
    assert {kind: (one["passed"], one["reason"]) for kind, one in alone["three"].items()} == {
        kind: (one["passed"], one["reason"]) for kind, one in first["three"].items()
    }
    assert set(tried.gates(seen, some, ["three"], METHODS[:1], model, tmp_path)["three"]) == {"grad_cam"}
    silent: Any = SimpleNamespace(key="another", maps={("three", "grad_cam"): 0 * maps})  # all are asked, and say so
    assert not set(tried.gates(silent, some, ["three"], METHODS[:1], model, tmp_path)) - {"three"}
    assert len(loaded) == 4
