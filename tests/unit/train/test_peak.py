"""What a run's speed is measured against, by hand: operations of an image, the peak, and the share that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from tiny_study import CPU, Bench, TwoPasses
from torch import Tensor, nn

from raresight.core.files import read_json, read_jsonl, write_json
from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack
from raresight.strategies.strategy import Strategy
from raresight.train import journal as journal_module
from raresight.train import peak
from raresight.train.journal import Journal
from raresight.train.peak import gflop_per_image, matmul_peak
from raresight.train.stopwatch import Stopwatch


def network(*layers: nn.Module, features: int) -> Classifier:
    return Classifier(nn.Sequential(*layers), features, 3, [0.5] * 3, [0.5] * 3, "random")


def test_operations_of_linear_layers_by_hand() -> None:
    """12 -> 5: 2 x 60 forward and as much to its weights (its input needs no gradient); 5 -> 3: 3 x 2 x 15."""
    assert gflop_per_image(network(nn.Flatten(), nn.Linear(12, 5), features=5), channels=3, size=2) == pytest.approx(
        330e-9
    )


def test_operations_of_convolutions_by_hand() -> None:
    """6 x 6 places, 3 -> 4 channels, 9 taps: 7776, twice; 4 x 4 places, 4 -> 2: 2304, three times, as the head's 12."""
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    counted = gflop_per_image(network(*layers, features=2), channels=3, size=6)
    assert counted == pytest.approx((2 * 7776 + 3 * 2304 + 3 * 12) / 1e9)


def test_counting_moves_nothing() -> None:
    model = network(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), features=4
    )
    model.eval()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert gflop_per_image(model, channels=3, size=8) is not None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_that_looks_at_its_numbers_is_not_counted() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * (2 if x.sum().item() > 0 else 1)

    assert gflop_per_image(network(Looks(), features=2), channels=3, size=4) is None


@pytest.mark.parametrize(("threads", "expected"), [(1, 5.24288), (2, 10.48576)])
def test_the_peak_by_hand(threads: int, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds 1 ms gone: ten products of side 64 in 1 ms of one thread are 2 x 64^3 in 0.1 ms."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(peak.time, "process_time", lambda: next(ticks) / 1000)
    monkeypatch.setattr(peak, "SIDES", (64,))
    assert matmul_peak(replace(CPU, threads=threads)) == pytest.approx(expected)


def test_without_time_left_one_product_of_the_smallest_side_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(peak.time, "process_time", lambda: next(ticks) / 1000)
    monkeypatch.setattr(peak, "SIDES", (64, 128))
    assert matmul_peak(CPU, budget=0.0) == pytest.approx(2 * 64**3 / 1e-3 / 1e9)
    assert matmul_peak(CPU, budget=10.0) == pytest.approx(2 * 128**3 / 1e-4 / 1e9)


def test_speed_by_hand_without_the_evaluation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 images, each twice through the network, in 2 s of which 0.5 s are input; the evaluation takes 8 s more.

    16 passes x 0.5 GFLOP in 2 s are 4 GFLOP/s, 4% of 100.
    """
    now = 10.0
    monkeypatch.setattr(journal_module.time, "perf_counter", lambda: now)
    run = bench.run("arm")
    write_json(run.env, {"gflop_per_image": 0.5, "peak_gflops": 100.0})
    journal = Journal(run, Stack([], bench.config.problem), bench.config, {}, None)
    now = 11.0
    journal.restart_clocks()
    waiting = Stopwatch(torch.device("cpu")).stop()
    monkeypatch.setattr(waiting, "_began", 0.0)
    monkeypatch.setattr(waiting, "_ended", 0.5)
    now = 13.0
    journal.add(torch.tensor(1.0), 8, waiting, 16)
    now = 21.0
    model = network(nn.Flatten(), nn.Linear(12, 5), features=5)
    journal.evaluated(model, torch.zeros(20, 3), bench.val_cases.target, run.best, epoch=0, lr=0.1)
    (event,) = read_jsonl(run.events)
    told = {key: event[key] for key in ("images_per_s", "share_of_peak", "input_share", "train_seconds", "seconds")}
    assert told == {
        "images_per_s": 4.0,
        "share_of_peak": 0.04,
        "input_share": 0.25,
        "train_seconds": 2.0,
        "seconds": 10.0,
    }


class WholeAndPart(Strategy):
    """A pass of the whole batch, and one that counts its first two rows: batch normalisation passes their piece."""

    name: ClassVar[str] = "whole_and_part"
    place: ClassVar[Any] = "steps"

    def step(
        self, closure: Callable[..., Tensor], optimiser: torch.optim.Optimizer, batch: dict[str, Tensor]
    ) -> Tensor:
        loss = closure()
        closure(torch.tensor([0, 1]))
        optimiser.step()
        return loss


@pytest.mark.parametrize(
    ("strategies", "accumulate", "passes"),
    [([], 1, [7, 8, 7, 8]), ([TwoPasses()], 1, [14, 16, 14, 16]), ([WholeAndPart()], 1, [14, 16, 14, 16]),
     ([WholeAndPart()], 3, [10, 11, 10, 11]), ([], 3, [7, 8, 7, 8])],
)  # fmt: skip
def test_passes_are_counted_where_they_happen(
    bench: Bench, strategies: list[Strategy], accumulate: int, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    add = Journal.add

    def watched(self: Journal, loss: Tensor, n_images: int, waiting: Any = None, n_passed: int = 0) -> None:
        seen.append((n_images, n_passed))
        add(self, loss, n_images, waiting, n_passed)

    monkeypatch.setattr(Journal, "add", watched)
    bench.with_train(epochs=1, accumulate=accumulate).train("arm", *strategies)
    assert [images for images, _ in seen] == [7, 8, 7, 8]
    assert [passed for _, passed in seen] == passes


def test_a_run_tells_its_share_of_a_known_peak(bench: Bench) -> None:
    bench.runtime = replace(CPU, peak_gflops=50.0)
    run = bench.with_train(epochs=1).train("arm")
    env, event = read_json(run.env), read_jsonl(run.events)[0]
    assert env["peak_gflops"] == 50.0
    assert env["gflop_per_image"] > 0
    exact = event["images_per_s"] * env["gflop_per_image"] / 50.0
    assert event["share_of_peak"] == pytest.approx(exact, abs=6e-5, rel=1e-2)
    bench.runtime = CPU
    assert read_jsonl(bench.with_train(epochs=1).train("other").events)[0]["share_of_peak"] is None
