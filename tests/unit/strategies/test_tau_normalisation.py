"""Tau-normalisation: hand-worked rows, what is deployed and what goes on training, and the order beside EMA."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.decisions.tau_normalisation import TauNormalisation
from raresight.strategies.schedules.ema import EMA


class Model(nn.Module):
    def __init__(self, weight: list[list[float]], bias: list[float] | None) -> None:
        super().__init__()
        self.head = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
        self.head.weight.data = torch.tensor(weight)
        if bias is not None:
            self.head.bias.data = torch.tensor(bias)


def _model() -> Model:
    """A common class with a row of length 5, a rare one of length 0.5, and one with a row of zeros."""
    return Model([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0]], [1.0, -2.0, 0.5])


@pytest.mark.parametrize(
    ("tau", "weight", "bias"),
    [
        (0.0, [[3.0, 4.0], [0.3, -0.4], [0.0, 0.0]], [1.0, -2.0, 0.5]),
        (0.5, [[3 / 5**0.5, 4 / 5**0.5], [0.3 * 2**0.5, -0.4 * 2**0.5], [0.0, 0.0]], [1 / 5**0.5, -2 * 2**0.5, 0.5]),
        (1.0, [[0.6, 0.8], [0.6, -0.8], [0.0, 0.0]], [0.2, -4.0, 0.5]),
        (2.0, [[0.12, 0.16], [1.2, -1.6], [0.0, 0.0]], [0.04, -8.0, 0.5]),
    ],
)
def test_rows_by_hand(tau: float, weight: list[list[float]], bias: list[float]) -> None:
    model = _model()
    with TauNormalisation(tau=tau).deployed(model):
        torch.testing.assert_close(model.head.weight.data, torch.tensor(weight))
        torch.testing.assert_close(model.head.bias.data, torch.tensor(bias))
    assert torch.equal(model.head.weight, _model().head.weight)
    assert torch.equal(model.head.bias, _model().head.bias)


def test_tau_one_compares_angles_alone() -> None:
    """Kang et al., section 4.2: with tau 1 and no bias the logits are |z| times cosines."""
    rng = torch.Generator().manual_seed(0)
    model = Model(torch.randn(4, 6, generator=rng).tolist(), None)
    z = torch.randn(5, 6, generator=rng)
    cosines = torch.nn.functional.cosine_similarity(z[:, None], model.head.weight[None], dim=2)
    with torch.no_grad(), TauNormalisation(tau=1).deployed(model):
        torch.testing.assert_close(model.head(z), z.norm(dim=1, keepdim=True) * cosines)


def test_the_logit_is_divided_as_a_whole() -> None:
    model, z = _model(), torch.tensor([[0.7, -1.1]])
    with torch.no_grad():
        plain = model.head(z)
        with TauNormalisation(tau=0.5).deployed(model):
            torch.testing.assert_close(model.head(z), plain * torch.tensor([5**-0.5, 2**0.5, 1.0]))


def test_direction_the_class_with_the_short_row_gains() -> None:
    """Two classes that a case is equally well aligned with: the rare one's share grows with tau."""
    model = Model([[4.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    z, shares = torch.tensor([[1.0, 1.0]]), []
    for tau in (0.0, 0.5, 1.0, 1.5):
        with torch.no_grad(), TauNormalisation(tau=tau).deployed(model):
            shares.append(model.head(z).softmax(1)[0, 1].item())
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[2] == pytest.approx(0.5)
    assert shares[3] > 0.5


def test_weights_come_back_after_an_error() -> None:
    model = _model()
    with pytest.raises(RuntimeError, match="validation broke"), TauNormalisation().deployed(model):
        raise RuntimeError("validation broke")
    assert torch.equal(model.head.weight, _model().head.weight)
    assert torch.equal(model.head.bias, _model().head.bias)


@pytest.mark.parametrize("first", ["ema", "tau_normalisation"])
def test_the_mean_of_weights_is_normalised_whatever_the_order_in_the_arm(first: str) -> None:
    """Were it the other way round, the mean would be written over the normalised rows and nothing would be left."""
    pair = [EMA(decay=0.5), TauNormalisation()]
    stack = Stack(pair if first == "ema" else pair[::-1], Task("exclusive", ("a", "b", "c")), "arm")
    model = _model()
    stack.after_step(1, model)  # the mean begins as these weights
    model.head.weight.data *= torch.tensor([[10.0], [-3.0], [1.0]])
    live = model.head.weight.detach().clone()
    with stack.deployed(model):
        torch.testing.assert_close(model.head.weight.data, torch.tensor([[0.6, 0.8], [0.6, -0.8], [0.0, 0.0]]))
    assert torch.equal(model.head.weight, live)


def test_training_and_the_start_of_a_head_phase_are_left_alone() -> None:
    model = _model()
    stack = Stack([TauNormalisation()], Task("exclusive", ("a", "b", "c")), "arm")
    stack.after_step(1, model)
    stack.end_training(model)
    assert torch.equal(model.head.weight, _model().head.weight)
    assert stack.adjust(torch.ones(1, 3)).tolist() == [[1, 1, 1]]


def test_no_prior_is_claimed_but_for_tau_zero() -> None:
    facts = Facts("exclusive", ("a", "b", "c"), torch.eye(3), torch.ones(3, 3))
    method, plain = TauNormalisation(tau=0.1), TauNormalisation(tau=0)
    method.fit(facts)
    plain.fit(facts)
    assert method.log_prior_shift() is None
    assert method.compensates()
    shift = plain.log_prior_shift()
    assert shift is not None
    assert shift.tolist() == [0, 0, 0]
    assert not plain.compensates()


def test_independent_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="serves exclusive labels"):
        Stack([TauNormalisation()], Task("independent", ("a", "b")), "arm")


@pytest.mark.parametrize("tau", [-0.1, 2.1])
def test_settings_out_of_range(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 2\]") as refusal:
        TauNormalisation(tau=tau)
    assert refusal.value.problems[0].column == "tau_normalisation.tau"
