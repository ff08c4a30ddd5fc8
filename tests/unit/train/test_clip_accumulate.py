"""`train.clip` and `train.accumulate`: the gradient that the optimiser gets, whatever passes it takes to have it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from tiny_study import CLASSES, CPU, Bench
from torch import Tensor, nn

from raresight.core.arm import Arm
from raresight.core.config import TrainSection, parse_config
from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.models.backbones import Classifier
from raresight.strategies import ALL, Stack, build
from raresight.strategies.losses.focal import Focal
from raresight.strategies.steps.msam import MSAM
from raresight.strategies.steps.sam import SAM
from raresight.strategies.strategy import Facts, Strategy
from raresight.train.closure import Closure
from raresight.train.schedule import optimiser_for
from raresight.verbs.train import _refuse_unbuildable

N = 7


def network() -> Classifier:
    """Group normalisation, so that a row's output does not depend on the rows beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        return Classifier(backbone, 8, 3, [0.5] * 3, [0.5] * 3, "random")


def labels(kind: str) -> Tensor:
    """Seven rows; unknown labels in a row of its own piece (exclusive: row 6 is the last piece's)."""
    target = torch.eye(3)[[0, 1, 2, 0, 0, 1, 2]]
    if kind == "exclusive":
        target[[1, 6]] = torch.nan
    else:
        target[1, 0] = target[5, 2] = torch.nan
        target[6] = torch.nan
    return target


class Weighed(Strategy):
    """Case weights that depend on the case and on the class."""

    name: ClassVar[str] = "weighed"
    place: ClassVar[Any] = "losses"

    def case_weights(self, target: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return (1 + ids.float()).unsqueeze(1) * torch.tensor([[0.5, 1.0, 3.0]])


def closure_of(kind: Any, *strategies: Strategy, model: Classifier, optimiser: Any, accumulate: int) -> Closure:
    stack = Stack(strategies, Task(kind, tuple(CLASSES)))
    known = labels(kind)
    stack.fit(Facts(kind, tuple(CLASSES), known.nan_to_num(0.0), (~known.isnan()).float(), steps=10))
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Closure(
        model,
        stack,
        optimiser,
        CPU,
        (x, known, torch.arange(N)),
        epoch=0,
        stream=lambda name: torch.Generator().manual_seed(5),
        model_seed=11,
        accumulate=accumulate,
    )


@pytest.mark.parametrize("accumulate", [2, 3, 7, 20])
@pytest.mark.parametrize("losses", [[], [Weighed()], [Weighed(), Focal()]], ids=["plain", "weighed", "weighed focal"])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_gradients_of_pieces_add_up_to_those_of_the_whole_batch(
    kind: str, losses: list[Strategy], accumulate: int
) -> None:
    results = []
    for pieces in (1, accumulate):
        model = network()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        closure = closure_of(kind, *losses, model=model, optimiser=optimiser, accumulate=pieces)
        loss = closure()
        results.append((loss, [p.grad for p in model.parameters()], closure.seen, closure.per_case))
    (loss, gradients, ids, per_case), (total, added, again, each) = results
    assert total.item() == pytest.approx(loss.item(), abs=1e-6)
    assert max(g.abs().max() for g in gradients) > 1e-3
    for g, h in zip(gradients, added, strict=True):
        assert (g - h).abs().max() <= 1e-6
    assert torch.equal(ids, again)
    torch.testing.assert_close(per_case, each, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_parts_of_rows_that_make_up_the_batch_add_up_to_it(kind: str, accumulate: int) -> None:
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    closure = closure_of(kind, Weighed(), model=model, optimiser=optimiser, accumulate=accumulate)
    found = []
    for rows in (None, [1, 4], [0, 2, 3, 5], [6]):  # row 6 has no known label
        loss = closure(None if rows is None else torch.tensor(rows))
        found.append([loss, *(p.grad.clone() for p in model.parameters())])
    for whole, *parts in zip(*found, strict=True):
        torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-6)
    assert found[3][0] == 0


@pytest.mark.parametrize(("kind", "known"), [("exclusive", 1), ("independent", 5)])
def test_a_row_of_exclusive_labels_counts_where_all_of_them_are_known(kind: Any, known: int) -> None:
    y = torch.tensor([[1.0, 0.0, 0.0], [torch.nan, 0.0, 0.0], [torch.nan, torch.nan, torch.nan]])
    closure = SimpleNamespace(stack=Stack([], Task(kind, ("a", "b", "c"))))
    assert int(Closure._known(closure, y)) == known  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: SAM(rho=0.3), lambda: MSAM(rho=0.3)], ids=["sam", "msam"])
