"""What sharpness-aware steps, momentum SAM and EMA are known to get wrong elsewhere, in whole runs of ours.

The rest of the list: clipping and accumulation in test_clip_accumulate.py, statistics for deployed weights in
test_statistics.py, global norms, exact restoring and `.item()` in tests/unit/strategies/test_perturbation.py, weight
decay at w in test_msam.py, other libraries in test_sam.py and test_ema.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from test_clip_accumulate import closure_of, network
from tiny_study import CPU, Bench, Mixing, events_of
from torch import Tensor, nn

from raresight.core.config import TrainSection
from raresight.strategies.schedules.ema import EMA
from raresight.strategies.stack import Stack
from raresight.strategies.steps.imbalanced_sam import ImbSAM
from raresight.strategies.steps.looksam import LookSAM
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.steps.sam import SAM
from raresight.strategies.strategy import Strategy
from raresight.train.closure import Closure, frozen_statistics, running_statistics
from raresight.train.predict import new_model
from raresight.train.runtime import Runtime
from raresight.train.schedule import optimiser_for

STEPS: dict[str, Callable[[], Strategy]] = {
    "sam": lambda: SAM(rho=0.3),
    "sam, norm": lambda: SAM(rho=0.3, scope="norm"),
    "sam, every 3": lambda: SAM(rho=0.3, every=3),
    "msam": lambda: MSAM(rho=0.3),
    "msam, norm": lambda: MSAM(rho=0.3, scope="norm"),
    "imbsam": lambda: ImbSAM(rho=0.3, below=0.5),
    "looksam": lambda: LookSAM(rho=0.3, every=3),
}
step_of = pytest.mark.parametrize("name", STEPS)


class Live(Strategy):
    """Keeps the model's state as it is after every step."""

    name: ClassVar[str] = "live"
    place: ClassVar[Any] = "schedules"

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def after_step(self, step: int, model: nn.Module) -> None:
        self.kept.append({name: value.clone() for name, value in model.state_dict().items()})


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def in_batch_norm(bench: Bench, *strategies: Strategy, rows: int = 8) -> tuple[Closure, nn.Module, Any]:
    """A closure over eight rows, of which rows 1 and 5 are rare, on a network with batch normalisation."""
    model = new_model(bench.config, CPU, rng_seed=0).train()
    optimiser = optimiser_for(model.parameters(), bench.config.train)
    stack = Stack(strategies, bench.config.problem)
    x = torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.eye(3)[[0, 1, 0, 2, 0, 1, 0, 2]][:rows]
    stream: Callable[[str], torch.Generator] = lambda name: torch.Generator().manual_seed(5)  # noqa: E731
    batch = (x, y, torch.arange(rows))
    return Closure(model, stack, optimiser, CPU, batch, epoch=0, stream=stream, model_seed=1), model, optimiser


# batch normalisation


@pytest.mark.parametrize("name", ["sam", "msam", "imbsam", "looksam"])
def test_batch_norm_statistics_move_once_a_step_whatever_the_passes(bench: Bench, name: str) -> None:
    """As often as a plain run's, so twelve times in twelve steps, with the momentum that they have in it."""
    live = Live()
    bench.train("arm", Mixing(), STEPS[name](), live)
    counts = [int(state["backbone.bn1.num_batches_tracked"]) for state in live.kept]
    assert counts == list(range(1, 13))


def test_the_second_pass_normalises_by_the_batch_and_leaves_running_statistics_alone(bench: Bench) -> None:
    closure, model, _ = in_batch_norm(bench)
    closure()
    before = {name: value.clone() for name, value in model.named_buffers()}
    for p in model.parameters():
        p.data.mul_(1.1)
    second = closure()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    reference = copy.deepcopy(model)
    logits = reference(reference.normalise(closure.x))  # in training mode: by the batch
    assert second.item() == pytest.approx(nn.functional.cross_entropy(logits, closure.y).item(), rel=1e-5)


