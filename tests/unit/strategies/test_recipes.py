"""What feature oversamplers share, by hand: which rows are cases, which neighbours are drawn, the implied prior."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raresight.core.task import Task
from raresight.strategies.features import recipes
from raresight.strategies.features.recipes import FeatureTable
from raresight.strategies.features.smote import SMOTE
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table_of(y: Tensor, kind: str = "exclusive") -> FeatureTable:
    task = Task(kind, tuple("abcdefgh"[: y.shape[1]]))  # type: ignore[arg-type]
    return FeatureTable.of(task, torch.zeros(len(y), 2), y, torch.ones_like(y), torch.arange(len(y)))


def test_a_label_of_one_half_is_no_case() -> None:
    y = torch.tensor([[0.5, 0.25], [0.75, 0.0], [0.0, 1.0]])
    table = table_of(y, "independent")
    assert [table.members(c).tolist() for c in (0, 1)] == [[1], [2]]
    assert table.known.all()


def test_row_0_is_a_neighbour_like_any_other() -> None:
    """4,000 lines from case 5 towards 3 and 0, evenly (sd 32), and from case 7, whose one neighbour is 3."""
    near = torch.tensor([[3, 0, -1], [3, -1, -1]])
    base, other, gap = recipes.between(torch.tensor([5, 7]), near, torch.tensor([0, 1]).repeat(4000), rng())
    assert abs(int((other[base == 5] == 0).sum()) - 2000) < 130
    assert set(other[base == 5].tolist()) == {0, 3}
    assert set(other[base == 7].tolist()) == {3}
    assert 0 <= gap.min() < gap.max() < 1


def test_only_a_class_that_is_due_rows_is_called_lonely() -> None:
    def said(counts: list[int], share: float = 1.0) -> list[str]:
        label = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return recipes.lonely(table_of(torch.eye(len(counts))[label]), share, "smote")

    sentence = "smote: class '{}' has one case, so there is no line to draw and it gets no synthetic rows"
    assert said([9, 1, 1, 4]) == [sentence.format("b"), sentence.format("c")]
    assert said([9, 1, 0, 4]) == [sentence.format("b")]  # c is absent: not one case but none
    assert said([1, 1, 1, 1]) == []  # all alike, nothing is due
    assert said([9, 1, 1, 4], share=0.2) == []  # one case is a fifth of nine already


def test_a_class_that_every_known_case_has_keeps_its_log_odds() -> None:
    """b has 4 cases of the 4 known and is filled up to 6: odds of 4 to 0 and 6 to 0 compare to nothing."""
    y = torch.zeros(10, 2)
    y[:6, 0] = y[6:, 1] = 1
    mask = torch.ones(10, 2)
    mask[:6, 1] = 0
    method = SMOTE()
    method.fit(Facts("independent", ("a", "b"), y, mask))
    rows = method.fit_features(torch.randn(10, 2, generator=rng()), y, mask, torch.arange(10), rng())
    assert rows is not None
    assert rows.target.tolist() == [[0, 1]] * 2
    assert rows.mask.tolist() == [[1, 1]] * 2
    shift = method.log_prior_shift()
    assert shift is not None
    assert shift.tolist() == [pytest.approx(math.log(4 / 6)), 0.0]  # of a: 6 to 4 before, 6 to 6 after
