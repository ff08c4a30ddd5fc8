"""Have scores and alarms moved away from those of the validation part? Asked without any label.

The reference is a histogram of calibrated probabilities with edges at its own percentiles. What sampling alone could
show is drawn from the two samples pooled, each with its effective size: several images of one patient count for less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from raresight.core.predictions import Predictions
from raresight.evaluate.intervals import rate

FINE, COARSE = 100, 10  # bins of the distance between distribution functions, and of the stability index
LARGE = 0.25  # a stability index above this is a large shift by convention; a band that reaches it cannot exclude one
DRAWS = 4000
Verdict = Literal["steady", "look", "cannot be said with so few"]


def reference(calibrated: Predictions, alarm: np.ndarray) -> dict[str, Any]:
    """What monitoring needs to know of the validation part, class by class; no score of a single case is kept.

    `alarm` `(N, K)` bool. Per class: `edges` (inner, at the percentiles, each once), `shares` of the bins they part,
    `effective_n`, `alarms` and `prevalence` (share with interval), and `mean_score`: for exclusive labels the mean
    probabilities of all classes over the cases of this one (empty without any), for independent ones the mean
    probability of this class `[with, without]` it (None without any).
    """
    prob, patient, target = calibrated.prob, calibrated.patient.astype(str), calibrated.target
    classes = {}
    for k, name in enumerate(calibrated.task.classes):
        edges = np.unique(np.quantile(prob[:, k], np.arange(1, FINE) / FINE, method="inverted_cdf"))
        shares = _shares(prob[:, k], edges)
        known = ~np.isnan(target[:, k])
        classes[name] = {
            "edges": edges.tolist(),
            "shares": shares.tolist(),
            "effective_n": effective_size(np.searchsorted(edges, prob[:, k]), patient),
            "alarms": _share(alarm[:, k], patient),
            "prevalence": _share(target[known, k] == 1, patient[known]),
            "mean_score": _mean_scores(prob, target, k, calibrated.task.kind),
        }
    return {"n_units": len(prob), "n_patients": len(np.unique(patient)), "classes": classes}


def effective_size(bins: np.ndarray, patient: np.ndarray) -> float:
    """The number of independent cases that would know the shares of the bins as well as these cases do.

    n = Σ_j p_j(1-p_j) / Σ_j v_j with v_j = G/(G-1) Σ_g (k_gj - p_j n_g)² / N², g a patient; at most N, at least 1.
    `bins` `(N,)` int, `patient` `(N,)`. N where every case lies in one bin or is a patient of its own.
    Source: Rao & Scott, Biometrics 48 (1992) 577, section 2, pooled over the categories.
    """
    n = len(bins)
    _, who = np.unique(patient, return_inverse=True)
    groups, occupied = int(who.max()) + 1 if n else 0, np.unique(bins)
    if groups in (0, n):
        return float(n)
    if groups == 1:
        return 1.0
    images = np.bincount(who).astype(np.float64)
    spread = variance = 0.0
    for j in occupied:
        hit = (bins == j).astype(np.float64)
        p = hit.mean()
        spread += p * (1 - p)
        variance += groups / (groups - 1) * float(np.sum((np.bincount(who, hit) - p * images) ** 2)) / n**2
    if spread == 0:
        return float(n * n / np.sum(images**2))
    return float(np.clip(spread / variance, 1.0, n)) if variance > 0 else float(n)


def stability(now: ArrayLike, before: ArrayLike) -> np.ndarray:
    """Population stability index: Σ_j (a_j - e_j) ln(a_j / e_j) over the last axis; shares are above 0.

    Source: Siddiqi, Credit Risk Scorecards (2006), chapter 10; by its convention below 0.1 is small, above 0.25 large.
    """
    a, e = np.asarray(now, dtype=np.float64), np.asarray(before, dtype=np.float64)
    return np.sum((a - e) * np.log(a / e), axis=-1)


def score_drift(
    score: np.ndarray, patient: np.ndarray, was: Mapping[str, Any], rng: np.random.Generator, *, level: float
) -> dict[str, Any]:
    """Stability index and Kolmogorov-Smirnov distance of a class's scores against the reference, with null bands.

    The index runs over at most ten bins of equal reference shares (half a case is added to each bin), the distance is
    max_j |F_a(e_j) - F_e(e_j)| over the edges. The band's end is the 95% quantile, and p the share, of pairs of samples
    (`DRAWS`, or more where `level` is small) from the pooled shares, of the two effective sizes. `look` where either p
    is at most `level`/2; otherwise `cannot be said with so few` where the band reaches `LARGE`, else `steady`.
    """
    edges, e = np.asarray(was["edges"], dtype=np.float64), np.asarray(was["shares"], dtype=np.float64)
    if not len(score):
        return _none("there are no cases")
    a = _shares(score, edges)
    n, m = effective_size(np.searchsorted(edges, score), patient), float(was["effective_n"])
    coarse = np.minimum((COARSE * (np.cumsum(e) - e / 2)).astype(int), COARSE - 1)
    coarse = np.unique(coarse, return_inverse=True)[1]
    pooled = (n * a + m * e) / (n + m)
    a_null, e_null = (
        rng.multinomial(max(1, round(size)), pooled, _draws(level)) / max(1, round(size)) for size in (n, m)
    )
    psi, ks = _index(a, e, coarse, n, m), _distance(a, e)
    psi_null, ks_null = _index(a_null, e_null, coarse, n, m), _distance(a_null, e_null)
    psi_p, ks_p = _p(psi, psi_null), _p(ks, ks_null)
    band = float(np.quantile(psi_null, 0.95))
    moved = 2 * min(psi_p, ks_p) <= level  # two figures, and either may speak
    verdict: Verdict = "look" if moved else "cannot be said with so few" if band > LARGE else "steady"
    return {
        "psi": float(psi),
        "psi_band": band,
        "psi_p": psi_p,
        "ks": float(ks),
        "ks_band": float(np.quantile(ks_null, 0.95)),
        "ks_p": ks_p,
        "effective_n": n,
        "verdict": verdict,
        "reason": f"chance alone reaches {band:.2f}, where {LARGE} is a large shift"
        if verdict == "cannot be said with so few"
        else "",
    }


def alarm_drift(
    alarm: np.ndarray, patient: np.ndarray, was: Mapping[str, Any], rng: np.random.Generator, *, level: float
) -> dict[str, Any]:
    """Alarms per 1,000 now and at validation, each with its interval, and whether chance explains the difference.

    p is the share of pairs of samples from the pooled rate that differ as much. `cannot be said with so few`
    where chance alone could double the rate of validation, or hide it.
    """
    if not len(alarm):
        return _none("there are no cases")
    now, before = _share(alarm, patient), was["alarms"]
    n, m = effective_size(alarm.astype(int), patient), float(before["effective_n"])
    pooled = (n * now["value"] + m * before["value"]) / (n + m)
    drawn = [rng.binomial(max(1, round(size)), pooled, _draws(level)) / max(1, round(size)) for size in (n, m)]
    apart, null = abs(now["value"] - before["value"]), np.abs(drawn[0] - drawn[1])
    p, band = _p(apart, null), float(np.quantile(null, 0.95))
    few = band >= max(before["value"], 1 / m)
    verdict: Verdict = "look" if p <= level else "cannot be said with so few" if few else "steady"
    told = f"chance alone moves it by {1000 * band:.0f} in 1,000" if verdict == "cannot be said with so few" else ""
    per_1000 = {f"per_1000_{when}": _times_1000(row) for when, row in (("now", now), ("then", before))}
    return {**per_1000, "p": p, "verdict": verdict, "reason": told}


def _index(a: np.ndarray, e: np.ndarray, coarse: np.ndarray, n: float, m: float) -> np.ndarray:
    groups = int(coarse.max()) + 1
    summed = [np.stack([x[..., coarse == j].sum(axis=-1) for j in range(groups)], axis=-1) for x in (a, e)]
    smooth = [(size * x + 0.5) / (size + 0.5 * groups) for x, size in zip(summed, (n, m), strict=True)]
    return stability(*smooth)


def _distance(a: np.ndarray, e: np.ndarray) -> np.ndarray:
    return np.abs(np.cumsum(a, axis=-1) - np.cumsum(e, axis=-1)).max(axis=-1)


def _draws(level: float) -> int:
    return max(DRAWS, math.ceil(8 / level))  # fewer would hardly reach a p as small as that


def _p(seen: float | np.ndarray, null: np.ndarray) -> float:
    return float((1 + np.sum(null >= seen - 1e-12)) / (len(null) + 1))


def _shares(score: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of the bins (.., e_1], (e_1, e_2], ..., (e_last, ..)."""
    return np.bincount(np.searchsorted(edges, score), minlength=len(edges) + 1) / len(score)


def _share(hit: np.ndarray, patient: np.ndarray) -> dict[str, float]:
    if not len(hit):
        return {"value": 0.0, "low": 0.0, "high": 1.0, "effective_n": 1.0}
    found = rate(hit, patient)
    size = effective_size(hit.astype(int), patient)
    return {"value": found.value, "low": found.low, "high": found.high, "effective_n": size}


def _times_1000(row: Mapping[str, float]) -> dict[str, float]:
    return {key: 1000 * row[key] for key in ("value", "low", "high")}


def _mean_scores(prob: np.ndarray, target: np.ndarray, k: int, kind: str) -> list[list[float] | float | None]:
    """Exclusive: the mean probabilities of all classes over the cases of class k. Independent: of k alone, with and
    without it."""
    if kind == "exclusive":
        rows = target[:, k] == 1
        return [float(value) for value in prob[rows].mean(axis=0)] if rows.any() else []
    both = [target[:, k] == 1, target[:, k] == 0]
    return [float(prob[rows, k].mean()) if rows.any() else None for rows in both]


def _none(reason: str) -> dict[str, Any]:
    return {"verdict": "cannot be said with so few", "reason": reason}
