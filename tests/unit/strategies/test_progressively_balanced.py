"""Progressively balanced sampling: plain at first, balanced at the end, the mixture by hand between."""

from __future__ import annotations

import pytest
import torch
from population import Population
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.sampling.progressively_balanced import ProgressivelyBalancedSampling

TARGET = torch.eye(3)[torch.tensor([0] * 6 + [1] * 2 + [2])]
MODEL, RNG = torch.nn.Identity(), torch.Generator()


def _at(
    epoch: int,
    *,
    epochs: int = 5,
    kind: str = "exclusive",
    target: Tensor = TARGET,
    mask: Tensor | None = None,
    **settings: float,
) -> Tensor | None:
    method = ProgressivelyBalancedSampling(**settings)
    mask = torch.ones_like(target) if mask is None else mask
    method.fit(Facts(kind, tuple("abc"[: target.shape[1]]), target, mask, epochs=epochs))  # type: ignore[arg-type]
    method.start_epoch(epoch, MODEL, RNG)
    return method.sample_weights()


def _balanced(kind: str, target: Tensor, **settings: float) -> Tensor | None:
    method = ClassBalancedSampling(**settings)
    method.fit(Facts(kind, tuple("abc"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method.sample_weights()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_first_epoch_plain_last_epoch_class_balanced(kind: str, power: float) -> None:
    assert _at(0, kind=kind, power=power) is None
    torch.testing.assert_close(_at(4, kind=kind, power=power), _balanced(kind, TARGET, power=power))
    assert torch.equal(_at(9, kind=kind, power=power), _at(4, kind=kind, power=power))  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_class_shares_follow_equation_2(epoch: int) -> None:
    """Class j: (1 - t / T) n_j / N + (t / T) / K, with T = 4; counts 6, 2, 1."""
    weights = _at(epoch)
    assert weights is not None
    t = epoch / 4
    expected = [(1 - t) * n / 9 + t / 3 for n in (6, 2, 1)]
    assert (TARGET.double().T @ weights).tolist() == pytest.approx(expected, rel=1e-12)
    assert weights[0] == weights[5]
    assert weights.sum().item() == pytest.approx(1)


def test_direction_the_rare_class_comes_up_more_from_epoch_to_epoch() -> None:
    rare = [weights[-1].item() for epoch in range(1, 5) if (weights := _at(epoch)) is not None]
    assert rare == sorted(rare)
    assert rare[0] > 1 / 9
    assert rare[-1] == pytest.approx(1 / 3)


def test_five_rows_with_several_labels_and_one_unknown() -> None:
    # n = 3 and 1, one row with none, one without any label: b ~ 1/3, 1/3, (1/3 + 1) / 2 = 2/3, 1, 0, summing to 7/3
    target = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0], [1, 1]])
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 1], [1, 1], [0, 0]])
    weights = _at(1, epochs=3, kind="independent", target=target, mask=mask)
    balanced = torch.tensor([1 / 7, 1 / 7, 2 / 7, 3 / 7, 0], dtype=torch.float64)
    plain = torch.tensor([1 / 4, 1 / 4, 1 / 4, 1 / 4, 0], dtype=torch.float64)
    torch.testing.assert_close(weights, (balanced + plain) / 2, rtol=1e-12, atol=0)


def test_one_epoch_and_power_zero_stay_plain() -> None:
    assert _at(0, epochs=1) is None
    assert _at(1, epochs=1) is None
    assert _at(3, power=0) is None
    assert _at(1, epochs=2) is not None


def test_the_last_epoch_asks_for_what_class_balanced_sampling_asks_for() -> None:
    population = Population("exclusive")
    method = ProgressivelyBalancedSampling()
    stack, balanced = population.stack(method), population.stack(ClassBalancedSampling())
    plain = population.prob(population.minimum(stack))
    torch.testing.assert_close(plain, population.posterior, rtol=0, atol=2e-5)
    method.last_ = 3
    method.start_epoch(3, MODEL, RNG)
    found = population.prob(population.minimum(stack))
    torch.testing.assert_close(found, population.prob(population.minimum(balanced)), rtol=0, atol=2e-5)


def test_no_shift_is_claimed_except_for_power_zero() -> None:
    method, neutral = ProgressivelyBalancedSampling(), ProgressivelyBalancedSampling(power=0)
    assert method.log_prior_shift() is None
    assert method.compensates()
    assert neutral.log_prior_shift() == 0
    assert not neutral.compensates()


def test_power_out_of_range() -> None:
    for power in (-0.1, 2.1):
        with pytest.raises(ConfigError, match=r"(?s)power.*\[0, 2\]"):
            ProgressivelyBalancedSampling(power=power)
