"""Networks side by side that are not alike: other depths, no places, a kind of map that one does not have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import raresight
from raresight.core.errors import ConfigError
from raresight.explain import settled
from raresight.explain.look import PLACELESS
from raresight.explain.told import gate_table
from tests.unit.explain.test_look import net, probe_of
from tests.unit.explain.test_two_layers import scattered


def stages(*strides: int) -> nn.Module:
    """A resolution for each stride, at the modules "1", "3" and so on, and a linear head behind a mean."""
    torch.manual_seed(len(strides))
    convolutions = [
        module
        for i, stride in enumerate(strides)
        for module in (nn.Conv2d(6 if i else 1, 6, 3, stride=stride, padding=1), nn.ReLU())
    ]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 2))


def without_mean() -> nn.Module:
    """As `net`, but the head is linear in every place: class activation maps are not defined."""
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 2))


def test_arms_of_other_depths_are_told_from_the_deepest_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle layer of three is the last but one; a network of one layer is judged by that, in every table."""
    monkeypatch.setattr(settled, "choose_layer", lambda rows: ("3", {}))
    arms = {"three": [stages(1, 2, 2)], "four": [stages(1, 2, 2, 2)], "one": [stages(4)]}
    look = raresight.look(arms=arms, probe=scattered(), cache=tmp_path / "cache").run(["alignment", "dissect"])
    assert look.measured == ("3", "5")
    assert {one.network.arm: one.layers for one in look.looked} == {
        "three": ("3", "5"), "four": ("5", "7"), "one": ("1", "1")
    }  # fmt: skip
    of_one = look.rows.query("arm == 'one' and method == 'grad_cam'")
    assert of_one[of_one["layer"] == "3"]["mass"].tolist() == of_one[of_one["layer"] == "5"]["mass"].tolist()
    found = look.report(tmp_path / "out")
    units = [row for row in found["tables"]["dissection"] if row["metric"] in ("detectors", "null_detectors")]
    assert {(row["arm"], row["layer"]) for row in units} == {("three", "3"), ("four", "3"), ("one", "3")}
    told = {row["arm"] for row in found["tables"]["verdict"] if row["metric"] == "detectors"}
    assert told == {"three", "four", "one"}
    with np.load(tmp_path / "out/cases.npz") as shown:
        assert shown["maps"].shape[1:] == (3, 8, 8)  # the baseline's grid is the finest of 8, 4 and 4


def test_the_gate_of_an_arm_goes_by_the_baselines_names() -> None:
    """Maps of `deep` at its layers 5 and 7 are put to the gate where the baseline's are at 3 and 5."""

    def said(layer: str, passed: bool) -> dict[str, Any]:
        fact = {"metric": "ssim_top_down", "layer": layer, "method": "grad_cam", "value": 0.5, "n_images": 9}
        return {"grad_cam": {"passed": passed, "reason": f"of {layer}", "facts": [fact]}}

    def one(arm: str, first: str, last: str) -> SimpleNamespace:
        gates = {first: said(first, True), last: said(last, arm == "plain")}
        seen = SimpleNamespace(maps=dict.fromkeys(((first, "grad_cam"), (last, "grad_cam")), np.ones((2, 1, 4, 4))))
        network = SimpleNamespace(arm=arm, seed=0)
        return SimpleNamespace(network=network, layers=(first, last), gates=gates, seen=seen)

    looked = [one("plain", "3", "5"), one("deep", "5", "7")]
    probe = SimpleNamespace(labels=np.ones((2, 1)), patients=np.arange(2))
    look: Any = SimpleNamespace(measured=("3", "5"), layer="3", looked=looked, probe=probe)
    for layer, greyed in (("3", set()), ("5", {"deep"})):
        rows, failed = gate_table(look, "grad_cam", layer)
        assert set(failed) == greyed and {row["layer"] for row in rows} == {layer}
        assert {row["arm"] for row in rows if row["metric"] == "ssim_top_down"} == {"plain", "deep"}


def test_layers_may_be_named_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "choose_layer", lambda rows: ("1", {}))
    named = {"layers": ["3", "1", "3"], "methods": "grad_cam"}
    look = raresight.look(arms={"plain": [net(0)]}, probe=scattered(), cache=tmp_path, **named)
    look.run("alignment")
    assert look.methods == ("grad_cam",)
    assert look.looked[0].seen.names == look.measured == ("1", "3")


def test_a_baseline_without_places_leaves_no_maps_to_compare(tmp_path: Path) -> None:
    arms = {"plain": [flat()], "other": [net(0)]}
    look = raresight.look(arms=arms, probe=scattered(), cache=tmp_path / "cache").run(
        ["alignment", "sanity", "dissect"]
    )
    assert look.measured == () and PLACELESS in look.limits and not any(one.gates for one in look.looked)
    found = look.report(tmp_path / "out", pictures=False)
    assert not found["tables"]["gate"] and not found["tables"]["alignment"] and not look.greyed
    assert {row["verdict"] for row in found["tables"]["verdict"] if row["metric"] == "verdict"} == {"too few to tell"}


@pytest.mark.parametrize(
    ("arms", "more", "words"),
    [
        ({"a": [without_mean()]}, {"methods": ("cam",)}, "cam is not defined at '1' of 'a'"),
        ({"a": [net(0)], "b": [without_mean()]}, {"methods": ("cam", "grad_cam")}, "cam is not defined at '1' of 'b'"),
        ({"a": [net(0)], "b": [net(1), stages(1, 2, 2)]}, {}, "seed 1 of the arm 'b' keeps places at 1, 3, 5"),
        ({"a": [flat(), net(1)]}, {}, "seed 1 of the arm 'a' keeps places at 1, 3, the one before it at no layer"),
        ({"a": [net(0)]}, {"methods": ("random",)}, "there is no 'random'"),
        ({"a": [net(0)]}, {"methods": ("gradcam",)}, "did you mean 'grad_cam'"),
    ],
)
def test_what_cannot_stand_side_by_side_is_said(
    arms: dict[str, list[nn.Module]], more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        raresight.look(arms=arms, probe=probe_of(24), cache=tmp_path, **more).run()
