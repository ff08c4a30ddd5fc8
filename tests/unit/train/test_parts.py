"""The small pieces: rate, optimiser, gathering, synthetic rows, runtime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tiny_study import CPU, Balanced, Bench, Retrained, make_cases
from torch import nn

from raresight.core.config import ImageSection, TrainSection, parse_config
from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import SyntheticRows
from raresight.train import probe as probe_module
from raresight.train.batches import Cases, Images
from raresight.train.dead_taps import unreached as taps_unreached
from raresight.train.head import HeadRows
from raresight.train.probe import probe
from raresight.train.runtime import Runtime
from raresight.train.schedule import optimiser_for, rate

TASK = Task("exclusive", ("a", "b", "c"))


def test_rate_by_hand() -> None:
    """10 steps, 20% warm-up: 1/2, 2/2, then (1 + cos(pi k / 8)) / 2 for k = 0 ... 7."""
    rates = [rate(step, 10, base=2.0, warmup=0.2) for step in range(10)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert rates[6] == pytest.approx(1.0)  # k = 4: cos(pi / 2) = 0
    assert rates[9] == pytest.approx(2 * 0.0380602, abs=1e-6)  # (1 + cos(7 pi / 8)) / 2
    assert rate(0, 1, base=1.0, warmup=0.0) == 1.0
    assert rate(0, 1, base=1.0, warmup=1.0) == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_no_weight_decay_on_normalisation_and_biases(name: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    groups = optimiser_for(model.parameters(), TrainSection(optimiser=name, weight_decay=0.3)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(2, 0.3), (4, 0.0)]


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gathered_images_are_the_pixels_over_their_largest_value(dtype: Any, top: int, channels_last: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, top + 1, (5, 4, 6, 3)).astype(dtype)
    pixels[2] = top
    cases = Cases(pixels, np.array([4, 2, 0]), np.zeros((3, 1), np.float32), np.array(["a", "b", "c"]))
    x = Images(cases, Runtime(torch.device("cpu"), "fp32", channels_last, 1))(np.array([1, 2]))
    assert x.shape == (2, 3, 4, 6)
    assert x.dtype == torch.float32
    assert torch.equal(x[0], torch.ones(3, 4, 6))
    expected = pixels[0].astype(np.float64) / top
    assert np.allclose(x[1].permute(1, 2, 0).numpy(), expected, atol=1e-7)
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_synthetic_rows_are_interpolated_in_the_batch_and_weighed_by_their_base() -> None:
    z = torch.arange(30 * 2, dtype=torch.float32).reshape(30, 2)
    y, mask = torch.eye(3)[torch.arange(30) % 3], torch.ones(30, 3)
    recipe = SyntheticRows(
        base=torch.tensor([3, 5]),
        neighbour=torch.tensor([6, 5]),
        gap=torch.tensor([0.25, 0.5]),
        target=torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        mask=torch.ones(2, 3),
    )
    rows = HeadRows(z, y, mask, recipe)
    assert len(rows) == 32
    # row 30 is z[3] + 1/4 (z[6] - z[3]) = (6, 7) + 1/4 (6, 6)
    assert rows.features(torch.tensor([7, 30, 31])).tolist() == [[14, 15], [7.5, 8.5], [10, 11]]
    assert rows.target[30].tolist() == [0, 1, 0]
    weights = rows.weights(Stack([Balanced()], TASK))
    assert weights is not None
    assert torch.equal(weights[:30], torch.linspace(1, 3, 30))
    assert torch.equal(weights[30:], torch.linspace(1, 3, 30)[[3, 5]])
    assert torch.equal(rows.weights(Stack([Balanced(), Retrained()], TASK)), torch.ones(32))  # type: ignore[arg-type]


def test_settled_leaves_no_trace() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with Runtime(torch.device("cpu"), "fp32", False, 1).settled():
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(1)
        torch.rand(3)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_answer_of_the_probe_is_a_runtime(bench: Bench) -> None:
    config = bench.config.model_copy(update={"image": ImageSection(size=128)})
    lock = probe(config, config.problem)
    assert json.loads(json.dumps(lock)) == lock
    assert {"device", "dtype", "channels_last", "threads", "torch", "processor"} <= set(lock)
    assert set(lock["probe"]["ms_per_image"]) == {"fp32", "fp32 channels_last", "bf16", "bf16 channels_last"}
    runtime = Runtime.from_lock(lock)
    assert (runtime.device.type, runtime.threads) == ("cpu", 1)


def test_the_lock_is_that_of_the_winner(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bench.config.model_copy(update={"image": ImageSection(size=128)})

    def timed(choices: list[Runtime], *args: Any) -> tuple[int, dict[Runtime, float]]:
        return 8, {choice: 0.5 if choice.dtype == "bf16" else 1.0 for choice in choices}

    monkeypatch.setattr(probe_module, "_time", timed)
    lock = probe(config, config.problem)
    assert (lock["dtype"], lock["channels_last"]) == ("bf16", True)
    assert lock["probe"] == {
        "batch": 8,
        "ms_per_image": {"fp32": 125, "fp32 channels_last": 125, "bf16": 62.5, "bf16 channels_last": 62.5},
    }
    fixed = config.model_copy(update={"train": TrainSection(precision="fp32")})
    assert probe(fixed, config.problem)["dtype"] == "fp32"


def test_an_arms_own_network_is_looked_at_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[nn.Module] = []

    def second_has(network: nn.Module, x: torch.Tensor) -> bool:
        seen.append(network)
        return len(seen) == 2

    monkeypatch.setattr(probe_module, "has_dead_taps", second_has)
    monkeypatch.setattr(probe_module, "_time", lambda choices, *_: (8, dict.fromkeys(choices, 1.0)))
    arms = {"plain": [], "own": [{"backbone": "test_convnext"}]}
    config = parse_config(bench.config.model_dump() | {"arms": arms})
    assert set(probe(config, config.problem)["probe"]["ms_per_image"]) == {"fp32", "fp32 channels_last"}
    assert len(seen) == 2


def test_what_this_machine_lacks_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="RS-R45"):
        Runtime.from_lock({"device": "cuda", "dtype": "fp32", "channels_last": False, "threads": 1})
    with pytest.raises(ConfigError, match="bf16"):
        config = bench.with_train(precision="fp16").config
        probe(config, config.problem)


def test_bf16_is_avoided_on_the_cpu_where_images_shrink_below_a_filter(bench: Bench) -> None:
    """16 px over stride 32 leave 1 x 1: eight of nine taps are never reached; oneDNN leaves their gradient unset."""
    lock = probe(bench.config, bench.config.problem)
    assert lock["dtype"] == "fp32"
    assert set(lock["probe"]["ms_per_image"]) == {"fp32", "fp32 channels_last"}
    asked = bench.with_train(precision="bf16").config
    with pytest.raises(ConfigError, match="RS-R45"):
        probe(asked, asked.problem)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "unreached"),
    [
        (1, 3, 1, 1, True),
        (2, 3, 1, 1, False),
        (2, 3, 2, 1, True),
        (4, 3, 2, 1, False),
        (1, 1, 1, 0, False),
        (7, 7, 2, 3, False),
    ],
)
def test_taps_that_only_meet_padding(side: int, kernel: int, stride: int, padding: int, unreached: bool) -> None:
    """By hand; for (2, 3, 2, 1) the one output sits at -1, 0, 1, of which -1 is padding."""
    assert taps_unreached(side, kernel, stride, padding, 1) is unreached


def test_bf16_and_channels_last_train_and_resume_alike(bench: Bench) -> None:
    bench.config = bench.config.model_copy(update={"image": ImageSection(size=128)})
    bench.train_cases, bench.val_cases = make_cases(30, 0, size=128), make_cases(20, 1, size=128)
    bench.runtime = Runtime(torch.device("cpu"), "bf16", True, 1)
    one, two = bench.train("one", Retrained()), bench.train("two", Retrained())
    assert one.best.read_bytes() == two.best.read_bytes()
    bench.runtime = CPU
    with pytest.raises(ConfigError, match=r"lock.dtype: 'bf16' then, 'fp32' now"):
        bench.train("one", Retrained())


def test_a_batch_of_one_is_explained(bench: Bench) -> None:
    config = bench.config.model_dump() | {"model": {"backbone": "resnet10t", "pretrained": False}}
    bench.config = parse_config(config)
    with pytest.raises(ConfigError, match="batch normalisation"):
        bench.with_train(batch=1).train("arm")
