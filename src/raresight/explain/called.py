"""Whether a network calls a class on an image: scores that rank as probabilities do, cut where validation says."""

from __future__ import annotations

import numpy as np


def scores(logits: np.ndarray, kind: str) -> np.ndarray:
    """What ranks images as the probability of each class does, `(N, K)` float64.

    Equation: z_k for independent labels; z_k - log(sum over l != k of exp z_l), the log odds of the softmax, for
    exclusive ones, whose logits alone rank images otherwise than their probabilities. One class is its logit.
    """
    z = np.asarray(logits, dtype=np.float64)
    if kind != "exclusive" or z.shape[1] < 2:
        return z
    found = np.empty_like(z)
    for k in range(z.shape[1]):
        rest = np.delete(z, k, axis=1)
        top = rest.max(axis=1, keepdims=True)
        found[:, k] = z[:, k] - (top[:, 0] + np.log(np.exp(rest - top).sum(axis=1)))
    return found


def cut_at(target: np.ndarray, score: np.ndarray) -> float:
    """The score from which on a class is called: the highest sensitivity + specificity (Youden), the highest of equals.

    `target` `(N,)` of 0, 1 or NaN (left out), `score` `(N,)`. NaN where the class, or its absence, is absent.
    """
    known = ~np.isnan(target)
    y, s = target[known] == 1, np.asarray(score, dtype=np.float64)[known]
    if not y.any() or y.all():
        return float("nan")
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(s[1:] != s[:-1], True)
    gain = np.cumsum(y) / y.sum() - np.cumsum(~y) / (~y).sum()
    return float(s[last][np.argmax(np.round(gain[last], 12))])
