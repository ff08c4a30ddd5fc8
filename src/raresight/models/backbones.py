"""Image classifiers: any 2D network of timm, cut before its own classifier, and a linear head for the task."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from raresight.core.errors import ConfigError, Problem, listed, nearest
from raresight.core.extras import need
from raresight.core.task import Task

# Wrappers under which others save their weights, and prefixes that they leave on the names.
WRAPPERS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "backbone.", "net.", "encoder.")
HEADS = ("fc.", "head.", "head_dist.", "classifier.", "heads.")

# Attention blocks that a name may ask for behind a plus sign, in every residual block before its addition.
ATTENTION = {"se": "squeeze-and-excitation", "cbam": "convolutional block attention"}
ATTENTIVE = "resnet"  # the module of timm whose networks take them: ResNet, ResNeXt, Wide ResNet and their variants


class Classifier(nn.Module):
    """A backbone's pooled features and one linear layer: logits = W features((x - mean) / std) + b.

    Shapes: `features` maps normalised images `(B, C, H, W)` to `(B, F)`, `head` those to `(B, K)`. `mean` and `std`
    `(1, C, 1, 1)` are buffers for images in [0, 1], so that saved weights carry their own preprocessing.
    `weights` says in a sentence where the initial weights came from. `compiled` stands for the backbone where it is set
    (`train/compiled.py`); it shares the backbone's weights and is none of the model's parts.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, n_features: int, n_classes: int, mean: list[float], std: list[float], weights: str
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(n_features, n_classes)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.weights = weights
        self.compiled: Callable[[Tensor], Tensor] | None = None

    def normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def features(self, x: Tensor) -> Tensor:
        z: Tensor = (self.compiled or self.backbone)(x)
        return z

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def build(
    backbone: str, task: Task, *, channels: int, pretrained: bool | str, rng_seed: int, size: int | None = None
) -> Classifier:
    """A classifier whose initial weights depend on `rng_seed` alone; the global random state is left as it was.

    `pretrained` is False (random), True (the network's published weights, from the local cache or the hub) or the path
    of a local weights file (`.safetensors`, `.pt`, `.pth`; read without running code). A published classifier layer
    is always dropped. `size` is needed by networks whose input size is part of their weights (vision transformers).

    A name with `+se` or `+cbam` (`resnet18+se`) has an attention block in every residual block: z * gate(z) before the
    addition, where the gate weighs channels (se), or channels and then places (cbam). Weights from elsewhere fill the
    rest of the network; the blocks themselves begin at random.

    Raises: `ConfigError` RS-R45b for an unknown backbone (with the nearest known one), for attention blocks in a
    network that has no place for them, and where weights cannot be had or do not fit; the remedy names a local weights
    file and `--quick`.
    Source: architectures and published weights of timm (Wightman, github.com/huggingface/pytorch-image-models);
    squeeze-and-excitation: Hu, Shen and Sun, CVPR 2018, eq. 2-4; CBAM: Woo et al., ECCV 2018, eq. 1-3.
    """
    timm = need("timm", extra="train", feature="training")
    backbone, attention = _parted(backbone)
    architecture = backbone.split(".", maxsplit=1)[0]
    if architecture not in timm.list_models():
        close = nearest(architecture, timm.list_models())
        raise _refused(
            "model.backbone",
            f"unknown backbone '{backbone}'",
            "timm has no network of this name",
            f"did you mean '{close}'?" if close else "`python -c 'import timm; print(timm.list_models())'` lists them",
        )
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if attention:
        if architecture not in timm.list_models(module=ATTENTIVE):
            raise _no_place(backbone, attention)
        options["block_args"] = {"attn_layer": attention}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng_seed)
        network = _network(timm, backbone, options, pretrained is True, size)
        weights = "random" if pretrained is False else f"published weights of {backbone}"
        weights += f"; {attention} blocks random" if attention and pretrained is True else ""
        if isinstance(pretrained, str):
            weights = _load_file(timm, network, Path(pretrained).expanduser(), channels)
        published = network.pretrained_cfg
        mean, std = _statistics(published.get("mean"), published.get("std"), channels)
        width = getattr(network, "head_hidden_size", None) or network.num_features
        return Classifier(network, width, task.n_classes, mean, std, weights)


def _parted(backbone: str) -> tuple[str, str]:
    """`resnet18+se` -> `("resnet18", "se")`; without a plus sign the second part is empty."""
    plain, plus, attention = backbone.partition("+")
    if plus and attention not in ATTENTION:
        close = nearest(attention, ATTENTION)
        known = ", ".join(f"+{name} ({about})" for name, about in ATTENTION.items())
        raise _refused(
            "model.backbone",
            f"'{backbone}': '+{attention}' is no attention block",
            f"there are {known}",
            f"did you mean '{plain}+{close}'?" if close else f"write {plain}+se, {plain}+cbam, or {plain} alone",
        )
    return plain, attention


