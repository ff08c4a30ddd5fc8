"""Class-balanced sampling: drawn shares, clipped weights, and several labels a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from raresight.core.errors import ConfigError
from raresight.strategies import Facts
from raresight.strategies.sampling.class_balanced import ClassBalancedSampling

COUNTS = [90, 25, 5]
LABEL = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
TARGET = torch.eye(3)[LABEL]


def _fitted(target: Tensor = TARGET, kind: str = "exclusive", mask: Tensor | None = None, **settings: object):
    method = ClassBalancedSampling(**settings)  # type: ignore[arg-type]
    classes = tuple("abcd"[: target.shape[1]])
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


def test_clipping_at_a_percentile_by_hand() -> None:
    """Classes of 1, 2, 4 and 8 cases weigh 1, 1/2, 1/4, 1/8; the 75th percentile is 1/2 + 1/4 (1 - 1/2) = 5/8."""
    target = torch.eye(4)[torch.tensor([0] + [1] * 2 + [2] * 4 + [3] * 8)]
    method = _fitted(target, clip=75)
    weights = method.sample_weights()
    expected = torch.tensor([5 / 8] + [1 / 2] * 2 + [1 / 4] * 4 + [1 / 8] * 8, dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.sum(), rtol=1e-12, atol=0)
    percentile = np.percentile(1 / np.array([1, 2, 4, 8]), 75)
    assert percentile == 5 / 8
    # drawn shares 5/8, 1, 1, 1 of 29/8, true ones 1, 2, 4, 8 of 15
    drawn = torch.tensor([5 / 29, 8 / 29, 8 / 29, 8 / 29], dtype=torch.float64)
    shift = (drawn / (torch.tensor([1.0, 2, 4, 8], dtype=torch.float64) / 15)).log()
    torch.testing.assert_close(method.log_prior_shift(), shift, rtol=1e-12, atol=0)


def test_clipping_counts_classes_with_cases_and_clips_the_group_without_findings() -> None:
    # n = 4, 1, 0 and one row with none: w = 1/4, 1 and 1; the median of 1/4 and 1 is 5/8
    target = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    weights = _fitted(target, "independent", clip=50).sample_weights()
    expected = torch.tensor([1 / 4, 1 / 4, 1 / 4, (1 / 4 + 5 / 8) / 2, 5 / 8], dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_clipping_at_100_changes_nothing_and_at_0_leaves_one_weight(kind: str) -> None:
    target = torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 2])]
    torch.testing.assert_close(
        _fitted(target, kind, clip=99.9999999).sample_weights(), _fitted(target, kind).sample_weights()
    )
    torch.testing.assert_close(
        _fitted(target, kind, clip=0).sample_weights(), torch.full((6,), 1 / 6, dtype=torch.float64)
    )


def test_clipping_without_any_label_stays_finite() -> None:
    target = torch.eye(3)
    assert _fitted(target, "independent", torch.zeros(3, 3), clip=50).sample_weights().tolist() == [0, 0, 0]


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 2\]"):
        ClassBalancedSampling(power=-1)
    with pytest.raises(ConfigError, match=r"(?s)power.*\[0, 2\]"):
        ClassBalancedSampling(power=2.01)
    with pytest.raises(ConfigError, match=r"(?s)clip.*\[0, 100\]"):
        ClassBalancedSampling(clip=101)
    with pytest.raises(ConfigError, match=r"(?s)clip.*\[0, 100\]"):
        ClassBalancedSampling(clip=-1)
    assert ClassBalancedSampling(power=2, clip=0).clip == 0
