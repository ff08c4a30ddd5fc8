"""Uncertainty weighting: the objective and its step by hand and by autograd, bounds, and where s comes to rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.uncertainty import BOUND, Uncertainty

IDS = torch.arange(6)


def _fitted(lr: float = 0.1, s: list[float] | None = None) -> Uncertainty:
    method = Uncertainty(lr=lr)
    target = torch.eye(3)
    method.fit(Facts("independent", ("a", "b", "c"), target, torch.ones_like(target)))
    if s is not None:
        method.s_ = torch.tensor(s)
    return method


def _draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(6, 3, generator=rng)
    target = (torch.rand(6, 3, generator=rng) < 0.4).float()
    mask = torch.ones(6, 3)
    mask[:4, 1] = 0  # two of six known
    weight = 0.5 + torch.rand(6, 3, generator=rng)
    return logits, target, mask, weight


def _step(method: Uncertainty, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    total, per_case = method.loss(*batch, IDS[: len(batch[0])])
    assert per_case is not None
    method.observe(IDS[: len(batch[0])], per_case)
    return total, per_case


def _objective(s: Tensor, logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """sum_k r_k (exp(-s_k) L_k + s_k) written out, and the shares r_k."""
    entries = binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    known = mask.sum(0)
    means = torch.stack([entries[mask[:, k] > 0, k].mean() for k in range(3)])
    share = known / known.sum()
    return (share * ((-s).exp() * means + s)).sum(), share


def test_value_and_gradient_against_the_objective() -> None:
    batch, s = _draw(), [0.5, -1.0, 0.2]
    ours, theirs = (batch[0].clone().requires_grad_() for _ in range(2))
    total, per_case = _fitted(s=s).loss(ours, *batch[1:], IDS)
    expected, _ = _objective(torch.tensor(s), theirs, *batch[1:])
    torch.testing.assert_close(total, expected)
    total.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    plain = binary_cross_entropy_with_logits(batch[0], batch[1], reduction="none") * batch[2]
    torch.testing.assert_close(per_case, plain.sum(1) / batch[2].sum(1))  # unweighted, and without s


def test_the_step_is_gradient_descent_on_s() -> None:
    """By autograd on the objective: each class's own bracket, so the gradient over its share of the labels."""
    batch = _draw()
    method = _fitted(lr=0.3, s=[0.5, -1.0, 0.2])
    s = method.s_.clone().requires_grad_()
    value, share = _objective(s, *batch)
    (gradient,) = torch.autograd.grad(value, s)
    _step(method, batch)
    torch.testing.assert_close(method.s_, s.detach() - 0.3 * gradient / share)


def test_the_step_by_hand() -> None:
    """One label at logit 0: L = log 2; s = 0.4 moves by -0.5 (1 - e^-0.4 log 2)."""
    method = _fitted(lr=0.5, s=[0.4, 0.0, 0.0])
    zeros, ones = torch.zeros(1, 3), torch.ones(1, 3)
    total, _ = _step(method, (zeros, ones, ones, ones))
    assert method.s_[0].item() == pytest.approx(0.4 - 0.5 * (1 - math.exp(-0.4) * math.log(2)), rel=1e-6)
    assert total.item() == pytest.approx((math.exp(-0.4) * math.log(2) + 0.4 + 2 * math.log(2)) / 3, rel=1e-6)


def test_at_rest_every_class_adds_the_same() -> None:
    """exp(-s) = 1 / L: weights times losses are all 1; and a small loss has the large weight."""
    method = _fitted(lr=0.2)
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    batch = (logits, torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 3))
    for _ in range(200):
        _step(method, batch)
    losses = binary_cross_entropy_with_logits(logits, torch.ones(1, 3), reduction="none")[0]
    torch.testing.assert_close((-method.s_).exp() * losses, torch.ones(3))
    weight = (-method.s_).exp()
    assert weight[0] > weight[1] > 1 > weight[2]


