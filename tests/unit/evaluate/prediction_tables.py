"""Prediction tables for the tests of this room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from raresight.core.predictions import Predictions
from raresight.core.task import Kind, Task


def predictions(
    kind: Kind,
    target: np.ndarray,
    prob: np.ndarray,
    patient: Sequence[object] | None = None,
    *,
    critical: Sequence[str] = (),
    part: str = "val",
    arm: str = "a",
    seed: int | None = 0,
) -> Predictions:
    """Predictions with classes c0, c1, ...; `target` `(N, K)` with NaN for unknown."""
    n, k = prob.shape
    classes = tuple(f"c{i}" for i in range(k))
    columns: dict[str, object] = {"case": [f"case{i}" for i in range(n)]}
    columns["patient_id"] = [str(p) for p in (range(n) if patient is None else patient)]
    if kind == "exclusive":
        known = ~np.isnan(target).any(axis=1)
        columns["label"] = [classes[int(y.argmax())] if ok else "" for y, ok in zip(target, known, strict=True)]
    else:
        columns |= {f"label_{name}": target[:, i] for i, name in enumerate(classes)}
    columns |= {f"prob_{name}": prob[:, i] for i, name in enumerate(classes)}
    return Predictions(pd.DataFrame(columns), Task(kind, classes, tuple(critical)), arm, seed, part)


def drawn(
    kind: Kind, n: int = 400, k: int = 4, n_patients: int = 150, rng_seed: int = 0, skill: float = 1.5, **more: object
) -> Predictions:
    """Random predictions: class 0 rare (about 4%), skilled by `skill` units of logit, several images a patient."""
    rng = np.random.default_rng(rng_seed)
    prior = np.geomspace(0.04, 0.6, k)
    prior /= prior.sum()
    patient = rng.integers(0, n_patients, n)
    if kind == "exclusive":
        target = np.eye(k)[rng.choice(k, n, p=prior)]
        z = rng.normal(size=(n, k)) + skill * target + np.log(prior)
        prob = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    else:
        target = (rng.random((n, k)) < prior).astype(float)
        prob = 1 / (1 + np.exp(-(rng.normal(size=(n, k)) + skill * target + np.log(prior))))
    return predictions(kind, target, prob, patient, **more)  # type: ignore[arg-type]