def _network(timm: Any, backbone: str, options: dict[str, Any], pretrained: bool, size: int | None) -> Any:
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if size is not None and config is not None and config.fixed_input_size:
        options = options | {"img_size": size}
    if pretrained and not _can_fetch(config):
        raise _no_weights(backbone, "the weights are not in the local cache and the model hub cannot be reached")
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.CRITICAL)  # its retries would print over our own message
    try:
        strict = {"pretrained_strict": False} if pretrained and "block_args" in options else {}
        return timm.create_model(backbone, pretrained=pretrained, **options, **strict)
    except Exception as cause:  # the hub's client raises a dozen types, with no common parent
        if pretrained:
            raise _no_weights(backbone, f"the published weights cannot be loaded ({_first_line(cause)})") from cause
        raise _refused(
            "model.backbone",
            f"'{backbone}' cannot be built with {options} ({_first_line(cause)})",
            "this network does not take such images",
            "choose another backbone, or the image size and channels that it was made for",
        ) from cause
    finally:
        hub_log.setLevel(level)


def _can_fetch(config: Any) -> bool:
    """Whether a download may succeed, found out in seconds; the hub's client would retry for a minute."""
    if (
        config is None
        or not config.hf_hub_id
        or config.file
        or os.environ.get("HTTPS_PROXY", os.environ.get("https_proxy"))
    ):
        return True
    hub = need("huggingface_hub", extra="train", feature="pretrained weights")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(hub.try_to_load_from_cache(config.hf_hub_id, name), str):
            return True
    address = urlsplit(hub.constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _load_file(timm: Any, network: Any, path: Path, channels: int) -> str:
    """Load a local weights file into `network`; answers with what was loaded, left out and missing."""
    if not path.is_file():
        raise _refused(
            "model.pretrained",
            f"no weights file at '{path}'",
            "training would silently begin from random weights",
            "correct the path, or write `pretrained: true` (published weights) or `false` (random)",
        )
    given = _read_tensors(path)
    first = network.pretrained_cfg.get("first_conv")
    for layer in [first] if isinstance(first, str) else first or []:
        name = f"{layer}.weight"
        if name in given and given[name].dim() == 4 and given[name].shape[1] != channels:
            given[name] = timm.models.adapt_input_conv(channels, given[name])
    known = network.state_dict()
    fits = {name: value for name, value in given.items() if name in known and value.shape == known[name].shape}
    missing = sorted(set(known) - set(fits))
    unexpected = sorted(set(given) - set(fits))
    if len(fits) * 2 < len(known):
        raise _refused(
            "model.pretrained",
            f"'{path.name}' fits {len(fits)} of the backbone's {len(known)} tensors; missing: {listed(missing, 4)}; "
            f"not of this backbone: {listed(unexpected, 4)}",
            "most of the network would stay random",
            "name the backbone that these weights belong to in `model.backbone`",
        )
    network.load_state_dict(fits, strict=False)
    report = f"local file {path.name}: {len(fits)} of {len(known)} tensors"
    report += f"; missing, left random: {listed(missing)}" if missing else ""
    return report + (f"; in the file but not used: {listed(unexpected)}" if unexpected else "")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, without wrappers, prefixes and the published classifier."""
    unreadable: Exception
    try:
        if path.suffix == ".safetensors":
            content: Any = need("safetensors.torch", extra="train", feature="local weights").load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # unpickling, zip and safetensors errors have no common parent
        unreadable = cause
    else:
        for wrapper in WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
        if isinstance(content, dict):
            tensors = {_bare(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
            return {name: value for name, value in tensors.items() if not name.startswith(HEADS)}
        unreadable = ValueError(f"holds a {type(content).__name__}, not a table of tensors")
    raise _refused(
        "model.pretrained",
        f"'{path}' is not a readable weights file ({_first_line(unreadable)})",
        "only plain tensors are read, because a pickled object could run code",
        "save it with `safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')`",
    ) from unreadable


def _bare(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _statistics(mean: Any, std: Any, channels: int) -> tuple[list[float], list[float]]:
    """The published mean and standard deviation per channel; their averages where the number of channels differs."""
    mean, std = list(mean or (0.5,)), list(std or (0.5,))
    if len(mean) == channels:
        return mean, std
    return [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip() or type(cause).__name__).splitlines()[0][:160]


def _no_place(backbone: str, attention: str) -> ConfigError:
    return _refused(
        "model.backbone",
        f"'{backbone}+{attention}': this network has no residual blocks that take attention",
        "the ResNet family has them: ResNet, ResNeXt, Wide ResNet and their variants",
        f"write for example resnet18+{attention} or resnet50+{attention}, or `{backbone}` alone",
    )


def _no_weights(backbone: str, found: str) -> ConfigError:
    return _refused(
        "model.pretrained",
        f"'{backbone}': {found}",
        "a run from random weights would be another experiment than the one asked for",
        "write `pretrained: path/to/weights.safetensors` (a local file), or `pretrained: false`; "
        "`raresight init --quick` makes a small study from scratch",
    )


def _refused(column: str, found: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        Problem(code="RS-R45b", level="error", file="study.yaml", column=column, found=found, why=why, remedy=remedy)
    )
