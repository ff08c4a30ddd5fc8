"""Intervals that stay honest for rare classes and for several images per patient.

A percentile bootstrap of patients covers 46 to 82% at a nominal 95% where 8 to 40 positive patients have a recall of
0.95, DeLong 75% where 11 have an AUROC of 0.97. So rates and areas have intervals of their own, and the bootstrap is
kept for composites that have no other. Where a constant below is our own rule, it was chosen by simulation:
`benchmarks/interval_coverage.py` says how wide and how honest the result is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from raresight.core.binomial import clopper_pearson, wilson
from raresight.core.estimate import FEW_POSITIVE_PATIENTS

FEW_PATIENTS = 40
PRIOR_PATIENTS = 10  # the weight of Hanley-McNeil beside the variance that the patients show, in patients
WILSON = "Wilson, cluster-adjusted, t quantile"
EXACT = "Clopper-Pearson"
AUROC = "score interval, clustered DeLong with Hanley-McNeil"
AUROC_CONSERVATIVE = AUROC + " (conservative: few patients)"


@dataclass(frozen=True)
class Interval:
    """A value with its bounds, the method's name, and the patients and images that it rests on; NaN if undefined."""

    value: float
    low: float
    high: float
    method: str
    n_patients: int
    n_images: int


def rate(hit: np.ndarray, patient: np.ndarray, *, level: float = 0.95) -> Interval:
    """The share of hits among relevant images, several of which may come from one patient.

    Per patient g of G, k_g hits in n_g images; p = Σk/N, N = Σn_g, z_g = k_g - p n_g; v = G/(G-1) Σz_g²/N². Wilson's
    interval with N/deff images and Student's t quantile, where

    - deff = max(1, vN/(p(1-p)), (Σn_g²/N)/(1 + f²)), the middle term 0 where p is 0 or 1, and f the number of patients
      with a result of the rarer kind: 0 of N missed says nothing about how misses cluster, so images then count as
      one, and few misses say little;
    - degrees of freedom are G - 1, or 5G/2 / (κ - 1) where that is less, κ the kurtosis of the z_g: where few patients
      make up v, it rests on few, as in Satterthwaite's 2G/(κ - 1).

    The bound by f and the factor 5/2 are our own. Clopper-Pearson where every patient contributes one image.

    `hit` `(N,)` bool, `patient` `(N,)` any labels. Of no image the value and bounds are NaN.
    Source: Wilson 1927; Rao & Scott 1992, section 2; Saha 2015; Satterthwaite, Biometrics Bulletin 2 (1946) 110.
    """
    n = len(hit)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, WILSON, 0, 0)
    _, who = np.unique(patient, return_inverse=True)
    images = np.bincount(who).astype(np.float64)
    hits = np.bincount(who, weights=np.asarray(hit, dtype=np.float64))
    clusters = len(images)
    p = float(hits.sum() / n)
    if clusters == n:
        low, high = clopper_pearson(int(hits.sum()), n, level=level)
        return Interval(p, low, high, EXACT, clusters, n)
    square = (hits - p * images) ** 2
    rarer = min(int((hits > 0).sum()), int((hits < images).sum()))
    effect = max(1.0, float(images @ images) / n / (1 + rarer**2))
    if rarer and clusters > 1:
        effect = max(effect, clusters / (clusters - 1) * float(square.sum()) / (n * p * (1 - p)))
    low, high = wilson(p, n / effect, level=level, degrees=_degrees(square))
    return Interval(p, low, high, WILSON, clusters, n)


def auroc_interval(target: np.ndarray, score: np.ndarray, patient: np.ndarray, *, level: float = 0.95) -> Interval:
    """AUROC of one class with a score interval whose variance knows patients.

    With m positives and n negatives, V10 = P(score > a negative) per positive and V01 per negative, and their sums
    within patients, Var = S10/m + S01/n + 2 S11/(mn). The ratio of the clustered part of a side to that of independent
    images is its design effect d, at least 1 and at most Σm_g²/m; H(A) is the Hanley-McNeil variance of m/d₊ positives
    and n/d₋ negatives, the larger of it and its mirror image H(1 - A). The interval holds every A with

    (Â - A)² <= t² min(H(A) max(r, w + (1 - w) r), A(1-A)(1/e₊ + 1/e₋)), r = Var/H(Â), w = 10/(10 + G),

    G the smaller number of patients with a positive or with a negative image, t Student's quantile with G - 1 degrees
    of freedom, e₊ = m²/Σm_g². Few patients show too little spread, so the variance that they show is drawn towards
    Hanley-McNeil's, which is on the safe side for normal scores: conservative below 40 positive patients, next to
    nothing for hundreds. At a perfect 0 or 1, and where all scores are equal, nothing is shown: r = 1, and images of a
    patient count as one.
    The weight w, the mirror image and the bound of the variance by A(1-A) are our own.

    `target` `(N,)` of 0, 1 or NaN (left out), `score` `(N,)`, `patient` `(N,)`. NaN without a positive or a negative.
    Source: DeLong et al., Biometrics 44 (1988) 837; Obuchowski, Biometrics 53 (1997) 567; Hanley & McNeil, Radiology
    143 (1982) 29, eq. 2; inverting their variance: Newcombe, Statistics in Medicine 25 (2006) 559, method 5.
    """
    known = ~np.isnan(target)
    y, s = target[known] == 1, np.asarray(score, dtype=np.float64)[known]
    groups, who = np.unique(patient[known], return_inverse=True)
    m, n = int(y.sum()), int((~y).sum())
    if not m or not n:
        return Interval(math.nan, math.nan, math.nan, AUROC, len(groups), len(y))
    v10, v01 = placements(s[y], s[~y])
    area = float(v10.mean())
    up, down = _Side(v10 - area, who[y], len(groups)), _Side(v01 - area, who[~y], len(groups))
    fewest = min(up.patients, down.patients)
    m_e, n_e = m / up.effect, n / down.effect
    shared = len(groups) / max(len(groups) - 1, 1) * float(up.sums @ down.sums) / (m * n)
    expected = _mirrored(area, m_e, n_e)
    ratio, shown = 1.0, up.variance + down.variance
    if fewest > 1 and expected > 0 and shown > 0:
        ratio = max(shown + 2 * shared, 0.0) / expected
        weight = PRIOR_PATIENTS / (PRIOR_PATIENTS + fewest)
        ratio = max(ratio, weight + (1 - weight) * ratio)
    t = float(stdtrit(max(fewest - 1, 1), 0.5 + level / 2))
    least = 1 / up.least + 1 / down.least

    def outside(value: float) -> float:
        return (area - value) ** 2 - t * t * min(ratio * _mirrored(value, m_e, n_e), value * (1 - value) * least)

    hair = 1e-9  # at 0 and 1 themselves both sides vanish
    low = brentq(outside, 0.0, min(area, 1 - hair), xtol=1e-12) if area > 0 else 0.0
    high = brentq(outside, max(area, hair), 1.0, xtol=1e-12) if area < 1 else 1.0
    method = AUROC_CONSERVATIVE if up.patients < FEW_PATIENTS else AUROC
    return Interval(area, float(low), float(high), method, len(groups), len(y))


