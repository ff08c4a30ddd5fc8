"""One number for choosing a checkpoint, computed on validation after every epoch: cheap, and without an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.task import Kind
from raresight.evaluate.counts import balanced_accuracy, count, decide, macro_f1
from raresight.evaluate.ranking import auprc, auroc, steps

RULES = ("macro_auprc", "macro_auroc", "macro_f1", "balanced_accuracy", "expected_cost")


def score(
    target: np.ndarray, prob: np.ndarray, kind: Kind, rule: str, costs: Sequence[float] | np.ndarray | None = None
) -> float:
    """The value of `rule`, **higher is better for every rule**: an expected cost comes back negated.

    Macro figures are means over the classes that can be estimated. Expected cost is that of one case at each class's
    cheapest threshold, Σ_c min_t [costs_c · missed_c(t) + false alarms_c(t)] / known cases, so that a checkpoint is
    judged by its ranking and not by where its probabilities happen to sit.

    `target` `(N, K)` of 0, 1 or NaN (unknown); `prob` `(N, K)`; `costs` `(K,)`, the cost of a missed case relative to
    one false alarm, 0 or NaN for a class without one. NaN where no class can be estimated or a probability
    is NaN.

    Raises: `ConfigError` (RS-C33) for a rule that is not known; `ConfigError` (RS-C37) for expected cost without costs.
    """
    target, prob = np.asarray(target, dtype=np.float64), np.asarray(prob, dtype=np.float64)
    if rule not in RULES:
        raise ConfigError(_unknown(rule))
    if np.isnan(prob).any():
        return float("nan")
    if rule in ("macro_f1", "balanced_accuracy"):
        counts = count(target, decide(prob, kind))
        return float(macro_f1(counts) if rule == "macro_f1" else balanced_accuracy(counts, kind))
    classes = range(target.shape[1])
    if rule == "expected_cost":
        if costs is None or not np.nansum(np.asarray(costs, dtype=np.float64)) > 0:
            raise ConfigError(_without_costs())
        values = [-_cheapest(target[:, k], prob[:, k], float(costs[k])) for k in classes if costs[k] > 0]
        known = [value for value in values if not np.isnan(value)]
        return float(np.sum(known)) if known else float("nan")
    area = auprc if rule == "macro_auprc" else auroc
    areas = [area(target[:, k], prob[:, k]) for k in classes]
    known = [value for value in areas if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _cheapest(target: np.ndarray, prob: np.ndarray, cost: float) -> float:
    """The least of `cost` x missed + false alarms per known case over all thresholds; NaN for an absent class."""
    at = steps(target, prob)
    if not at.positives > 0:
        return float("nan")
    total = np.append(at.positives * cost, (at.positives - at.tp) * cost + at.fp)
    return float(total.min() / (at.positives + at.negatives))


def _unknown(rule: str) -> Problem:
    close = nearest(rule, RULES)
    return Problem(
        code="RS-C33",
        level="error",
        column="train.select",
        found=f"unknown rule '{rule}'",
        why="checkpoints are chosen by it",
        remedy=f"did you mean '{close}'?" if close else f"one of {', '.join(RULES)}",
    )


def _without_costs() -> Problem:
    return Problem(
        code="RS-C37",
        level="error",
        column="costs.missed",
        found="select: expected_cost without any cost",
        why="there is nothing to add up",
        remedy="give costs.missed for the critical classes, or select: macro_auprc",
    )