def test_passes_of_the_tail_rows_normalise_by_the_whole_batch_and_leave_running_statistics_alone(bench: Bench) -> None:
    closure, model, _ = in_batch_norm(bench)
    closure()
    before = {name: value.clone() for name, value in model.named_buffers()}
    rows = torch.tensor([1, 5])
    part = closure(rows)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(module.training for module in model.modules())
    reference = copy.deepcopy(model)
    logits = reference(reference.normalise(closure.x))[rows]
    assert part.item() == pytest.approx(nn.functional.cross_entropy(logits, closure.y[rows]).item() * 2 / 8, rel=1e-5)
    assert closure.n_passed == 8 + 8


def test_parts_add_up_to_the_whole_with_batch_normalisation_in_pieces(bench: Bench) -> None:
    """The gradient of two sets of rows is that of the batch, each piece normalising itself as the whole pass did."""
    for accumulate in (1, 3):
        closure, model, _ = in_batch_norm(bench)
        closure.accumulate = accumulate
        whole = closure()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        parts = [torch.tensor([1, 5]), torch.tensor([0, 2, 3, 4, 6, 7])]
        sums = [torch.zeros_like(g) for g in gradients]
        total = 0.0
        for rows in parts:
            total += closure(rows).item()
            torch._foreach_add_(sums, [p.grad for p in model.parameters() if p.grad is not None])
        assert total == pytest.approx(whole.item(), rel=1e-5)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(sums, gradients, strict=True))


def test_without_batch_normalisation_rows_pass_alone(bench: Bench) -> None:
    closure, model, _ = in_batch_norm(bench)
    closure.joined = False
    closure(torch.tensor([1, 5]))
    assert closure.n_passed == 2
    model.eval()  # where it stands still it joins no rows
    assert not Closure(
        model,
        closure.stack,
        closure.optimiser,
        CPU,
        (closure.x, closure.y, closure.ids),
        epoch=0,
        stream=closure.stream,
        model_seed=0,
    ).joined


def test_statistics_move_again_after_a_pass_breaks(bench: Bench) -> None:
    model = new_model(bench.config, CPU, rng_seed=0).train()
    for context in (frozen_statistics, running_statistics):
        with pytest.raises(KeyboardInterrupt), context(model):
            raise KeyboardInterrupt
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers
    assert all(layer.training and layer.track_running_stats for layer in layers)


# only at w


@pytest.mark.parametrize("name", ["sam", "msam", "imbsam", "looksam"])
def test_evaluations_and_checkpoints_are_made_at_the_weights_themselves(bench: Bench, name: str) -> None:
    """What is saved after an evaluation are the weights after that step, bit for bit, the best among them."""
    live, run = Live(), bench.run("arm")
    saved: dict[int, dict[str, Tensor]] = {}
    bench = bench.with_train(evaluate_every=5)
    bench.train("arm", STEPS[name](), live, on_event=lambda e: saved.update({e["step"]: load_file(run.last)}))
    names = set(parameters_of(new_model(bench.config, CPU, rng_seed=0)))
    assert set(saved) == {5, 10, 12}
    for step, weights in saved.items():
        assert all(torch.equal(weights[key], live.kept[step - 1][key]) for key in names), step
    best = max((event for event in events_of(run) if event["best"]), key=lambda event: event["step"])["step"]
    assert all(torch.equal(load_file(run.best)[key], live.kept[best - 1][key]) for key in names)


def test_ema_averages_the_weights_themselves_under_momentum_sam(bench: Bench) -> None:
    live = Live()
    run = bench.with_train(evaluate_every=12).train("arm", MSAM(rho=0.5), EMA(decay=0.8, warmup=False), live)
    mean = live.kept[0]["head.weight"].double()
    for state in live.kept[1:]:
        mean = 0.8 * mean + 0.2 * state["head.weight"].double()
    torch.testing.assert_close(load_file(run.last)["head.weight"].double(), mean, rtol=1e-5, atol=1e-7)


