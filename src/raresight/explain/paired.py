"""What the difference between two arms can show, from figures of their networks on the same resamples of patients.

An arm is the mean of its seeds, and a difference is arm minus baseline. Two things make it uncertain: which patients
were looked at, and which seeds were trained. The patients' part is the bootstrap of the mean over seeds, the same draws
for both arms; the seeds' part adds seeds drawn anew (`evaluate.bootstrap.over_seeds`), in pairs where both arms have
the same seeds.

Three seeds show their own variance badly: too small by chance, it makes one test in a thousand one in sixty, and Holm
looks at just such tests. Where more networks are at hand, their seeds' variance is therefore pooled (`Noise`), and the
larger of the arms' own and the pooled one is used. Intervals are percentiles of the resamples, widened about the value
to that variance and from z to Student's t, with df (Satterthwaite) from both parts.

2,000 resamples cannot resolve a p below 0.001, so that Holm over more than 50 tests could never show anything. p is
therefore the largest of: Student's t with that df; the tail of the resamples, 2 (1 + #beyond 0)/(1 + B), where at least
10 of them lie beyond 0; and 2^(1 - n), the least that swapping the arms within the n patients who tell them apart could
show. A seed's noise at a patient is in both parts: p and interval err to the safe side.

Source: Efron & Tibshirani (1993), ch. 13; Hesterberg, The American Statistician 69 (2015) 371 (widening by t/z);
Satterthwaite, Biometrics Bulletin 2 (1946) 110; Owen, Annals of Applied Statistics 1 (2007) 386 (two-way resampling);
Scheffé, The Analysis of Variance (1959), ch. 4 (pooled error of arms x seeds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.core.seeds import numpy_rng
from raresight.evaluate.bootstrap import over_seeds, percentile
from raresight.explain.draws import RESAMPLES, Draws, Figure, mean_figures, pairwise

RESOLVED = 10  # resamples beyond 0 below which their share says nothing
UNCHANGED = "no patient and no seed changes it: no spread to resample, so no interval"
ONE_SEED = "one seed: the interval is over patients alone, and what a seed does by luck is not in it"
NOTHING = "nothing to measure it on"


@dataclass(frozen=True)
class Inferred:
    """A mean over seeds, or a difference of two, with what it rests on.

    `low`, `high` the 95% interval and `p` two-sided against 0, all None where `status` is not `ok`: `few` (fewer than
    10 patients; `value` stands), `absent` (nothing to measure; `value` None), `same` (no patient and no seed makes a
    difference, so that none can be put an interval around; `p` stands). `spread` is the standard deviation between the
    baseline's seeds (the arm's own, for a level), None for one seed. `reason` says in words what limits it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    spread: float | None = None
    n_images: int = 0
    n_patients: int = 0
    n_seeds: int = 0
    status: str = "ok"
    reason: str = ""


def few_patients(n: int | None) -> str:
    """Why there is no interval with `n` patients who have the finding; empty where they are enough, or not known."""
    if n is None or n >= FEW_POSITIVE_PATIENTS:
        return ""
    return f"{n} patient{'' if n == 1 else 's'}, fewer than {FEW_POSITIVE_PATIENTS}: no interval"


@dataclass(frozen=True)
class Noise:
    """The `variance` of one seed's figure about what its arm makes of it, pooled over arms, with degrees of freedom."""

    variance: float
    df: float

    @classmethod
    def of(cls, values: Mapping[str, Mapping[int, float]], *, shared: bool = True) -> Noise | None:
        """Pooled over arms: `values` arm -> seed -> figure; arms without a number, or with one seed, are left out.

        Σ_as (x_as - x̄_a)²/Σ_a(S_a - 1). Where three arms or more have the same seeds and `shared` is so, what a seed
        does to all arms alike is taken off too: Σ_as (x_as - x̄_a - x̄_s + x̄)²/((A - 1)(S - 1)). It rests on arms whose
        seeds scatter alike. None where no arm has two seeds.
        """
        arms = {arm: x for arm, x in values.items() if len(x) > 1 and not any(map(math.isnan, x.values()))}
        if not arms:
            return None
        if shared and len(arms) > 2 and len({tuple(sorted(x)) for x in arms.values()}) == 1:
            grid = np.array([[x[seed] for seed in sorted(x)] for x in arms.values()])
            left = grid - grid.mean(axis=1, keepdims=True) - grid.mean(axis=0, keepdims=True) + grid.mean()
            df = (grid.shape[0] - 1) * (grid.shape[1] - 1)
            return cls(float(np.sum(left**2)) / df, df)
        df = sum(len(x) - 1 for x in arms.values())
        return cls(sum(float(np.var(list(x.values()))) * len(x) for x in arms.values()) / df, df)


