"""A study's trained networks, each made when it is looked into, with what its decision strategies do to its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from raresight.core.arm import Arm
from raresight.core.files import sha256_of
from raresight.core.run import RunFolder
from raresight.explain.store import Network
from raresight.models.backbones import Classifier
from raresight.strategies import build
from raresight.train.checkpoint import load_head, load_labels, load_network, load_weights
from raresight.train.predict import LABELS, facts_of, new_model, no_weights, require_source
from raresight.train.runtime import Runtime
from raresight.verbs.opened import OpenStudy, weights_sha256
from raresight.verbs.predicting import source_of


def networks(study: OpenStudy, runs: dict[str, list[RunFolder]], runtime: Runtime) -> list[Network]:
    """A `Network` for every run; nothing is loaded yet.

    Raises: `ConfigError` RS-R44b where weights are missing, RS-R44 where a frozen arm's source has others now.
    """
    require_weights(study, runs)
    arms = {arm.name: arm for arm in study.arms}
    return [_network(study, arms[name], run, runtime) for name, some in runs.items() for run in some]


def require_weights(study: OpenStudy, runs: Mapping[str, Sequence[RunFolder]]) -> None:
    """Raises: `ConfigError` RS-R44b where a run's weights, or those it stands on, are gone."""
    arms = {arm.name: arm for arm in study.arms}
    for name, some in runs.items():
        for run in some:
            for one in (run, source_of(study, arms[name], run)):
                if one is not None and not one.best.exists():
                    raise no_weights(one)


def network_sha256(study: OpenStudy, arm: Arm, run: RunFolder) -> str:
    """Hash of what a network is made of: its weights file, its source's, and the strategies as settled."""
    source = source_of(study, arm, run)
    files = [weights_sha256(one.best) for one in (run, source) if one is not None]
    return sha256_of([files, study.resolved(arm).as_dict(), study.config.for_arm(arm).model.backbone])


def _network(study: OpenStudy, arm: Arm, run: RunFolder, runtime: Runtime) -> Network:
    source = source_of(study, arm, run)
    if source is not None:
        require_source(run, source)
    config = study.config.for_arm(arm)

    def make() -> Classifier:
        model = new_model(config, runtime, rng_seed=0, random_weights=True)
        stack = build(study.resolved(arm), study.task)
        if source is None:
            load_weights(run.best, model, stack)
        else:
            load_network(source.best, model)
            weight, bias = load_head(run.best, stack)
            with torch.no_grad():
                model.head.weight.copy_(weight)
                model.head.bias.copy_(bias)
        return model

    def adjust(logits: np.ndarray) -> np.ndarray:
        stack = build(study.resolved(arm), study.task)
        stack.fit(facts_of(*load_labels(run.path / LABELS), config))
        load_head(run.best, stack)  # what decision strategies learned in training
        return stack.adjust(torch.from_numpy(logits)).numpy().astype(np.float32)

    return Network(arm.name, run.seed, make, network_sha256(study, arm, run), adjust)
