"""What the training labels say about prevalence: priors, groups of rows and shifts, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.strategies import Facts
from raresight.strategies.prior import balanced_rows, groups, log_prior, mean_over_groups, shift_of_rows

# 3 of "a", 1 of "b", none of "c"; of the last row one class is unknown
EXCLUSIVE = torch.eye(3)[[0, 0, 0, 1, 1]]
EXCLUSIVE_MASK = torch.tensor([[1.0, 1, 1]] * 4 + [[1.0, 1, 0]])
# "a": 2 of 5, "b": 1 of 4 known, "c": none of 5, "d": 5 of 5; the last row is known for nothing
INDEPENDENT = torch.tensor([[1.0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]])
INDEPENDENT_MASK = torch.ones(6, 4)
INDEPENDENT_MASK[4, 1] = 0
INDEPENDENT_MASK[5] = 0


def _double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _facts(kind: str) -> Facts:
    if kind == "exclusive":
        known = EXCLUSIVE_MASK.amin(1, keepdim=True).expand(5, 3)  # as the table gives it
        return Facts("exclusive", ("a", "b", "c"), EXCLUSIVE, known)
    return Facts("independent", ("a", "b", "c", "d"), INDEPENDENT, INDEPENDENT_MASK)


def test_log_prior() -> None:
    torch.testing.assert_close(log_prior(_facts("exclusive")), _double(math.log(3 / 4), math.log(1 / 4), 0))
    torch.testing.assert_close(log_prior(_facts("independent")), _double(math.log(2 / 3), math.log(1 / 3), 0, 0))


def test_groups_of_rows() -> None:
    member = groups(EXCLUSIVE, EXCLUSIVE_MASK, "exclusive")
    assert member.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    target = torch.tensor([[1.0, 1], [0, 1], [0, 0], [0, 1], [1, 0], [0, 0]])
    mask = torch.tensor([[1.0, 1], [1, 1], [1, 1], [1, 0], [0, 0], [0, 1]])
    # the fourth row is known to lack the first and unknown for the second; the fifth is known for nothing
    expected = [[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert groups(target, mask, "independent").tolist() == expected
    assert groups(target, torch.ones(6, 1), "independent")[3:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_soft_labels_count_in_part() -> None:
    soft = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert groups(soft, torch.ones(2, 2), "exclusive").tolist() == soft.tolist()
    assert groups(soft, torch.ones(2, 2), "independent").tolist() == [[0.25, 0.75, 0], [0.5, 0.5, 0]]


def test_mean_over_the_groups_of_a_row() -> None:
    member = _double(1, 1, 0, 0, 0, 0, 0.5, 1, 0).view(3, 3)
    torch.testing.assert_close(mean_over_groups(member, _double(2, 8, 100)), _double(5, 0, 6))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_balanced_rows(power: float) -> None:
    rows = balanced_rows(EXCLUSIVE, EXCLUSIVE_MASK, "exclusive", power)
    torch.testing.assert_close(rows, _double(*[3**-power] * 3, 1, 0))
    # counts 2, 2 and, of rows with neither, 3
    target, mask = torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 1], [1, 1]]), torch.ones(7, 2)
    mask[5, 1] = 0
    mask[6] = 0
    two, three = 2**-power, 3**-power
    rows = balanced_rows(target, mask, "independent", power)
    torch.testing.assert_close(rows, _double(two, two, three, two, three, three, 0))
    torch.testing.assert_close(
        balanced_rows(target, mask, "independent"), balanced_rows(target, mask, "independent", 1)
    )


def test_shift_of_exclusive_rows() -> None:
    # weights 1, 2, 3 of "a" and 4 of "b": drawn 6 and 4 of 10, in truth 3 and 1 of 4; the row that is unknown adds none
    shift = shift_of_rows(_facts("exclusive"), _double(1, 2, 3, 4, 100))
    torch.testing.assert_close(shift, _double(math.log(0.6 / 0.75), math.log(0.4 / 0.25), 0))
    # a class that is never drawn: nothing is claimed
    shift = shift_of_rows(_facts("exclusive"), _double(1, 2, 3, 0, 100))
    torch.testing.assert_close(shift, _double(math.log(1 / 0.75), 0, 0))
    assert shift_of_rows(_facts("exclusive"), torch.zeros(5, dtype=torch.float64)).tolist() == [0, 0, 0]


def test_shift_of_independent_rows() -> None:
    # "a": 1 + 2 against 4 + 8 + 16 where it was 2 : 3; "b": 1 against 2 + 4 + 8 where it was 1 : 3
    shift = shift_of_rows(_facts("independent"), _double(1, 2, 4, 8, 16, 32))
    torch.testing.assert_close(shift, _double(math.log(3 / 28 * 3 / 2), math.log(1 / 14 * 3), 0, 0))
    # "a" is drawn in none of its cases, "b" in no other
    shift = shift_of_rows(_facts("independent"), _double(0, 0, 1, 1, 1, 1))
    assert shift.tolist() == [0, 0, 0, 0]
    shift = shift_of_rows(_facts("independent"), _double(1, 0, 0, 0, 5, 1))
    torch.testing.assert_close(shift, _double(math.log(1 / 5 * 3 / 2), 0, 0, 0))
