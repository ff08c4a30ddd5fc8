"""Class-balanced focal loss: a scalar loop, its two parts as special cases, and the seed study's alpha."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack, Strategy
from raresight.strategies.losses.class_balanced_focal import ClassBalancedFocal
from raresight.strategies.losses.class_weights import ClassWeights
from raresight.strategies.losses.focal import Focal

COUNTS = [60, 30, 10]


def _facts(kind: str) -> Facts:
    if kind == "exclusive":
        target = torch.eye(3)[torch.arange(3).repeat_interleave(torch.tensor(COUNTS))]
    else:
        target = torch.stack([(torch.arange(100) < n).float() for n in COUNTS], 1)
    return Facts(kind, ("a", "b", "c"), target, torch.ones_like(target))  # type: ignore[arg-type]


def _draw(kind: str) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(6, 3, generator=rng, dtype=torch.float64)
    if kind == "exclusive":
        return logits, torch.eye(3, dtype=torch.float64)[[0, 1, 2, 2, 1, 0]]
    return logits, (torch.rand(6, 3, generator=rng) < 0.4).double()


def _loss(kind: str, *strategies: Strategy) -> tuple[Tensor, Tensor]:
    facts = _facts(kind)
    stack = Stack(strategies, Task(facts.kind, facts.classes))
    stack.fit(facts)
    logits, target = _draw(kind)
    total, per_case = stack.loss(logits, target, torch.ones_like(target), torch.arange(6), 0)
    assert per_case is not None
    return total, per_case


def _effective(n: int, beta: float) -> float:
    return sum(beta**i for i in range(n))  # the effective number of Cui et al., as the sum it stands for


def test_exclusive_against_a_scalar_loop() -> None:
    beta, gamma = 0.9, 1.5
    raw = [1 / _effective(n, beta) for n in COUNTS]
    mean = sum(n * r for n, r in zip(COUNTS, raw, strict=True)) / 100
    logits, target = _draw("exclusive")
    expected, plain = 0.0, []
    for row, label in zip(logits.tolist(), target.argmax(1).tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(z) for z in row)
        plain.append(-((1 - p) ** gamma) * math.log(p))
        expected += raw[label] / mean * plain[-1] / len(logits)
    total, per_case = _loss("exclusive", ClassBalancedFocal(gamma=gamma, beta=beta))
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert per_case.tolist() == pytest.approx(plain, rel=1e-6)  # unweighted


def test_independent_is_focal_with_an_alpha_per_class() -> None:
    """imba-explain: alpha = a / (1 + a), a = E(negatives) / E(positives); the same up to one factor per class."""
    beta, gamma = 0.9, 2.0
    method = ClassBalancedFocal(gamma=gamma, beta=beta)
    method.fit(_facts("independent"))
    logits, target = _draw("independent")
    weight = method.case_weights(target, torch.arange(6), 0)
    for k, n in enumerate(COUNTS):
        ratio = _effective(100 - n, beta) / _effective(n, beta)
        alpha = ratio / (1 + ratio)
        scale = 1 / (n / 100 * alpha + (1 - n / 100) * (1 - alpha))  # mean weight over the training labels 1
        theirs = sigmoid_focal_loss(logits[:, k], target[:, k], alpha=alpha, gamma=gamma, reduction="none") * scale
        one, ids = torch.ones(6, 1, dtype=torch.float64), torch.arange(6)
        for row in range(6):
            ours, _ = method.loss(
                logits[row : row + 1, k : k + 1],
                target[row : row + 1, k : k + 1],
                one[:1],
                weight[row : row + 1, k : k + 1],
                ids[:1],
            )
            torch.testing.assert_close(ours, theirs[row])


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_gamma_zero_is_effective_class_weights(kind: str) -> None:
    ours = _loss(kind, ClassBalancedFocal(gamma=0, beta=0.95))
    torch.testing.assert_close(ours, _loss(kind, ClassWeights(scheme="effective", beta=0.95)))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_beta_zero_is_focal(kind: str) -> None:
    torch.testing.assert_close(_loss(kind, ClassBalancedFocal(gamma=1.5, beta=0)), _loss(kind, Focal(gamma=1.5)))


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_it_is_its_two_parts_in_one_arm(kind: str) -> None:
    apart = _loss(kind, ClassWeights(scheme="effective", beta=0.95), Focal(gamma=1.5))
    torch.testing.assert_close(_loss(kind, ClassBalancedFocal(gamma=1.5, beta=0.95)), apart)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_direction_a_rare_truth_pulls_harder_than_a_common_one(kind: str) -> None:
    facts = _facts(kind)
    stack = Stack([ClassBalancedFocal()], Task(facts.kind, facts.classes))
    stack.fit(facts)
    pulls = []
    for label in range(3):
        z = torch.zeros(1, 3, requires_grad=True)
        target = torch.eye(3)[[label]]
        stack.loss(z, target, torch.ones(1, 3), torch.arange(1), 0)[0].backward()
        assert z.grad is not None
        pulls.append(-z.grad[0, label].item())
    assert 0 < pulls[0] < pulls[1] < pulls[2]


@pytest.mark.parametrize(("gamma", "beta", "defined"), [(0.0, 0.9, True), (0.5, 0.9, False), (0.5, 0.0, False)])
def test_prior_is_defined_for_gamma_zero_alone(gamma: float, beta: float, defined: bool) -> None:
    method = ClassBalancedFocal(gamma=gamma, beta=beta)
    method.fit(_facts("independent"))
    shift = method.log_prior_shift()
    assert method.compensates() == (beta > 0)
    assert (shift is not None) == defined
    if shift is not None:
        expected = [_effective(100 - n, beta) / _effective(n, beta) for n in COUNTS]
        torch.testing.assert_close(shift.exp(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"beta": 1.0}, r"\[0, 1\)"), ({"beta": -0.1}, r"\[0, 1\)"), ({"gamma": -1}, r"\[0, 20\]"), ({"gamma": 21}, "20")],
)
def test_settings_out_of_range(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        ClassBalancedFocal(**settings)
    assert refusal.value.problems[0].column == f"class_balanced_focal.{next(iter(settings))}"
