"""One head of many: what is asked for, what it is while it trains, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raresight.core.seeds import torch_rng
from raresight.strategies.stack import Stack, Stream
from raresight.strategies.strategy import SyntheticRows
from raresight.train.head_rows import HeadTable


@dataclass(frozen=True)
class HeadJob:
    """One head to train: the arm's methods (a stack of its own, fitted here), its features and its seed."""

    name: str
    stack: Stack
    table: HeadTable
    seed: int


@dataclass(frozen=True)
class TrainedHead:
    """Weights `(K, F)`, `(K,)` as deployed at the evaluation with the highest `score`, after `step` steps.

    `implied_prior` `(K,)` is the arm's log-prior shift, None where it is not defined; `synthetic` are the rows that it
    added to its table, if any.
    """

    name: str
    seed: int
    weight: Tensor
    bias: Tensor
    score: float | None
    step: int
    implied_prior: Tensor | None
    findings: list[str]
    synthetic: SyntheticRows | None = None


class Shim(nn.Module):
    """A model of nothing but its head, for hooks that take a model; its weights are the head's place in the stack."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.head.weight = nn.Parameter(weight, requires_grad=False)
        self.head.bias = nn.Parameter(bias, requires_grad=False)


@dataclass
class Head:
    """One head of the bank: what is its own, and the best that it has been."""

    job: HeadJob
    position: int
    study_seed: int
    model: Shim = field(init=False)
    score: float | None = None
    step: int = 0
    begun: bool = False
    synthetic: SyntheticRows | None = None
    best: tuple[Tensor, Tensor] = field(init=False)

    @property
    def stack(self) -> Stack:
        return self.job.stack

    def stream(self, *moment: object) -> Stream:
        return lambda name: torch_rng(self.study_seed, self.job.seed, name, *moment)

    def fresh(self) -> tuple[Tensor, Tensor]:
        """The weights that all arms of this seed begin with."""
        n_features, n_classes = self.job.table.z.shape[1], self.job.table.target.shape[1]
        rng, bound = torch_rng(self.study_seed, self.job.seed, "fresh head"), n_features**-0.5
        weight = torch.empty(n_classes, n_features).uniform_(-bound, bound, generator=rng)
        return weight, torch.empty(n_classes).uniform_(-bound, bound, generator=rng)
