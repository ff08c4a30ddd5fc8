"""What every strategy must do on every kind and space that it declares."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
import re

import numpy as np
import pytest
import torch
from tiny_line import (
    CLASSES,
    GRID,
    IDS,
    KINDS,
    B,
    Data,
    N,
    batch_of,
    fitted,
    instances,
    labels_known,
    loss_of,
    made,
    make_data,
    stack_of,
    train,
)
from torch import Tensor

import raresight.strategies
from raresight.core.errors import ConfigError
from raresight.strategies import ALL, Strategy
from raresight.strategies.strategy import PLACES, implements

# what every docstring says, and the page in docs/methods with it; from `Absent class` on in this order
PARAGRAPHS = ("Equation", "Shapes", "Ranges", "Absent class", "Helps", "Hurts", "Evidence", "Raises", "Source")
MIXERS = {"mixup", "balanced_mixup", "remix", "cutmix"}

every = pytest.mark.parametrize(("method", "kind", "space"), GRID, ids=IDS)


# membership


def test_every_strategy_of_the_package_is_in_all() -> None:
    found = set()
    for module in pkgutil.walk_packages(raresight.strategies.__path__, "raresight.strategies."):
        for _, item in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(item, Strategy) and item is not Strategy and item.__module__ == module.name:
                found.add(item)
    assert found == set(ALL)
    assert len({method.name for method in ALL}) == len(ALL)


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_method_is_final_named_and_documented(method: type[Strategy]) -> None:
    assert method.__bases__ == (Strategy,)
    assert method.place in PLACES
    assert method.__module__.split(".")[2] == method.place
    assert method.source
    text = inspect.getdoc(method) or ""
    places = []
    for paragraph in PARAGRAPHS:
        found = re.search(rf"^{paragraph}\b[^\n]*:\s*\S", text, re.MULTILINE)
        assert found, f"{method.name} lacks a paragraph '{paragraph}:'"
        places.append(found.start())
    assert places[0] < min(places[1:])
    assert places[3:] == sorted(places[3:]), f"{method.name} is not in the order {', '.join(PARAGRAPHS[3:])}"
    assert text.index(">>>") > places[-1]
    for parameter in inspect.signature(method).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


# neutral and default


@every
def test_neutral_settings_are_plain_training(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    neutral = method.neutral()
    if neutral is None:
        pytest.skip("the method has no neutral settings")
    data = make_data(kind, space)
    strategy = method(**neutral)
    torch.testing.assert_close(train(data, strategy).logits, train(data).logits, rtol=1e-5, atol=1e-5)
    shift = strategy.log_prior_shift()
    assert shift is not None
    assert shift.abs().max() == 0


@every
def test_default_settings_are_not_plain_training(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    others = instances("class_weights") if implements(made(method), "correct") else []  # it acts upon what others do
    plain = train(data, *others, head_phase=method.head_phase)
    assert (train(data, *others, made(method)).logits - plain.logits).abs().max() > 1e-5


# nothing breaks where a class or a label is missing


@every
def test_absent_class_stays_finite(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space, absent=True)
    outcome = train(data, strategy := made(method))
    assert outcome.logits.isfinite().all()
    shift = strategy.log_prior_shift()
    assert shift is None or shift.isfinite().all()
    assert shift is None or shift.dim() == 0 or shift[2] == 0  # nothing is claimed about a class never seen
    # and where a case of it turns up later, say in a batch of another hospital
    logits, target, mask, ids = batch_of(data)
    target = target.clone()
    target[0] = 0
    target[0, 2] = 1
    total, _, gradient = loss_of(stack_of(data, made(method)), logits, target, mask, ids)
    assert total.isfinite()
    assert gradient.isfinite().all()


@every
def test_empty_mask_gives_zero(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    logits, target, mask, ids = batch_of(data)
    total, per_case, gradient = loss_of(stack_of(data, made(method)), logits, target, torch.zeros_like(mask), ids)
    assert total == 0
    assert gradient.abs().max() == 0
    assert per_case.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every
def test_extreme_logits_stay_finite(
    method: type[Strategy], kind: str, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    data = make_data(kind, space)
    logits, target, mask, ids = batch_of(data)
    for size in (1e4, -1e4, 0.0):
        stack = stack_of(data, made(method))
        total, per_case, gradient = loss_of(stack, (logits.sign() * size).to(dtype), target, mask, ids)
        assert total.isfinite()
        assert per_case.isfinite().all()
        assert gradient.isfinite().all()
    # a masked label may have overflowed logits behind it
    mask = mask.clone()
    mask[0] = 0
    total, _, gradient = loss_of(stack_of(data, made(method)), (logits * 1e4).to(dtype), target, mask, ids)
    assert total.isfinite()
    assert gradient[0].abs().max() == 0


@every
def test_masked_equals_dropped(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    logits, target, mask, ids = batch_of(data)
    stack = stack_of(data, made(method))
    hidden = torch.tensor([1, 4, 5])
    kept = torch.tensor([0, 2, 3, 6, 7])
    mask = mask.clone()
    mask[hidden] = 0
    target = target.clone()
    target[hidden] = 1 - target[hidden]  # whatever stands there must not matter
    total, per_case, gradient = loss_of(stack, logits, target, mask, ids)
    total_kept, per_case_kept, gradient_kept = loss_of(stack, logits[kept], target[kept], mask[kept], ids[kept])
    torch.testing.assert_close(total, total_kept)
    torch.testing.assert_close(per_case[kept], per_case_kept)
    torch.testing.assert_close(gradient[kept], gradient_kept)
    assert gradient[hidden].abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_unknown_labels_do_not_count_as_facts(method: type[Strategy], kind: str) -> None:
    """Methods that mix images refuse unknown labels instead."""
    data = make_data(kind, ())
    unknown = Data(data.x, data.target.clone(), data.mask.clone(), kind)
    unknown.mask[::4] = 0
    unknown.target[::4] = 1 - unknown.target[::4]
    keep = torch.arange(N) % 4 != 0
    dropped = Data(data.x[keep], data.target[keep], data.mask[keep], kind)
    one, other = made(method), made(method)
    if method.name in MIXERS:
        with pytest.raises(ConfigError, match="labels are unknown"):
            one.fit(unknown.facts)
        return
    one.fit(unknown.facts)
    other.fit(dropped.facts)
    shift, expected = one.log_prior_shift(), other.log_prior_shift()
    assert (shift is None) == (expected is None)
    if shift is not None and expected is not None:
        torch.testing.assert_close(shift, expected)
    drawn, kept = one.sample_weights(), other.sample_weights()
    if drawn is not None and kept is not None:
        assert drawn[~keep].abs().max() == 0
        torch.testing.assert_close(drawn[keep] / drawn.sum(), kept / kept.sum())


# classes are interchangeable


@every
def test_class_order_does_not_matter(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    order = torch.tensor([2, 1, 0])  # not a rotation: weights off by one class would rotate along
    data = make_data(kind, space)
    turned = Data(data.x, data.target[:, order], data.mask[:, order], kind, tuple(CLASSES[i] for i in order))
    stack, stack_turned = stack_of(data, one := made(method)), stack_of(turned, other := made(method))
    logits, target, mask, ids = batch_of(data)
    total, per_case, gradient = loss_of(stack, logits, target, mask, ids)
    expected = loss_of(stack_turned, logits[:, order], target[:, order], mask[:, order], ids)
    torch.testing.assert_close(total, expected[0])
    torch.testing.assert_close(per_case, expected[1])
    torch.testing.assert_close(gradient[:, order], expected[2])
    torch.testing.assert_close(stack.adjust(logits)[:, order], stack_turned.adjust(logits[:, order]))
    shift, shift_turned = one.log_prior_shift(), other.log_prior_shift()
    if shift is not None and shift_turned is not None and shift.dim():
        torch.testing.assert_close(shift[order], shift_turned)
    for hook in ("sample_weights", "head_sample_weights"):
        if implements(one, hook):
            labels = () if hook == "sample_weights" else (data.target, data.mask)
            labels_turned = () if hook == "sample_weights" else (turned.target, turned.mask)
            torch.testing.assert_close(getattr(one, hook)(*labels), getattr(other, hook)(*labels_turned))


# randomness


@every
def test_global_generators_neither_matter_nor_move(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        outcomes.append(train(data, made(method)))
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()
        assert before[2] == random.getstate()
    assert torch.equal(outcomes[0].logits, outcomes[1].logits)


@every
def test_cases_come_in_the_same_order_in_every_arm(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    outcome = train(data, strategy := made(method))
    if strategy.sample_weights() is None:
        assert outcome.order == train(data).order
    else:
        assert outcome.order == train(data, made(method)).order


@pytest.mark.parametrize("kind", KINDS)
def test_each_strategy_has_its_own_stream(kind: str) -> None:
    """An arm that gains a method draws the same numbers for the others; no two methods draw alike."""

    class Probe(Strategy):
        place = "inputs"
        source = "a test"

        def __init__(self, name: str) -> None:
            self.name = name  # type: ignore[misc]
            self.drawn: dict[str, list[Tensor]] = {}

        def _note(self, hook: str, rng: torch.Generator) -> None:
            self.drawn.setdefault(hook, []).append(torch.rand(3, generator=rng))

        def mix_inputs(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            self._note("inputs", rng)
            return x, y

        def mix_features(self, z: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            self._note("features", rng)
            return z, y

        def start_epoch(self, epoch: int, model: torch.nn.Module, rng: torch.Generator) -> None:
            self._note("epoch", rng)

        def start_head(self, model: torch.nn.Module, rng: torch.Generator) -> None:
            self._note("head", rng)

    data = make_data(kind, ())
    alone, first, second = Probe("second"), Probe("first"), Probe("second")
    train(data, alone, head_phase=True)
    train(data, first, second, head_phase=True)
    assert set(alone.drawn) == {"inputs", "features", "epoch", "head"}
    for hook, draws in alone.drawn.items():
        for mine, again, others in zip(draws, second.drawn[hook], first.drawn[hook], strict=True):
            assert torch.equal(mine, again), hook
            assert not torch.equal(mine, others), hook


# resume


@every
def test_resume_is_exact(method: type[Strategy], kind: str, space: tuple[int, ...]) -> None:
    data = make_data(kind, space)
    for step in (2, 5):
        whole = train(data, made(method), save_at=step)
        resumed = train(data, made(method), resume=whole.checkpoint)
        assert torch.equal(whole.logits, resumed.logits)
        for key, value in whole.weights.items():
            assert torch.equal(value, resumed.weights[key]), key


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_deployed_gives_the_weights_back(method: type[Strategy]) -> None:
    data = make_data(method.kinds[0], ())
    stack = stack_of(data, made(method))
    model = torch.nn.Module()
    model.head = torch.nn.Linear(3, 2)
    rng = torch.Generator().manual_seed(0)
    for step in range(1, 4):
        model.head.weight.data.copy_(torch.randn(2, 3, generator=rng))
        stack.after_step(step, model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with stack.deployed(model):
        changed = not torch.equal(model.head.weight, before["head.weight"])
    assert changed == implements(stack.strategies[0], "deployed")
    with pytest.raises(RuntimeError, match="validation broke"), stack.deployed(model):
        raise RuntimeError("validation broke")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_a_step_of_length_zero_leaves_every_bit(method: type[Strategy]) -> None:
    """Whatever `step` does on its way, only the optimiser moves the weights; here it does not."""
    stack = stack_of(make_data(method.kinds[0], ()), made(method))
    rng = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(100, generator=rng))

    def closure(rows: Tensor | None = None) -> Tensor:
        weight.grad = None
        loss = (weight**4).sum()
        loss.backward()
        return loss.detach()

    before = weight.detach().clone()
    target = torch.eye(3)[[0, 1, 2, 0]] if method.kinds[0] == "exclusive" else torch.ones(4, 3)
    batch = {"x": torch.zeros(4, 1), "target": target, "mask": torch.ones(4, 3), "ids": torch.arange(4)}
    optimiser = torch.optim.SGD([weight], lr=0.0, momentum=0.9)
    for _ in range(3):
        stack.step(closure, optimiser, batch)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [m for m in ALL if implements(made(m), "loss")], ids=lambda m: m.name)
def test_rowwise_means_that_batches_can_be_joined(method: type[Strategy], kind: str) -> None:
    """A row-wise loss of two joined batches is the mean of the parts, weighted by their known labels; others say so."""
    if kind not in method.kinds:
        pytest.skip(f"the method does not serve {kind} labels")
    data = make_data(kind, ())
    stack = stack_of(data, strategy := made(method))
    logits, target, mask, ids = batch_of(data)
    mask = mask.clone()
    mask[0] = 0
    mask[5, 1] = 0
    parts = [slice(0, 3), slice(3, B)]
    sizes = [labels_known(mask[part], kind) for part in parts]
    joined, _ = stack.loss(logits, target, mask, ids, 0)
    alone = [stack.loss(logits[part], target[part], mask[part], ids[part], 0)[0] for part in parts]
    mean = sum(size * loss for size, loss in zip(sizes, alone, strict=True)) / sum(sizes)
    # a loss that learns is its own in every run, so it may not be joined although it could be in one state
    assert torch.allclose(joined, mean, rtol=1e-5) == (strategy.rowwise or implements(strategy, "state_dict"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [m for m in ALL if implements(made(m), "loss")], ids=lambda m: m.name)
def test_weights_of_cases_and_classes_enter_the_loss(method: type[Strategy], kind: str) -> None:
    """A case of weight 0 pulls nothing; a row-wise loss is the mean of weight times what each case costs."""
    if kind not in method.kinds or not method.takes_weights:
        pytest.skip(f"the method does not serve {kind} labels with weights")
    logits, target, mask, ids = batch_of(data := make_data(kind, ()))
    logits.requires_grad_()
    weight = torch.tensor([3.0, 0, 1, 2, 0.5, 4, 1, 1.5]).unsqueeze(1)
    stack_of(data, strategy := made(method))
    total, per_case = strategy.loss(logits, target, mask, weight.expand_as(target), ids)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient[1].abs().max() == 0
    assert (gradient.abs().amax(1) > 0).sum() == B - 1
    if strategy.rowwise:
        assert per_case is not None
        torch.testing.assert_close(total.detach(), (weight[:, 0] * per_case).mean())


def test_weights_without_a_place_are_refused_by_name() -> None:
    pairwise = [m for m in ALL if not m.takes_weights]
    assert pairwise
    for method in pairwise:
        for kind in method.kinds:
            for weigher in ("class_weights", "deferred_reweighting"):  # the latter weighs in late epochs alone
                with pytest.raises(ConfigError, match=f"'{method.name}' cannot use the case weights of '{weigher}'"):
                    fitted(kind, made(method), *instances(weigher))
            fitted(kind, made(method), *instances("class_balanced_sampling"))
