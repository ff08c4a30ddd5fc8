"""A problem small enough to be solved exactly: four kinds of image, and a logit for each kind and class.

With a free logit per kind of image the model can express any posterior, so the minimum of a loss over the whole
population shows what the loss asks for, without sampling noise or model error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raresight.core.task import Task
from raresight.strategies import Facts, Stack, Strategy

# cases by kind of image (rows) and label pattern (columns); chosen by hand, skewed, every cell filled
EXCLUSIVE = torch.tensor([[400.0, 30, 2], [200, 80, 5], [100, 40, 20], [50, 5, 13]])
EXCLUSIVE_LABELS = torch.eye(3)
# one finding, as independent label
ONE = torch.tensor([[400.0, 8], [200, 30], [90, 20], [50, 25]])
ONE_LABELS = torch.tensor([[0.0], [1.0]])
# two findings, each with its own chance given the kind of image, independent of each other given it
_P = torch.tensor([[0.02, 0.30], [0.10, 0.10], [0.20, 0.50], [0.40, 0.25]])
TWO_LABELS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
TWO = 2000 * torch.stack([(row * _P + (1 - row) * (1 - _P)).prod(1) for row in TWO_LABELS], 1)

PROBLEMS = {
    "exclusive": ("exclusive", EXCLUSIVE, EXCLUSIVE_LABELS),
    "one finding": ("independent", ONE, ONE_LABELS),
    "two findings": ("independent", TWO.round(), TWO_LABELS),
}


class Population:
    """One row per case, for `fit`; one row per cell with its number of cases, for the exact minimum."""

    def __init__(self, problem: str) -> None:
        self.kind, counts, labels = PROBLEMS[problem]
        self.counts, self.labels = counts.double(), labels.double()
        n_kinds, n_patterns = counts.shape
        self.image = torch.arange(n_kinds).repeat_interleave(n_patterns)
        self.cell_target = self.labels.repeat(n_kinds, 1)
        self.cell_size = self.counts.flatten()
        self.cell_of_row = torch.arange(len(self.cell_size)).repeat_interleave(self.cell_size.long())
        self.first_row = torch.cat([torch.zeros(1), self.cell_size.cumsum(0)[:-1]]).long()
        target = self.cell_target[self.cell_of_row]
        classes = tuple(f"class {k}" for k in range(target.shape[1]))
        self.facts = Facts(self.kind, classes, target, torch.ones_like(target))  # type: ignore[arg-type]
        self.task = Task(self.kind, classes)  # type: ignore[arg-type]

    def stack(self, *strategies: Strategy) -> Stack:
        stack = Stack(strategies, self.task, "arm")
        stack.fit(self.facts)
        return stack

    @property
    def posterior(self) -> Tensor:
        """The true p(k | kind of image), `(4, K)`."""
        return self.counts @ self.labels / self.counts.sum(1, keepdim=True)

    def minimum(self, stack: Stack) -> Tensor:
        """The logits `(4, K)` at the minimum of the arm's expected loss, after `adjust`."""
        drawn = stack.head_sample_weights(self.facts.target, self.facts.mask)
        drawn = stack.sample_weights() if drawn is None else drawn
        per_row = torch.ones(len(self.cell_of_row)) if drawn is None else drawn
        mass = torch.zeros_like(self.cell_size).index_add_(0, self.cell_of_row, per_row.double())
        mass = mass / mass.sum()
        table = torch.zeros(len(self.counts), self.labels.shape[1], dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [table], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
        )

        def expected_loss() -> Tensor:
            solver.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            for cell, share in enumerate(mass):
                target = self.cell_target[cell : cell + 1]
                logits = table[self.image[cell]][None]
                loss, _ = stack.loss(logits, target, torch.ones_like(target), self.first_row[cell : cell + 1], 0)
                total = total + share * loss
            total.backward()
            return total

        solver.step(expected_loss)  # type: ignore[arg-type]
        return stack.adjust(table.detach())

    def prob(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.kind == "exclusive" else logits.sigmoid()
