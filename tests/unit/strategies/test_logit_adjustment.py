"""Post-hoc logit adjustment: hand-worked logits, and the sign."""

from __future__ import annotations

import math

import pytest
import torch

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.decisions.logit_adjustment import LogitAdjustment


def _fitted(kind: str, counts: list[int], tau: float = 1.0) -> LogitAdjustment:
    n = sum(counts)
    if kind == "exclusive":
        target = torch.eye(len(counts))[torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))]
    else:
        target = torch.stack([(torch.arange(n) < k).float() for k in counts], 1)
    method = LogitAdjustment(tau=tau)
    method.fit(Facts(kind, tuple("abcd"[: len(counts)]), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_exclusive_by_hand(tau: float) -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0]])
    expected = [z - tau * math.log(n / 100) for z, n in zip([2.0, 0.5, -1.0], [80, 15, 5], strict=True)]
    torch.testing.assert_close(_fitted("exclusive", [80, 15, 5], tau).adjust(logits), torch.tensor([expected]))


def test_independent_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    expected = [2.0 - math.log(90 / 10), -1.0 - math.log(10 / 90)]
    torch.testing.assert_close(_fitted("independent", [90, 10]).adjust(logits), torch.tensor([expected]))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_the_rare_class_gains_most(kind: str) -> None:
    gain = _fitted(kind, [80, 15, 5]).adjust(torch.zeros(1, 3))[0]
    assert gain[2] > gain[1] > gain[0]


def test_balanced_prior_is_recovered() -> None:
    """A model that knows nothing says the prior; adjusted, it says that all classes are equally likely."""
    prior = torch.tensor([[0.80, 0.15, 0.05]])
    torch.testing.assert_close(
        _fitted("exclusive", [80, 15, 5]).adjust(prior.log()).softmax(1), torch.full((1, 3), 1 / 3)
    )
    torch.testing.assert_close(
        _fitted("independent", [80, 15, 5]).adjust(torch.logit(prior)).sigmoid(), torch.full((1, 3), 0.5)
    )


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_absent_class_is_left_alone(kind: str) -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0]])
    assert _fitted(kind, [90, 10, 0]).adjust(logits)[0, 2] == -1.0


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 10\]"):
        LogitAdjustment(tau=-1)
