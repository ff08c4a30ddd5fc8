"""Importance sampling: the weights by hand, the unbiased gradient, and its variance against even draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling
from raresight.strategies.sampling.importance import ImportanceSampling

COUNTS = [90, 25, 5]
LABEL = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
TARGET = torch.eye(3)[LABEL]


def _fitted(target: Tensor = TARGET, kind: str = "exclusive", **settings: float) -> ImportanceSampling:
    method = ImportanceSampling(**settings)
    classes = tuple("abc"[: target.shape[1]])
    method.fit(Facts(kind, classes, target, torch.ones_like(target)))  # type: ignore[arg-type]
    return method


def _weights(method: ImportanceSampling, target: Tensor) -> Tensor:
    weight = method.case_weights(target.double(), torch.arange(len(target)), 0)
    assert weight is not None
    return weight.flatten()


def test_weights_by_hand() -> None:
    """Two classes of 4 and 1: q = 1/8 and 1/2, so 1 / (5 q) = 8/5 and 2/5."""
    target = torch.eye(2)[[0, 0, 0, 0, 1]]
    method = _fitted(target)
    assert _weights(method, target).tolist() == pytest.approx([8 / 5] * 4 + [2 / 5])
    assert _weights(method, target)[[4, 0]].tolist() == pytest.approx([2 / 5, 8 / 5])
    # half corrected: square roots over Z = 4/8 (8/5)^.5 + 1/2 (2/5)^.5
    z = 0.5 * 1.6**0.5 + 0.5 * 0.4**0.5
    half = _fitted(target, correction=0.5)
    assert _weights(half, target).tolist() == pytest.approx([1.6**0.5 / z] * 4 + [0.4**0.5 / z])
    # (8/5)^.5 = 2 (2/5)^.5: the common class counts 2 : 1 where it is 4 : 1 in the data
    drawn = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(half.log_prior_shift(), (drawn / torch.tensor([0.8, 0.2])).log(), rtol=1e-6, atol=1e-6)


def test_independent_weights_by_hand() -> None:
    # n = 4 and 1, one row with none: 1/4, 1/4, 1/4, (1/4 + 1) / 2 = 5/8, 1; their sum is 19/8
    target = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 1], [0, 0]])
    method = _fitted(target, "independent")
    chance = torch.tensor([2, 2, 2, 5, 8]).double() / 19
    torch.testing.assert_close(method.sample_weights(), chance, rtol=1e-12, atol=0)
    torch.testing.assert_close(_weights(method, target), 1 / (5 * chance), rtol=1e-12, atol=0)


def test_drawing_is_undone_where_it_is_uneven_and_corrected() -> None:
    for power, correction, undone in ((1, 1, True), (0.5, 0.5, True), (0, 1, False), (1, 0, False)):
        method = _fitted(power=power, correction=correction)
        assert method.undoes_its_drawing() is undone
        assert (method.case_weights(TARGET, LABEL, 0) is not None) is undone


def test_the_weight_of_a_case_follows_its_number_in_any_space() -> None:
    weight = _fitted().case_weights(torch.zeros(2, 3, 4, 5), torch.tensor([119, 0]), 0)
    assert weight is not None
    assert weight.shape == (2, 1, 1, 1)
    assert weight.flatten().tolist() == pytest.approx([5 * 3 / 120, 90 * 3 / 120])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_rows_are_drawn_as_class_balanced_sampling_draws_them(power: float) -> None:
    balanced = ClassBalancedSampling(power=power)
    balanced.fit(Facts("exclusive", tuple("abc"), TARGET, torch.ones_like(TARGET)))
    for correction in (0.0, 0.5, 1.0):
        method = _fitted(power=power, correction=correction)
        assert torch.equal(method.sample_weights(), balanced.sample_weights())
    torch.testing.assert_close(_fitted(power=power, correction=0).log_prior_shift(), balanced.log_prior_shift())
    assert _fitted(power=power, correction=0).case_weights(TARGET, LABEL, 0) is None


def test_a_row_without_labels_is_neither_drawn_nor_weighed() -> None:
    target = torch.eye(2)[[0, 0, 1, 1]]
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 1], [0, 0]])
    method = ImportanceSampling()
    method.fit(Facts("exclusive", ("a", "b"), target, mask))
    assert method.sample_weights().tolist() == [0.25, 0.25, 0.5, 0]  # type: ignore[union-attr]
    assert _weights(method, target).tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3, 0])


def _gradients(kind: str, target: Tensor, correction: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of a linear model: the full plain gradient, the arm's gradient of each row alone, and each row's chance."""
    method = ImportanceSampling(correction=correction)
    task = Task(kind, tuple("abc"))  # type: ignore[arg-type]
    facts = Facts(kind, task.classes, target, torch.ones_like(target))  # type: ignore[arg-type]
    stack, plain = Stack([method], task), Stack([], task)
    stack.fit(facts)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(len(target), 2, generator=rng)
    w = torch.randn(2, 3, generator=rng).requires_grad_()

    def gradient(arm: Stack, ids: Tensor) -> Tensor:
        total, _ = arm.loss(x[ids] @ w, target[ids], torch.ones_like(target[ids]), ids, 0)
        return torch.autograd.grad(total, w)[0].flatten().double()

    rows = torch.arange(len(target))
    drawn = stack.sample_weights()
    assert drawn is not None
    alone = torch.stack([gradient(stack, row[None]) for row in rows])
    torch.testing.assert_close(gradient(stack, rows[3:7]), alone[3:7].mean(0))  # a batch is the mean of its rows
    return gradient(plain, rows), alone, drawn / drawn.sum()


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_unbiased_weights_keep_the_expected_gradient(kind: str) -> None:
    """Exactly in expectation, and within three standard errors over 4,000 drawn batches of 4."""
    target = TARGET if kind == "exclusive" else _three_findings()
    full, alone, chance = _gradients(kind, target, correction=1)
    torch.testing.assert_close(chance @ alone, full, atol=1e-6, rtol=1e-5)
    rng = torch.Generator().manual_seed(0)
    order = torch.multinomial(chance, 16_000, replacement=True, generator=rng).view(-1, 4)
    batches = alone[order].mean(1)
    assert ((batches.mean(0) - full).abs() < 3 * batches.std(0) / len(batches) ** 0.5).all()
    # and without the weights the expected gradient is another one, so that the test could have failed
    _, biased, _ = _gradients(kind, target, correction=0)
    assert ((chance @ biased - full).abs() > 0.01).any()


