"""The precision forecast: what a part with so many positive patients will be able to show, before any training."""

from __future__ import annotations

from typing import Any

from scipy.optimize import brentq

from raresight.core.binomial import n_for_gain, wilson

RECALL = 0.8  # the observed recall for which the interval is forecast
EXTRA_DISCORDANCE = 0.2
LARGEST_GAIN = 0.8  # beyond it the rule would ask for arms that disagree on more than every case


def forecast(n: float) -> dict[str, Any]:
    """What `n` positive patients can show: a recall interval and the smallest gain between two arms.

    `recall_low`, `recall_high`: 95% Wilson interval at an observed recall of 0.8, `halfwidth` half its width;
    `lower_bound_if_none_missed`: its lower bound at recall 1; `smallest_gain`: the smallest difference in recall that
    a paired test finds with power 0.8 at two-sided 0.05. Images of one patient count once, which is conservative
    where they differ. `n` may be fractional (a share of a count). Every figure but `n` is None at n = 0.
    """
    if not n > 0:
        names = ("recall_low", "recall_high", "halfwidth", "lower_bound_if_none_missed", "smallest_gain")
        return {"n_positive_patients": 0.0, "at_recall": RECALL, **dict.fromkeys(names)}
    low, high = wilson(RECALL, n)
    gain = smallest_gain(n)
    return {
        "n_positive_patients": round(float(n), 2),
        "at_recall": RECALL,
        "recall_low": round(low, 4),
        "recall_high": round(high, 4),
        "halfwidth": round((high - low) / 2, 4),
        "lower_bound_if_none_missed": round(wilson(1.0, n)[0], 4),
        "smallest_gain": None if gain is None else round(gain, 4),
    }


def smallest_gain(n: float) -> float | None:
    """The gain δ in recall for which `n` positive patients are just enough, or None where no gain up to 0.8 is.

    Solves n_for_gain(δ, ψ) = n with discordance ψ = δ + 0.2: arms that gain δ also trade a tenth of the cases each
    way, so that 10, 15 and 20 points go with 30%, 35% and 40% of the cases on which the arms disagree.
    """
    if not n > 0 or _needed(LARGEST_GAIN) > n:
        return None
    smallest = 1e-4
    if _needed(smallest) < n:
        return smallest
    return float(brentq(lambda gain: _needed(gain) - n, smallest, LARGEST_GAIN))


def _needed(gain: float) -> float:
    return n_for_gain(gain, gain + EXTRA_DISCORDANCE)
