"""What chance alone does to calibration figures: labels drawn from the model's own probabilities.

A right model has an ECE above 0 and a reliability curve off the diagonal, by chance. How far is seen by drawing labels
from its probabilities again and again; only what lies outside of that says anything against a model.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from raresight.core.seeds import numpy_rng
from raresight.evaluate.calibration_curve import Curve

DRAWS = 200
_BLOCK = 50


def drawn_positives(
    prob: np.ndarray,
    who: np.ndarray,
    places: list[np.ndarray],
    correlation: float,
    *names: object,
    draws: int = DRAWS,
) -> list[np.ndarray]:
    """Drawn positives of every place in every draw, one `(B, D)` for each `(N,)` of `places` (numbers from 0).

    y_i = [u < p_i], u uniform: one of the patient's own, shared by its images, with probability √correlation, else one
    of the image's own. So two images of a patient are as alike, given p, as those of the data are, and each has exactly
    P(y) = p. `prob` `(N,)`, `who` `(N,)` positions of patients, `names` seed the draws.
    """
    n, patients = len(prob), int(who.max()) + 1 if len(who) else 0
    counts = [int(place.max()) + 1 if len(place) else 0 for place in places]
    first = np.cumsum([0, *counts])
    row = np.concatenate([place + start for place, start in zip(places, first, strict=False)])
    column = np.tile(np.arange(n), len(places))
    ones = np.ones(len(row), dtype=np.float32)
    gathered = sparse.csr_matrix((ones, (row, column)), shape=(int(first[-1]), n))
    p = prob.astype(np.float32)[:, None]
    sums = []
    for block, start in enumerate(range(0, draws, _BLOCK)):
        size = min(_BLOCK, draws - start)
        rng = numpy_rng("null band", *names, block)
        u = rng.random((n, size), dtype=np.float32)
        if correlation > 0:
            shared = rng.integers(0, 256, (n, size), dtype=np.uint8) < round(256 * math.sqrt(correlation))
            u = np.where(shared, rng.random((patients, size), dtype=np.float32)[who], u)
        sums.append(gathered @ (u < p).astype(np.float32))
    drawn = np.concatenate(sums, axis=1).astype(np.float64)
    return [drawn[start : start + count] for start, count in zip(first, counts, strict=False)]


def patient_correlation(curve: Curve, who: np.ndarray) -> float:
    """How alike two images of one patient are beyond their probabilities, in [0, 1]; 0 where no patient has two.

    Σ_g Σ_{i≠j} r_i r_j / Σ_g Σ_{i≠j} √(v_i v_j), with r = y - s(p) and v = s(1-s), s the smooth curve of what is
    seen: a moment estimate of the intraclass correlation about the curve, for which a curve off the diagonal is not
    taken.
    """
    s = np.clip(curve.seen(), 1e-6, 1 - 1e-6)[curve.place]
    r, v = curve.target - s, s * (1 - s)
    own = np.bincount(who, weights=r) ** 2 - np.bincount(who, weights=r**2)
    most = np.bincount(who, weights=np.sqrt(v)) ** 2 - np.bincount(who, weights=v)
    return float(np.clip(own.sum() / most.sum(), 0.0, 1.0)) if most.sum() > 1e-9 else 0.0
