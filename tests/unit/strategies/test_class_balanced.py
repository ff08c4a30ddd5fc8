"""Class-balanced sampling: drawn shares, the unbiased gradient, and several labels a row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.core.task import Task
from raresight.strategies import Facts, Stack
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling

COUNTS = [90, 25, 5]
LABEL = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
TARGET = torch.eye(3)[LABEL]


def _fitted(target: Tensor = TARGET, kind: str = "exclusive", mask: Tensor | None = None, **settings: object):
    method = ClassBalancedSampling(**settings)  # type: ignore[arg-type]
    classes = tuple("abc"[: target.shape[1]])
    method.fit(Facts(kind, classes, target, torch.ones_like(target) if mask is None else mask))  # type: ignore[arg-type]
    return method


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (1.0, [1 / 3, 1 / 3, 1 / 3]),
        (0.5, [0.5678, 0.2993, 0.1339]),  # square roots 9.4868, 5, 2.2361 over their sum
        (2.0, [0.0442, 0.1592, 0.7960]),  # 1/90, 1/25, 1/5 over their sum
    ],
)
def test_drawn_share_of_each_class(power: float, expected: list[float]) -> None:
    weights = _fitted(power=power).sample_weights()
    share = torch.zeros(3, dtype=torch.float64).index_add_(0, LABEL, weights / weights.sum())
    if power == 0.5:
        expected = (torch.tensor(COUNTS).sqrt() / torch.tensor(COUNTS).sqrt().sum()).tolist()
    if power == 2.0:
        expected = (1 / torch.tensor(COUNTS) / (1 / torch.tensor(COUNTS)).sum()).tolist()
    torch.testing.assert_close(share, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_direction_a_rare_row_is_drawn_more_often() -> None:
    weights = _fitted().sample_weights()
    assert weights[-1] > weights[90] > weights[0]
    drawn = torch.multinomial(weights, 3000, replacement=True, generator=torch.Generator().manual_seed(0))
    rare = (LABEL[drawn] == 2).sum().item()
    assert abs(rare - 1000) < 3 * (3000 * 2 / 9) ** 0.5  # binomial, three standard errors


def test_independent_rows_by_hand() -> None:
    target = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    weights = _fitted(target, "independent").sample_weights()
    # n = 3 and 1; rows: 1/3, 1/3, mean(1/3, 1) = 2/3, and 1/4 for each of the four without a finding
    expected = torch.tensor([1 / 3, 1 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.sum())


def test_rows_without_any_known_label_are_never_drawn() -> None:
    target = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    mask = torch.tensor([[1.0, 1], [1, 1], [0, 0], [1, 0]])
    independent = _fitted(target, "independent", mask).sample_weights()
    assert independent[2] == 0
    assert independent[3] > 0
    exclusive = _fitted(target, "exclusive", mask).sample_weights()
    assert exclusive[2] == exclusive[3] == 0


def _gradients(kind: str, target: Tensor, *, unbiased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of a linear model: the full plain gradient, the arm's gradient of each row alone, and each row's chance."""
    method = ClassBalancedSampling(unbiased=unbiased)
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
    full, alone, chance = _gradients(kind, target, unbiased=True)
    torch.testing.assert_close(chance @ alone, full, atol=1e-6, rtol=1e-5)
    rng = torch.Generator().manual_seed(0)
    order = torch.multinomial(chance, 16_000, replacement=True, generator=rng).view(-1, 4)
    batches = alone[order].mean(1)
    assert ((batches.mean(0) - full).abs() < 3 * batches.std(0) / len(batches) ** 0.5).all()
    # and without the weights the expected gradient is another one, so that the test could have failed
    _, biased, _ = _gradients(kind, target, unbiased=False)
    assert ((chance @ biased - full).abs() > 0.01).any()


def _three_findings() -> Tensor:
    return (torch.rand(120, 3, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.5, 0.2, 0.05])).float()


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_unbiased_expectation_is_exact(kind: str) -> None:
    """sum_i q_i w_i f_i = mean of f, without any sampling."""
    target = TARGET if kind == "exclusive" else _three_findings()
    method = _fitted(target, kind, unbiased=True)
    q = method.sample_weights() / method.sample_weights().sum()
    w = method.case_weights(target.double(), torch.arange(len(target)), 0).flatten()
    f = torch.randn(len(target), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close((q * w * f).sum(), f.mean())
    assert method.log_prior_shift().abs().max() == 0


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 2\]"):
        ClassBalancedSampling(power=-1)
    with pytest.raises(ConfigError, match="true or false"):
        ClassBalancedSampling(unbiased="yes")  # type: ignore[arg-type]
