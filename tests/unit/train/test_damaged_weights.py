"""A weights file that was cut short ends in one error that names it, whoever reads it."""

from __future__ import annotations

import pytest
import torch

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import build
from raresight.train.checkpoint import load_head, load_labels, load_network, load_weights, save_labels, save_weights


def test_a_file_cut_short_is_named_with_what_to_do(tmp_path):
    stack, model = build(Arm("plain"), Task("independent", ("a", "b"))), torch.nn.Linear(3, 2)
    weights, labels = tmp_path / "seed-0" / "best.safetensors", tmp_path / "seed-0" / "labels.safetensors"
    weights.parent.mkdir()
    save_weights(weights, model, stack)
    save_labels(labels, torch.ones(4, 2), torch.ones(4, 2))
    load_weights(weights, model, stack)
    for path in (weights, labels):
        path.write_bytes(path.read_bytes()[:40])
    for read in (
        lambda: load_weights(weights, model, stack),
        lambda: load_network(weights, model),
        lambda: load_head(weights, stack),
        lambda: load_labels(labels),
    ):
        with pytest.raises(ConfigError, match=r"RS-R44b.*cannot be read") as caught:
            read()
        assert "seed-0" in str(caught.value) and "raresight train" in str(caught.value)
