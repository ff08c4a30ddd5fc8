"""Intervals of a proportion, used by the forecast before training and by the evaluation after it."""

from __future__ import annotations

import math

from scipy.special import betaincinv, ndtri, stdtrit


def wilson(p: float, n: float, *, level: float = 0.95, degrees: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    (p + q²/2n ± q·sqrt(p(1-p)/n + q²/4n²)) / (1 + q²/n), with q the normal quantile, or Student's t quantile with
    `degrees` degrees of freedom where `n` is an effective sample size estimated from that many + 1 clusters.

    `p` lies in [0, 1]; `n` > 0 may be fractional. Bounds lie in [0, 1].

    Raises: `ValueError` where `n` is not positive (an absent class has no interval).
    Source: Wilson, JASA 22 (1927) 209; t quantile as in Rao & Scott, Biometrics 48 (1992) 577.
    """
    if not n > 0:
        raise ValueError(f"a proportion of n = {n} cases has no interval")
    tail = 0.5 + level / 2
    q = float(ndtri(tail) if degrees is None else stdtrit(max(degrees, 1.0), tail))
    centre = p + q * q / (2 * n)
    half = q * math.sqrt(max(p * (1 - p), 0.0) / n + q * q / (4 * n * n))
    scale = 1 + q * q / n
    # Rounding may put a bound of a share of 0 or 1 a hair beyond the share itself.
    return min(p, max(0.0, (centre - half) / scale)), max(p, min(1.0, (centre + half) / scale))


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """The exact interval for `k` of `n` independent cases, from Beta quantiles; covers at least `level`.

    Raises: `ValueError` where `n` is 0.
    Source: Clopper & Pearson, Biometrika 26 (1934) 404.
    """
    if n <= 0:
        raise ValueError(f"a proportion of n = {n} cases has no interval")
    alpha = 1 - level
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, alpha / 2))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - alpha / 2))
    return low, high


def n_for_gain(gain: float, discordance: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Positive cases needed for a paired test to show a difference `gain` in recall between two arms.

    n = ((z_α √ψ + z_β √(ψ - δ²)) / δ)², with δ the gain and ψ ≥ δ the share of cases on which the arms disagree.
    Source: Connor, Biometrics 43 (1987) 207.
    """
    z_alpha, z_beta = float(ndtri(1 - alpha / 2)), float(ndtri(power))
    return ((z_alpha * math.sqrt(discordance) + z_beta * math.sqrt(discordance - gain**2)) / gain) ** 2
