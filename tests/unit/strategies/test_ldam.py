"""LDAM: the loss of the authors' code, written out, and the direction of its margin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.ldam import LDAM

COUNTS = [625, 81, 16]


def _fitted(kind: str, max_margin: float = 0.5) -> LDAM:
    if kind == "exclusive":
        target = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(COUNTS))]
    else:
        target = torch.stack([(torch.arange(97) < n).float() for n in (16, 81, 0)], 1)
    method = LDAM(max_margin=max_margin)
    method.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def _loss(method: LDAM, logits: Tensor, target: Tensor) -> Tensor:
    ones = torch.ones_like(target)
    return method.loss(logits, target, ones, ones, torch.arange(len(target)))[0]


def test_margins_by_hand() -> None:
    # n^(-1/4) = 1/5, 1/3, 1/2; the largest becomes 0.5
    torch.testing.assert_close(_fitted("exclusive").positive_, torch.tensor([0.2, 1 / 3, 0.5], dtype=torch.float64))
    # 16 of 97 and 81 of 97: n^(-1/4) = 1/2 against 1/3; class c has no positive: plain
    independent = _fitted("independent")
    torch.testing.assert_close(independent.positive_, torch.tensor([0.5, 1 / 3, 0.0], dtype=torch.float64))
    torch.testing.assert_close(independent.negative_, torch.tensor([1 / 3, 0.5, 0.0], dtype=torch.float64))


def test_exclusive_against_a_scalar_loop() -> None:
    """Cao et al. eq. 12-13, term by term."""
    logits = 2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = [0, 1, 2, 2, 1, 0]
    margins = [0.2, 1 / 3, 0.5]
    expected = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        truth = math.exp(row[label] - margins[label])
        others = sum(math.exp(z) for k, z in enumerate(row) if k != label)
        expected -= math.log(truth / (truth + others)) / 6
    target = torch.eye(3, dtype=torch.float64)[labels]
    assert _loss(_fitted("exclusive"), logits, target).item() == pytest.approx(expected, rel=1e-9)


def test_independent_is_the_two_class_case() -> None:
    """One finding with 16 of 97 positives equals exclusive LDAM with classes of 16 and 81 and logits (z, 0)."""
    two = torch.eye(2)[torch.arange(2).repeat_interleave(torch.tensor([16, 81]))]
    exclusive = LDAM()
    exclusive.fit(Facts("exclusive", ("yes", "no"), two, torch.ones_like(two)))
    single = LDAM()
    single.fit(Facts("independent", ("yes",), two[:, :1], torch.ones(97, 1)))
    z = torch.randn(97, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        _loss(single, z, two[:, :1]), _loss(exclusive, torch.cat([z, torch.zeros_like(z)], 1), two)
    )


def test_no_margin_is_cross_entropy() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.cross_entropy(logits, torch.eye(3))
    torch.testing.assert_close(_loss(_fitted("exclusive", 0.0), logits, torch.eye(3)), plain)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_margins_ask_for_more_and_of_the_rare_class_most(kind: str) -> None:
    rare, common = (2, 0) if kind == "exclusive" else (0, 1)
    pulls = {}
    for margin in (0.0, 1.0):
        for label in (rare, common):
            z = torch.zeros(1, 3, requires_grad=True)
            loss = _loss(_fitted(kind, margin), z, torch.eye(3)[[label]])
            loss.backward()
            assert z.grad is not None
            pulls[margin, label] = -z.grad[0, label].item(), loss.item()
    for label in (rare, common):
        assert pulls[1.0, label][0] > pulls[0.0, label][0]  # a margin pulls the truth up harder
        assert pulls[1.0, label][1] > pulls[0.0, label][1]  # and costs more
    assert pulls[1.0, rare][0] > pulls[1.0, common][0]


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 10\]"):
        LDAM(max_margin=-0.5)


def test_a_class_without_cases_or_without_others_has_no_margin_and_sets_none() -> None:
    # 81 and 16 cases and none: the absent class would wish for the widest margin, and the others keep theirs
    target = torch.eye(3)[torch.arange(2).repeat_interleave(torch.tensor([81, 16]))]
    exclusive = LDAM()
    exclusive.fit(Facts("exclusive", ("a", "b", "c"), target, torch.ones_like(target)))
    torch.testing.assert_close(exclusive.positive_, torch.tensor([1 / 3, 0.5, 0.0], dtype=torch.float64))
    assert exclusive.negative_.tolist() == [0, 0, 0]
    # a finding that every case has is as plain as one that no case has
    target = torch.stack([torch.ones(97), (torch.arange(97) < 16).float()], 1)
    independent = LDAM()
    independent.fit(Facts("independent", ("all", "some"), target, torch.ones_like(target)))
    torch.testing.assert_close(independent.positive_, torch.tensor([0.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(independent.negative_, torch.tensor([0.0, 1 / 3], dtype=torch.float64))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_a_prior_is_claimed_and_nothing_compensated_without_margin_alone(kind: str) -> None:
    assert _fitted(kind, 0.1).log_prior_shift() is None
    assert _fitted(kind, 0.1).compensates()
    assert _fitted(kind, 0.0).log_prior_shift().tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert not _fitted(kind, 0.0).compensates()