@dataclass(frozen=True)
class _Part:
    """Figures of seeds that are drawn anew together: an arm's, added or taken off, or two arms' differences."""

    seeds: np.ndarray
    sign: float = 1.0
    arms: int = 1


def mean_difference(
    ours: np.ndarray,
    theirs: np.ndarray,
    patient: Sequence[object] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    names: object = (),
) -> Inferred:
    """Arm minus baseline of a mean over rows, `(S, R)` each, over the rows that every network has."""
    draws = Draws(patient, resamples=resamples, names=names)
    a, b = pairwise(np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64))
    figures = [[mean_figures(seed[:, None], patient, draws)[0] for seed in arm] for arm in (a, b)]
    return difference(*figures, names=names)


def difference(
    ours: Sequence[Figure],
    theirs: Sequence[Figure],
    *,
    seeds: tuple[Sequence[int], Sequence[int]] | None = None,
    noise: Noise | None = None,
    names: object = (),
) -> Inferred:
    """Arm minus baseline, each the mean of its seeds' figures on the same `Draws`; see the head of this file.

    `seeds` name the networks of both arms; the same names in the same order are pairs (as without names, where both
    have as many). `noise` is that of all arms of the study; without it, that of these two. `names` seed the draws.
    """
    a, b = (np.array([figure.value for figure in arm]) for arm in (ours, theirs))
    resampled = _over(ours) - _over(theirs)
    paired = len(a) == len(b) and (seeds is None or list(seeds[0]) == list(seeds[1]))
    parts = [_Part(a - b, arms=2)] if paired else [_Part(a), _Part(b, -1.0)]
    apart = None
    if ours[0].by_patient is not None and theirs[0].by_patient is not None:
        change = _sums(ours) - _sums(theirs)
        apart = int(np.sum(np.abs(change) > 1e-12))
    low, high = ours[0].span
    if noise is None:
        noise = Noise.of({"ours": dict(enumerate(a)), "theirs": dict(enumerate(b))})
    possible, value = (low - high, high - low), float(a.mean() - b.mean())
    return _inferred(value, resampled, parts, [*ours, *theirs], _spread(b), possible, apart, noise, names)


def level(figures: Sequence[Figure], *, noise: Noise | None = None, names: object = ()) -> Inferred:
    """An arm's own figure: the mean of its seeds', with interval and p against 0, and the spread between its seeds."""
    values = np.array([figure.value for figure in figures])
    span = figures[0].span
    parts = [_Part(values)]
    value, names = float(values.mean()), ("level", names)
    return _inferred(value, _over(figures), parts, figures, _spread(values), span, None, noise, names)


def over_seeds_alone(ours: Sequence[float], theirs: Sequence[float] | None = None) -> Inferred:
    """A number of a whole network, its mean over seeds or a difference of two such means, with Student's t interval.

    For what has no part by patient (a slope, a similarity of features): seeds are the sample, so the interval says
    nothing about other patients. Differences of equally many seeds are taken in pairs. NaN for no value: `absent`; with
    one seed, or where all seeds agree to the last bit, no interval.
    """
    a = np.asarray(ours, dtype=np.float64)
    b = None if theirs is None else np.asarray(theirs, dtype=np.float64)
    value = float(a.mean() if b is None else a.mean() - b.mean()) if len(a) and (b is None or len(b)) else math.nan
    if math.isnan(value):
        return Inferred(None, status="absent", reason="not defined here")
    n_seeds = len(a) if b is None else min(len(a), len(b))
    spread = _spread(a if b is None else b)
    parts = [_Part(a)] if b is None else [_Part(a - b)] if len(a) == len(b) else [_Part(a), _Part(b, -1.0)]
    variance, df = _seed_variance(parts)
    if n_seeds < 2 or variance <= 1e-24:
        reason = "one seed: no interval" if n_seeds < 2 else "the seeds agree: no interval"
        return Inferred(value, spread=spread, n_seeds=n_seeds, status="seeds", reason=reason)
    half = float(student.ppf(0.975, df)) * math.sqrt(variance)
    p = float(2 * student.sf(abs(value) / math.sqrt(variance), df))
    reason = "over seeds alone: other patients are not in the interval"
    return Inferred(value, value - half, value + half, p, spread, n_seeds=n_seeds, reason=reason)


