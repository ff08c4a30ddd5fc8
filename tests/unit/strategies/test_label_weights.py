"""Weights scaled to a mean of 1 over the training labels: hand-worked, with absent classes and unknown labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raresight.strategies import Facts
from raresight.strategies.losses.label_weights import mean_one, of_target


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_exclusive_by_hand() -> None:
    # 6, 3, 0, 1 of 10 cases with 1, 2, 7, 8: mean (6 + 6 + 8) / 10 = 2; the absent class gets 1
    target = torch.eye(4)[[0] * 6 + [1] * 3 + [3]]
    facts = Facts("exclusive", tuple("abcd"), target, torch.ones_like(target))
    positive, negative = mean_one(facts, _double(1, 2, 7, 8), _double(9, 9, 9, 9))
    torch.testing.assert_close(positive, _double(0.5, 1, 1, 4))
    assert negative.tolist() == [1, 1, 1, 1]
    assert (positive * facts.prior).sum().item() == pytest.approx(1)


def test_independent_by_hand() -> None:
    # a: 2 of 8 with 10 and 2: mean 4; b: no positive; c: nothing but positives; d: 1 of 2 known with 3 and 5: mean 4
    target = torch.zeros(8, 4)
    target[:2, 0] = target[:, 2] = target[0, 3] = 1
    mask = torch.ones(8, 4)
    mask[2:, 3] = 0
    facts = Facts("independent", tuple("abcd"), target, mask)
    positive, negative = mean_one(facts, _double(10, 6, 6, 3), _double(2, 4, 4, 5))
    torch.testing.assert_close(positive, _double(2.5, 1, 1, 0.75))
    torch.testing.assert_close(negative, _double(0.5, 1, 1, 1.25))


def test_of_target() -> None:
    target = torch.tensor([[1.0, 0.0], [0.25, 1.0]])
    independent = of_target(target, _double(4, 3), _double(2, 0.5), "independent")
    torch.testing.assert_close(independent, torch.tensor([[4.0, 0.5], [2.5, 3.0]]))
    exclusive = of_target(target.view(2, 2, 1, 1), _double(4, 3), _double(2, 0.5), "exclusive")
    assert exclusive.shape == (1, 2, 1, 1)
    assert exclusive.flatten().tolist() == [4, 3]
