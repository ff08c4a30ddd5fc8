"""The maps from logits to logits that recalibration chooses among, and how the parameters of each are fitted.

All take logits `(N, K)` from which the prior that training implied is already taken out, and give logits `(N, K)` back.
Every map is rising in each class's own score, so recalibration never changes who ranks above whom for a class judged
alone. `parameters` holds plain numbers, as `calibrator.json` does: `temperature` alone (1 for "none"), with `scale` and
`bias` for vector scaling, or with `a`, `b` and `c` for beta calibration; classes without parameters of their own keep
the shared temperature, and have 1/T, 0 or None there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax

from raresight.core.task import Kind
from raresight.evaluate.newton import Curve, least, logistic

LOWEST, HIGHEST = 0.05, 20.0
_TINY = 1e-12


def mapped(logits: np.ndarray, parameters: Mapping[str, Any], kind: Kind) -> np.ndarray:
    """The logits `(N, K)` after a map: temperature z/T, vector s z + b, or beta a ln p - b ln(1-p) + c.

    Independent labels: p = logistic(z), each class on its own. Exclusive labels: temperature and vector act on
    z = ln softmax, and a softmax follows; beta gives each class one against the rest the probability
    q = logistic(a ln p - b ln(1-p) + c), a class without parameters q = softmax(z/T), and the q are scaled to sum to 1.
    Parameters are in order of the classes. An absent class has none of its own.

    Source: Guo et al., ICML 2017, section 4.2; Kull, Silva Filho & Flach, AISTATS 2017, eq. 6.
    """
    temperature = float(parameters["temperature"])
    if "scale" in parameters:
        z = log_softmax(logits, axis=1) if kind == "exclusive" else logits
        return z * np.asarray(parameters["scale"], float) + np.asarray(parameters["bias"], float)
    if "a" not in parameters:
        return logits / temperature
    shared = log_softmax(logits / temperature, axis=1) if kind == "exclusive" else logits / temperature
    with_class, without = _log_both(logits, kind)
    a, b, c = (
        np.array([np.nan if v is None else v for v in parameters[name]], dtype=np.float64) for name in ("a", "b", "c")
    )
    own = a * with_class - b * without + c
    if kind == "independent":
        return np.where(np.isnan(a), shared, own)
    return log_softmax(np.where(np.isnan(a), shared, log_expit(own)), axis=1)


def fit_temperature(target: np.ndarray, logits: np.ndarray, kind: Kind) -> float:
    """The T in [0.05, 20] that minimises the log-loss of z / T; 1 where no label is known.

    One temperature for all classes: a rare class has too few cases for one of its own. A temperature keeps the order of
    an independent label's scores, and the argmax of an exclusive case.

    Source: Guo et al., ICML 2017, section 4.2.
    """
    known = ~np.isnan(target).any(axis=1) if kind == "exclusive" else ~np.isnan(target)
    if not known.any():
        return 1.0
    y, z = target[known], logits[known]

    def loss(scale: np.ndarray) -> Curve:
        # In 1/T the log-loss is convex, which in T it is not.
        after = z * scale[0]
        if kind == "independent":
            p = expit(after)
            value = float((np.logaddexp(0.0, after) - y * after).sum())
            slope, bend = float(((p - y) * z).sum()), float((p * (1 - p) * z**2).sum())
        else:
            p = softmax(after, axis=1)
            value = -float((log_softmax(after, axis=1) * y).sum())
            mean = (p * z).sum(axis=1)
            slope, bend = float(mean.sum() - (y * z).sum()), float(((p * z**2).sum(axis=1) - mean**2).sum())
        return value / len(z), np.array([slope / len(z)]), np.array([[bend / len(z)]])

    scale = least(loss, np.ones(1), np.array([1 / HIGHEST]), np.array([1 / LOWEST]))
    return float(1 / scale[0])


def fit_vector(
    target: np.ndarray, logits: np.ndarray, kind: Kind, free: np.ndarray, temperature: float
) -> dict[str, Any]:
    """Scale in [0.05, 20] and bias in [-20, 20] of each class that `free` `(K,)` names, by maximum likelihood.

    The other classes have scale 1/T and bias 0. Exclusive labels are fitted jointly; where all classes are free their
    biases are told apart only up to a constant, and sum to 0. Independent labels are fitted one by one (Platt scaling).

    Source: Guo et al., ICML 2017, section 4.2; Platt 1999.
    """
    scale, bias = np.full(len(free), 1 / temperature), np.zeros(len(free))
    own = np.flatnonzero(free)
    if kind == "independent":
        for k in own:
            known = ~np.isnan(target[:, k])
            features = np.stack([logits[known, k], np.ones(known.sum())], axis=1)
            scale[k], bias[k] = logistic(features, target[known, k], [scale[k], 0.0], [LOWEST, -HIGHEST], [HIGHEST] * 2)
        return {"temperature": temperature, "scale": scale.tolist(), "bias": bias.tolist()}
    known = ~np.isnan(target).any(axis=1)
    y, z = target[known], log_softmax(logits[known], axis=1)

    def loss(free_ones: np.ndarray) -> Curve:
        s, b = scale.copy(), bias.copy()
        s[own], b[own] = np.split(free_ones, 2)
        after = z * s + b
        p = softmax(after, axis=1)
        error, share, x = (p - y)[:, own], p[:, own], z[:, own]
        both = np.concatenate([share * x, share], axis=1)
        bend = -both.T @ both
        for block, sums in (((0, 0), share * x * x), ((0, 1), share * x), ((1, 0), share * x), ((1, 1), share)):
            rows, columns = (np.arange(len(own)) + side * len(own) for side in block)
            bend[rows, columns] += sums.sum(axis=0)
        value = -float((log_softmax(after, axis=1) * y).sum())
        slope = np.concatenate([(error * x).sum(axis=0), error.sum(axis=0)])
        return value / len(z), slope / len(z), bend / len(z)

    low = np.repeat([LOWEST, -HIGHEST], len(own))
    found = least(loss, np.concatenate([scale[own], bias[own]]), low, np.full(2 * len(own), HIGHEST))
    scale[own], bias[own] = np.split(found, 2)
    if free.all():
        bias -= bias.mean()
    return {"temperature": temperature, "scale": scale.tolist(), "bias": bias.tolist()}


def fit_beta(
    target: np.ndarray, logits: np.ndarray, kind: Kind, free: np.ndarray, temperature: float
) -> dict[str, Any]:
    """a and b in [0, 20] and c in [-20, 20] of each class that `free` `(K,)` names, one against the rest.

    Maximum likelihood of logit P(y) = a ln p - b ln(1-p) + c; a and b are kept from falling below 0, so that the map
    rises. The other classes have None.

    Source: Kull, Silva Filho & Flach, AISTATS 2017, eq. 6 and section 4.
    """
    with_class, without = _log_both(logits, kind)
    rows: list[list[float | None]] = []
    for k in range(len(free)):
        if not free[k]:
            rows.append([None, None, None])
            continue
        known = ~np.isnan(target[:, k])
        features = np.stack([with_class[known, k], -without[known, k], np.ones(known.sum())], axis=1)
        start = [1 / temperature, 1 / temperature, 0.0]
        rows.append(logistic(features, target[known, k], start, [0.0, 0.0, -HIGHEST], [HIGHEST] * 3).tolist())
    a, b, c = (list(column) for column in zip(*rows, strict=True))
    return {"temperature": temperature, "a": a, "b": b, "c": c}


def _log_both(logits: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """ln p and ln(1-p), each `(N, K)`, finite."""
    if kind == "independent":
        return log_expit(logits), log_expit(-logits)
    with_class = np.minimum(log_softmax(logits, axis=1), -_TINY)
    return with_class, np.log(-np.expm1(with_class))