def test_flat_minima_steps_are_the_same_in_pieces(make: Any) -> None:
    """SAM climbs with the gradient of the whole batch; momentum SAM moves the weights once for all pieces."""
    ends = []
    for pieces in (1, 3):
        model, method = network(), make()
        optimiser = optimiser_for(model.parameters(), TrainSection(optimiser="sgd", lr=0.1))
        for _ in range(3):
            closure = closure_of("exclusive", Weighed(), model=model, optimiser=optimiser, accumulate=pieces)
            method.step(closure, optimiser, {})
        ends.append([p.detach() for p in model.parameters()])
    plain = network()
    for one, other, start in zip(*ends, plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)
        assert not torch.equal(one, start)


def test_a_run_in_pieces_shows_the_same_cases(bench: Bench) -> None:
    """And ends elsewhere than the whole batch's, since here batch normalisation sees a piece at a time."""
    from tiny_study import Witness

    whole, pieces = Witness(), Witness()
    one = bench.train("whole", whole)
    other = bench.with_train(accumulate=3).train("pieces", pieces)
    assert whole.ids == pieces.ids
    assert one.best.read_bytes() != other.best.read_bytes()


# what cannot pass in pieces


class Swapping(Strategy):
    name: ClassVar[str] = "swapping"
    place: ClassVar[Any] = "features"

    def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return z.flip(0), y.flip(0)


@pytest.mark.parametrize("name", [m.name for m in ALL if not m.rowwise and 0 in m.spaces] + ["swapping"])
def test_what_cannot_pass_in_pieces_is_refused_by_name(name: str) -> None:
    method = next(m for m in (*ALL, Swapping) if m.name == name)
    stack = Stack([method()], Task(method.kinds[0], tuple(CLASSES)), "mine")
    with pytest.raises(ConfigError) as caught:
        stack.refuse_pieces("train.accumulate: 3")
    (problem,) = caught.value.problems
    assert (problem.code, problem.column) == ("RS-C35", "arms.mine")
    assert problem.found == f"'{name}' and train.accumulate: 3"
    assert problem.remedy.startswith("leave out one of the two")


def test_what_adds_up_row_by_row_may_pass_in_pieces() -> None:
    for kind in ("exclusive", "independent"):
        for method in ALL:
            if kind in method.kinds and method.rowwise:
                Stack([method()], Task(kind, tuple(CLASSES))).refuse_pieces("several ranks")  # type: ignore[arg-type]


def study(accumulate: int) -> Any:
    config = parse_config(
        {"task": {"kind": "independent", "classes": CLASSES}, "train": {"accumulate": accumulate}, "arms": {"b": []}}
    )
    return SimpleNamespace(task=config.problem, config=config, ranks=SimpleNamespace(alone=True))


def test_training_refuses_it_before_the_first_arm_and_leaves_heads_alone() -> None:
    """A frozen arm's head never passes in pieces."""
    arm = Arm.parse("mine", ["uncertainty"])
    with pytest.raises(ConfigError, match=r"'uncertainty' and train.accumulate: 2"):
        _refuse_unbuildable(study(2), arm)
    _refuse_unbuildable(study(1), arm)
    _refuse_unbuildable(study(2), Arm.parse("mine", ["focal"]))
    _refuse_unbuildable(study(2), Arm.parse("mine", [{"frozen": "b"}, "uncertainty"]))
    assert build(arm, study(1).task)


# clipping


