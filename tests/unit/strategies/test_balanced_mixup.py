"""Balanced-MixUp: a loop by hand, whom the partners are, and the released fault that mixes nothing."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies.inputs import balanced_mixup
from raresight.strategies.inputs.balanced_mixup import BalancedMixup
from raresight.strategies.inputs.mixing import beta, mixed
from raresight.strategies.inputs.mixup import Mixup
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(kind: str = "exclusive", alpha: float = 0.2) -> BalancedMixup:
    method = BalancedMixup(alpha=alpha)
    target = torch.eye(3)
    method.fit(Facts(kind, ("a", "b", "c"), target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def batch(counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Image i is 2^-i everywhere, with its label; no two images are equal."""
    y = torch.eye(len(counts))[torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))]
    x = torch.pow(2.0, -torch.arange(len(y), dtype=torch.float64)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return x, y.double()


def test_equals_the_equation_in_a_loop() -> None:
    x, y = batch((4, 2))
    out, soft = fitted(alpha=0.7).mix_inputs(x, y, rng(3))
    replay = rng(3)
    # 4 of the first class and 2 of the second: 1/8 for each of four, 1/4 for each of two
    chance = torch.tensor([1 / 8] * 4 + [1 / 4] * 2, dtype=torch.float64)
    partner = torch.multinomial(chance, 6, replacement=True, generator=replay)
    lam = beta(6, 0.7, 1.0, replay)
    for i in range(6):
        j, share = int(partner[i]), float(lam[i])
        torch.testing.assert_close(out[i], (1 - share) * x[i] + share * x[j])
        torch.testing.assert_close(soft[i], (1 - share) * y[i] + share * y[j])


def test_partners_come_from_a_draw_of_their_own_and_are_mixed_in() -> None:
    """The released loop of LongTailCXR takes both images from one loader's output: x~ = x, and nothing is balanced.

    There image and partner are one row. Here most rows must change, and the partner's class must be balanced.
    """
    x, y = batch((28, 3, 1))
    changed, gained = 0, torch.zeros(3, dtype=torch.float64)
    for seed in range(40):
        out, soft = fitted(alpha=1.0).mix_inputs(x, y, rng(seed))
        changed += int(((out - x).abs().amax((1, 2, 3)) > 1e-9).sum())
        gained += soft.sum(0)
        torch.testing.assert_close(out[:, 0, 0, 0], soft_parents(soft, out, x, y))
    assert changed > 0.9 * 40 * 32
    # lambda ~ Beta(1, 1): half of the labels' mass is natural (28, 3, 1 of 32), half is balanced (1/3 each)
    expected = 40 * 32 * (0.5 * torch.tensor([28, 3, 1]) / 32 + 0.5 / 3)
    torch.testing.assert_close(gained, expected.double(), rtol=0.12, atol=0)


def soft_parents(soft: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Every mixture is a mixture of its own row with one other row: no third picture, no other share in the label."""
    found = []
    for i, picture in enumerate(out[:, 0, 0, 0]):
        value = picture
        for j in range(len(x)):
            between = x[j, 0, 0, 0] - x[i, 0, 0, 0]
            share = (picture - x[i, 0, 0, 0]) / between if between != 0 else torch.zeros(())
            label = (1 - share) * y[i] + share * y[j]
            if -1e-9 <= share <= 1 + 1e-9 and torch.allclose(label, soft[i], atol=1e-9):
                break
        else:
            value = torch.tensor(float("nan"))
        found.append(value)
    return torch.stack(found)


def test_lambda_leaves_the_natural_image_in_front() -> None:
    """Beta(a, 1) has mean a / (1 + a): at 0.2 a sixth, and P(lambda > 1/2) = 1 - 2^-0.2 = 0.13."""
    draws = beta(20000, 0.2, 1.0, rng())
    assert draws.mean().item() == pytest.approx(1 / 6, abs=0.01)
    assert (draws > 0.5).double().mean().item() == pytest.approx(1 - 0.5**0.2, abs=0.01)
    # and it is the own image that dominates: with image 0 white and all others black, its row stays light
    x = torch.zeros(200, 1, 1, 1)
    x[0] = 1
    y = torch.eye(2)[[0] + [1] * 199]
    kept = torch.stack([fitted().mix_inputs(x, y, rng(seed))[0][0, 0, 0, 0] for seed in range(300)])
    # half of its partners are itself (two classes, one of them it alone): 1 - 1/2 * 1/6
    assert kept.mean().item() == pytest.approx(1 - 0.5 / 6, abs=0.02)


def test_direction_rare_labels_gain_over_mixup() -> None:
    x, y = batch((30, 2))
    plain = torch.stack([Mixup(alpha=0.2).mix_inputs(x, y, rng(s))[1].mean(0) for s in range(100)]).mean(0)
    raised = torch.stack([fitted().mix_inputs(x, y, rng(s))[1].mean(0) for s in range(100)]).mean(0)
    assert plain[1].item() == pytest.approx(2 / 32, abs=0.005)
    # (1 - 1/6) 2/32 + 1/6 * 1/2
    assert raised[1].item() == pytest.approx(5 / 6 * 2 / 32 + 1 / 12, abs=0.01)


def test_independent_labels_balance_findings_and_no_finding() -> None:
    """One row with a finding, one with two, six with none: three groups, each a third of the partners."""
    y = torch.zeros(8, 3, dtype=torch.float64)
    y[0, 0] = y[1, 0] = y[1, 1] = 1
    x = torch.arange(8.0, dtype=torch.float64).view(8, 1, 1, 1)
    drawn = torch.zeros(8)
    for seed in range(400):
        replay = rng(seed)
        fitted("independent", 1.0).mix_inputs(x, y, replay)
        # weights: row 0 1/2, row 1 (1/2 + 1) / 2 = 3/4, each of six 1/6; in all 9/4
        weight = torch.tensor([1 / 2, 3 / 4] + [1 / 6] * 6, dtype=torch.float64)
        again = rng(seed)
        partner = torch.multinomial(weight / weight.sum(), 8, replacement=True, generator=again)
        out, soft = fitted("independent", 1.0).mix_inputs(x, y, rng(seed))
        own = 1 - beta(8, 1.0, 1.0, again)
        torch.testing.assert_close(out, mixed(x, partner, own))
        torch.testing.assert_close(soft, mixed(y, partner, own))
        drawn += torch.bincount(partner, minlength=8)
    assert (drawn[0] / drawn.sum()).item() == pytest.approx(2 / 9, abs=0.03)
    assert (drawn[1] / drawn.sum()).item() == pytest.approx(3 / 9, abs=0.03)


def test_dense_labels_are_mixed_pixel_by_pixel() -> None:
    x, y = torch.rand(4, 1, 6, 6, generator=rng(1)), torch.rand(4, 2, 6, 6, generator=rng(2))
    out, soft = fitted(alpha=1.0).mix_inputs(x, y, rng(3))
    share = (out - x) / (out - x).abs().amax((1, 2, 3), keepdim=True)
    assert ((soft - y).abs().amax((1, 2, 3)) > 0).sum() >= 2
    assert torch.isfinite(share[(out - x).abs().amax((1, 2, 3)) > 0]).all()


def test_neutral_and_single_batches_stay_bit_for_bit() -> None:
    x, y = batch((5, 3))
    for method, n in ((BalancedMixup(**BalancedMixup.neutral()), 8), (fitted(alpha=1.0), 1)):
        used = rng()
        out, soft = method.mix_inputs(x[:n], y[:n], used)
        assert torch.equal(out, x[:n])
        assert torch.equal(soft, y[:n])
        assert torch.equal(used.get_state(), rng().get_state())  # nothing to mix, nothing drawn


def test_a_batch_of_two_is_mixed() -> None:
    x, y = batch((1, 1))
    assert any(not torch.equal(fitted(alpha=1.0).mix_inputs(x, y, rng(seed))[0], x) for seed in range(8))


def test_no_shift_is_claimed_and_the_compensation_is_said() -> None:
    assert fitted().log_prior_shift() is None
    assert fitted().compensates()
    assert BalancedMixup(alpha=0).log_prior_shift() == 0
    assert not BalancedMixup(alpha=0).compensates()


def test_unknown_labels_and_wrong_settings_are_refused() -> None:
    mask = torch.ones(3, 2)
    mask[1, 0] = 0
    facts = Facts("independent", ("a", "b"), torch.zeros(3, 2), mask)
    with pytest.raises(ConfigError, match="1 training labels are unknown"):
        BalancedMixup().fit(facts)
    BalancedMixup(alpha=0).fit(facts)
    with pytest.raises(ConfigError, match="alpha is -1"):
        BalancedMixup(alpha=-1)


def test_the_example_runs() -> None:
    result = doctest.testmod(balanced_mixup)
    assert result.attempted > 0
    assert result.failed == 0
