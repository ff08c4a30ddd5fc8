"""Mixup against a loop over the batch, with the labels as carefully as the images."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies.inputs import mixup
from raresight.strategies.inputs.mixing import beta
from raresight.strategies.inputs.mixup import Mixup
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coded(n: int = 8) -> tuple[Tensor, Tensor]:
    """Image i is constant 2^-i and its label is row i of the identity: a mixture names its parents in both."""
    x = torch.pow(2.0, -torch.arange(n)).view(n, 1, 1, 1).expand(n, 3, 4, 4).contiguous()
    return x, torch.eye(n)


def test_labels_are_mixed_with_the_lambda_of_the_images() -> None:
    x, y = coded()
    mixed, soft = Mixup(alpha=1.0).mix_inputs(x, y, rng())
    # were labels left alone, or mixed with another lambda or partner, this product would not be the image
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ x[:, 0, 0, 0], atol=1e-6, rtol=0)
    assert ((soft > 0) & (soft < 1)).any(1).sum() >= 4  # they are soft, where the partner is another image


def test_equals_equation_1_in_a_loop() -> None:
    x, y = torch.rand(6, 3, 5, 5, generator=rng(1)), torch.rand(6, 4, generator=rng(2)).round()
    mixed, soft = Mixup(alpha=0.4).mix_inputs(x, y, rng(7))
    replay = rng(7)
    partner, weight = torch.randperm(6, generator=replay), beta(6, 0.4, 0.4, replay)
    for i in range(6):
        j, own = int(partner[i]), float(weight[i])
        torch.testing.assert_close(mixed[i], own * x[i] + (1 - own) * x[j])
        torch.testing.assert_close(soft[i], own * y[i] + (1 - own) * y[j])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    draws = beta(20000, alpha, alpha, rng())
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))
    assert draws.mean().item() == pytest.approx(0.5, abs=0.015)
    assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_a_tiny_alpha_gives_numbers() -> None:
    draws = beta(20000, 0.001, 0.001, rng())
    assert torch.isfinite(draws).all()
    assert ((draws >= 0) & (draws <= 1)).all()


def test_exclusive_labels_keep_sum_one_and_class_frequencies_their_mean() -> None:
    x, y = torch.rand(500, 1, 2, 2), torch.eye(3)[torch.tensor([0] * 50 + [1] * 150 + [2] * 300)]
    _, soft = Mixup(alpha=1.0).mix_inputs(x, y, rng())
    torch.testing.assert_close(soft.sum(1), torch.ones(500))
    # every label is one partner of a permutation: only the draw of lambda moves the mean
    torch.testing.assert_close(soft.mean(0), torch.tensor([0.1, 0.3, 0.6]), atol=0.03, rtol=0)


def test_dense_labels_are_mixed_pixel_by_pixel() -> None:
    x, y = torch.rand(4, 1, 6, 6), torch.rand(4, 2, 6, 6)
    mixed, soft = Mixup(alpha=1.0).mix_inputs(x, y, rng(3))
    replay = rng(3)
    partner, weight = torch.randperm(4, generator=replay), beta(4, 1.0, 1.0, replay).float().view(4, 1, 1, 1)
    torch.testing.assert_close(soft, weight * y + (1 - weight) * y[partner])
    torch.testing.assert_close(mixed, weight * x + (1 - weight) * x[partner])


def test_neutral_and_single_batches_stay_bit_for_bit() -> None:
    x, y = coded()
    for method, n in ((Mixup(**Mixup.neutral()), 8), (Mixup(alpha=1.0), 1)):
        mixed, soft = method.mix_inputs(x[:n], y[:n], rng())
        assert torch.equal(mixed, x[:n])
        assert torch.equal(soft, y[:n])


def test_a_batch_of_two_is_mixed() -> None:
    x, y = coded(2)
    assert any(not torch.equal(Mixup(alpha=1.0).mix_inputs(x, y, rng(seed))[0], x) for seed in range(12))


def test_the_given_generator_alone_decides() -> None:
    x, y = coded()
    torch.manual_seed(1)
    first = Mixup().mix_inputs(x, y, rng(5))[0]
    torch.manual_seed(2)
    assert torch.equal(first, Mixup().mix_inputs(x, y, rng(5))[0])
    assert not torch.equal(first, Mixup().mix_inputs(x, y, rng(6))[0])


def test_unknown_labels_and_wrong_settings_are_refused() -> None:
    mask = torch.ones(3, 2)
    mask[1, 0] = 0
    with pytest.raises(ConfigError, match="1 training labels are unknown"):
        Mixup().fit(Facts("independent", ("a", "b"), torch.zeros(3, 2), mask))
    with pytest.raises(ConfigError, match="alpha is -1"):
        Mixup(alpha=-1)


def test_the_example_runs() -> None:
    result = doctest.testmod(mixup)
    assert result.attempted > 0
    assert result.failed == 0


def test_unknown_labels_are_no_trouble_where_nothing_is_mixed() -> None:
    target = torch.eye(2)
    facts = Facts("exclusive", ("a", "b"), target, torch.tensor([[1.0], [0.0]]))
    Mixup(alpha=0).fit(facts)
    with pytest.raises(ConfigError, match="2 training labels are unknown"):
        Mixup(alpha=0.2).fit(facts)
