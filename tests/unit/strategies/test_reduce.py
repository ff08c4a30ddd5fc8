"""From entries to a loss: which labels count and what the mean divides by, worked by hand."""

from __future__ import annotations

import pytest
import torch

from raresight.strategies.losses.reduce import along_classes, at_least_float32, reduce

ENTRIES = torch.tensor([[1.0, 2, 4], [8, 16, 32], [64, 128, 256]])
MASK = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]])
WEIGHT = torch.tensor([[1.0, 3, 5], [7, 9, 11], [0, 0.5, 2]])


def test_exclusive_sums_over_classes_and_drops_a_row_with_any_unknown_class() -> None:
    total, per_case = reduce(ENTRIES, MASK, WEIGHT, kind="exclusive")
    assert total.item() == pytest.approx((1 + 6 + 20 + 64 + 512) / 2)
    assert per_case.tolist() == [7, 0, 448]


def test_independent_is_the_mean_over_known_labels() -> None:
    total, per_case = reduce(ENTRIES, MASK, WEIGHT, kind="independent")
    assert total.item() == pytest.approx((1 + 6 + 20 + 56 + 352 + 64 + 512) / 8)
    assert per_case.tolist() == pytest.approx([7 / 3, 20, 448 / 3])


def test_pixels_of_a_case_are_averaged() -> None:
    entries = torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 9]]])  # (B, K, S) = (2, 2, 2)
    mask = torch.tensor([[[1.0, 1]], [[1, 0]]])
    total, per_case = reduce(entries, mask, torch.tensor(2.0), kind="exclusive")
    assert total.item() == pytest.approx(2 * (4 + 6 + 12) / 3)
    assert per_case.tolist() == [5, 12]
    total, per_case = reduce(entries, mask, torch.tensor(2.0), kind="independent")
    assert total.item() == pytest.approx(2 * (10 + 12) / 6)
    assert per_case.tolist() == [2.5, 6]


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_what_is_unknown_may_have_overflowed(kind: str) -> None:
    entries = ENTRIES.clone()
    entries[1] = torch.inf
    mask = torch.tensor([[1.0], [0], [1]])
    total, per_case = reduce(entries, mask, torch.ones(1), kind=kind)  # type: ignore[arg-type]
    assert total.item() == pytest.approx(455 / (2 if kind == "exclusive" else 6))
    assert per_case[1] == 0
    total, per_case = reduce(entries, torch.zeros(3, 1), torch.ones(1), kind=kind)  # type: ignore[arg-type]
    assert total == 0
    assert per_case.tolist() == [0, 0, 0]


def test_half_precision_becomes_float32_and_nothing_else_does() -> None:
    found = [at_least_float32(torch.ones(1, dtype=kind)).dtype for kind in (torch.float16, torch.bfloat16)]
    assert found == [torch.float32, torch.float32]
    assert at_least_float32(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_values_of_classes_stand_along_the_second_axis() -> None:
    assert along_classes(torch.arange(3), torch.zeros(5, 3)).tolist() == [[0, 1, 2]]
    found = along_classes(torch.arange(3), torch.zeros(5, 3, 7, 2, dtype=torch.float64))
    assert found.shape == (1, 3, 1, 1)
    assert found.dtype == torch.float64
