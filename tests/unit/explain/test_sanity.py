"""The gate: Grad-CAM of a trained network passes, maps that do not come from the weights fail, nothing is disturbed."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from planted import SmallNet, network, plant
from planted import grad_cam as written_out
from torch import Tensor, nn
from torch.nn import functional

from raresight.explain.randomised import depths, randomised
from raresight.explain.sanity import Gate, Step, _between, _step, _verdict, gate


def probe() -> tuple[Tensor, np.ndarray]:
    """16 images of each class."""
    data = plant(100, 5, shortcut=False)
    rows = np.concatenate([np.flatnonzero(data.labels[:, k] == 1)[:16] for k in (0, 1)])
    return torch.from_numpy(data.images[rows]), np.repeat([0, 1], 16)


def edges(_: nn.Module, x: Tensor) -> Tensor:
    """What an edge detector shows for any class and any weights."""
    across = (x[..., :-1, 1:] - x[..., :-1, :-1]).abs() + (x[..., 1:, :-1] - x[..., :-1, :-1]).abs()
    return functional.adaptive_avg_pool2d(across, 8).expand(-1, 2, -1, -1)


def of(found: Gate, order: str, depth: str, measure: str) -> Step:
    (step,) = [s for s in found.steps if (s.order, s.depth, s.measure) == (order, depth, measure)]
    return step


def test_grad_cam_of_a_trained_network_passes_and_leaves_it_alone():
    x, labels = probe()
    net = copy.deepcopy(network(0))
    net.two.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    found = gate(net, x, labels, "three", names=("a",))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))  # the global random state is not used
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.two.training and net.two[1].training and not net.one.training
    assert all(weight.requires_grad for weight in net.parameters())
    assert found.passed and found.reason.startswith("maps follow the weights") and found.n_images == 32
    judged = [(s.order, s.depth) for s in found.steps if s.judged and s.measure == "ssim"]
    assert judged == [("top-down", "three"), ("top-down", "two")]
    shown = [(s.order, s.depth) for s in found.steps if not s.judged and s.measure == "ssim"]
    assert shown == [("top-down", "head"), ("independent", "three"), ("independent", "two")]
    assert [s.draws for s in found.steps if s.judged] == [5] * 4 and math.isnan(
        of(found, "top-down", "head", "ssim").kept_upper
    )
    facts = found.facts()
    assert len(facts) == len(found.steps) + 2 and {f["layer"] for f in facts} == {"three"}
    assert {f["metric"] for f in facts} >= {"spearman_top_down", "ssim_independent", "spearman_between_images"}


def test_draws_are_named():
    x, labels = probe()
    first, again, other = (gate(network(0), x, labels, "three", names=(name,), draws=2) for name in "aab")
    values = [[step.likeness for step in found.steps] for found in (first, again, other)]
    assert values[0] == values[1] != values[2]
    by_hand = gate(network(0), x, labels, "three", maps=written_out, names=("a",), draws=2)
    assert [step.likeness for step in by_hand.steps] == pytest.approx(values[0], abs=1e-4)


def test_an_edge_detector_fails():
    x, labels = probe()
    found = gate(network(0), x, labels, "three", maps=edges)
    assert not found.passed
    assert found.reason == (
        "maps stay much the same when the weights down to 'three' are drawn anew "
        f"(rank correlation 1.00 after, {of(found, 'top-down', 'three', 'spearman').between:.2f} between images)"
    )
    assert all(step.kept == pytest.approx(1) for step in found.steps)


def test_maps_that_follow_the_weights_a_little_fail():
    x, labels = probe()

    def mixed(net: nn.Module, some: Tensor) -> Tensor:
        spoke, seen = written_out(net, some), edges(net, some)
        return spoke / spoke.amax() + 2 * seen / seen.amax()

    found = gate(network(0), x, labels, "three", maps=mixed)
    assert not found.passed and 0.2 < of(found, "top-down", "two", "spearman").kept < 0.95


@pytest.mark.parametrize("how", ["random", "place"])
def test_maps_that_know_nothing_of_the_image_fail(how):
    x, labels = probe()
    if how == "random":
        assert not gate(network(0), x, labels, "three", "random").passed
        return
    middle = functional.pad(torch.ones(1, 1, 4, 4), (2, 2, 2, 2))
    found = gate(network(0), x, labels, "three", maps=lambda net, some: middle.expand(len(some), 2, 8, 8))
    assert not found.passed and of(found, "top-down", "two", "ssim").between == pytest.approx(1)


def test_too_little_to_judge_is_said():
    x, labels = probe()

    def silent(share: float):
        return lambda net, some: edges(net, some) * (torch.arange(len(some)) >= share * len(some)).view(-1, 1, 1, 1)

    assert gate(network(0), x, labels, "three", maps=silent(0.85)).reason == (
        "4 images have a map and another image of their class to compare with; 5 are needed (28 of 32 maps are empty)"
    )
    assert gate(network(0), x[:4], labels[:4], "three", maps=silent(0)).reason == (
        "4 images have a map and another image of their class to compare with; 5 are needed"
    )
    half = gate(network(0), x, labels, "three", maps=silent(0.5))  # empty maps say nothing against the others
    spoke = torch.arange(32) % 16 >= 8
    assert half.n_images == 16 and half.steps == gate(network(0), x[spoke], labels[spoke], "three", maps=edges).steps
    lonely = gate(network(0), x[11:17], labels[11:17], "three", maps=silent(0))  # the last is alone in its class
    assert lonely.n_images == 5 and lonely.steps  # five are enough


def test_the_rule_by_hand():
    step = _step("top-down", "one", "ssim", np.array([0.3, 0.1]), 0.2, True)
    assert (step.likeness, step.kept) == (pytest.approx(0.2), pytest.approx(0.0))
    # standard deviation .1414, standard error .1, t(.95, 1) = 6.3138, room .8
    assert step.kept_upper == pytest.approx(6.3138 * 0.1 / 0.8, abs=1e-4)
    assert not step.passed  # two draws that far apart cannot tell
    even = _step("top-down", "one", "ssim", np.array([0.5, 0.5]), 0.2, True)
    assert even.kept == pytest.approx(0.375) and even.kept_upper == pytest.approx(0.375) and not even.passed
    assert Step("", "", "", 0, 0, 0.2, 0.49, 5, True).passed and not Step("", "", "", 0, 0, 0.2, 0.5, 5, True).passed
    assert not Step("", "", "", 0, 0, 0.21, 0.3, 5, True).passed
    alike = _step("top-down", "one", "ssim", np.array([1.0, 1.0]), 1.0, True)
    assert alike.kept == 1.0 and _step("", "", "", np.array([0.4, 0.4]), 1.0, True).kept == 0.0


def test_the_reason_is_of_the_step_that_kept_most():
    def step(measure: str, likeness: float, kept: float, upper: float, draws: int = 5) -> Step:
        return Step("top-down", "three", measure, likeness, 0.1, kept, upper, draws, draws > 1)

    def said(*steps: Step) -> str:
        (reason,) = {_verdict("three", "cam", 8, list(some)).reason for some in (steps, steps[::-1])}
        return reason

    low, more = step("ssim", 0.12, 0.02, 0.1), step("spearman", 0.25, 0.15, 0.3)
    assert said(low, more).endswith("(rank correlation 0.25 against 0.10 between images)")
    assert said(step("ssim", 0.91, 0.9, 0.95), step("spearman", 0.46, 0.4, 0.45), low).startswith("maps stay much the")
    assert "structural similarity 0.91 after" in said(step("ssim", 0.91, 0.9, 0.95), step("spearman", 0.46, 0.4, 0.45))
    assert said(low, step("ssim", 0.28, 0.2, 0.5)).startswith("5 draws of the weights cannot tell")
    facts = _verdict("three", "cam", 8, [low, step("spearman", 0.25, 0.15, math.nan, draws=1)]).facts()
    assert [fact["reason"] for fact in facts[:2]] == [
        "2% kept beyond another image's map; 5 draws",
        "15% kept beyond another image's map; one draw, shown and not judged",
    ]


def test_likeness_is_between_images_of_one_class():
    maps = np.arange(5.0).reshape(5, 1, 1)

    def like(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b).ravel() / 10

    # class 0: images 0 1 2; class 1: images 3 4; means over the others, in tenths: 0, 2 / 2, 2 / 2, 12, 12
    assert _between(maps, np.array([0, 0, 0, 1, 1]), like) == pytest.approx((0 + 0.1 + 0.1 + 1.2 + 1.2) / 5)


class Backwards(nn.Module):
    """Defined from the output to the input; the order of a pass is the other one. In 3D."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 2)
        self.scale = nn.ParameterList([torch.full((6,), 2.0)])
        self.deep = nn.Sequential(nn.Conv3d(4, 6, 3, 2, padding=1), nn.ReLU())
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, 2, padding=1), nn.BatchNorm3d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.deep(self.stem(x)).mean((2, 3, 4)) * self.scale[0])
        return logits


