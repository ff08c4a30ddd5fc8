"""Captum's attributions: against what linear networks must give, and refused by name where Captum is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from looked_into import Small, Weighed
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.explain.attribution import integrated_gradients, maps_by_captum, occlusion
from raresight.explain.layers import logits_of, undisturbed

captum = pytest.importorskip("captum")

# The layer doubles the image, so a pixel's share of logit k is 2 V_kcs x_cs.
V = torch.tensor(
    [[[[1.0, -2.0, 3.0, 0.0]], [[0.0, 1.0, -1.0, 2.0]]], [[[-1.0, 0.0, 0.5, 1.0]], [[2.0, 0.0, 0.0, -3.0]]]]
)
X = torch.tensor(
    [[[[0.5, 0.25, 1.0, 0.0]], [[1.0, 0.5, 0.5, 0.25]]], [[[1.0, 1.0, 0.0, 0.5]], [[0.0, 0.25, 1.0, 1.0]]]]
)
SHARES = 2 * (V[None] * X[:, None]).sum(2)  # (image, class, 1, 4)


def test_integrated_gradients_of_a_linear_network() -> None:
    """By hand for class 0 of image 0: 2 * (.5, -.5 + .5, 3 - .5, .5) = (1, 0, 5, 1)."""
    model = Weighed(V)
    found = integrated_gradients(model, X, 0, steps=4, signed=True)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0.0, 5.0, 1.0]))
    torch.testing.assert_close(found, SHARES[:, 0])
    assert (SHARES[:, 0] < 0).any()
    torch.testing.assert_close(integrated_gradients(model, X, 0, steps=4), SHARES[:, 0].relu())


def test_each_image_has_its_own_label() -> None:
    found = integrated_gradients(Weighed(V), X, torch.tensor([1, 0]), steps=4, signed=True)
    torch.testing.assert_close(found, torch.stack([SHARES[0, 1], SHARES[1, 0]]))
    covered = occlusion(Weighed(V), X, torch.tensor([1, 0]), window=(1, 1), signed=True)
    torch.testing.assert_close(covered, torch.stack([SHARES[0, 1], SHARES[1, 0]]))


@pytest.mark.parametrize("baseline", [0.25, torch.full((1, 2, 1, 4), 0.25)])
def test_what_is_like_the_baseline_gets_nothing(baseline: float | Tensor) -> None:
    found = integrated_gradients(Weighed(V), X, 0, steps=4, baseline=baseline, signed=True)
    torch.testing.assert_close(found, 2 * (V[0] * (X - 0.25)).sum(1))


@pytest.mark.parametrize("spatial", [2, 3])
def test_integrated_gradients_add_up_to_the_logits_difference(spatial: int) -> None:
    model, x = Small(spatial=spatial), torch.rand(2, 1, *[8] * spatial)
    found = integrated_gradients(model, x, 2, steps=200, signed=True)
    with undisturbed(model), torch.no_grad():
        difference = (logits_of(model, x) - logits_of(model, torch.zeros_like(x)))[:, 2]
    torch.testing.assert_close(found.flatten(1).sum(1), difference, rtol=0.02, atol=0.005)
    assert found.shape == (2, *[8] * spatial)


def test_occlusion_worked_by_hand() -> None:
    """Windows of 2 at 0, 1, 2 (half a window apart): a pixel has the mean fall of the windows that hold it."""
    share = SHARES[0, 0, 0].tolist()  # 1, 0, 5, 1
    falls = [share[0] + share[1], share[1] + share[2], share[2] + share[3]]
    expected = [falls[0], (falls[0] + falls[1]) / 2, (falls[1] + falls[2]) / 2, falls[2]]
    found = occlusion(Weighed(V), X[:1], 0, window=(1, 2), signed=True)
    assert found[0, 0].tolist() == pytest.approx(expected)


def test_occlusion_with_a_stride_and_a_baseline() -> None:
    found = occlusion(Weighed(V), X, 1, window=(1, 2), stride=(1, 2), baseline=0.25, signed=True)
    falls = 2 * (V[1] * (X - 0.25)).sum(1)[:, 0].reshape(2, 2, 2).sum(2)
    torch.testing.assert_close(found[:, 0], falls.repeat_interleave(2, 1))
    positive = occlusion(Weighed(V), X, 1, window=(1, 2), stride=(1, 2), baseline=0.25)
    torch.testing.assert_close(positive[:, 0], falls.repeat_interleave(2, 1).relu())
    assert falls.min() < 0 < falls.max()


def test_a_volume_network_of_monai() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=3)
        x = torch.rand(2, 1, 16, 16, 16)
    assert integrated_gradients(model, x, 1, steps=3).shape == (2, 16, 16, 16)
    found = occlusion(model, x, 1, window=8, stride=8, signed=True)
    assert found.shape == (2, 16, 16, 16)
    blocks = found.unfold(1, 8, 8).unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert torch.equal(blocks.amax(4), blocks.amin(4)) and model.training
    covered = x.clone()
    covered[:, :, :8, :8, 8:] = 0
    with undisturbed(model), torch.no_grad():
        fall = (logits_of(model, x) - logits_of(model, covered))[:, 1]
    torch.testing.assert_close(blocks[:, 0, 0, 1, 0], fall, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "ask", [lambda model, x: integrated_gradients(model, x, 0), lambda model, x: occlusion(model, x, 0, window=4)]
)
def test_without_captum_the_extra_is_named(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"RS-X01(?s:.*)raresight\[explain\]"):
        ask(Small(), torch.rand(1, 1, 8, 8))


def test_the_network_is_left_as_it_was() -> None:
    model, x = Small().train(), torch.rand(2, 1, 8, 8)
    then = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    integrated_gradients(model, x, 0, steps=2)
    occlusion(model, x, 0, window=4)
    maps_by_captum(model, x, "relu", ["grad_cam"], n_classes=3)
    assert all(torch.equal(then[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_without_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"RS-R49.*'fc' of Small"):
        maps_by_captum(Small(), torch.rand(2, 1, 8, 8), "fc", ["grad_cam"], n_classes=3)


def test_hooks_are_gone_after_a_refusal() -> None:
    model: nn.Module = Small()
    with pytest.raises(ConfigError):
        maps_by_captum(model, torch.rand(2, 1, 8, 8), "fc", ["hires_cam"], n_classes=3)
    assert not any(module._forward_hooks for module in model.modules())
