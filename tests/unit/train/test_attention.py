"""A network with attention blocks in the loop: its gates train, a resume is exact, and it predicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_study import Bench, Mixing, events_of

from raresight.core.arm import Arm
from raresight.core.seeds import derive
from raresight.train.checkpoint import identity_of
from raresight.train.predict import new_model


class Killed(BaseException):
    """Nothing may catch it."""


@pytest.fixture(params=["se", "cbam"])
def gated(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    config = bench.config.for_arm(Arm("gated", backbone=f"test_resnet+{request.param}"))
    return replace(bench, config=config)


def test_gates_train_and_a_resume_is_exact(gated: Bench) -> None:
    whole = gated.train("whole", Mixing())
    begun = new_model(gated.config, gated.runtime, rng_seed=derive(1, 0, "model")).state_dict()
    ended = load_file(whole.best)
    gates = [name for name, value in begun.items() if ".se." in name and value.is_floating_point()]
    assert gates and set(ended) == set(begun)
    assert not [name for name in gates if name.endswith("weight") and torch.equal(begun[name], ended[name])]

    def kill(event: dict) -> None:
        raise Killed

    with pytest.raises(Killed):
        gated.train("killed", Mixing(), on_event=kill)
    again = gated.train("killed", Mixing())
    assert again.best.read_bytes() == whole.best.read_bytes() and events_of(again) == events_of(whole)
    assert np.array_equal(gated.predict(again, Mixing()), gated.predict(whole, Mixing()))


def test_the_network_is_part_of_a_runs_identity_and_of_no_other_arms(bench: Bench, gated: Bench) -> None:
    seeds = {"study_seed": 1, "run_seed": 0, "data_hash": "data"}
    plain, own = (identity_of(Arm("x"), one.config, one.runtime, **seeds) for one in (bench, gated))
    assert [key for key in plain if plain[key] != own[key]] == ["model.backbone"]
    assert bench.config.for_arm(Arm("x")) is bench.config