def _inferred(
    value: float,
    resampled: np.ndarray,
    parts: Sequence[_Part],
    figures: Sequence[Figure],
    spread: float | None,
    span: tuple[float, float],
    apart: int | None,
    noise: Noise | None,
    names: object,
) -> Inferred:
    """From the mean over seeds on resamples of patients, `(B,)`, and the `parts` whose seeds are drawn anew."""
    n_patients = min(figure.n_patients for figure in figures)
    n_seeds = min(len(part.seeds) for part in parts)
    known = Inferred(
        value,
        spread=spread,
        n_images=min(figure.n_images for figure in figures),
        n_patients=n_patients,
        n_seeds=n_seeds,
    )
    if math.isnan(value):
        return replace(known, value=None, status="absent", reason=NOTHING)
    if few := few_patients(n_patients):
        return replace(known, status="few", reason=few)
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < len(resampled) / 2:
        return replace(known, status="few", reason="most resamples do not define it: no interval")
    by_patients = float(np.var(defined))
    by_seeds, df_seeds = _seed_variance(parts)
    least = 2.0 ** (1 - (n_patients if apart is None else apart))
    if by_patients + by_seeds <= 1e-24:
        p = 1.0 if abs(value) <= 1e-12 else least
        return replace(known, p=p, status="same", reason=UNCHANGED)
    if noise is not None and n_seeds > 1:
        pooled = noise.variance * sum(part.arms / len(part.seeds) for part in parts if len(part.seeds) > 1)
        by_seeds, df_seeds = max(by_seeds, pooled), max(df_seeds, noise.df)
    variance = by_patients + by_seeds
    df = variance**2 / (by_patients**2 / (n_patients - 1) + (by_seeds**2 / df_seeds if by_seeds else 0.0))
    anew = resampled + sum(part.sign * _luck(part.seeds, len(resampled), names, i) for i, part in enumerate(parts))
    low, high, undefined = percentile(anew)
    stretch = float(student.ppf(0.975, df) / norm.ppf(0.975)) * math.sqrt(variance / float(np.nanvar(anew)))
    low, high = value + stretch * (min(low, value) - value), value + stretch * (max(high, value) - value)
    beyond = int(min(np.sum(anew <= 0), np.sum(anew >= 0)))
    p = float(2 * student.sf(abs(value) / math.sqrt(variance), df))
    if beyond >= RESOLVED:
        p = max(p, 2 * (1 + beyond) / (1 + len(defined)))
    reasons = [ONE_SEED] if n_seeds < 2 else []
    reasons += [f"{undefined} of {len(resampled)} resamples undefined"] if undefined else []
    return replace(
        known, low=max(low, span[0]), high=min(high, span[1]), p=min(1.0, max(p, least)), reason="; ".join(reasons)
    )


def _luck(seeds: np.ndarray, resamples: int, *names: object) -> np.ndarray:
    """What drawing the seeds anew adds to their mean in each resample, `(B,)`; 0 for one seed.

    Their deviations are those on all patients: deviations on resampled ones would count a seed's noise at a patient
    once more.
    """
    chosen = numpy_rng("look seeds", *names).integers(0, len(seeds), size=(len(seeds), resamples))
    each = np.repeat((seeds - seeds.mean())[:, None], resamples, axis=1)
    return over_seeds(each, chosen) if len(seeds) > 1 else np.zeros(resamples)


def _seed_variance(parts: Sequence[_Part]) -> tuple[float, float]:
    """The variance of the mean over seeds, Σ s²/S, and its degrees of freedom; (0, 1) where each part has one seed."""
    many = [part.seeds for part in parts if len(part.seeds) > 1]
    each = [(float(np.var(seeds, ddof=1)) / len(seeds), len(seeds) - 1) for seeds in many]
    total = sum(variance for variance, _ in each)
    below = sum(variance**2 / df for variance, df in each)
    return total, total**2 / below if below else 1.0


def _spread(values: np.ndarray) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 and not np.isnan(values).any() else None


def _over(figures: Sequence[Figure]) -> np.ndarray:
    return np.asarray(np.mean([figure.resampled for figure in figures], axis=0))


def _sums(figures: Sequence[Figure]) -> np.ndarray:
    return np.asarray(np.mean([figure.by_patient for figure in figures if figure.by_patient is not None], axis=0))
