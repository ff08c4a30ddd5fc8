"""VS loss: scalar loops from Kini et al., balanced softmax as a special case, and what its factors ask for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.losses.balanced_softmax import BalancedSoftmax
from raresight.strategies.losses.cross_entropy import cross_entropy
from raresight.strategies.losses.vs import VS

EXCLUSIVE, INDEPENDENT = [80, 15, 5], [90, 15, 5]


def _facts(kind: str, counts: list[int] | None = None) -> Facts:
    if kind == "exclusive":
        counts = counts or EXCLUSIVE
        target = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(counts))]
    else:
        target = torch.stack([(torch.arange(100) < n).float() for n in counts or INDEPENDENT], 1)
    return Facts(kind, ("a", "b", "c"), target, torch.ones_like(target))  # type: ignore[arg-type]


def _fitted(kind: str, gamma: float, tau: float) -> VS:
    method = VS(gamma=gamma, tau=tau)
    method.fit(_facts(kind))
    return method


def _draw(kind: str) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 3, generator=rng, dtype=torch.float64)
    if kind == "exclusive":
        return logits, torch.eye(3, dtype=torch.float64)[[0, 1, 2, 2]]
    return logits, (torch.rand(4, 3, generator=rng) < 0.5).double()


def _loss(method: VS, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    ones = torch.ones_like(target)
    total, per_case = method.loss(logits, target, ones, ones, torch.arange(len(target)))
    assert per_case is not None
    return total, per_case


@pytest.mark.parametrize(("gamma", "tau"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.15, 1.25)])
def test_exclusive_against_a_scalar_loop(gamma: float, tau: float) -> None:
    """-log( e^(D_y z_y + i_y) / sum_k e^(D_k z_k + i_k) ), D_k = (n_k / n_max)^gamma, i_k = tau log pi_k."""
    logits, target = _draw("exclusive")
    expected = []
    for row, label in zip(logits.tolist(), target.argmax(1).tolist(), strict=True):
        terms = [math.exp((n / 80) ** gamma * z + tau * math.log(n / 100)) for n, z in zip(EXCLUSIVE, row, strict=True)]
        expected.append(-math.log(terms[label] / sum(terms)))
    total, per_case = _loss(_fitted("exclusive", gamma, tau), logits, target)
    assert per_case.tolist() == pytest.approx(expected, rel=1e-9)
    assert total.item() == pytest.approx(sum(expected) / 4, rel=1e-9)


@pytest.mark.parametrize(("gamma", "tau"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.15, 1.25)])
def test_independent_against_a_scalar_loop(gamma: float, tau: float) -> None:
    """log(1 + e^(i_y) e^(-D_y y z)), y = +1 or -1, i_y = -+ tau log(pi / (1 - pi)), D_y = (n_y / n_max)^gamma."""
    logits, target = _draw("independent")
    expected = []
    for row, labels in zip(logits.tolist(), target.tolist(), strict=True):
        values = []
        for z, label, n in zip(row, labels, INDEPENDENT, strict=True):
            sign, mine = (1, n) if label else (-1, 100 - n)
            iota = -sign * tau * math.log(n / (100 - n))
            delta = (mine / max(n, 100 - n)) ** gamma
            values.append(math.log(1 + math.exp(iota) * math.exp(-delta * sign * z)))
        expected.append(sum(values) / 3)
    total, per_case = _loss(_fitted("independent", gamma, tau), logits, target)
    assert per_case.tolist() == pytest.approx(expected, rel=1e-7)
    assert total.item() == pytest.approx(sum(expected) / 4, rel=1e-7)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gamma_zero_is_balanced_softmax(kind: str, tau: float) -> None:
    logits, target = _draw(kind)
    balanced = BalancedSoftmax(tau=tau)
    balanced.fit(_facts(kind))
    ones = torch.ones_like(target)
    expected = balanced.loss(logits, target, ones, ones, torch.arange(4))
    method = _fitted(kind, 0, tau)
    torch.testing.assert_close(_loss(method, logits, target), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(method.log_prior_shift(), balanced.log_prior_shift())


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_both_zero_are_plain_training(kind: str) -> None:
    logits, target = _draw(kind)
    ones = torch.ones_like(target)
    plain = cross_entropy(logits, target, ones, ones, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(_loss(_fitted(kind, 0, 0), logits, target), plain, rtol=1e-7, atol=1e-7)


def test_factors_by_hand() -> None:
    torch.testing.assert_close(
        _fitted("exclusive", 0.5, 0).positive_, torch.tensor([1, (15 / 80) ** 0.5, 0.25], dtype=torch.float64)
    )
    independent = _fitted("independent", 0.5, 0)  # a: 90 of 100 are positive, so its negatives are the rare side
    torch.testing.assert_close(
        independent.positive_, torch.tensor([1, (15 / 85) ** 0.5, (5 / 95) ** 0.5], dtype=torch.float64)
    )
    torch.testing.assert_close(independent.negative_, torch.tensor([1 / 3, 1, 1], dtype=torch.float64))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_absent_class_gets_factor_one_and_nothing_added(kind: str) -> None:
    method = VS(gamma=0.5)
    method.fit(_facts(kind, [80, 20, 0] if kind == "exclusive" else [100, 20, 0]))
    assert method.positive_[2] == method.negative_[2] == 1
    assert method.offset_[2] == 0
    if kind == "independent":  # a class that every case has
        assert method.positive_[0] == method.negative_[0] == 1
        assert method.offset_[0] == 0


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_the_rare_truth_must_end_with_the_wider_margin(kind: str) -> None:
    """When all cases are right already, the same small loss asks the rare truth for a higher logit."""
    method = _fitted(kind, 0.3, 0)
    margins = {}
    for label in (0, 2):
        target = torch.eye(3, dtype=torch.float64)[[label]]
        low, high = 0.0, 200.0
        for _ in range(60):  # bisection on the truth's own logit; the others are held far down
            middle = (low + high) / 2
            logits = torch.where(target > 0, middle, torch.tensor(-300.0 if kind == "independent" else 0.0)).double()
            low, high = (middle, high) if _loss(method, logits, target)[0] > 1e-3 else (low, middle)
        margins[label] = low
    plain = {0: 1.0, 2: (5 / 80) ** 0.3} if kind == "exclusive" else {0: 1.0, 2: (5 / 95) ** 0.3}
    assert margins[2] > 1.5 * margins[0]
    assert margins[2] * plain[2] == pytest.approx(margins[0] * plain[0], rel=1e-6)  # scaled logits agree


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_the_shift_pulls_the_rare_truth_harder(kind: str) -> None:
    """The factors alone pull it less than plain training does, as the paper warns."""
    pulls = {}
    for gamma, tau in ((0.0, 0.0), (0.0, 1.25), (0.15, 0.0), (0.15, 1.25)):
        z = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        _loss(_fitted(kind, gamma, tau), z, torch.eye(3, dtype=torch.float64)[[2]])[0].backward()
        assert z.grad is not None
        pulls[gamma, tau] = -z.grad[0, 2].item()
    assert pulls[0.0, 1.25] > pulls[0.0, 0.0] > pulls[0.15, 0.0] > 0
    assert pulls[0.15, 1.25] > pulls[0.15, 0.0]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_no_prior_is_claimed_with_factors(kind: str) -> None:
    assert _fitted(kind, 0.1, 1).log_prior_shift() is None
    assert _fitted(kind, 0.1, 1).compensates()
    assert not _fitted(kind, 0, 1).compensates()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": -0.1}, r"\[0, 1\]"),
        ({"gamma": 1.1}, r"\[0, 1\]"),
        ({"tau": -1}, r"\[0, 10\]"),
        ({"tau": 11}, r"\[0, 10\]"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        VS(**settings)
    assert refusal.value.problems[0].column == f"vs.{next(iter(settings))}"
    assert VS(gamma=1, tau=10).tau == 10
