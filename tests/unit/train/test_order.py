"""Which rows make a batch: permutations, draws by weight, and weights that change from one epoch to the next."""

from __future__ import annotations

from itertools import chain
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_study import Bench, Retrained, Witness, events_of
from torch import Tensor, nn

from raresight.strategies.strategy import Strategy
from raresight.train import journal
from raresight.train.batches import Order

SEEDS = {"study_seed": 1, "run_seed": 2}


class Hard(Strategy):
    """Draws by what was observed, from the second epoch on; every epoch writes down when it began."""

    name: ClassVar[str] = "hard"
    place: ClassVar[Any] = "sampling"

    def __init__(self) -> None:
        self.loss_, self.draw_ = torch.zeros(30), torch.zeros(0)
        self.begun: list[tuple[int, float]] = []

    def start_epoch(self, epoch: int, model: nn.Module, rng: torch.Generator) -> None:
        self.begun.append((epoch, torch.rand(1, generator=rng).item()))
        if self.loss_.sum() > 0:
            self.draw_ = self.loss_.clone()

    def sample_weights(self) -> Tensor | None:
        return self.draw_ if len(self.draw_) else None

    def observe(self, ids: Tensor, per_case: Tensor) -> None:
        for row, loss in zip(ids.tolist(), per_case.tolist(), strict=True):
            self.loss_[row] = loss

    def state_dict(self) -> dict[str, Tensor]:
        return {"loss": self.loss_.clone(), "draw": self.draw_.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.loss_, self.draw_ = state["loss"].clone(), state["draw"].clone()


class Head(Retrained):
    """A head phase that leaves its rows to the arm's sampler."""

    head_sample_weights = Strategy.head_sample_weights


class Killed(BaseException):
    pass


def _epochs(order: Order, epochs: int) -> list[list[int]]:
    per = order.per_epoch
    return [list(chain(*(order.rows(step) for step in range(per * e, per * (e + 1))))) for e in range(epochs)]


def test_without_weights_an_epoch_is_a_permutation() -> None:
    order = Order(10, 4, **SEEDS)
    assert [len(order.rows(step)) for step in range(3)] == [3, 3, 4]
    first, second = _epochs(order, 2)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_weights_are_asked_once_an_epoch_and_the_draw_follows_them() -> None:
    asked: list[int] = []

    def weights() -> Tensor | None:
        asked.append(len(asked))
        return None if len(asked) == 1 else torch.nn.functional.one_hot(torch.tensor(len(asked)), 10).float()

    order = Order(10, 4, **SEEDS, weights=weights)
    first, second, third = _epochs(order, 3)
    assert asked == [0, 1, 2]
    assert first == _epochs(Order(10, 4, **SEEDS), 1)[0]
    assert second == [2] * 10
    assert third == [3] * 10


def test_a_fixed_weight_draws_like_a_callable_that_answers_alike() -> None:
    fixed = torch.linspace(1, 3, 10)
    assert _epochs(Order(10, 4, **SEEDS, weights=fixed), 3) == _epochs(Order(10, 4, **SEEDS, weights=lambda: fixed), 3)


def test_synthetic_rows_lengthen_the_pass_and_not_the_epoch() -> None:
    order = Order(25, 4, **SEEDS, cases=10)
    assert order.per_epoch == 3
    assert order.epoch(8) == 2
    # 25 rows in batches of at most 4: seven batches of 3 or 4, each row once
    batches = [order.rows(step) for step in range(7)]
    assert sorted(chain(*batches)) == list(range(25))
    assert {len(batch) for batch in batches} == {3, 4}
    weighted = Order(25, 4, **SEEDS, cases=10, weights=torch.ones(25))
    assert [len(weighted.rows(step)) for step in range(6)] == [3, 3, 4, 3, 3, 4]


@pytest.mark.parametrize(("head_steps", "head"), [(None, False), (4, True), (6, True)])
def test_epochs_begin_in_both_phases(bench: Bench, head_steps: int | None, head: bool) -> None:
    hard = Hard()
    bench.with_train(head_steps=head_steps).train("arm", hard, *([Head()] if head else []))
    # 12 steps, 4 an epoch: the head begins with step 8, an epoch's first, or within epoch 1 with step 6
    assert [epoch for epoch, _ in hard.begun] == {None: [0, 1, 2], 4: [0, 1, 2], 6: [0, 1, 1, 2]}[head_steps]
    assert len({draw for _, draw in hard.begun}) == len(hard.begun)


def test_a_sampler_that_learns_changes_its_draw_between_epochs(bench: Bench) -> None:
    witness = Witness()
    bench.train("arm", Hard(), witness)
    epochs = [list(chain(*witness.ids[start : start + 4])) for start in (0, 4, 8)]
    assert sorted(epochs[0]) == list(range(30))
    assert max(np.bincount(epochs[1])) > 1
    assert epochs[1] != epochs[2]


@pytest.mark.parametrize("step", [*range(1, 12)])
@pytest.mark.parametrize("head", [False, True], ids=["plain", "head"])
def test_resumed_within_an_epoch_it_draws_the_same_rows(
    bench: Bench, head: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench.with_train(head_steps=6 if head else None)
    witness, before, after = Witness(), Witness(), Witness()
    more = [Head()] if head else []
    whole = bench.train("whole", Hard(), witness, *more)
    add = journal.Journal.add

    def adding(self: Any, *args: Any) -> None:
        if self.progress.step == step:
            raise Killed
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "add", adding)
        patch.setattr(journal, "RESUME_SECONDS", 0.0)
        with pytest.raises(Killed):
            bench.train("killed", Hard(), before, *more)
    killed = bench.train("killed", Hard(), after, *more)
    # the step that was killed saw its rows, then was forgotten and saw them again
    assert before.ids[:step] + after.ids == witness.ids
    assert whole.best.read_bytes() == killed.best.read_bytes()
    assert events_of(whole) == events_of(killed)
