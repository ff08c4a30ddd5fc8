"""The patient bootstrap: how often each patient is drawn, and ranking metrics of all resamples at once.

A resample draws patients with replacement, so it is a column of multiplicities `(G,)`, and a metric of the resampled
images is the same metric with those weights. Nothing is copied: counts are one matrix product, and a ranking is sorted
once and summed into the few places where a positive stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from raresight.core.seeds import numpy_rng

BLOCK = 128


def blocks(strata: np.ndarray, resamples: int, *names: object) -> Iterator[np.ndarray]:
    """Multiplicities of patients, `(G, B)` float64 in blocks of at most 128 resamples, drawn within strata.

    In each stratum of n patients, n are drawn with replacement (multinomial), so every resample holds as many patients
    of it as the data do: a rare class never vanishes. `strata` is `(G,)`, any labels. `names` seed the draws; every
    block and stratum draws from its own stream, so the first resamples are the same however many are asked for.
    """
    members = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for b, start in enumerate(range(0, resamples, BLOCK)):
        size = min(BLOCK, resamples - start)
        weight = np.zeros((size, len(strata)))
        for s, rows in enumerate(members):
            rng = numpy_rng("bootstrap", *names, b, s)
            drawn = rng.integers(0, len(rows), size=(size, len(rows)), dtype=np.int32)
            for r in range(size):
                weight[r, rows] = np.bincount(drawn[r], minlength=len(rows))
        yield np.ascontiguousarray(weight.T)


class Ranked:
    """One class, sorted once, whose AUROC and AP follow for any number of resamples.

    `target` and `score` `(N,)` as in `ranking`, `patient` `(N,)` integer positions of G patients. Down the scores, each
    group of equal scores that holds a positive is a stop; an image adds its patient's multiplicity to the positives of
    its stop, to the negatives tied with it, or to the negatives passed on the way there. A sparse `(3M, G)` matrix says
    which, and a product with the multiplicities `(G, B)` gives all sums of all resamples.
    """

    def __init__(self, target: np.ndarray, score: np.ndarray, patient: np.ndarray, n_patients: int) -> None:
        known = ~np.isnan(target)
        y, s, who = target[known] == 1, np.asarray(score, dtype=np.float64)[known], patient[known]
        order = np.argsort(-s, kind="stable")
        y, s, who = y[order], s[order], who[order]
        group = np.cumsum(np.append(False, s[1:] != s[:-1])) if len(s) else np.zeros(0, dtype=int)
        stops = np.unique(group[y])
        self.n_stops = m = len(stops)
        # The stop that an image reaches next; negatives below the last stop go into a row of their own, number 3m.
        stop = np.searchsorted(stops, group)
        tied = np.append(stops, -1)[stop] == group
        row = np.where(y, stop, np.where(tied, m + stop, 2 * m + stop))
        ones = np.ones(len(y))
        self._sums = sparse.csr_matrix((ones, (row, who)), shape=(3 * m + 1, n_patients))

    def metrics(
        self, weight: np.ndarray, specificities: Sequence[float] = ()
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """AUROC, AP, and recall at each of the `specificities`, each `(B,)`, from multiplicities `(G, B)`.

        NaN in resamples that lack positives (or, for AUROC and recall, negatives).
        """
        m = self.n_stops
        if m == 0:
            nothing = np.full(weight.shape[1], np.nan)
            return nothing, nothing, [nothing for _ in specificities]
        sums = self._sums @ weight
        positives, tied, passed = sums[:m], sums[m : 2 * m], sums[2 * m : 3 * m]
        n_pos = positives.sum(axis=0)
        n_neg = sums[m:].sum(axis=0)
        tp = np.cumsum(positives, axis=0)
        fp = np.cumsum(passed + tied, axis=0)
        above_or_half = fp - tied / 2
        won = n_neg - (positives * above_or_half).sum(axis=0) / np.where(n_pos > 0, n_pos, 1)
        auroc = np.divide(won, n_neg, out=np.full(len(n_pos), np.nan), where=(n_pos > 0) & (n_neg > 0))
        seen = tp + fp
        gained = np.divide(positives * tp, seen, out=np.zeros_like(tp), where=seen > 0).sum(axis=0)
        ap = np.divide(gained, n_pos, out=np.full(len(n_pos), np.nan), where=n_pos > 0)
        recalls = []
        for specificity in specificities:
            # An alarm at a stop takes the whole tie group; recall is what lies above the last stop that keeps enough.
            found = np.einsum("mb,mb->b", positives, fp <= (1 - specificity + 1e-9) * n_neg)
            recalls.append(np.divide(found, n_pos, out=np.full(len(n_pos), np.nan), where=(n_pos > 0) & (n_neg > 0)))
        return auroc, ap, recalls


def percentile(values: np.ndarray, level: float = 0.95) -> tuple[float, float, int]:
    """The percentile interval of the resamples, and how many of them were undefined and left out."""
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return float("nan"), float("nan"), undefined
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), undefined


def over_seeds(each: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean over seeds drawn anew in each resample, `(B,)`: `each` `(S, B)`, `drawn` `(S, B)` says which seeds.

    S seeds drawn with replacement from S vary by (S-1)/S of what they should: a sample's own variance is too small by
    that. Their deviations from the seeds' mean are stretched by sqrt(S/(S-1)): without that, few seeds would look too
    much alike. One seed is left as it is.

    Source: Rao & Wu, JASA 83 (1988) 231, section 2.
    """
    n, resamples = each.shape
    if n == 1:
        return each[0]
    mean = each.mean(axis=0)
    picked = each[drawn, np.arange(resamples)[None, :]].mean(axis=0)
    return mean + math.sqrt(n / (n - 1)) * (picked - mean)
