"""Which of several runtimes is the fastest: timed in turns within some seconds, judged so that a second race agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raresight.train.runtime import Runtime

MARGIN = 1.15  # what is not the usual choice must be this much faster, or timing noise would decide
HOPELESS = 4.0  # who is so many times slower than the fastest when warming up is not timed at all
LOST = 1.4  # and who is so many times slower once timed is timed no more
FIRST_SHARE = 0.75  # of the time for warming up and a first round; the rest is for those that are still in the race

Once = Callable[[Runtime, int], float]  # seconds of one forward and backward pass of a batch


def batch_for(
    reference: Runtime, once: Once, clock: Callable[[], float], deadline: float, limits: range, n: int
) -> int:
    """The largest batch in `limits` with which `n` choices can be warmed up and timed once in their share of the time.

    A pass costs something and each image something more. Two sizes tell them apart: from a few images alone the larger
    batches would look as dear as these, and a race of very small ones is another race.
    """
    least, most = limits.start, limits.stop - 1
    once(reference, least)  # warms up
    of_least = once(reference, least)
    a_pass, an_image = 0.0, of_least / least
    larger = min(4 * least, most)
    if larger > least and of_least * larger / least <= (deadline - clock()) / 4:
        of_larger = once(reference, larger)
        if of_larger > of_least:
            an_image = (of_larger - of_least) / (larger - least)
            a_pass = max(0.0, of_least - least * an_image)
    seconds = FIRST_SHARE * (deadline - clock()) / (2 * n)
    return max(least, min(most, int((seconds - a_pass) / an_image)))


def race(
    choices: Sequence[Runtime], once: Once, clock: Callable[[], float], deadline: float, batch: int
) -> dict[Runtime, float]:
    """The least seconds of a pass, per choice: all are warmed up and timed in turns, the nearer ones again and again.

    Who goes first changes from turn to turn. One round is timed even where the deadline is over.
    """
    least = {choice: once(choice, batch) for choice in choices}
    turn = 0
    while True:
        near = (LOST if turn else HOPELESS) * min(least.values())
        running = [choice for choice in choices if least[choice] <= near]
        if turn and clock() + sum(least[choice] for choice in running) > deadline:
            return least
        first = turn % len(running)
        for choice in running[first:] + running[:first]:
            least[choice] = min(least[choice], once(choice, batch))
        turn += 1


def winner(seconds: Mapping[Runtime, float]) -> Runtime:
    """The precision of the fastest choice, and its usual layout, where nothing unusual is faster by `MARGIN`.

    bf16 is unusual, fp32 usual. Channels last is the usual layout of bf16, whose kernels are made for it, contiguous
    that of fp32: the two often differ by less than one race from the next.
    """
    by_precision = {dtype: {c: s for c, s in seconds.items() if c.dtype == dtype} for dtype in ("fp32", "bf16")}
    fp32, bf16 = (min(of.values(), default=float("inf")) for of in by_precision.values())
    of = by_precision["bf16" if bf16 * MARGIN <= fp32 else "fp32"]
    usual = next((choice for choice in of if choice.channels_last == (choice.dtype == "bf16")), next(iter(of)))
    fastest = min(of, key=lambda choice: of[choice])
    return fastest if of[fastest] * MARGIN <= of[usual] else usual