def test_depths_follow_the_pass():
    x = torch.rand(2, 1, 8, 8, 8)
    for layer in ("deep", "deep.1"):  # which end at the same place
        expected = {"head": ["head"], layer: ["deep.0"], "stem": ["stem.0", "stem.1"]}
        assert list(depths(Backwards(), x, layer).items()) == list(expected.items())
    inner = depths(Backwards(), x, "stem.0")  # a layer inside a stage cuts it in two
    assert list(inner) == ["head", "deep", "stem", "stem.0"] and inner["stem"] == ["stem.1"]


def test_three_dimensions():
    torch.manual_seed(0)
    found = gate(Backwards(), torch.rand(8, 1, 12, 12, 12), [0] * 8, "deep", draws=2)
    assert isinstance(found.passed, bool) and found.reason


def test_randomised_changes_what_is_named_and_nothing_else():
    x, _ = probe()
    net = network(0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    twin, again = (randomised(net, x, ["two.0", "head"], "draw", 1) for _ in range(2))
    now = twin.state_dict()
    changed = {name for name, value in now.items() if not torch.equal(value, before[name])}
    weights = {name for name in changed if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert weights == {"two.0.weight", "two.0.bias", "head.weight", "head.bias"}
    assert not any(name.startswith("one") for name in changed)  # nothing before it changes, its statistics neither
    assert {"two.1.running_mean", "three.1.running_var"} <= changed
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in now.items())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not torch.equal(now["head.weight"], randomised(net, x, ["head"], "draw", 2).state_dict()["head.weight"])
    with torch.no_grad():  # batch norm has taken its statistics from the images, layer by layer
        inner = (twin.two[1](twin.two[0](twin.one(x))) - twin.two[1].bias.view(1, -1, 1, 1)) / twin.two[1].weight.view(
            1, -1, 1, 1
        )
        deep = twin.three[0](twin.two(twin.one(x)))
    assert inner.mean((0, 2, 3)).abs().max() < 1e-3 and (inner.var((0, 2, 3)) - 1).abs().max() < 2e-2
    assert (twin.three[1].running_mean - deep.mean((0, 2, 3))).abs().max() < 1e-3
    assert not any(module.training for module in twin.modules())


class Scaled(nn.Module):
    """Weights of its own, and no way to draw them."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([1.0, 3.0] * 500))
        self.one = nn.Parameter(torch.tensor([5.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain[0] * self.one


def test_weights_without_a_way_to_draw_them():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Scaled(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    twin = randomised(net, torch.rand(2, 1, 6, 6), ["1"], 0)
    gain = twin[1].gain.detach()
    assert float(gain.mean()) == pytest.approx(2, abs=0.15) and float(gain.std()) == pytest.approx(1, abs=0.1)
    assert float(twin[1].one.detach()) != 5.0 and torch.equal(net[1].gain, torch.tensor([1.0, 3.0] * 500))


def test_a_compiled_backbone_is_not_copied():
    class Tied(SmallNet):
        def __init__(self) -> None:
            super().__init__()
            self.compiled = lambda x: 1 / 0

        def __deepcopy__(self, memo: dict) -> nn.Module:
            assert memo[id(self.compiled)] is None
            return nn.Module.__reduce_ex__(self, 4) and SmallNet()

    assert isinstance(randomised(Tied(), torch.rand(2, 1, 32, 32), [], 0), SmallNet)