def gradients_at_step(
    settings: TrainSection, method: Strategy | None, steepness: float
) -> tuple[list[float], list[Any]]:
    """What the optimiser gets in its second step on L = steepness |w - 1|^2 / 2, and where the passes were made."""
    w = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    b = nn.Parameter(torch.tensor([3.0]))
    optimiser = optimiser_for([w, b], settings)
    seen: list[Any] = []
    given: list[float] = []

    def closure(rows: Tensor | None = None) -> Tensor:
        seen.append([*w.flatten().tolist(), b.item()])
        w.grad = b.grad = None
        loss = steepness * (((w - 1) ** 2).sum() + ((b - 1) ** 2).sum()) / 2
        loss.backward()
        return loss.detach()

    for _ in range(2):
        if method is None:
            closure()
            optimiser.step()
        else:
            method.step(closure, optimiser, {})
        given = [*w.grad.flatten().tolist(), b.grad.item()]  # type: ignore[union-attr]
    return given, seen


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_plain_step_is_clipped_as_torch_clips(optimiser: Any) -> None:
    settings = TrainSection(optimiser=optimiser, lr=0.01, clip=0.5, weight_decay=0.1)
    given, _ = gradients_at_step(settings, None, 4.0)
    assert torch.tensor(given).norm().item() == pytest.approx(0.5, rel=1e-5)  # one norm over both groups
    model, theirs = network(), network()
    ours = optimiser_for(model.parameters(), settings)
    other = optimiser_for(theirs.parameters(), settings.model_copy(update={"clip": None}))
    for step in range(3):
        for each, o in ((model, ours), (theirs, other)):
            o.zero_grad()
            x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            (10 * each(x).square().sum()).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        ours.step()
        other.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), theirs.parameters(), strict=True))


def test_a_gradient_shorter_than_the_limit_is_left_alone() -> None:
    settings = TrainSection(optimiser="sgd", lr=0.01)
    with_limit = gradients_at_step(settings.model_copy(update={"clip": 100.0}), None, 4.0)
    assert with_limit == gradients_at_step(settings, None, 4.0)


def test_clipping_shortens_the_descent_and_not_the_climb_of_sam() -> None:
    """The climb is rho long however short the limit; what is shortened is the gradient found there, put back at w."""
    settings = TrainSection(optimiser="sgd", lr=0.01, clip=0.1)
    given, seen = gradients_at_step(settings, SAM(rho=0.8), 4.0)
    assert len(seen) == 4
    for here, there in ((seen[0], seen[1]), (seen[2], seen[3])):
        assert torch.tensor(there).sub(torch.tensor(here)).norm().item() == pytest.approx(0.8, rel=1e-5)
    assert torch.tensor(given).norm().item() == pytest.approx(0.1, rel=1e-5)
    there = torch.tensor(seen[3]) - 1
    torch.testing.assert_close(torch.tensor(given), 0.1 * there / there.norm(), rtol=1e-4, atol=1e-6)


def test_clipping_shortens_the_gradient_of_momentum_sam_and_not_its_way_ahead() -> None:
    settings = TrainSection(optimiser="sgd", lr=0.01, clip=0.1)
    given, seen = gradients_at_step(settings, MSAM(rho=0.8), 4.0)
    assert len(seen) == 2
    first = torch.tensor(seen[0])
    v = 0.1 * (first - 1) / (first - 1).norm()
    here = first - 0.01 * (v + 0.9 * v)  # Nesterov; weight decay acts on matrices alone, and is:
    here[:2] -= 0.01 * 1.9 * settings.weight_decay * first[:2]
    assert (torch.tensor(seen[1]) - here).norm().item() == pytest.approx(0.8, rel=1e-4)
    assert torch.tensor(given).norm().item() == pytest.approx(0.1, rel=1e-5)


def test_clip_and_accumulate_out_of_range_are_refused() -> None:
    base = {"task": {"kind": "exclusive", "classes": CLASSES}}
    for wrong in ({"clip": 0}, {"clip": -1}, {"clip": float("inf")}, {"accumulate": 0}, {"accumulate": 1.5}):
        with pytest.raises(ConfigError, match="RS-C34"):
            parse_config(base | {"train": wrong})
    train = parse_config(base).train
    assert (train.clip, train.accumulate) == (None, 1)
