"""Batch-norm statistics of the deployed weights: torch's own estimate, and no trace of it in training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_study import CPU, Balanced, Bench, Mixing, events_of
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from raresight.models.backbones import Classifier
from raresight.strategies.schedules.ema import EMA
from raresight.strategies.stack import Stack
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.steps.sam import SAM
from raresight.strategies.strategy import Strategy
from raresight.train import statistics
from raresight.train.batches import Images
from raresight.train.closure import batch_norms
from raresight.train.course import Course
from raresight.train.predict import new_model
from raresight.train.statistics import estimated


class Labelled(Strategy):
    """Brightens the pictures of the rare class, so that what batch normalisation sees depends on the labels."""

    name: ClassVar[str] = "labelled"
    place: ClassVar[Any] = "inputs"

    def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return x + 0.5 * y[:, 1].view(-1, 1, 1, 1), y


def course_of(bench: Bench, *strategies: Strategy) -> Course:
    stack = Stack(strategies, bench.config.problem)
    run = bench.run("arm")
    return Course(run, stack, bench.config, bench.train_cases, bench.val_cases, CPU, 1, 12, 0)


def trained_a_little(bench: Bench) -> Classifier:
    """Weights and statistics that are those of no fresh network."""
    model = new_model(bench.config, CPU, rng_seed=4)
    model.train()
    rng = torch.Generator().manual_seed(1)
    for _ in range(3):
        model(torch.rand(6, 3, 16, 16, generator=rng) * 2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=rng), alpha=0.01)
    return model


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def batches_of(course: Course, rows: np.ndarray) -> list[Tensor]:
    """The batches of an epoch of these rows, changed as the arm changes images, gathered here by hand."""
    target = torch.from_numpy(course.train.target)
    found = []
    for k, batch in enumerate(np.array_split(rows, -(-len(rows) // course.config.train.batch))):
        x = torch.from_numpy(course.train.pixels[course.train.rows[batch]]).permute(0, 3, 1, 2).float() / 255
        found.append(course.stack.mix_inputs(x, target[batch], course.stream("statistics", k))[0])
    return found


@pytest.mark.parametrize("strategies", [[], [Mixing()], [Labelled(), Mixing()]], ids=["plain", "mixed", "by label"])
def test_re_estimated_statistics_equal_torch_update_bn_over_the_same_batches(
    bench: Bench, strategies: list[Strategy]
) -> None:
    """With `buffers: estimate` and momentum SAM alike: whatever weights the model carries within."""
    course, model = course_of(bench, *strategies), trained_a_little(bench)
    theirs = copy.deepcopy(model)
    rows = torch.randperm(30, generator=course.stream("statistics")("rows")).numpy()
    network = nn.Sequential()
    network.add_module("model", theirs)
    network.forward = lambda x: theirs(theirs.normalise(x))  # type: ignore[method-assign]
    update_bn(batches_of(course, rows), network)
    with estimated(course, model, Images(course.train, CPU)):
        found, expected = buffers_of(model), buffers_of(theirs)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], msg=name)
        assert found["backbone.bn1.num_batches_tracked"] == 4  # 30 images in batches of at most 8


def test_a_sampler_s_rows_are_those_whose_statistics_count(bench: Bench) -> None:
    course, model = course_of(bench, Balanced()), trained_a_little(bench)
    theirs = copy.deepcopy(model)
    stream = course.stream("statistics")("rows")
    rows = torch.multinomial(torch.linspace(1, 3, 30).double(), 30, replacement=True, generator=stream).numpy()
    network = nn.Sequential()
    network.add_module("model", theirs)
    network.forward = lambda x: theirs(theirs.normalise(x))  # type: ignore[method-assign]
    update_bn(batches_of(course, rows), network)
    with estimated(course, model, Images(course.train, CPU)):
        for name, value in buffers_of(model).items():
            torch.testing.assert_close(value, buffers_of(theirs)[name], msg=name)


def test_at_most_so_many_images_are_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "IMAGES", 13)
    course, model, read = course_of(bench), trained_a_little(bench), []
    images = Images(course.train, CPU)

    def counting(positions: np.ndarray) -> Tensor:
        read.extend(positions.tolist())
        return images(positions)

    with estimated(course, model, counting):  # type: ignore[arg-type]
        pass
    assert len(set(read)) == len(read) == 13


@pytest.mark.parametrize("training", [True, False])
def test_live_statistics_mode_and_random_states_are_as_before(bench: Bench, training: bool) -> None:
    course, model = course_of(bench, Mixing()), trained_a_little(bench)
    model.train(training)
    momenta = [layer.momentum for layer in batch_norms(model)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    with estimated(course, model, Images(course.train, CPU)):
        assert model.training is training
        assert not torch.equal(model.state_dict()["backbone.bn1.running_mean"], before["backbone.bn1.running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training is training for module in model.modules())
    assert [layer.momentum for layer in batch_norms(model)] == momenta
    assert all(layer.track_running_stats for layer in batch_norms(model))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_live_statistics_come_back_where_the_evaluation_breaks(bench: Bench) -> None:
    course, model = course_of(bench), trained_a_little(bench)
    before = buffers_of(model)
    with pytest.raises(KeyboardInterrupt), estimated(course, model, Images(course.train, CPU)):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), estimated(course, model, _breaking):  # type: ignore[arg-type]
        pytest.fail("there were no images")
    assert all(torch.equal(value, before[name]) for name, value in buffers_of(model).items())
    assert all(layer.momentum == 0.1 for layer in batch_norms(model))


def _breaking(positions: np.ndarray) -> Tensor:
    raise KeyboardInterrupt


def test_a_network_without_batch_normalisation_is_left_alone(bench: Bench) -> None:
    course = course_of(bench)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.LayerNorm(4)), 4, 3, [0.0] * 3, [1.0] * 3, "none")
    with estimated(course, model, _breaking):  # type: ignore[arg-type]
        pass


class Live(Strategy):
    """Keeps the weights and statistics as they are after the last step: those that training itself moves."""

    name: ClassVar[str] = "live"
    place: ClassVar[Any] = "schedules"

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def after_step(self, step: int, model: nn.Module) -> None:
        self.kept.append({name: value.clone() for name, value in model.state_dict().items()})


METHODS: dict[str, Callable[[], list[Strategy]]] = {
    "ema": lambda: [EMA(decay=0.9)],
    "msam": lambda: [MSAM(rho=0.5)],
    "msam and ema": lambda: [MSAM(rho=0.5), EMA(decay=0.9)],
}


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_leave_no_trace_in_training(bench: Bench, name: str) -> None:
    """Evaluating every third step or only at the end: the same weights and live statistics, bit for bit."""
    ends = []
    for every in (3, 12):
        live = Live()
        bench.with_train(evaluate_every=every).train(f"every {every}", Mixing(), *METHODS[name](), live)
        ends.append(live.kept)
    assert len(ends[0]) == len(ends[1]) == 12
    for one, other in zip(*ends, strict=True):
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_saved_statistics_are_those_of_the_deployed_weights(bench: Bench, name: str) -> None:
    """Put the saved weights into a network and estimate there: the saved statistics come out."""
    run = bench.train("arm", *METHODS[name]())
    saved = load_file(run.last)
    model = new_model(bench.config, CPU, rng_seed=0)
    model.load_state_dict(saved)
    for layer in batch_norms(model):
        layer.reset_running_stats()
    with estimated(course_of(bench), model, Images(bench.train_cases, CPU)):
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, saved[key], msg=key)


@pytest.mark.parametrize("strategy", [EMA(decay=0.9, buffers="copy"), EMA(decay=0.9, buffers="average"), SAM()])
def test_where_statistics_are_not_stale_nothing_is_estimated(
    bench: Bench, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM's are collected at w, in its first pass."""

    @contextmanager
    def forbidden(*args: Any) -> Iterator[None]:
        pytest.fail("estimated")
        yield

    monkeypatch.setattr("raresight.train.loop.estimated", forbidden)
    live = Live()
    run = bench.train("arm", strategy, live)
    saved = load_file(run.last)["backbone.bn1.running_mean"]
    if strategy.name == "sam" or getattr(strategy, "buffers", "") == "copy":
        assert torch.equal(saved, live.kept[-1]["backbone.bn1.running_mean"])
    else:
        assert not torch.equal(saved, live.kept[-1]["backbone.bn1.running_mean"])
    assert len(events_of(run)) > 0
