"""Maps of all classes from one pass: worked by hand, equal to Captum's, each of its own class, and without a trace."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import timm
import torch
from looked_into import Small, Twice, TwoOutputs, Weighed
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.explain import saliency
from raresight.explain.layers import spatial_layers
from raresight.explain.saliency import class_maps, random_maps
from raresight.explain.split_head import split
from raresight.models.backbones import build

# Two classes, two channels, a grid of 1 x 2; the layer doubles the image: a = 2 x.
V = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]], [[[-1.0, -1.0]], [[4.0, -2.0]]]])
X = torch.tensor([[[[0.5, 0.25]], [[1.0, 0.5]]]])  # so a_1 = (1, 0.5), a_2 = (2, 1)
# Mean gradients: class 1 (2, -1), class 2 (-1, 1).
# Grad-CAM: class 1 (2 * 1 - 2, 2 * .5 - 1) = (0, 0); class 2 (-1 + 2, -.5 + 1) = (1, .5).
# HiResCAM: class 1 (1 * 1 - 2 * 2, 3 * .5 + 0) = (-3, 1.5); class 2 (-1 + 8, -.5 - 2) = (7, -2.5).
GRAD_CAM = torch.tensor([[[[0.0, 0.0]], [[1.0, 0.5]]]])
HIRES_CAM = torch.tensor([[[[0.0, 1.5]], [[7.0, 0.0]]]])


def test_maps_worked_by_hand() -> None:
    said = class_maps(Weighed(V, torch.tensor([0.5, -1.0])), X, ["layer"])
    assert torch.equal(said.activations["layer"], 2 * X)
    assert torch.equal(said.maps["layer", "grad_cam"], GRAD_CAM)
    assert torch.equal(said.maps["layer", "hires_cam"], HIRES_CAM)
    # z_1 = 1 + 1.5 - 4 + 0 + .5, z_2 = -1 - .5 + 8 - 2 - 1
    assert torch.equal(said.logits, torch.tensor([[-1.0, 3.5]]))
    assert set(said.maps) == {("layer", "grad_cam"), ("layer", "hires_cam")}
    assert not any(t.requires_grad for t in (said.logits, *said.maps.values(), *said.activations.values()))


def test_maps_scale_with_the_logit() -> None:
    """They are raw: an arm whose logits are ten times as large has maps ten times as large."""
    said = class_maps(Weighed(10 * V), X, ["layer"])
    assert torch.equal(said.maps["layer", "hires_cam"], 10 * HIRES_CAM)


def test_a_logit_that_is_turned_turns_its_own_map_alone() -> None:
    turned = V.clone()
    turned[0] *= -1
    said = class_maps(Weighed(turned), X, ["layer"])
    assert torch.equal(said.maps["layer", "hires_cam"], torch.tensor([[[[3.0, 0.0]], [[7.0, 0.0]]]]))
    assert torch.equal(said.maps["layer", "grad_cam"], GRAD_CAM)  # class 1's is 0 both ways


def test_every_class_is_explained_by_its_own_logit() -> None:
    """No argmax: class k's map of the whole network is the only map of a network with class k alone."""
    model, x = Small(4), torch.rand(3, 1, 16, 16)
    said = class_maps(model, x, ["first", "relu"])
    for k in range(4):
        alone = Small(4)
        with torch.no_grad():
            fc = nn.Linear(6, 1)
            fc.weight.copy_(alone.fc.weight[k : k + 1])
            fc.bias.copy_(alone.fc.bias[k : k + 1])
        alone.fc = fc
        one = class_maps(alone, x, ["first", "relu"])
        for key, found in one.maps.items():
            torch.testing.assert_close(said.maps[key][:, k : k + 1], found, rtol=1e-5, atol=1e-6)
    ways = {said.maps["relu", "grad_cam"][0, k].flatten().argmax().item() for k in range(4)}
    assert len(ways) > 1


