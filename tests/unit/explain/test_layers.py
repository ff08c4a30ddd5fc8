"""Stages are found where networks have them, and nothing of a network changes while it is looked into."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from looked_into import ChannelsLast, Small, Tokens, Twice, TwoOutputs, Weighed
from torch import Tensor, nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.explain.layers import Layer, can_replay, linear_head, logits_of, spatial_layers, undisturbed
from raresight.explain.split_head import SplitError, _close, _otherwise, split
from raresight.models.backbones import build


def monai_resnet() -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=4)


# Names as in the networks' own code: the blocks behind which each resolution ends.
STAGES: dict[str, list[tuple[str, int, tuple[int, ...]]]] = {
    "resnet10t": [
        ("act1", 64, (32, 16)),
        ("layer1", 64, (16, 8)),
        ("layer2", 128, (8, 4)),
        ("layer3", 256, (4, 2)),
        ("layer4", 512, (2, 1)),
    ],
    "densenet121": [
        ("features.norm0", 64, (32, 16)),
        ("features.denseblock1", 256, (16, 8)),
        ("features.denseblock2", 512, (8, 4)),
        ("features.denseblock3", 1024, (4, 2)),
        ("features", 1024, (2, 1)),
    ],
    "convnext_atto": [
        ("stages.0", 40, (16, 8)),
        ("stages.1", 80, (8, 4)),
        ("stages.2", 160, (4, 2)),
        ("stages", 320, (2, 1)),
    ],
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_of_known_networks(name: str) -> None:
    found = spatial_layers(timm.create_model(name, num_classes=3), torch.rand(2, 3, 64, 32))
    assert [(layer.name, layer.channels, layer.grid) for layer in found] == STAGES[name]
    assert found[-1].stride == (32.0, 32.0)


def test_stages_of_a_volume_network() -> None:
    found = spatial_layers(monai_resnet(), torch.rand(1, 1, 16, 32, 16))
    assert [layer.name for layer in found] == ["act", "layer1", "layer2", "layer3", "layer4"]
    assert found[-1] == Layer("layer4", 512, (1, 2, 1), (16.0, 16.0, 16.0))


def test_stages_of_a_network_of_the_study_with_attention_blocks() -> None:
    model = build("resnet10t+se", Task("exclusive", ("a", "b")), channels=1, pretrained=False, rng_seed=0)
    found = spatial_layers(model, torch.rand(2, 1, 64, 64))
    names = [layer.name for layer in found]
    assert names == ["backbone.act1", *(f"backbone.layer{i}" for i in range(1, 5))]


def test_a_relu_in_place_ends_a_stage_and_dropout_does_not() -> None:
    found = spatial_layers(Small(), torch.rand(2, 1, 16, 16))
    assert found == [Layer("first", 4, (8, 8), (2.0, 2.0)), Layer("relu", 6, (4, 4), (4.0, 4.0))]


def test_a_module_that_is_called_twice_is_no_stage() -> None:
    assert [layer.name for layer in spatial_layers(Twice(), torch.rand(2, 1, 8, 8))] == ["stem"]


def test_a_block_that_gives_a_pair_is_no_stage_but_its_parts_are() -> None:
    assert [layer.name for layer in spatial_layers(TwoOutputs(), torch.rand(2, 1, 8, 8))] == ["block.conv"]


def test_one_convolution_is_enough_where_no_tokens_follow() -> None:
    assert [layer.name for layer in spatial_layers(Weighed(torch.ones(2, 1, 3, 4)), torch.rand(1, 1, 3, 4))] == [
        "layer"
    ]


@pytest.mark.parametrize("make", [Tokens, ChannelsLast])
def test_transformers_are_refused_in_plain_words(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"RS-R49.*cut into patches(?s:.*)transformers work on tokens"):
        spatial_layers(make(), torch.rand(1, 1, 16, 16))


def test_a_published_transformer_is_refused() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    with pytest.raises(ConfigError, match=r"RS-R49.*patch_embed\.proj"):
        spatial_layers(model, torch.rand(2, 3, 32, 32))


def test_a_network_without_any_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"RS-R49.*has no feature map"):
        spatial_layers(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(2, 1, 4, 4))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def state(model: nn.Module) -> tuple[list[bool], list[bool], dict[str, Tensor]]:
    modes = [module.training for module in model.modules()]
    return modes, [p.requires_grad for p in model.parameters()], {n: t.clone() for n, t in model.state_dict().items()}


def uneven() -> Small:
    """In training mode, but for one module; free, but for two parameters."""
    model = Small().train()
    model.norm.eval()
    model.fc.weight.requires_grad_(False)
    model.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was_after_a_look(fails: bool) -> None:
    model = uneven()
    modes, free, tensors = state(model)
    assert True in modes and False in modes and True in free and False in free
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
    if fails:
        with pytest.raises(ZeroDivisionError), undisturbed(model):
            model(torch.rand(2, 1, 16, 16))
            raise ZeroDivisionError
    else:
        spatial_layers(model, torch.rand(2, 1, 16, 16))
        with undisturbed(model):
            split(model, torch.rand(2, 1, 16, 16), ["relu"])
        can_replay(model, torch.rand(2, 1, 16, 16), "relu")
        linear_head(model, "relu", torch.rand(2, 1, 16, 16))
    now = state(model)
    assert now[:2] == (modes, free)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in now[2].items())
    assert hooks(model) == 0


def test_hooks_are_gone_after_a_pass_that_failed() -> None:
    model = Small()
    for look in (spatial_layers, lambda model, x: split(model, x, ["relu"])):
        with pytest.raises(RuntimeError):
            look(model, torch.rand(2, 5, 16, 16))  # five channels: the first convolution refuses
        assert hooks(model) == 0 and model.training


def test_a_buffer_that_changes_is_put_back_and_named() -> None:
    model = Small().train()
    then = model.norm.running_mean.clone()  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=r"norm\.running_mean"), undisturbed(model):
        model.norm.train()
        model(torch.rand(4, 1, 16, 16))
    assert torch.equal(model.norm.running_mean, then) and model.training  # type: ignore[arg-type]


def test_a_buffer_that_is_replaced_is_named() -> None:
    model = Small()
    with pytest.raises(RuntimeError, match=r"norm\.running_var"), undisturbed(model):
        model.norm.running_var = torch.ones(6)


def test_buffers_that_are_not_a_number_or_not_saved_are_no_change() -> None:
    model = Small()
    model.norm.running_mean[0] = float("nan")  # type: ignore[index]
    model.register_buffer("cache", torch.zeros(1), persistent=False)
    with undisturbed(model):
        model.cache += 1  # type: ignore[operator]


def test_a_compiled_backbone_is_set_aside() -> None:
    model = build("test_resnet", Task("exclusive", ("a", "b")), channels=1, pretrained=False, rng_seed=0)

    def compiled(x: Tensor) -> Tensor:
        raise AssertionError("hooks are not heard in here")

    model.compiled = compiled
    assert spatial_layers(model, torch.rand(1, 1, 32, 32))
    assert model.compiled is compiled


def test_logits_are_of_normalised_images() -> None:
    model = build("test_resnet", Task("exclusive", ("a", "b")), channels=1, pretrained=False, rng_seed=0).eval()
    model.mean.fill_(0.25)
    model.std.fill_(0.5)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(logits_of(model, x), model((x - 0.25) / 0.5))
    assert not torch.allclose(logits_of(model, x), model(x))


@pytest.mark.parametrize(("shape", "batch"), [((3,), 3), ((3, 1), 3), ((), 1), ((1,), 1)])
def test_one_output_an_image_is_one_class(shape: tuple[int, ...], batch: int) -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2)).reshape(shape)

    x = torch.arange(4.0 * batch).reshape(batch, 1, 4)
    assert torch.equal(logits_of(One(), x), x.sum((1, 2))[:, None])


@pytest.mark.parametrize("output", [lambda x: (x.sum(2), x), lambda x: x, lambda x: x.sum(2)[:1], lambda x: x.sum()])
def test_outputs_that_are_no_logits_are_refused(output: Any) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return output(x)

    with pytest.raises(ConfigError, match=r"RS-R49.*for 3 images"):
        logits_of(Odd(), torch.rand(3, 2, 4))


def test_logits_are_float32_under_autocast() -> None:
    model, x = Small().eval(), torch.rand(2, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits_of(model, x), logits_of(model, x).float())
        assert logits_of(model, x).dtype == torch.float32
        inside = logits_of(model, x)
    assert torch.equal(inside, model(x))


def test_linear_head_is_the_networks_own() -> None:
    model = Small()
    found = linear_head(model, "relu", torch.rand(3, 1, 16, 16))
    assert found is not None
    torch.testing.assert_close(found[0], model.fc.weight.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], model.fc.bias.detach(), rtol=1e-5, atol=1e-5)


def test_linear_head_behind_a_convolution_of_one_cell() -> None:
    """The head is what is computed: here a 1 x 1 convolution after the mean, whose weight and bias are known."""
    head = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 3.0]])[..., None, None])
        head.bias.copy_(torch.tensor([0.25, -1.0]))  # type: ignore[union-attr]
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), head, nn.Flatten())
    found = linear_head(model, "0", torch.rand(3, 1, 4, 4))
    assert found is not None
    torch.testing.assert_close(found[0], torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
    torch.testing.assert_close(found[1], torch.tensor([0.25, -1.0]))


class Headed(nn.Module):
    def __init__(self, head: Any) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x), self.fc)


@pytest.mark.parametrize(
    "head",
    [
        lambda a, fc: fc(a.amax((2, 3))),
        lambda a, fc: fc(a.relu().mean((2, 3))),
        lambda a, fc: fc(a.mean((2, 3))) ** 2,
        lambda a, fc: fc(nn.functional.layer_norm(a.mean((2, 3)), (4,))),
        lambda a, fc: fc(a[:, :, 0, 0]),
        lambda a, fc: fc(a.mean((2, 3)).relu()),
    ],
)
def test_no_linear_head_where_something_else_lies_between(head: Any) -> None:
    torch.manual_seed(0)
    assert linear_head(Headed(head), "conv", torch.randn(3, 1, 6, 6)) is None


def test_no_linear_head_at_an_earlier_stage_or_a_layer_that_cannot_be_cut() -> None:
    assert linear_head(Small(), "first", torch.rand(2, 1, 16, 16)) is None
    assert linear_head(TwoOutputs(), "block", torch.rand(2, 1, 16, 16)) is None


def test_the_graph_begins_at_the_layer() -> None:
    model = Small()
    with undisturbed(model):
        cut = split(model, torch.rand(2, 1, 16, 16), ["relu", "first"])
        assert list(cut.activations) == ["relu", "first"]
        assert cut.activations["first"].grad_fn is None and cut.activations["relu"].grad_fn is not None
        assert cut.logits.requires_grad


def test_a_changed_activation_changes_the_logits() -> None:
    model, x = Small(), torch.rand(2, 1, 16, 16)
    with undisturbed(model):
        cut = split(model, x, ["relu"], change=torch.zeros_like)
    torch.testing.assert_close(cut.logits.detach(), model.fc.bias.detach().expand(2, -1))


@pytest.mark.parametrize(
    ("model", "layer", "why"),
    [
        (TwoOutputs(), "block", "gives a tuple"),
        (Twice(), "shared", "called more than once"),
        (Small(), "fc", r"gives \(2, 3\)"),
    ],
)
def test_why_a_pass_cannot_be_cut(model: nn.Module, layer: str, why: str) -> None:
    x = torch.rand(2, 1, 8, 8)
    with undisturbed(model), pytest.raises(SplitError, match=why):
        split(model, x, [layer])
    assert not can_replay(model, x, layer) and hooks(model) == 0


def test_a_layer_that_is_not_called_or_not_used_cannot_be_cut() -> None:
    model = Small()
    model.spare = nn.Conv2d(1, 1, 1)
    with undisturbed(model), pytest.raises(SplitError, match="not called"):
        split(model, torch.rand(2, 1, 8, 8), ["spare"])
    blind = Headed(lambda a, fc: fc(a.detach().mean((2, 3))))
    with undisturbed(blind), pytest.raises(SplitError, match="do not come from conv"):
        split(blind, torch.rand(2, 1, 8, 8), ["conv"])


def test_a_network_that_throws_dice_cannot_be_replayed() -> None:
    dice = Headed(lambda a, fc: fc(nn.functional.dropout(a, 0.5, training=True).mean((2, 3))))
    assert not can_replay(dice, torch.rand(2, 1, 8, 8), "conv")
    assert can_replay(Small(), torch.rand(2, 1, 16, 16), "first")


def test_an_unknown_layer_is_refused_with_the_nearest_name() -> None:
    with undisturbed(Small()) as model, pytest.raises(ConfigError, match=r"RS-R49(?s:.*)did you mean 'relu'"):
        split(model, torch.rand(2, 1, 16, 16), ["rellu"])


def test_logits_agree_to_a_ten_thousandth_of_the_largest() -> None:
    plain = torch.tensor([[0.0, -100.0, float("nan")]])
    assert _close(plain + 0.009, plain) and not _close(plain + 0.011, plain)
    assert not _close(torch.tensor([0.0, 0.01 + 2e-6]), torch.tensor([0.0, 0.01]))
    assert not _close(plain.nan_to_num(), plain)


def test_other_activations_fill_the_range_of_those_there_were_in_every_other_channel() -> None:
    for given, largest in ((torch.tensor([0.0, -4.0]), 4.0), (torch.zeros(2), 1.0)):
        noise = _otherwise(given.repeat(3, 500)[:, :, None])
        assert (noise[:, ::2] == 0).all() and (noise[:, 1::2] >= 0).all()
        assert 0.95 * largest < float(noise.max()) <= largest
