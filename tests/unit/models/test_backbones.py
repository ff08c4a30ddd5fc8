"""Backbones: reproducible weights, local files, and refusals that say what to do."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.models.backbones import Classifier, build

TASK = Task("exclusive", ("a", "b", "c"))


def tiny(**changes: Any) -> Classifier:
    options: dict[str, Any] = {"channels": 3, "pretrained": False, "rng_seed": 0} | changes
    return build("test_resnet", TASK, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels: int) -> None:
    model = tiny(channels=channels).eval()
    x = torch.rand(2, channels, 32, 32)
    z = model.features(model.normalise(x))
    assert z.shape == (2, model.head.in_features)
    assert model(x).shape == (2, 3)
    assert torch.allclose(model.normalise(x), (x - 0.5) / 0.5)  # this network's published mean and deviation


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_other_families(name: str) -> None:
    model = build(name, TASK, channels=3, pretrained=False, rng_seed=0, size=32).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_published_statistics_are_averaged_for_grey_images() -> None:
    model = build("resnet10t", TASK, channels=1, pretrained=False, rng_seed=0)
    assert model.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)  # ImageNet
    assert model.std.item() == pytest.approx((0.229 + 0.224 + 0.225) / 3)


@pytest.mark.parametrize(("suffix", "wrapped"), [(".safetensors", False), (".pt", False), (".pth", True)])
def test_a_local_file_is_loaded_without_its_head_and_reported(tmp_path: Path, suffix: str, wrapped: bool) -> None:
    source = tiny(rng_seed=5).backbone.state_dict()
    content = {f"module.{name}": value for name, value in source.items()}
    content["module.fc.weight"] = torch.zeros(1000, 96)
    missing = next(name for name in source if name.endswith("running_var"))
    del content[f"module.{missing}"]
    content["module.stray"] = torch.zeros(2)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save({"state_dict": content, "epoch": 3} if wrapped else content, path)
    model = tiny(pretrained=str(path))
    for name, value in model.backbone.state_dict().items():
        assert name == missing or torch.equal(value, source[name])
    assert torch.equal(model.head.weight, tiny().head.weight)
    assert f"missing, left random: {missing}" in model.weights
    assert "not used: stray" in model.weights


def test_colour_weights_fit_a_grey_backbone(tmp_path: Path) -> None:
    source = tiny(rng_seed=5)
    path = tmp_path / "weights.pt"
    torch.save(source.backbone.state_dict(), path)
    grey = tiny(pretrained=str(path), channels=1).eval()
    x = torch.rand(1, 1, 32, 32)
    # a grey image in three channels gives the colour network the same features
    expected = source.eval().features(source.normalise(x.expand(-1, 3, -1, -1)))
    assert torch.allclose(grey.features(grey.normalise(x)), expected, atol=1e-4)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


@pytest.mark.parametrize("content", ["nothing", "text", "pickle", "other network"])
def test_files_that_cannot_serve_are_refused(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pt"
    if content == "text":
        path.write_text("not weights")
    elif content == "pickle":
        torch.save({"state_dict": Payload()}, path)
    elif content == "other network":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="RS-R45b"):
        tiny(pretrained=str(path))
    assert "code ran" not in capsys.readouterr().out


def test_an_unknown_backbone_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'resnet18'\?"):
        build("restnet18", TASK, channels=3, pretrained=False, rng_seed=0)


def test_without_network_the_remedy_is_a_local_file_or_quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError) as caught:
        build("resnet18", TASK, channels=3, pretrained=True, rng_seed=0)
    (problem,) = caught.value.problems
    assert problem.code == "RS-R45b"
    assert "path/to/weights.safetensors" in problem.remedy
    assert "--quick" in problem.remedy


@pytest.mark.parametrize(("attention", "n_tensors"), [("se", 4), ("cbam", 5)])
def test_attention_stands_in_every_residual_block_and_acts(attention: str, n_tensors: int) -> None:
    """SE: two layers with biases a block; CBAM: two layers, a 7 x 7 filter and its normalisation (two)."""
    plain = tiny().eval()
    model = build(f"test_resnet+{attention}", TASK, channels=3, pretrained=False, rng_seed=0).eval()
    blocks = [name for name, _ in plain.backbone.named_modules() if name.count(".") == 1 and name.startswith("layer")]
    gates = [name for name, _ in model.backbone.named_parameters() if ".se." in name]
    assert len(blocks) == 4 and len(gates) == n_tensors * len(blocks)
    assert {name.split(".se.")[0] for name in gates} == set(blocks)
    ours, others = model.backbone.state_dict(), plain.backbone.state_dict()
    assert set(ours) - {name for name in ours if ".se." in name} == set(others)
    others = {name: value.fill_(1.0) if name.endswith("bn2.weight") else value for name, value in others.items()}
    model.backbone.load_state_dict(others, strict=False)  # equal weights: what differs is the gates' doing
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model.features(x), plain.features(x), rtol=0.1)
    if attention == "se":  # gates wide open: the plain network again
        for name, value in model.backbone.named_parameters():
            if ".se.fc2." in name:
                torch.nn.init.constant_(value, 40.0 if name.endswith("bias") else 0.0)
        assert torch.allclose(model.features(x), plain.features(x), rtol=1e-5, atol=1e-6)


def test_published_weights_fill_all_but_the_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    source = tiny(rng_seed=5).backbone.state_dict()
    save_file(source, tmp_path / "weights.safetensors")
    create = timm.create_model

    def local(name: str, **options: Any) -> Any:
        return create(name, pretrained_cfg_overlay={"file": str(tmp_path / "weights.safetensors")}, **options)

    monkeypatch.setattr(timm, "create_model", local)
    monkeypatch.setattr("raresight.models.backbones._can_fetch", lambda config: True)
    model = build("test_resnet+se", TASK, channels=3, pretrained=True, rng_seed=0)
    state = model.backbone.state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.items())
    assert "se blocks random" in model.weights


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_resnet+sse", "did you mean 'test_resnet+se'?"),
        ("test_resnet+", "resnet+se, test_resnet+cbam"),
        ("test_vit+se", "ResNet family"),
        ("test_efficientnet+cbam", "ResNet family"),
        ("restnet18+se", "did you mean 'resnet18'?"),
    ],
)
def test_attention_that_cannot_be(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match="RS-R45b") as refusal:
        build(name, TASK, channels=3, pretrained=False, rng_seed=0)
    assert words in str(refusal.value)
