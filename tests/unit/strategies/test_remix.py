"""Remix against a scalar loop over equation 5, its boundaries, and mixup where it must be mixup."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies.inputs import remix
from raresight.strategies.inputs.mixing import beta
from raresight.strategies.inputs.mixup import Mixup
from raresight.strategies.inputs.remix import Remix
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(counts: tuple[int, ...], kind: str = "exclusive") -> Facts:
    target = torch.eye(len(counts))[torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))]
    names = tuple("abcdef"[: len(counts)])
    return Facts(kind, names, target, torch.ones_like(target))  # type: ignore[arg-type]


def fitted(counts: tuple[int, ...] = (60, 20, 4), kind: str = "exclusive", **settings: float) -> Remix:
    method = Remix(**settings)  # type: ignore[arg-type]
    method.fit(facts(counts, kind))
    return method


def equation_5(own: float, n_i: float, n_j: float, kappa: float, tau: float) -> float:
    if n_j == 0 or n_i / n_j >= kappa:
        if own < tau:
            return 0.0
    elif n_i / n_j <= 1 / kappa and 1 - own < tau:
        return 1.0
    return own


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (2.0, 0.9), (5.0, 0.2), (14.0, 0.5)])
def test_equals_equations_3_to_5_in_a_loop(kappa: float, tau: float) -> None:
    counts, n = (60, 20, 4), 40
    label = torch.tensor([0, 0, 1, 2, 0, 1, 2, 2] * 5)
    x, y = torch.rand(n, 3, 3, 3, generator=rng(1)), torch.eye(3)[label]
    out, soft = fitted(counts, kappa=kappa, tau=tau).mix_inputs(x, y, rng(7))
    replay = rng(7)
    partner, lam = torch.randperm(n, generator=replay), beta(n, 1.0, 1.0, replay)
    ends: set[float] = set()
    for i in range(n):
        j, own = int(partner[i]), float(lam[i])
        label_own = equation_5(own, counts[label[i]], counts[label[j]], kappa, tau)
        ends |= {label_own} & {0.0, 1.0}
        torch.testing.assert_close(out[i], own * x[i] + (1 - own) * x[j])
        torch.testing.assert_close(soft[i], label_own * y[i] + (1 - label_own) * y[j])
    assert ends == {0.0, 1.0}  # both decisions were met


def share(method: Remix, own: float, first: int, second: int) -> float:
    eye = torch.eye(len(method.positive_))
    return float(method.label_share(torch.tensor([own], dtype=torch.float64), eye[[first]], eye[[second]]))


def test_boundaries_by_hand() -> None:
    """Counts 60, 20, 4; kappa 3, tau 1/2: 60 to 20 is just kappa, 1/2 itself decides nothing."""
    method = fitted()
    assert share(method, 0.49, 0, 2) == 0.0  # the common image shows 49%: all of the label to the rare one
    assert share(method, 0.49, 0, 1) == 0.0  # ratio exactly kappa
    assert share(method, 0.50, 0, 2) == 0.50
    assert share(method, 0.51, 2, 0) == 1.0  # the rare image shows 51%
    assert share(method, 0.51, 1, 0) == 1.0  # ratio exactly 1 / kappa
    assert share(method, 0.50, 2, 0) == 0.50
    assert share(method, 0.30, 2, 0) == pytest.approx(0.30)  # the rare one shows too little
    assert share(method, 0.80, 0, 2) == pytest.approx(0.80)
    assert share(method, 0.10, 1, 1) == pytest.approx(0.10)
    assert share(fitted((59, 20, 4)), 0.49, 0, 1) == pytest.approx(0.49)  # ratio 2.95


def test_tau_0_is_mixup_bit_for_bit() -> None:
    x, y = torch.rand(16, 1, 4, 4, generator=rng(1)), torch.eye(3)[torch.tensor([0] * 10 + [1] * 4 + [2] * 2)]
    out, soft = fitted(tau=0, alpha=0.4).mix_inputs(x, y, rng(5))
    expected, expected_soft = Mixup(alpha=0.4).mix_inputs(x, y, rng(5))
    assert torch.equal(out, expected)
    assert torch.equal(soft, expected_soft)


def test_direction_the_rare_class_gains_label_and_no_pixel() -> None:
    x, y = torch.rand(30, 1, 4, 4, generator=rng(1)), torch.eye(3)[torch.tensor([0] * 20 + [1] * 7 + [2] * 3)]
    gained = torch.zeros(3)
    for seed in range(40):
        out, soft = fitted().mix_inputs(x, y, rng(seed))
        plain, plain_soft = Mixup(alpha=1.0).mix_inputs(x, y, rng(seed))
        assert torch.equal(out, plain)
        torch.testing.assert_close(soft.sum(1), torch.ones(30))
        assert soft[:, 2].sum() >= plain_soft[:, 2].sum() - 1e-5
        gained += soft.sum(0) - plain_soft.sum(0)
    # 5.6 pairs a batch hold one image of the rarest class; in half of them it shows more than half, and gains the other
    # quarter that remains on average: 0.7 a batch
    assert gained[2] > 0.3 * 40
    assert gained[0] < -0.3 * 40


def test_independent_labels_are_two_class_problems() -> None:
    """Class a: 2 of 20 have it (ratio 9), class b: 8 of 20 (ratio 1.5): only a is decided."""
    target = torch.zeros(20, 2)
    target[:2, 0] = 1
    target[:8, 1] = 1
    method = Remix()
    method.fit(Facts("independent", ("a", "b"), target, torch.ones_like(target)))
    first = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    got = method.label_share(torch.tensor([0.4, 0.6]), first, second)
    torch.testing.assert_close(got, torch.tensor([[0.0, 0.4], [1.0, 0.6]]))
    # a soft label of just one half leans to no finding: 18 cases against 2
    half = method.label_share(torch.tensor([0.4]), torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(half, torch.tensor([[0.0, 0.4]]))
    # where both images agree about a class any share gives the same label
    x = torch.rand(6, 1, 2, 2, generator=rng(2))
    _, soft = method.mix_inputs(x, torch.ones(6, 2), rng(1))
    torch.testing.assert_close(soft, torch.ones(6, 2))


def test_a_class_that_training_lacks_is_the_rarer_one() -> None:
    method = fitted((60, 20, 0))
    assert share(method, 0.4, 0, 2) == 0.0
    assert share(method, 0.6, 2, 1) == 1.0
    assert share(method, 0.4, 2, 2) in (0.0, pytest.approx(0.4))


def test_shift_is_zero_where_nothing_is_decided_and_undefined_elsewhere() -> None:
    for method in (Remix(alpha=0), fitted(tau=0), fitted((60, 21)), fitted((9, 9, 9)), fitted((60, 0))):
        assert method.log_prior_shift() == 0
        assert not method.compensates()
    for method in (fitted(), fitted((60, 20)), fitted((9, 2, 9), "independent")):
        assert method.log_prior_shift() is None
        assert method.compensates()
    # findings in 4, 0 and then 2 of 8: even, absent, and just kappa apart (6 = 3 * 2)
    for positives, expected in (((4, 0), False), ((4, 2), True)):
        found = Remix()
        labels = torch.stack([(torch.arange(8) < n).float() for n in positives], 1)
        found.fit(Facts("independent", ("a", "b"), labels, torch.ones_like(labels)))
        assert found.compensates() == expected
    nothing = Remix()
    nothing.fit(Facts("exclusive", ("a", "b"), torch.zeros(3, 2), torch.ones(3, 2)))
    assert not nothing.compensates()
    # five equal classes: no two are apart, though each is rarer than all others together
    assert not fitted((9, 9, 9, 9, 9)).compensates()
    # two findings, each in 2 of 20: equally rare, and both far from the cases without them
    pair = torch.zeros(20, 2)
    pair[:2] = 1
    rare = Remix()
    rare.fit(Facts("independent", ("a", "b"), pair, torch.ones_like(pair)))
    assert rare.compensates()
    target = torch.tensor([[1.0], [0.0]] * 5)
    even = Remix()
    even.fit(Facts("independent", ("a",), target, torch.ones_like(target)))
    assert even.log_prior_shift() == 0


def test_neutral_and_single_batches_stay_bit_for_bit() -> None:
    x, y = torch.rand(4, 1, 2, 2, generator=rng(1)), torch.eye(4)
    for method, n in ((Remix(**Remix.neutral()), 4), (fitted((1, 1, 1, 9)), 1)):
        out, soft = method.mix_inputs(x[:n], y[:n], rng())
        assert torch.equal(out, x[:n])
        assert torch.equal(soft, y[:n])


def test_a_batch_of_two_is_mixed() -> None:
    x, y = torch.rand(2, 1, 2, 2, generator=rng(1)), torch.eye(3)[:2]
    assert any(not torch.equal(fitted().mix_inputs(x, y, rng(seed))[0], x) for seed in range(8))


@pytest.mark.parametrize(
    ("setting", "value"), [("alpha", -0.1), ("kappa", 0.99), ("tau", -0.01), ("tau", 1.01), ("alpha", "much")]
)
def test_wrong_settings_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is"):
        Remix(**{setting: value})  # type: ignore[arg-type]
    Remix(alpha=0, kappa=1, tau=1)  # the ends of the ranges are allowed


def test_unknown_labels_are_refused() -> None:
    known: Tensor = torch.ones(3, 2)
    known[1, 0] = 0
    doubtful = Facts("independent", ("a", "b"), torch.zeros(3, 2), known)
    with pytest.raises(ConfigError, match="take remix out"):
        Remix().fit(doubtful)
    Remix(alpha=0).fit(doubtful)


def test_the_example_runs() -> None:
    result = doctest.testmod(remix)
    assert result.attempted > 0
    assert result.failed == 0
