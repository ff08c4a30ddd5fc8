"""Cross-entropy by hand: label weights and unknown labels."""

from __future__ import annotations

import math

import pytest
import torch

from raresight.strategies.losses.cross_entropy import cross_entropy

LOG = math.log


def test_exclusive_labels_by_hand() -> None:
    """Softmax 1/4, 3/4 and 4/5, 1/5; weights stand at the true class, the third case is unknown."""
    logits = torch.tensor([[0.0, LOG(3)], [LOG(4), 0.0], [5.0, 7.0]])
    target = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 0]])
    weight = torch.tensor([[3.0, 9], [9, 0.5], [9, 9]])
    loss, per_case = cross_entropy(logits, target, mask, weight, kind="exclusive")
    assert loss.item() == pytest.approx((3 * LOG(4) + 0.5 * LOG(5)) / 2)
    assert per_case.tolist() == pytest.approx([LOG(4), LOG(5), 0])


def test_independent_labels_by_hand() -> None:
    """Sigmoid 1/4 and 4/5, of a case with the first label and without the second; of the next one label is known."""
    logits = torch.tensor([[-LOG(3), LOG(4)], [LOG(9), 2.0]])
    target = torch.tensor([[1.0, 0], [0, 1]])
    mask = torch.tensor([[1.0, 1], [1, 0]])
    weight = torch.tensor([[3.0, 0.5], [2, 9]])
    loss, per_case = cross_entropy(logits, target, mask, weight, kind="independent")
    assert loss.item() == pytest.approx((3 * LOG(4) + 0.5 * LOG(5) + 2 * LOG(10)) / 3)
    assert per_case.tolist() == pytest.approx([(LOG(4) + LOG(5)) / 2, LOG(10)])
