"""The probe's race on a machine of our own: how large its batch is, who is timed again, and who wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch

from raresight.train.race import batch_for, race, winner
from raresight.train.runtime import Runtime

CPU = torch.device("cpu")
FP32, FP32_LAST, BF16, BF16_LAST = (Runtime(CPU, dtype, last) for dtype in ("fp32", "bf16") for last in (False, True))
ALL = [FP32, FP32_LAST, BF16, BF16_LAST]
# Milliseconds of a pass and of an image, ResNet-18 at 64 px on one core, rounded.
RESNET = {FP32: (40, 11), FP32_LAST: (40, 12), BF16: (32, 7), BF16_LAST: (32, 6)}


@dataclass
class Machine:
    """A clock that only passes move; the first of its kind takes 15% longer, `noise` says how much any does."""

    costs: Mapping[Runtime, tuple[float, float]]
    noise: Callable[[int], float] = lambda turn: 1.0
    now: float = 0.0
    passes: list[tuple[Runtime, int]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def once(self, choice: Runtime, batch: int) -> float:
        a_pass, an_image = self.costs[choice]
        seconds = (a_pass + an_image * batch) / 1000 * self.noise(len(self.passes))
        seconds *= 1 if (choice, batch) in self.passes else 1.15
        self.passes.append((choice, batch))
        self.now += seconds
        return seconds

    def batch(self, deadline: float, limits: range, n: int) -> int:
        return batch_for(FP32, self.once, self.clock, deadline, limits, n)

    def race(self, deadline: float, batch: int, choices: list[Runtime] = ALL) -> dict[Runtime, float]:
        return race(choices, self.once, self.clock, deadline, batch)


def test_the_batch_by_hand() -> None:
    """Two images take 80 ms; eight, met for the first time, 1.15 x 140: 13.5 an image, 53 a pass. Warming up took 92.

    Left are 1700 - 333 = 1367 ms, three quarters of which for two passes of each of four: 128.2 = 53 + 13.5 x 5.6.
    """
    machine = Machine({FP32: (60, 10)})
    assert machine.batch(1.7, range(2, 65), 4) == 5
    assert machine.passes == [(FP32, 2), (FP32, 2), (FP32, 8)]
    assert Machine({FP32: (60, 10)}).batch(1.7, range(2, 65), 2) == 15  # 256.3 = 53 + 13.5 x 15.1


@pytest.mark.parametrize(
    ("most", "batch", "sizes"),
    [(2, 2, [2, 2]), (3, 3, [2, 2, 3]), (64, 64, [2, 2, 8])],
)
def test_the_batch_is_no_larger_than_the_studys(most: int, batch: int, sizes: list[int]) -> None:
    machine = Machine({FP32: (1, 0.1)})
    assert machine.batch(1.7, range(2, most + 1), 4) == batch
    assert [size for _, size in machine.passes] == sizes


def test_where_a_pass_of_eight_would_take_too_long_two_tell() -> None:
    """Two images take 300 ms, so eight 1200: more than a quarter of the 1055 that are left; not of 20055."""
    machine = Machine({FP32: (0, 150)})
    assert machine.batch(1.7, range(2, 65), 4) == 2
    assert [size for _, size in machine.passes] == [2, 2]
    assert Machine({FP32: (0, 150)}).batch(20.7, range(2, 65), 4) == 9  # 1751 = 180 x 9.7, a pass 0


def test_a_size_that_came_out_cheaper_than_a_smaller_one_tells_nothing() -> None:
    noise = [1.0, 10.0, 0.01]
    assert Machine({FP32: (4, 1)}, lambda turn: noise[turn]).batch(1.7, range(2, 65), 4) == 5  # 30 ms an image


def test_near_ones_are_timed_again_and_again_in_turns_and_the_others_once() -> None:
    machine = Machine(RESNET)
    seconds = machine.race(1.61, 8)
    counts = {choice: sum(one == choice for one, _ in machine.passes) for choice in ALL}
    assert counts == {FP32: 2, FP32_LAST: 2, BF16: 6, BF16_LAST: 6}
    assert machine.passes[:8] == [(choice, 8) for choice in [*ALL, *ALL]]
    assert [choice for choice, _ in machine.passes[8:14]] == [BF16_LAST, BF16, BF16, BF16_LAST, BF16_LAST, BF16]
    assert machine.now == pytest.approx(1.15 * 0.432 + 0.432 + 4 * 0.168)  # a fifth would end at 1.77
    assert seconds == pytest.approx({FP32: 0.128, FP32_LAST: 0.136, BF16: 0.088, BF16_LAST: 0.08})


def test_who_is_hopeless_is_not_timed_and_one_round_is_run_after_the_deadline() -> None:
    machine = Machine({FP32: (0, 10), FP32_LAST: (0, 12), BF16: (0, 41), BF16_LAST: (0, 39)})
    seconds = machine.race(0.0, 1)
    assert [choice for choice, _ in machine.passes] == [*ALL, FP32, FP32_LAST, BF16_LAST]
    assert seconds[BF16] == pytest.approx(0.041 * 1.15)


def judged(fp32: float, fp32_last: float, bf16: float, bf16_last: float) -> Runtime:
    return winner(dict(zip(ALL, (fp32, fp32_last, bf16, bf16_last), strict=True)))


@pytest.mark.parametrize(
    ("seconds", "won"),
    [
        ((1.00, 1.00, 1.00, 0.87), FP32),  # 0.87 x 1.15 > 1
        ((1.00, 1.00, 1.00, 0.86), BF16_LAST),
        ((1.00, 1.00, 0.50, 0.54), BF16_LAST),  # a near-tie: the layout that bf16 is made for
        ((1.00, 1.00, 0.54, 0.50), BF16_LAST),
        ((1.00, 1.00, 0.50, 0.58), BF16),  # not near: 0.5 x 1.15 < 0.58
        ((1.00, 0.90, 2.00, 2.00), FP32),
        ((0.90, 1.00, 2.00, 2.00), FP32),
        ((1.00, 0.86, 2.00, 2.00), FP32_LAST),
        ((1.00, 0.86, 0.80, 0.80), FP32_LAST),  # bf16 against the faster layout of fp32
    ],
)
def test_the_winner(seconds: tuple[float, float, float, float], won: Runtime) -> None:
    assert judged(*seconds) == won


def test_with_one_precision_the_layout_alone_is_judged() -> None:
    assert winner({BF16: 1.0, BF16_LAST: 1.1}) == BF16_LAST
    assert winner({BF16: 1.0, BF16_LAST: 1.2}) == BF16
    assert winner({FP32: 1.0}) == FP32


@pytest.mark.parametrize("start", range(8))
def test_noise_does_not_change_the_choice(start: int) -> None:
    """Every pass takes up to 30% longer, another one each time; bf16 is faster in one layout or the other, by 10%."""
    noise = [1.0, 1.3, 1.1, 1.25, 1.05, 1.3, 1.15, 1.0, 1.2, 1.3, 1.02]
    chosen = set()
    for costs in (RESNET, RESNET | {BF16: (32, 6), BF16_LAST: (32, 7)}):
        machine = Machine(costs, lambda turn: noise[(turn * 7 + start) % len(noise)])
        batch = machine.batch(1.7, range(2, 65), 4)
        assert batch >= 4
        chosen.add(winner(machine.race(1.7, batch)))
        assert machine.now < 1.9
    assert chosen == {BF16_LAST}