@step_of
def test_weights_are_where_they_were_when_a_pass_breaks(bench: Bench, name: str) -> None:
    """In the last pass of a step that takes several, in the only one otherwise; after one whole step."""
    method = STEPS[name]()
    closure, model, optimiser = in_batch_norm(bench)
    method.start_epoch(0, model, torch.Generator())
    target = closure.y
    batch = {"x": closure.x, "target": target, "mask": torch.ones_like(target), "ids": closure.ids}
    if isinstance(method, ImbSAM):
        method.tail_ = torch.tensor([False, True, False])
    if name not in ("sam, every 3", "looksam"):
        method.step(closure, optimiser, batch)
    before, passes = parameters_of(model), []

    def breaking(rows: Tensor | None = None) -> Tensor:
        passes.append(any(not torch.equal(p, before[key]) for key, p in parameters_of(model).items()))
        if passes[-1]:
            raise KeyboardInterrupt
        return closure(rows)

    with pytest.raises(KeyboardInterrupt):
        method.step(breaking, optimiser, batch)
    assert all(torch.equal(p, before[key]) for key, p in parameters_of(model).items())
    assert len(passes) == {"msam": 1, "msam, norm": 1, "imbsam": 3}.get(name, 2)


# bf16, dropout, resume


@pytest.mark.parametrize(
    "method", [SAM(rho=2.0), MSAM(rho=2.0), ImbSAM(rho=2.0), LookSAM(rho=2.0)], ids=lambda m: m.name
)
def test_under_bf16_autocast_every_pass_sees_the_weights_as_they_are(method: Strategy) -> None:
    """Autocast keeps copies of weights in bf16: one made at w would hide the climb. Against float32 at each place."""
    model, losses = network(), []
    optimiser = optimiser_for(model.parameters(), TrainSection(optimiser="sgd", lr=0.05))
    if isinstance(method, ImbSAM):
        method.tail_ = torch.tensor([False, True, True])
    for _ in range(2):
        half = closure_of("exclusive", model=model, optimiser=optimiser, accumulate=1)
        half.runtime = Runtime(torch.device("cpu"), "bf16", False, 1)

        def both(rows: Tensor | None = None, half: Closure = half) -> Tensor:
            full = closure_of("exclusive", model=copy.deepcopy(model), optimiser=optimiser, accumulate=1)
            losses.append((float(full(rows)), float(loss := half(rows))))
            return loss

        known = ~half.y.isnan()
        method.step(both, optimiser, {"target": half.y.nan_to_num(0), "mask": known.float()})
    exact, rounded = zip(*losses, strict=True)
    assert rounded == pytest.approx(exact, abs=0.01)
    assert max(exact) - min(exact) > 0.1  # far more than the rounding
    assert exact != rounded
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


def test_dropout_is_the_same_in_both_passes_of_a_step() -> None:
    model = network()
    model.backbone.append(nn.Dropout(0.5))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    closure = closure_of("exclusive", model=model, optimiser=optimiser, accumulate=1)
    torch.manual_seed(1)
    first = closure()
    torch.rand(3)
    assert closure() == first


@pytest.mark.parametrize("name", ["sam, every 3", "msam", "imbsam", "looksam"])
def test_a_resumed_run_ends_where_a_whole_one_does(bench: Bench, name: str) -> None:
    """Killed after the second evaluation: between the climbs of those that do not climb at every step."""

    class Killed(BaseException):
        pass

    def kill(event: dict[str, Any]) -> None:
        if event["step"] == 8:
            raise Killed

    def arm() -> list[Strategy]:
        return [Mixing(), STEPS[name](), EMA(decay=0.9, every=2)]

    bench = bench.with_train(evaluate_every=4)
    whole = bench.train("whole", *arm())
    with pytest.raises(Killed):
        bench.train("killed", *arm(), on_event=kill)
    again = bench.train("killed", *arm())
    assert whole.best.read_bytes() == again.best.read_bytes()
    assert whole.last.read_bytes() == again.last.read_bytes()
    assert events_of(whole) == events_of(again)