def _three_findings() -> Tensor:
    return (torch.rand(120, 3, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.5, 0.2, 0.05])).float()


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_unbiased_expectation_is_exact(kind: str) -> None:
    """sum_i q_i w_i f_i = mean of f, without any sampling."""
    target = TARGET if kind == "exclusive" else _three_findings()
    method = _fitted(target, kind)
    q = method.sample_weights() / method.sample_weights().sum()
    w = method.case_weights(target.double(), torch.arange(len(target)), 0).flatten()
    f = torch.randn(len(target), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close((q * w * f).sum(), f.mean())
    assert method.log_prior_shift().abs().max() == 0


def test_variance_against_even_draws(capsys: pytest.CaptureFixture[str]) -> None:
    """Bias in standard errors and variance ratios, printed; what the rare class says becomes steadier.

    Exact variances of one draw, from the sums over all rows: sum_i q_i |w_i g_i|^2 - |g|^2 against q = 1 / N.
    """
    full, alone, chance = _gradients("exclusive", TARGET, correction=1)
    _, plain, _ = _gradients(
        "exclusive", TARGET, correction=0
    )  # its loss carries no weights: each row's plain gradient
    n = len(TARGET)
    rng = torch.Generator().manual_seed(3)
    draws = alone[torch.multinomial(chance, 60_000, replacement=True, generator=rng)]
    bias = (draws.mean(0) - full) / (draws.std(0) / len(draws) ** 0.5)
    assert (bias.abs() < 3).all()
    ratio = {}
    for name, rows in {"rare class": LABEL == 2, "all": LABEL >= 0}.items():
        part = torch.where(rows[:, None], plain, 0.0)
        mean = part.mean(0)
        even = part.square().sum(1).mean() - mean.square().sum()
        drawn = (chance * (part / (n * chance)[:, None]).square().sum(1).nan_to_num(0)).sum() - mean.square().sum()
        ratio[name] = (drawn / even).item()
    with capsys.disabled():
        print(f"\nimportance sampling: bias {bias.abs().max():.2f} standard errors, variance ratios {ratio}")
    # the rare rows are drawn 8 times as often: 1 / (N q) = 1/8 of the second moment
    assert 0.1 < ratio["rare class"] < 0.125
    assert ratio["all"] > 0.5


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"(?s)power.*\[0, 2\]"):
        ImportanceSampling(power=2.5)
    with pytest.raises(ConfigError, match=r"(?s)power.*\[0, 2\]"):
        ImportanceSampling(power=-0.5)
    with pytest.raises(ConfigError, match=r"(?s)correction.*\[0, 1\]"):
        ImportanceSampling(correction=1.1)
    with pytest.raises(ConfigError, match=r"(?s)correction.*\[0, 1\]"):
        ImportanceSampling(correction=-0.1)