def test_lr_zero_is_binary_cross_entropy() -> None:
    logits, target, mask, weight = _draw()
    method = _fitted(lr=0)
    for _ in range(2):
        total, _ = _step(method, (logits, target, mask, weight))
        entries = binary_cross_entropy_with_logits(logits, target, reduction="none") * weight * mask
        torch.testing.assert_close(total, entries.sum() / mask.sum())
    assert method.s_.tolist() == [0, 0, 0]


def test_s_stays_within_its_bounds() -> None:
    ones = torch.ones(1, 3)
    method = _fitted(lr=1, s=[0.0, 0.0, 0.0])
    right, wrong = torch.tensor([[50.0, 50.0, 0.0]]), torch.tensor([[50.0, -500.0, 0.0]])
    for _ in range(10):
        total, _ = _step(method, (right, ones, ones, ones))
    assert method.s_[:2].tolist() == [-BOUND, -BOUND]
    assert total.isfinite()
    _step(method, (wrong, ones, ones, ones))
    assert method.s_[1].item() == BOUND == 5
    assert method.s_[0].item() == -BOUND


def test_a_class_without_known_labels_keeps_its_s() -> None:
    method = _fitted(lr=0.5, s=[0.3, 0.3, 0.3])
    logits, target, mask, weight = _draw()
    mask = mask.clone()
    mask[:, 2] = 0
    logits = logits.clone()
    logits[:, 2] = math.inf  # whatever stands there
    _step(method, (logits, target, mask, weight))
    other = _fitted(lr=0.5, s=[0.3, 0.3, 0.3])
    logits[:4, 1] = math.inf  # likewise behind the mask of a class of which some labels are known
    _step(other, (logits, target, mask, weight))
    assert torch.equal(other.s_, method.s_)
    assert other.s_.isfinite().all()
    assert method.s_[2].item() == pytest.approx(0.3)
    assert method.s_[0].item() != pytest.approx(0.3)


def test_elements_of_an_image_count_as_labels() -> None:
    """A `(1, 3, 2)` target is two labels of each class: the same as two cases of one label."""
    logits, target, mask, weight = _draw()
    flat, spread = _fitted(s=[0.5, -1.0, 0.2]), _fitted(s=[0.5, -1.0, 0.2])
    total, _ = _step(flat, (logits, target, mask, weight))
    total_spread, _ = _step(spread, tuple(t.view(3, 2, 3).transpose(1, 2) for t in (logits, target, mask, weight)))
    torch.testing.assert_close(total, total_spread)
    torch.testing.assert_close(flat.s_, spread.s_)


def test_only_the_first_call_of_a_step_counts() -> None:
    once, twice = _fitted(), _fitted()
    batch = _draw()
    _step(once, batch)
    _, per_case = twice.loss(*batch, IDS)
    twice.loss(-batch[0], *batch[1:], IDS)
    twice.observe(IDS, per_case)
    assert torch.equal(once.s_, twice.s_)
    twice.observe(IDS, per_case)  # nothing seen since
    assert torch.equal(once.s_, twice.s_)


def test_state_is_kept_exactly() -> None:
    method, other, batch = _fitted(), _fitted(), _draw()
    _step(method, batch)
    other.loss(-batch[0], *batch[1:], IDS)
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        _step(each, batch)
    assert torch.equal(other.s_, method.s_)
    assert method.s_.abs().min() > 0


def test_no_prior_is_moved() -> None:
    assert _fitted(s=[1.0, 2.0, 3.0]).log_prior_shift().tolist() == [0, 0, 0]
    assert not _fitted().compensates()
    assert Uncertainty.rowwise is False


@pytest.mark.parametrize("lr", [-0.1, 1.1])
def test_settings_out_of_range(lr: float) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\]") as refusal:
        Uncertainty(lr=lr)
    assert refusal.value.problems[0].column == "uncertainty.lr"
    assert Uncertainty(lr=1).lr == 1
