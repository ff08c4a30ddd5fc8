"""Balanced softmax: a scalar loop from Ren et al., and the sign that a published code base has reversed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.decisions.logit_adjustment import LogitAdjustment
from raresight.strategies.losses.balanced_softmax import BalancedSoftmax
from raresight.strategies.losses.cross_entropy import cross_entropy

COUNTS = [80, 15, 5]


def _fitted(kind: str, tau: float = 1.0) -> BalancedSoftmax:
    if kind == "exclusive":
        target = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(COUNTS))]
    else:
        target = torch.stack([(torch.arange(100) < n).float() for n in COUNTS], 1)
    method = BalancedSoftmax(tau=tau)
    method.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def _loss(method: BalancedSoftmax, logits: Tensor, target: Tensor) -> Tensor:
    ones = torch.ones_like(target)
    return method.loss(logits, target, ones, ones, torch.arange(len(target)))[0]


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_exclusive_against_a_scalar_loop(tau: float) -> None:
    """Ren et al. eq. 4: -log( n_y e^z_y / sum_j n_j e^z_j ), n to the power tau."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = [0, 1, 2, 2]
    expected = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        terms = [n**tau * math.exp(z) for n, z in zip(COUNTS, row, strict=True)]
        expected -= math.log(terms[label] / sum(terms)) / 4
    target = torch.eye(3, dtype=torch.float64)[labels]
    assert _loss(_fitted("exclusive", tau), logits, target).item() == pytest.approx(expected, rel=1e-9)


def test_independent_by_hand() -> None:
    # logit 0, prior 0.05, positive: sigmoid(0 + log(5/95)) = 0.05
    target = torch.tensor([[0.0, 0.0, 1.0]])
    expected = -(math.log(1 - 0.8) + math.log(1 - 0.15) + math.log(0.05)) / 3
    assert _loss(_fitted("independent"), torch.zeros(1, 3), target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_a_rare_truth_pulls_harder(kind: str) -> None:
    """At equal logits the pull on a rare truth's logit exceeds plain training's; on a common truth it falls short."""
    pulls = {}
    for tau in (0.0, 1.0):
        for label in (0, 2):
            z = torch.zeros(1, 3, requires_grad=True)
            _loss(_fitted(kind, tau), z, torch.eye(3)[[label]]).backward()
            assert z.grad is not None
            pulls[tau, label] = -z.grad[0, label].item()
    assert pulls[1.0, 2] > pulls[0.0, 2] > 0
    assert 0 < pulls[1.0, 0] < pulls[0.0, 0]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_it_is_plain_training_followed_by_logit_adjustment(kind: str, tau: float) -> None:
    """Of any model: plain loss of its logits = this loss of its logits after post-hoc adjustment, to 1e-6."""
    method = _fitted(kind, tau)
    posthoc = LogitAdjustment(tau=tau)
    target = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(COUNTS))]
    if kind == "independent":
        target = torch.stack([(torch.arange(100) < n).float() for n in COUNTS], 1)
    posthoc.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    logits = 3 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones_like(target)
    plain, _ = cross_entropy(logits, target.double(), ones, ones, kind=kind)  # type: ignore[arg-type]
    adjusted = posthoc.adjust(logits)
    torch.testing.assert_close(_loss(method, adjusted, target.double()), plain, rtol=0, atol=1e-6)
    assert (_loss(method, logits, target.double()) - plain).abs() > 0.01  # so that the test could have failed


def test_equal_classes_are_plain_training() -> None:
    target = torch.eye(3)
    method = BalancedSoftmax()
    method.fit(Facts("exclusive", ("a", "b", "c"), target, torch.ones_like(target)))
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(_loss(method, logits, target), torch.nn.functional.cross_entropy(logits, target))


@pytest.mark.parametrize("tau", [-0.1, 11, math.inf])
def test_settings_out_of_range(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 10\]"):
        BalancedSoftmax(tau=tau)
