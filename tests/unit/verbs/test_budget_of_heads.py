"""Heads on the features of an arm with a budget train the study's steps, like all other heads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raresight.core.config import parse_config
from raresight.verbs import frozen


def test_the_budget_of_an_arm_is_not_that_of_the_heads_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "cases", lambda study, rows: rows)
    monkeypatch.setattr(frozen, "locked_runtime", lambda study: None)
    arms = {"long": [{"budget": 3}, {"backbone": "resnet50"}], "head": [{"frozen": "long"}]}
    config = parse_config(
        {"task": {"kind": "exclusive", "classes": ["a", "b"]}, "train": {"steps": 40, "epochs": 5}, "arms": arms}
    )
    study: Any = SimpleNamespace(
        config=config, manifest=None, features=None, folds=SimpleNamespace(rows=lambda manifest, part, fold: part)
    )
    source = frozen.source_for(study, config.parsed_arms[0], SimpleNamespace(fold=None))  # type: ignore[arg-type]
    assert (source.config.train.steps, source.config.train.epochs) == (40, 5)
    assert source.config.model.backbone == "resnet50"
    assert (source.train, source.val) == ("train", "val")
