"""The map of one class an image: the row of the maps of all classes, from one gradient and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from looked_into import Small, TwoOutputs, Weighed
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.explain.layers import spatial_layers
from raresight.explain.saliency import class_maps, label_maps
from raresight.explain.split_head import Split, split
from raresight.models.backbones import build


def of_timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=4)


def monai_resnet() -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=4)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet10t": (of_timm("resnet10t"), (3, 3, 64, 64)),
    "densenet121": (of_timm("densenet121"), (3, 3, 64, 64)),
    "convnext_atto": (of_timm("convnext_atto"), (3, 3, 64, 64)),
    "monai resnet10, 3D": (monai_resnet, (3, 1, 24, 24, 16)),
    "small, 1D": (lambda: Small(4, spatial=1), (3, 1, 16)),
}
LABELS = [2, 0, 1]


def same_rows(model: nn.Module, x: Tensor, labels: Any, layers: list[str], methods: tuple[str, ...]) -> None:
    found = label_maps(model, x, labels, layers, methods)
    said = class_maps(model, x, layers, methods).maps
    assert list(found) == list(said)
    for key, maps in said.items():
        rows = maps[torch.arange(len(x)), torch.as_tensor(labels)]
        assert found[key].shape == rows.shape and not found[key].requires_grad
        assert (found[key] - rows).abs().max() <= 1e-6 * max(1.0, rows.max().item())


@pytest.mark.parametrize("name", NETWORKS)
def test_each_map_is_the_row_of_its_class(name: str) -> None:
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, x = make().eval(), torch.rand(shape)
    layers = [layer.name for layer in spatial_layers(model, x)][-2:]
    same_rows(model, x, LABELS, layers, ("grad_cam", "hires_cam", "cam", "random"))


def test_a_layer_that_cannot_be_cut_has_captums_rows() -> None:
    pytest.importorskip("captum")
    same_rows(TwoOutputs(), torch.rand(3, 1, 12, 12), LABELS, ["stem", "block"], ("grad_cam", "hires_cam", "random"))


@pytest.mark.parametrize("labels", [(2, 0, 1), np.array([2, 0, 1], dtype=np.int32), torch.tensor([2, 0, 1])])
def test_labels_of_any_kind(labels: Any) -> None:
    model, x = Small(), torch.rand(3, 1, 16, 16)
    for key, expected in label_maps(model, x, LABELS, ["relu"]).items():
        assert torch.equal(label_maps(model, x, labels, ["relu"])[key], expected)
    same_rows(Small(1, flat=True), x, [0, 0, 0], ["relu"], ("grad_cam",))


def test_one_pass_and_one_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Small(14), torch.rand(5, 1, 16, 16)
    label_maps(model, x, range(5), ["relu"])  # and the proof
    passes: list[int] = []
    model.first.register_forward_hook(lambda module, args, output: passes.append(len(output)))
    asked: list[Any] = []
    gradients = Split.gradients
    monkeypatch.setattr(
        Split,
        "gradients",
        lambda self, label, *, last: asked.append((label, last)) or gradients(self, label, last=last),
    )
    label_maps(model, x, range(5), ["relu"], ("grad_cam", "hires_cam"))
    ((label, last),) = asked
    assert label.tolist() == [0, 1, 2, 3, 4] and last and passes == [5]


def test_a_gradient_of_one_class_an_image_worked_by_hand() -> None:
    """Of z_k = sum of V_k a, d z_k / d a = V_k, for either image its own."""
    weight = torch.tensor([[[[1.0, 3.0]]], [[[-1.0, 4.0]]]])
    cut = split(Weighed(weight), torch.rand(2, 1, 1, 2), ["layer"])
    assert torch.equal(cut.gradients(torch.tensor([1, 0]), last=True)["layer"], weight[[1, 0]])


def test_a_network_in_training_is_left_as_it_was() -> None:
    model = build("resnet10t", Task("independent", ("a", "b", "c")), channels=1, pretrained=False, rng_seed=0)
    model.train()
    model.backbone.layer2.eval()
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    free = [p.requires_grad for p in model.parameters()]
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.rand(3, 1, 64, 64)
    layer = spatial_layers(model, x)[-1].name
    found = label_maps(model, x, LABELS, [layer], ("hires_cam",))[layer, "hires_cam"]
    again = label_maps(model, x[:1], LABELS[:1], [layer], ("hires_cam",))[layer, "hires_cam"]
    torch.testing.assert_close(again, found[:1], rtol=1e-5, atol=1e-6)  # statistics of the batch would tell
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == free
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 3], [0, -1, 1], [[0], [1], [2]]])
def test_labels_that_are_no_classes_of_the_network_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="not one of 3 classes for each of 3 images"):
        label_maps(Small(), torch.rand(3, 1, 16, 16), labels, ["relu"])


def test_what_class_maps_refuses_is_refused() -> None:
    x = torch.rand(3, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"RS-R49(?s:.*)did you mean 'conv'"):
        label_maps(Small(), x, LABELS, ["convv"])
    with pytest.raises(ConfigError, match=r"RS-R49.*not defined at first"):
        label_maps(Small(), x, LABELS, ["first"], ("cam",))
    model = Small()
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(ConfigError, match=r"RS-R49.*not finite"):
        label_maps(model, x, LABELS, ["relu"])
