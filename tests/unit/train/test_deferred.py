"""A deferred method's best weights are of the time when it acted, even where an earlier evaluation scored higher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from tiny_study import Bench, events_of
from torch import Tensor, nn

from raresight.strategies.strategy import Strategy

FIRST = 2


class Late(Strategy):
    """Acts from epoch 2 on, and then so badly that every earlier evaluation scores higher: the head is all zeros."""

    name: ClassVar[str] = "late"
    place: ClassVar[Any] = "schedules"

    def __init__(self) -> None:
        self.epoch = 0

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.epoch = epoch

    def begun(self, epoch: int) -> bool:
        return epoch >= FIRST

    @contextmanager
    def deployed(self, model: nn.Module) -> Iterator[None]:
        head: Any = model.head
        kept = head.weight.detach().clone()
        with torch.no_grad():
            head.weight.mul_(0 if self.begun(self.epoch) else 1)
            yield
            head.weight.copy_(kept)


class KilledError(Exception):
    pass


class Fatal(Late):
    """Dies once, in the middle of the epoch in which it begins."""

    name: ClassVar[str] = "late"

    def after_step(self, step: int, model: nn.Module) -> None:
        if self.epoch == FIRST:
            raise KilledError


def _best(events: list[dict[str, Any]]) -> list[int]:
    return [row["epoch"] for row in events if row["best"]]


def test_the_first_evaluation_in_which_it_acts_overtakes_all_before(bench: Bench) -> None:
    long = bench.with_train(epochs=4, steps=None, evaluate_every=None)
    run = long.train("late", Late())
    events = events_of(run)
    best = _best(events)
    assert best[0] < FIRST
    assert best[-1] >= FIRST
    scores = {row["epoch"]: row["score"] for row in events}
    assert max(scores[epoch] for epoch in scores if epoch < FIRST) > scores[FIRST]
    logits = torch.from_numpy(long.predict(run, Late()))
    assert (logits - logits[0]).abs().max() < 1e-6  # the head of zeros, one logit for all cases


def test_a_resume_remembers_whether_it_had_begun(bench: Bench) -> None:
    long = bench.with_train(epochs=4, steps=None, evaluate_every=None)
    whole = events_of(long.train("whole", Late()))
    with pytest.raises(KilledError):
        long.train("killed", Fatal())
    assert _best(events_of(long.train("killed", Late()))) == _best(whole)


def test_a_method_that_always_acts_is_chosen_by_score_alone(bench: Bench) -> None:
    events = events_of(bench.with_train(epochs=4, steps=None, evaluate_every=None).train("plain"))
    best: Tensor | float | None = None
    for row in events:
        assert row["best"] == (best is None or row["score"] > best)
        best = row["score"] if row["best"] else best
