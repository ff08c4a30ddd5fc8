"""The calibrator of a model: the smallest correction of its probabilities that validation can be shown to need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from raresight.core.predictions import LOGIT_PREFIX, PROB_PREFIX, Predictions
from raresight.core.seeds import numpy_rng
from raresight.core.task import Kind
from raresight.evaluate.calibration import log_loss, log_losses, log_odds, probabilities
from raresight.evaluate.calibrators import fit_beta, fit_temperature, fit_vector, mapped
from raresight.evaluate.fitting import refuse_test

METHODS = ("none", "temperature", "vector", "beta")  # by number of free parameters: 0, 1, 2 a class, 3 a class
FOLDS = 5
FEWEST_PATIENTS = 20  # four in a fold
FREE_POSITIVE_PATIENTS = 50  # a class with more of them has parameters of its own


def fit(val: Predictions, *, implied_prior: np.ndarray | None = None, seed: int = 0) -> dict[str, Any]:
    """Take the prior that training implied out of the logits, then choose and fit one of four maps.

    z - shift; then none, temperature z/T, vector scaling s_k z_k + b_k, or beta a_k ln p_k - b_k ln(1-p_k) + c_k (see
    `calibrators.mapped`). The choice is by log-loss on patients that the map was not fitted on: 5 folds of whole
    patients, spread over the classes, drawn by name from `seed`. From the map with the fewest parameters on, a larger
    one replaces the one in hand only where it is better by more than the standard error, clustered by patients, of
    their difference. Only classes with more than 50 positive patients have parameters of their own; without one such
    class vector and beta are not eligible, and below 20 patients nothing is fitted but the shift.

    `implied_prior` `(K,)` in nats, None where the arm's shift is not defined; an entry that is not finite corrects
    nothing. Returns `calibrator.json`: `method`, `shift`, `temperature` and the map's parameters, `candidates` (each
    with its cross-fitted `log_loss` in nats a known label, `gain` over the one in hand and its `standard_error`,
    `eligible`, `reason`), `log_loss_before` (as given), `log_loss_corrected` (prior correction alone), `log_loss_after`
    (cross-fitted), `reason`, `own_parameters` (class names), `part`, `n_patients`. An absent class has no parameters of
    its own; figures are None where no label is known.

    Raises: `GateError` RS-R36 for predictions of the test part.
    Source: Guo et al., ICML 2017; Kull et al., AISTATS 2017; the one-standard-error rule: Breiman et al., 1984, 3.4.3.
    """
    refuse_test(val, "a calibrator was", "a figure judged on the rows that chose its calibrator")
    kind, target, classes = val.task.kind, val.target, val.task.classes
    given = _logits(val)
    # A class that training lacks has no finite shift, and nothing to correct.
    shift = None if implied_prior is None else np.nan_to_num(np.asarray(implied_prior, float), posinf=0.0, neginf=0.0)
    z = given if shift is None else given - shift
    names, who = np.unique(val.patient.astype(str), return_inverse=True)
    positives = np.array([len(np.unique(who[target[:, k] == 1])) for k in range(len(classes))])
    negatives = np.array([len(np.unique(who[target[:, k] == 0])) for k in range(len(classes))])
    free = (positives > FREE_POSITIVE_PATIENTS) & (negatives > FREE_POSITIVE_PATIENTS)
    lacking = _lacking(len(names), free)
    fold = _folds(target, who, positives, seed)
    losses = {"none": log_losses(target, z, kind)} | {
        method: log_losses(target, after, kind)
        for method, after in _crossed(target, z, kind, free, fold, [m for m in METHODS if not lacking[m]]).items()
    }
    chosen, candidates = _choose(losses, lacking, who)
    temperature = 1.0 if chosen == "none" else fit_temperature(target, z, kind)
    return {
        "method": chosen,
        "shift": None if shift is None else [float(value) for value in shift],
        **_fit(chosen, target, z, kind, free, temperature),
        "own_parameters": [name for name, own in zip(classes, free, strict=True) if own and chosen in METHODS[2:]],
        "candidates": candidates,
        "reason": _reason(chosen, candidates),
        "log_loss_before": _number(log_loss(target, given, kind)),
        "log_loss_corrected": _mean(losses["none"]),
        "log_loss_after": _mean(losses[chosen]),
        "part": val.part,
        "n_patients": len(names),
    }


def calibrated_logits(logits: np.ndarray, calibrator: Mapping[str, Any], kind: Kind) -> np.ndarray:
    """Logits `(N, K)` after the calibrator: z - shift, then its map; their softmax or logistic are probabilities.

    Files that hold `shift` and `temperature` alone are read as well. A class without parameters of its own keeps the
    shared temperature.

    Raises: nothing.
    Source: `calibrators.mapped`.
    """
    shift = calibrator.get("shift")
    z = logits if shift is None else logits - np.asarray(shift, dtype=np.float64)[None, :]
    return mapped(z, calibrator, kind)


def calibrate(predictions: Predictions, calibrator: Mapping[str, Any]) -> Predictions:
    """The same table with `prob_` and `logit_` columns after the calibrator (see `calibrated_logits`)."""
    task = predictions.task
    after = calibrated_logits(_logits(predictions), calibrator, task.kind)
    prob = probabilities(after, task.kind)
    columns = {PROB_PREFIX + name: prob[:, k] for k, name in enumerate(task.classes)}
    columns |= {LOGIT_PREFIX + name: after[:, k] for k, name in enumerate(task.classes)}
    return replace(predictions, table=predictions.table.assign(**columns))


def _logits(predictions: Predictions) -> np.ndarray:
    given = predictions.logits
    return given if given is not None else log_odds(predictions.prob, predictions.task.kind)


def _lacking(n_patients: int, free: np.ndarray) -> dict[str, str]:
    """Why a map is not eligible, empty where it is."""
    few = f"{n_patients} patients, fewer than {FEWEST_PATIENTS}" if n_patients < FEWEST_PATIENTS else ""
    rare = "" if free.any() else f"no class has more than {FREE_POSITIVE_PATIENTS} patients with it and without it"
    return {"none": "", "temperature": few, "vector": few or rare, "beta": few or rare}


def _folds(target: np.ndarray, who: np.ndarray, positives: np.ndarray, seed: int) -> np.ndarray:
    """The fold of every case `(N,)`, 0 to 4: whole patients, those of each rarest class dealt out in turn."""
    n = int(who.max()) + 1 if len(who) else 0
    rarest = np.full(n, target.shape[1])
    for k in np.argsort(-positives, kind="stable"):  # the rarest last, so that it has the last word
        rarest[who[target[:, k] == 1]] = k
    shuffled = numpy_rng("recalibrate", "folds", seed).permutation(n)
    dealt = shuffled[np.argsort(rarest[shuffled], kind="stable")]
    fold = np.empty(n, dtype=int)
    fold[dealt] = np.arange(n) % FOLDS
    return fold[who]


def _crossed(
    target: np.ndarray, z: np.ndarray, kind: Kind, free: np.ndarray, fold: np.ndarray, methods: list[str]
) -> dict[str, np.ndarray]:
    """Logits of every case from maps fitted on the other folds, by map."""
    after = {method: np.array(z, dtype=np.float64) for method in methods if method != "none"}
    for f in range(FOLDS) if after else ():
        out = fold == f
        temperature = fit_temperature(target[~out], z[~out], kind)
        for method, into in after.items():
            into[out] = mapped(z[out], _fit(method, target[~out], z[~out], kind, free, temperature), kind)
    return after


def _fit(
    method: str, target: np.ndarray, z: np.ndarray, kind: Kind, free: np.ndarray, temperature: float
) -> dict[str, Any]:
    if method == "vector":
        return fit_vector(target, z, kind, free, temperature)
    if method == "beta":
        return fit_beta(target, z, kind, free, temperature)
    return {"temperature": temperature}


def _choose(
    losses: Mapping[str, np.ndarray], lacking: Mapping[str, str], who: np.ndarray
) -> tuple[str, list[dict[str, Any]]]:
    """The map that no smaller one equals within a standard error, and how every one did."""
    chosen, rows = "none", []
    for method in METHODS:
        row: dict[str, Any] = {"method": method, "log_loss": None, "gain": None, "standard_error": None}
        row |= {"over": None, "eligible": not lacking[method], "reason": lacking[method]}
        rows.append(row)
        if lacking[method]:
            continue
        row["log_loss"] = _mean(losses[method])
        if method == "none":
            continue
        gain, error = _gain(losses[chosen] - losses[method], who)
        better = gain > error
        row |= {"gain": _number(gain), "standard_error": _number(error), "over": chosen}
        row["reason"] = "" if better else f"not better than {chosen} by more than a standard error"
        chosen = method if better else chosen
    return chosen, rows


def _gain(difference: np.ndarray, who: np.ndarray) -> tuple[float, float]:
    """Mean of per-label differences of losses and its standard error between patients; NaN where none is known."""
    flat = difference.reshape(len(difference), -1)
    known = ~np.isnan(flat)
    n = int(known.sum())
    if n == 0:
        return math.nan, math.nan
    sums = np.bincount(who, weights=np.where(known, flat, 0.0).sum(axis=1))
    counts = np.bincount(who, weights=known.sum(axis=1))
    clusters = int((counts > 0).sum())
    mean = float(sums.sum() / n)
    spread = float(np.sum((sums - mean * counts) ** 2))
    return mean, math.sqrt(clusters / (clusters - 1) * spread) / n if clusters > 1 else math.inf


def _reason(chosen: str, candidates: list[dict[str, Any]]) -> str:
    """Why this map, in a sentence."""
    row = next(one for one in candidates if one["method"] == chosen)
    if chosen != "none":
        gain, error = row["gain"], row["standard_error"]
        return f"on patients it was not fitted on, better than {row['over']} by {gain:.2g} ± {error:.2g} nats a label"
    if not any(one["eligible"] for one in candidates[1:]):
        return f"nothing could be fitted: {candidates[1]['reason']}"
    return "no map was better on patients it was not fitted on by more than a standard error"


def _mean(losses: np.ndarray) -> float | None:
    known = losses[~np.isnan(losses)]
    return _number(float(known.mean())) if len(known) else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