class _Side:
    """The positives, or the negatives: how their placements, less the area, vary from patient to patient."""

    def __init__(self, centred: np.ndarray, who: np.ndarray, n_patients: int) -> None:
        images = np.bincount(who, minlength=n_patients)
        n, self.patients = len(centred), int((images > 0).sum())
        self.sums = np.bincount(who, weights=centred, minlength=n_patients)
        self.least = n * n / float(images @ images)
        # One patient shows no spread between patients.
        several = self.patients / (self.patients - 1) if self.patients > 1 else 0.0
        self.variance = several * float(self.sums @ self.sums) / n**2
        alone = float(centred @ centred) / (n * max(n - 1, 1))
        shown = self.variance / alone if several and alone > 0 else math.inf
        self.effect = min(max(shown, 1.0), n / self.least)


def _mirrored(area: float, m: float, n: float) -> float:
    return max(hanley_mcneil(area, m, n), hanley_mcneil(1 - area, m, n))


def _degrees(square: np.ndarray) -> float:
    """Degrees of freedom of a sum of squared deviations of patients `(G,)`, from their kurtosis."""
    clusters, mean = len(square), float(square.mean())
    excess = float(np.mean(square**2)) / mean**2 - 1 if mean > 0 else 0.0
    return min(clusters - 1.0, 2.5 * clusters / excess) if excess > 0 else clusters - 1.0


def placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Negatives below each positive `(m,)` and positives above each negative `(n,)`, as shares; ties count half."""
    down, up = np.sort(negative), np.sort(positive)
    left, right = np.searchsorted(down, positive, "left"), np.searchsorted(down, positive, "right")
    v10 = (left + right) / (2 * len(negative))
    left, right = np.searchsorted(up, negative, "left"), np.searchsorted(up, negative, "right")
    return v10, 1 - (left + right) / (2 * len(positive))


def hanley_mcneil(area: float, m: float, n: float) -> float:
    """The variance of an AUROC from its value and the numbers of positives `m` and negatives `n`, whole or not, alone.

    [A(1-A) + (m-1)(Q₁-A²) + (n-1)(Q₂-A²)] / (mn), with Q₁ = A/(2-A), Q₂ = 2A²/(1+A).
    Source: Hanley & McNeil, Radiology 143 (1982) 29, eq. 2.
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n)


def reach(n_patients: int, *, level: float = 0.95) -> float:
    """How far from 1 a share may lie that was seen in all of `n_patients`: 1 - α^(1/n), α = (1 - level)/2.

    0.98 for one patient, 0.52 for five, 0.31 for ten. Raises: `ValueError` for no patient.
    Source: Clopper & Pearson, Biometrika 26 (1934) 404.
    """
    return 1 - clopper_pearson(n_patients, n_patients, level=level)[0]


def opened(value: float, low: float, high: float, n_patients: int) -> tuple[float, float, bool]:
    """Bootstrap bounds of a figure in [0, 1], opened to what `n_patients` can exclude, and whether that was needed.

    A bootstrap draws the same few patients again and again: with one positive patient it never moves, with five hardly,
    and would claim certainty. Below 10 positive patients, or where every resample gave the same value, the bounds
    therefore include value (1 - reach) and value + (1 - value) reach.
    """
    if n_patients < 1 or (n_patients >= FEW_POSITIVE_PATIENTS and high - low > 1e-12):
        return low, high, False
    far = reach(n_patients)
    return min(low, value * (1 - far)), max(high, value + (1 - value) * far), True


def unseen(n_positive: np.ndarray) -> float:
    """What classes of few positive patients leave open in a mean over the classes that are present.

    sqrt(sum of reach(n_k)² over present classes with n_k < 10) / number of present classes: their errors are taken as
    independent, and as large as so few patients allow. 0 where every present class has 10 or more.
    """
    present = n_positive[n_positive > 0]
    few = present[present < FEW_POSITIVE_PATIENTS]
    return float(np.sqrt(sum(reach(int(n)) ** 2 for n in few)) / max(1, len(present)))


def loosened(value: float, low: float, high: float, down: float, up: float) -> tuple[float, float]:
    """Bounds with a further, independent error of `down` below and `up` above: the two add in squares."""
    return value - float(np.hypot(value - low, down)), value + float(np.hypot(high - value, up))
