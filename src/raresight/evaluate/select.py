"""One number for choosing a checkpoint, computed on validation after every epoch: cheap, and without an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.task import Kind
from raresight.evaluate.counts import Counts, balanced_accuracy, count, decide, macro_f1
from raresight.evaluate.ranking import Steps, auprc, auprc_of, auroc, auroc_of, steps

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


def scores(
    target: np.ndarray, prob: np.ndarray, kind: Kind, rule: str, costs: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """`score` of many models on the same cases, `(H,)`: exactly its values, at a fraction of the time.

    `target` `(N, K)` of 0, 1 or NaN, `prob` `(H, N, K)`; all else as in `score`, which says what is raised.
    """
    target, prob = np.asarray(target, dtype=np.float64), np.asarray(prob, dtype=np.float64)
    ranked = rule in ("macro_auprc", "macro_auroc") and not (prob < 0).any()  # negative scores have no sort key below
    if not ranked and rule not in ("macro_f1", "balanced_accuracy"):
        return np.array([score(target, one, kind, rule, costs) for one in prob], dtype=np.float64)
    usable = ~np.isnan(prob).any(axis=(1, 2))
    values = np.full(len(prob), np.nan)
    prob = prob[usable]
    if ranked:
        area = auprc_of if rule == "macro_auprc" else auroc_of
        by_class = [_steps_of_many(target[:, k], prob[:, :, k]) for k in range(target.shape[1])]
        areas = np.array([[area(at) for at in models] for models in zip(*by_class, strict=True)])
        known = [[value for value in row if not np.isnan(value)] for row in areas]
        values[usable] = [np.mean(row) if row else np.nan for row in known]
        return values
    alarm = decide(prob.reshape(-1, target.shape[1]), kind).reshape(prob.shape)
    yes, no = target == 1, target == 0
    cells = (yes & alarm, no & alarm, yes & ~alarm, no & ~alarm)
    counts = Counts(*(cell.sum(axis=1).astype(np.float64) for cell in cells))
    values[usable] = macro_f1(counts) if rule == "macro_f1" else balanced_accuracy(counts, kind)
    return values


def _steps_of_many(target: np.ndarray, prob: np.ndarray) -> list[Steps]:
    """`steps` of one class for the scores of many models `(H, N)`, all >= 0, by one sort of numbers without an index.

    The bits of a float >= 0 order as the float does and leave the sign bit free: the label takes the lowest place.
    """
    known = ~np.isnan(target)
    y = target[known].astype(np.uint64)
    keys = (np.ascontiguousarray(prob[:, known] + 0.0).view(np.uint64) << np.uint64(1)) | y  # + 0.0: no minus zero
    keys.sort(axis=1)
    keys = keys[:, ::-1]
    bits = keys >> np.uint64(1)
    tp = np.cumsum(keys & np.uint64(1), axis=1, dtype=np.float64)
    fp = np.arange(1.0, len(y) + 1) - tp
    last = np.ones(keys.shape, dtype=bool)
    last[:, :-1] = bits[:, 1:] != bits[:, :-1]
    value = bits.view(np.float64)
    return [Steps(value[h, at], tp[h, at], fp[h, at]) for h, at in enumerate(last)]


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