def monai_resnet() -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=4)


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=4), (2, 3, 64, 64)),
    "densenet121": (lambda: timm.create_model("densenet121", num_classes=4), (2, 3, 64, 64)),
    "convnext_atto": (lambda: timm.create_model("convnext_atto", num_classes=4), (2, 3, 64, 64)),
    "monai resnet18, 3D": (monai_resnet, (2, 1, 32, 32, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_equal_captums(name: str) -> None:
    attr = pytest.importorskip("captum.attr")
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, x = make().eval(), torch.rand(shape)
    layers = [layer.name for layer in spatial_layers(model, x)][-2:]
    said = class_maps(model, x, layers)
    modules = dict(model.named_modules())
    for layer in layers:
        for method, kind in (("grad_cam", attr.LayerGradCam), ("hires_cam", attr.LayerGradientXActivation)):
            peer = kind(model, modules[layer])
            raw = torch.cat([peer.attribute(x, k).detach().sum(1, keepdim=True) for k in range(4)], 1)
            assert raw.min() < 0 < raw.max()  # Captum keeps both signs; ours are the positive part
            found = said.maps[layer, method]
            assert (found - raw.relu()).abs().max() <= 1e-5 * raw.relu().max()
    with torch.no_grad():
        torch.testing.assert_close(said.logits, model(x), rtol=1e-5, atol=1e-5)


def test_what_is_overwritten_in_place_is_kept_as_it_was() -> None:
    """Pitfall 1: `norm` gives negative values, which the ReLU in place behind it would make 0."""
    model, x = Small(), torch.rand(2, 1, 16, 16)
    said = class_maps(model, x, ["norm"])
    model.eval()
    a = model.norm(model.conv(model.first(x))).detach()
    assert a.min() < 0 and torch.equal(said.activations["norm"], a)
    weight = model.fc.weight.detach()
    gradient = weight[None, :, :, None, None] * (a > 0).float()[:, None] / 16  # of mean(relu(a)) over 4 x 4 cells
    expected = (gradient.mean((3, 4))[..., None, None] * a[:, None]).sum(2).relu()
    torch.testing.assert_close(said.maps["norm", "grad_cam"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(said.maps["norm", "hires_cam"], (gradient * a[:, None]).sum(2).relu())


def test_cam_where_the_head_is_linear() -> None:
    model, x = Small(), torch.rand(2, 1, 16, 16)
    said = class_maps(model, x, ["first", "relu"], ("cam", "grad_cam", "hires_cam"))
    assert ("first", "cam") not in said.maps
    a = said.activations["relu"]
    expected = torch.einsum("kc,bcij->bkij", model.fc.weight.detach(), a).relu()
    torch.testing.assert_close(said.maps["relu", "cam"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(said.maps["relu", "hires_cam"], expected / 16, rtol=1e-5, atol=1e-6)


def test_cam_alone_where_it_is_not_defined_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"RS-R49.*not defined at first"):
        class_maps(Small(), torch.rand(2, 1, 16, 16), ["first"], ("cam",))


@pytest.mark.parametrize("order", [["first", "conv", "relu"], ["relu", "first", "conv"]])
def test_several_layers_at_once_are_each_as_alone(order: list[str]) -> None:
    model, x = Small(), torch.rand(2, 1, 16, 16)
    said = class_maps(model, x, order)
    assert list(said.activations) == order
    for layer in order:
        alone = class_maps(model, x, [layer])
        for method in ("grad_cam", "hires_cam"):
            torch.testing.assert_close(said.maps[layer, method], alone.maps[layer, method])


def test_an_image_alone_is_as_in_its_batch() -> None:
    model, x = Small(), torch.rand(5, 1, 16, 16)
    together = class_maps(model, x, ["relu", "first"])
    for i in range(5):
        alone = class_maps(model, x[i : i + 1], ["relu", "first"])
        for key, found in alone.maps.items():
            torch.testing.assert_close(together.maps[key][i : i + 1], found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_axes_of_any_number(spatial: int) -> None:
    model, x = Small(spatial=spatial), torch.rand(2, 1, *[8] * spatial)
    said = class_maps(model, x, ["relu"], ("grad_cam", "cam", "random"))
    assert said.maps["relu", "cam"].shape == (2, 3, *[2] * spatial)
    torch.testing.assert_close(said.maps["relu", "cam"], 2**spatial * said.maps["relu", "grad_cam"])


def test_one_output_an_image() -> None:
    column, flat = Small(1), Small(1, flat=True)
    x = torch.rand(1, 1, 16, 16)
    for model in (column, flat):
        said = class_maps(model, x, ["relu"])
        assert said.logits.shape == (1, 1) and said.maps["relu", "grad_cam"].shape == (1, 1, 4, 4)
    assert torch.equal(class_maps(column, x, ["relu"]).maps["relu", "grad_cam"], said.maps["relu", "grad_cam"])


def test_maps_without_evidence_stay_zero() -> None:
    model = Small()
    with torch.no_grad():
        model.fc.weight.zero_()
    said = class_maps(model, torch.rand(2, 1, 16, 16), ["relu", "first"], ("grad_cam", "hires_cam", "cam"))
    assert all(torch.equal(found, torch.zeros_like(found)) for found in said.maps.values())
    assert set(said.maps) == {(layer, method) for layer in ("relu", "first") for method in ("grad_cam", "hires_cam")}


def test_a_class_whose_weights_collapsed_has_zero_maps_beside_others_that_have_not() -> None:
    model = Small()
    with torch.no_grad():
        model.fc.weight[1].zero_()
    said = class_maps(model, torch.rand(2, 1, 16, 16), ["relu"], ("grad_cam", "hires_cam", "cam"))
    assert len(said.maps) == 3
    for found in said.maps.values():
        assert found[:, 1].abs().max() == 0 and found[:, [0, 2]].max() > 0


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_a_network_in_training_is_left_as_it_was(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet10t+se", Task("independent", ("a", "b", "c")), channels=1, pretrained=False, rng_seed=0)
    model.train()
    model.backbone.layer2.eval()
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    free = [p.requires_grad for p in model.parameters()]
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.rand(2, 1, 64, 64)
    layer = spatial_layers(model, x)[-1].name
    if fails:
        monkeypatch.setitem(saliency.FORMULAS, "hires_cam", lambda g, a: a.view(-1, 7))  # not a shape that a has
        with pytest.raises(RuntimeError):
            class_maps(model, x, [layer])
    else:
        said = class_maps(model, x, [layer], ("grad_cam", "cam"))
        again = class_maps(model, x, [layer], ("grad_cam", "cam"))
        assert torch.equal(said.logits, again.logits)
        with torch.no_grad():
            a = model.eval().backbone.forward_features(model.normalise(x))
            expected = torch.einsum("kc,bcij->bkij", model.head.weight, a).relu()
        torch.testing.assert_close(said.activations[layer], a, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(said.maps[layer, "cam"], expected, rtol=1e-3, atol=1e-4)
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        class_maps(model, x, [layer])
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == free
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and hooks(model) == 0


def test_the_body_runs_once_and_the_proof_once_a_network() -> None:
    model, x = Small(14), torch.rand(5, 1, 16, 16)
    passes: list[int] = []
    model.first.register_forward_hook(lambda module, args, output: passes.append(len(output)))
    class_maps(model, x, ["relu"], ("grad_cam", "hires_cam"))
    assert passes == [2, 2, 5]
    class_maps(model, x, ["relu"], ("grad_cam", "hires_cam"))
    assert passes == [2, 2, 5, 5]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_setting_does_not_matter(mode: Any) -> None:
    expected = class_maps(Small(), torch.full((2, 1, 16, 16), 0.5), ["first"])
    model = Small()
    with mode():
        said = class_maps(model, torch.full((2, 1, 16, 16), 0.5), ["first"])
    for key, found in expected.maps.items():
        assert torch.equal(said.maps[key], found)
    assert torch.equal(said.logits, expected.logits)


def by_hand(model: nn.Module, a: Tensor, tail: Any, n_classes: int) -> tuple[Tensor, Tensor]:
    """Grad-CAM and HiResCAM from the tail as written here."""
    a = a.detach().requires_grad_()
    grads = [torch.autograd.grad(tail(a)[:, k].sum(), a)[0] for k in range(n_classes)]
    grad_cam = torch.stack([(g.mean((2, 3), keepdim=True) * a.detach()).sum(1).relu() for g in grads], 1)
    return grad_cam, torch.stack([(g * a.detach()).sum(1).relu() for g in grads], 1)


def test_a_layer_that_gives_a_pair_falls_back_to_captum() -> None:
    pytest.importorskip("captum")
    model, x = TwoOutputs(), torch.rand(2, 1, 12, 12)
    said = class_maps(model, x, ["stem", "block"], ("grad_cam", "hires_cam", "random"))
    a = model.block.conv(model.stem(x))
    expected = by_hand(model, a, lambda a: model.fc(a.relu().mean((2, 3))), 3)
    torch.testing.assert_close(said.maps["block", "grad_cam"], expected[0])
    torch.testing.assert_close(said.maps["block", "hires_cam"], expected[1])
    torch.testing.assert_close(said.activations["block"], a.detach())
    assert torch.equal(said.logits, model(x).detach()) and ("block", "random") in said.maps
    torch.testing.assert_close(said.maps["stem", "grad_cam"], class_maps(model, x, ["stem"]).maps["stem", "grad_cam"])
    alone = class_maps(model, x, ["block"])
    torch.testing.assert_close(alone.maps["block", "grad_cam"], expected[0])
    torch.testing.assert_close(alone.logits, model(x).detach())


def test_of_a_layer_that_is_called_twice_captum_takes_the_last_call() -> None:
    pytest.importorskip("captum")
    model, x = Twice(), torch.rand(2, 1, 12, 12)
    said = class_maps(model, x, ["shared"])
    a = model.shared(model.shared(model.stem(x)).relu())
    expected = by_hand(model, a, lambda a: model.fc(a.relu().mean((2, 3))), 3)
    torch.testing.assert_close(said.maps["shared", "grad_cam"], expected[0])
    torch.testing.assert_close(said.maps["shared", "hires_cam"], expected[1])


@pytest.mark.parametrize(("model", "layer"), [(TwoOutputs(), "block"), (Twice(), "shared")])
def test_without_captum_the_extra_is_named(model: nn.Module, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"RS-X01.*cannot be cut(?s:.*)raresight\[explain\]"):
        class_maps(model, torch.rand(2, 1, 12, 12), [layer])
    assert class_maps(model, torch.rand(2, 1, 12, 12), ["stem"]).maps  # what can be cut needs no Captum
    assert hooks(model) == 0 and model.training


def test_a_layer_that_nobody_can_follow_is_refused() -> None:
    pytest.importorskip("captum")

    class Blind(Small):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    model = Blind()
    with pytest.raises(ConfigError, match=r"RS-R49.*nor Captum's finds a gradient"):
        class_maps(model, torch.rand(2, 1, 16, 16), ["relu"])
    assert hooks(model) == 0 and model.training


def test_a_layer_that_the_logits_do_not_use_is_refused_and_not_drawn_as_zero() -> None:
    pytest.importorskip("captum")

    class Aside(Small):
        def forward(self, x: Tensor) -> Tensor:
            self.norm(self.conv(self.first(x)))
            return self.fc(x.mean((2, 3)).expand(-1, 6))

    with pytest.raises(ConfigError, match=r"RS-R49.*'norm' of Aside"):
        class_maps(Aside(), torch.rand(2, 1, 16, 16), ["norm"])


def test_unknown_layers_and_methods_are_refused() -> None:
    x = torch.rand(2, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"RS-R49(?s:.*)did you mean 'conv'"):
        class_maps(Small(), x, ["convv"])
    with pytest.raises(ConfigError, match=r"RS-R49(?s:.*)did you mean 'grad_cam'"):
        class_maps(Small(), x, ["conv"], ("gradcam",))


def test_logits_that_are_not_finite_are_refused() -> None:
    model = Small()
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(ConfigError, match=r"RS-R49.*not finite"):
        class_maps(model, torch.rand(2, 1, 16, 16), ["relu"])


def test_random_maps_are_of_the_case_and_of_no_network() -> None:
    x, names = torch.rand(3, 1, 16, 16), ["p1", "p2", "p3"]
    a = class_maps(Small(seed=0), x, ["relu", "first"], ("random",), cases=names)
    b = class_maps(Small(seed=1), x[:2].flip(0), ["relu"], ("random",), cases=["p2", "p1"])
    assert torch.equal(a.maps["relu", "random"][:2].flip(0), b.maps["relu", "random"])
    found = a.maps["relu", "random"]
    assert found.shape == (3, 3, 4, 4) and found.min() == 0 and not torch.equal(found[0], found[1])
    assert not torch.equal(found[0, 0], found[0, 1])
    assert a.maps["first", "random"].shape == (3, 3, 8, 8)
    unnamed = class_maps(Small(), x, ["relu"], ("random",))
    assert torch.equal(unnamed.maps["relu", "random"], random_maps(range(3), 3, (4, 4), "relu"))


def test_random_maps_have_half_their_noise_and_neighbours_alike() -> None:
    """Noise by (1, 2, 1)/4 twice: variance (6/16)^2 within, so a mean of sd / sqrt(2 pi), and correlation 2/3."""
    maps = random_maps(range(40), 20, (16, 16), "layer")
    inner = maps[..., 2:-2, 2:-2]
    assert inner.mean().item() == pytest.approx(0.375 / (2 * torch.pi) ** 0.5, rel=0.03)
    assert (inner == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_smoothing_worked_by_hand() -> None:
    point = torch.zeros(1, 1, 3, 4)
    point[0, 0, 1, 0] = 16.0  # on the edge of the second axis, which repeats it
    expected = torch.tensor([[3.0, 1.0, 0.0, 0.0], [6.0, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    assert torch.equal(saliency._smooth(point)[0, 0], expected)


def test_a_gradient_is_zero_where_the_logit_does_not_use_the_layer() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.left(x).sum((1, 2, 3)), self.right(x).sum((1, 2, 3))], 1)

    model = Branches()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    said = class_maps(model, torch.ones(1, 1, 2, 2), ["left", "right"])
    # a = 2 in both channels, gradients 1 or 0
    assert said.maps["left", "hires_cam"].amax((2, 3)).tolist() == [[4.0, 0.0]]
    assert said.maps["right", "hires_cam"].amax((2, 3)).tolist() == [[0.0, 4.0]]


def test_gradients_of_a_pass_worked_by_hand() -> None:
    model = Weighed(V)
    cut = split(model, X, ["layer"])
    assert torch.equal(cut.gradients(1, last=False)["layer"][0], V[1])
    assert torch.equal(cut.gradients(0, last=True)["layer"][0], V[0])
    with pytest.raises(RuntimeError):  # the graph is gone
        cut.gradients(0, last=True)
