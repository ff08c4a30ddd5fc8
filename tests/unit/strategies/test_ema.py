"""EMA: a scalar loop, torch's own averaged model, what happens to buffers, exact restore and exact resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from raresight.core.errors import ConfigError
from raresight.strategies.schedules.ema import EMA


def _walk(model: nn.Module, steps: int, start: int = 0):
    """A model whose weights move at random, deterministically by step."""
    for step in range(start + 1, start + steps + 1):
        rng = torch.Generator().manual_seed(step)
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=rng))
            else:
                value.fill_(step)
        yield step


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize(("decay", "every"), [(0.999, 1), (0.2, 1), (0.5, 3), (0.9, 2)])
def test_against_a_scalar_loop(decay: float, every: int, warmup: bool) -> None:
    """The decay is that of a step, so an update every third step decays three times over."""
    model, method = _model(), EMA(decay=decay, every=every, warmup=warmup)
    average, updates, key = None, 0, "0.weight"
    for step in _walk(model, 12):
        method.after_step(step, model)
        if step % every == 0:
            updates += 1
            d = decay**every
            d = min(d, (1 + updates) / (10 + updates)) if warmup else d
            now = model.state_dict()[key].double()
            average = now.clone() if average is None else d * average + (1 - d) * now
    assert average is not None
    with method.deployed(model):
        torch.testing.assert_close(model.state_dict()[key].double(), average, atol=1e-6, rtol=1e-5)


def test_against_torch_averaged_model() -> None:
    """Below 2/12 the warm-up never binds, so torch's constant decay must agree, buffers included."""
    model, method = _model(), EMA(decay=0.15)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.15), use_buffers=True)
    for step in _walk(model, 6):
        method.after_step(step, model)
        theirs.update_parameters(model)
    with method.deployed(model):
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, theirs.module.state_dict()[key])
            else:
                assert value == 6  # counts are copied, not averaged


def test_without_warm_up_it_is_torch_averaged_model_at_any_decay() -> None:
    """Every third step with decay 0.9 is torch's average of those steps with decay 0.729."""
    model, method = _model(), EMA(decay=0.9, every=3, warmup=False)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.729), use_buffers=True)
    for step in _walk(model, 12):
        method.after_step(step, model)
        if step % 3 == 0:
            theirs.update_parameters(model)
    with method.deployed(model):
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, theirs.module.state_dict()[key])


@pytest.mark.parametrize("buffers", ["estimate", "average", "copy"])
def test_batch_norm_statistics_are_averaged_or_copied(buffers: Any) -> None:
    """Values 1 then 2 at decay 0.5: the weights' mean is 1.5; so is the statistics', unless they are copied."""
    model, method = _model(), EMA(decay=0.5, warmup=False, buffers=buffers)
    for step in (1, 2):
        for value in model.state_dict().values():
            value.fill_(step)
        method.after_step(step, model)
    with method.deployed(model):
        for key, value in model.state_dict().items():
            copied = "num_batches" in key or (buffers == "copy" and "running" in key)
            assert (value == (2 if copied else 1.5)).all(), key


@pytest.mark.parametrize(
    ("settings", "stale"),
    [({}, True), ({"buffers": "average"}, False), ({"buffers": "copy"}, False), ({"decay": 0.0}, False)],
)
def test_statistics_are_estimated_anew_only_where_it_says_so(settings: dict[str, Any], stale: bool) -> None:
    model, method = _model(), EMA(**settings)
    assert not method.stale_statistics()  # before the first update the live weights are deployed
    method.after_step(1, model)
    assert method.stale_statistics() is stale
    method.end_training(model)
    assert not method.stale_statistics()


def test_a_weight_of_two_names_is_averaged_once_and_not_overwritten_by_its_copy() -> None:
    model = nn.ModuleDict({"one": nn.Linear(2, 2, bias=False), "two": nn.Linear(2, 2, bias=False)})
    model["two"].weight = model["one"].weight
    method = EMA(decay=0.5, warmup=False, buffers="copy")
    for step in (1, 2):
        model["one"].weight.data.fill_(step)
        method.after_step(step, model)
    with method.deployed(model):
        assert (model["one"].weight == 1.5).all()


def test_all_weights_are_averaged_in_one_call() -> None:
    """As many operations for sixty tensors as for four, but for one clone or copy each."""
    counts = []
    for n_layers in (2, 30):
        model, method = nn.Sequential(*[nn.Linear(3, 3) for _ in range(n_layers)]), EMA()
        method.after_step(1, model)
        with Counted() as counted:
            method.after_step(2, model)
        counts.append(counted.names)
    assert counts[0] == counts[1] == ["aten::_foreach_lerp_"]


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] not in ("aten::detach", "aten::alias"):
            self.names.append(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


def test_direction_a_longer_memory_moves_less() -> None:
    last = {}
    for decay in (0.1, 0.9):
        model, method = nn.Linear(1, 1, bias=False), EMA(decay=decay)
        for step in range(1, 101):
            model.weight.data.fill_(0.0 if step <= 99 else 1.0)
            method.after_step(step, model)
        with method.deployed(model):
            last[decay] = model.weight.item()
    assert last[0.1] == pytest.approx(0.9, abs=1e-6)
    assert last[0.9] == pytest.approx(0.1, abs=1e-6)


def test_deployed_gives_back_every_bit_and_training_is_untouched() -> None:
    model, method = _model(), EMA()
    for step in _walk(model, 4):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        method.after_step(step, model)
        with method.deployed(model):
            pass
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_end_of_training_writes_the_average_and_stops() -> None:
    model, method = _model(), EMA(decay=0.5)
    for step in _walk(model, 4):
        method.after_step(step, model)
    with method.deployed(model):
        average = {key: value.clone() for key, value in model.state_dict().items()}
    method.end_training(model)
    assert all(torch.equal(value, average[key]) for key, value in model.state_dict().items())
    # a head phase moves the model on; the average must not come back over it
    model.state_dict()["0.weight"].fill_(7.0)
    method.after_step(5, model)
    method.end_training(model)
    with method.deployed(model):
        assert (model.state_dict()["0.weight"] == 7).all()


def test_resume_is_exact() -> None:
    whole, model = EMA(decay=0.9, every=2), _model()
    for step in _walk(model, 9):
        whole.after_step(step, model)
    first, model = EMA(decay=0.9, every=2), _model()
    for step in _walk(model, 5):
        first.after_step(step, model)
    second = EMA(decay=0.9, every=2)
    second.load_state_dict(first.state_dict())
    for step in _walk(model, 4, start=5):
        second.after_step(step, model)
    kept, again = whole.state_dict(), second.state_dict()
    assert kept.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in kept.items())


def test_before_the_first_update_the_model_is_its_own_average() -> None:
    model, method = _model(), EMA(every=10)
    before = model.state_dict()["0.weight"].clone()
    method.after_step(1, model)
    with method.deployed(model):
        assert torch.equal(model.state_dict()["0.weight"], before)
    method.end_training(model)
    assert torch.equal(model.state_dict()["0.weight"], before)


@pytest.mark.parametrize(
    "settings",
    [{"decay": 1.0}, {"decay": -0.1}, {"every": 0}, {"every": 1.5}, {"warmup": 1}, {"buffers": "keep"}],
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\)|>= 1|true or false|one of estimate, average, copy"):
        EMA(**settings)  # type: ignore[arg-type]
