"""What a run keeps on disk: weights, the state to resume from, and the identity that a resume must match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import replacing, sha256
from raresight.core.run import RunFolder
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import implements
from raresight.train.ranks import ALONE, Ranks
from raresight.train.ranks_trouble import other_number
from raresight.train.runtime import Runtime

# Tensors that decision strategies learned in training travel with the weights under this prefix.
STRATEGY = "strategy/"


@dataclass
class Progress:
    """How far a run has come: `step` optimiser steps done over both phases, and the best evaluation of the phase."""

    phase: str = "representation"
    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0


def save_weights(path: Path, model: nn.Module, stack: Stack) -> None:
    """Write the model as it stands, and what its decision strategies learned, as safetensors."""
    _save(path, model.state_dict(), stack)


def load_weights(path: Path, model: nn.Module, stack: Stack, ranks: Ranks = ALONE) -> None:
    tensors = ranks.first(lambda: _read(path))
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(STRATEGY)})
    _load_strategies(tensors, stack)


def load_network(path: Path, model: nn.Module) -> None:
    """The weights alone, for an arm that stands upon another one's."""
    tensors = _read(path)
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(STRATEGY)})


def save_head(path: Path, weight: Tensor, bias: Tensor, stack: Stack) -> None:
    """Write a head that was trained on another arm's features: `(K, F)` and `(K,)`, without a network."""
    _save(path, {"head.weight": weight, "head.bias": bias}, stack)


def load_head(path: Path, stack: Stack) -> tuple[Tensor, Tensor]:
    tensors = _read(path)
    _load_strategies(tensors, stack)
    return tensors["head.weight"], tensors["head.bias"]


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises: `ConfigError` RS-R44b where the file was damaged since it was written."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as cause:
        raise ConfigError(
            Problem(
                code="RS-R44b",
                level="error",
                file=str(path),
                found=f"the weights cannot be read ({str(cause).splitlines()[0][:120]})",
                why="the file was damaged or cut short after training wrote it",
                remedy=f"put it back from a copy, or remove {path.parent} and run `raresight train` again",
            )
        ) from cause


def _save(path: Path, tensors: Mapping[str, Tensor], stack: Stack) -> None:
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    for strategy in stack.strategies:
        if implements(strategy, "adjust"):
            for key, tensor in strategy.state_dict().items():
                plain[f"{STRATEGY}{strategy.name}/{key}"] = _plain(tensor)
    with replacing(path) as temporary:
        save_file(plain, temporary)


def _load_strategies(tensors: Mapping[str, Tensor], stack: Stack) -> None:
    for strategy in stack.strategies:
        prefix = f"{STRATEGY}{strategy.name}/"
        learned = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if learned:
            strategy.load_state_dict(learned)


def save_labels(path: Path, target: Tensor, mask: Tensor) -> None:
    """The training labels, from which `predict` fits the strategies again without the training part."""
    if not path.exists():
        with replacing(path) as temporary:
            save_file({"target": target.contiguous(), "mask": mask.contiguous()}, temporary)


def load_labels(path: Path) -> tuple[Tensor, Tensor]:
    tensors = _read(path)
    return tensors["target"], tensors["mask"]


def save_resume(
    path: Path,
    identity: Mapping[str, Any],
    progress: Progress,
    model: nn.Module | None = None,
    optimiser: torch.optim.Optimizer | None = None,
    stack: Stack | None = None,
) -> None:
    """Write the state after an optimiser step; without a model: the mark of a finished training."""
    state: dict[str, Any] = {"identity": dict(identity), "progress": asdict(progress), "finished": model is None}
    if model is not None and optimiser is not None and stack is not None:
        state |= {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "stack": stack.state_dict()}
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_resume(path: Path, identity: Mapping[str, Any], run: RunFolder) -> dict[str, Any] | None:
    """The state to resume from, or None where there is none.

    Raises: `ConfigError` RS-R44 where the run was begun with other settings, data or runtime, key by key, or is to go
    on with another number of processes; how many of them look at a finished run does not matter.
    """
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    then, identity = dict(state["identity"]), dict(identity)
    ranks_then, ranks = then.pop("ranks", 1), identity.pop("ranks", 1)
    changed = [key for key in sorted({*then, *identity}) if then.get(key) != identity.get(key)]
    if changed:
        differences = "; ".join(f"{key}: {then.get(key)!r} then, {identity.get(key)!r} now" for key in changed)
        raise ConfigError(
            Problem(
                code="RS-R44",
                level="error",
                file="study.yaml",
                column=f"arms.{run.arm}",
                found=f"the run of arm '{run.arm}', seed {run.seed}, was begun otherwise: {differences}",
                why="half a run with one setting and half with another is neither",
                remedy=f"put it back, or give the changed arm a name of its own, such as '{run.arm}_2'",
            )
        )
    if ranks_then != ranks and not state["finished"]:
        raise ConfigError(other_number(ranks_then, ranks, run))
    return state


def identity_of(
    arm: Arm,
    config: StudyConfig,
    runtime: Runtime,
    *,
    study_seed: int,
    run_seed: int,
    data_hash: str,
    views: int | None = None,
    source_sha256: str | None = None,
    ranks: int = 1,
) -> dict[str, Any]:
    """Everything that the trained weights depend on, flat; other arms and reporting choices do not appear.

    Device, precision, threads and compiling are taken from the lock (`runtime`), not from `study.yaml`. A frozen arm
    also depends on the weights that its features come from, and on how many `views` of an image it saw.
    Several processes (`ranks`) give batch normalisation a share of the batch each; one process is not written down.
    """
    written = config.model_dump(mode="json")
    sections: dict[str, Any] = {name: written[name] for name in ("image", "model", "train")}
    for replaced in ("device", "threads", "precision", "compile", "views"):
        sections["train"].pop(replaced)
    identity = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    identity |= {"task.kind": config.task.kind, "task.classes": list(config.task.classes)}
    if config.train.select == "expected_cost":
        identity["costs"] = written["costs"]
    if isinstance(config.model.pretrained, str):
        weights = Path(config.model.pretrained).expanduser()
        identity["model.pretrained (sha256)"] = sha256(weights) if weights.is_file() else None
    lock = {"device": runtime.device.type, "dtype": runtime.dtype}
    lock |= {"channels_last": str(runtime.channels_last), "threads": str(runtime.threads)}
    lock |= {"compile": "True"} if runtime.compile else {}
    identity |= {f"lock.{key}": value for key, value in lock.items()}
    strategies = [repr((spec.name, sorted(spec.settings.items()))) for spec in arm.strategies]
    if arm.frozen is not None:
        identity |= {"frozen": arm.frozen, "views": views, f"weights of {arm.frozen}": source_sha256}
    if ranks > 1:
        identity["ranks"] = ranks
    return identity | {"arm": strategies, "study seed": study_seed, "seed": run_seed, "data": data_hash}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
