"""One class, sorted once, whose AUROC, AP and recall at a specificity follow for any number of resamples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.evaluate.bootstrap import as_lanes, kernels


class Ranked:
    """One class, sorted once, whose AUROC and AP follow for any number of resamples.

    `target` `(N,)` of 0, 1 or NaN (left out), `score` `(N,)`, `patient` `(N,)` integer positions of `n_patients`
    patients. Down the scores, each group of equal scores that holds a positive is a stop: an image adds its patient's
    multiplicity to the positives of its stop, to the negatives tied with it, or to the negatives passed on the way
    there. AUROC and AP change at stops only, so nothing else is touched in between.
    """

    def __init__(self, target: np.ndarray, score: np.ndarray, patient: np.ndarray, n_patients: int) -> None:
        known = ~np.isnan(target)
        y, s, who = target[known] == 1, np.asarray(score, dtype=np.float64)[known], patient[known].astype(np.int32)
        order = np.argsort(-s)
        y, s, who = y[order], s[order], who[order]
        group = np.cumsum(np.append(False, s[1:] != s[:-1])) if len(s) else np.zeros(0, dtype=int)
        holds = np.bincount(group, weights=y) > 0
        self.n_stops = int(holds.sum())
        self.negatives = np.bincount(who[~y], minlength=n_patients)[None, :]
        stop: np.ndarray = (np.cumsum(holds) - holds)[group]  # the stop that an image reaches next
        tied = ~y & holds[group]
        passed = ~y & ~holds[group] & (stop < self.n_stops)  # what lies below the last stop changes nothing
        self._walk = [part for of in (y, tied, passed) for part in (self._offsets(stop[of]), who[of])]

    def _offsets(self, stop: np.ndarray) -> np.ndarray:
        return np.append(0, np.cumsum(np.bincount(stop, minlength=self.n_stops)[: self.n_stops])).astype(np.int64)

    def metrics(
        self, weight: np.ndarray, specificities: Sequence[float] = ()
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """AUROC, AP, and recall at each of the `specificities`, each `(B,)`, from multiplicities `(G, B)`.

        With d_m positives at stop m and tp, fp the counts at or above it: AUROC = 1 - Σ d_m (fp_before + fp_after) / 2
        / (n₊ n₋), from integers; AP = Σ d_m tp/(tp + fp) / n₊; recall is what lies above the last stop that leaves at
        most (1 - specificity) n₋ false alarms, a tie group alarming as a whole. `weight` holds whole numbers from 0
        to 255, of any type.

        NaN in resamples that lack positives (or, for AUROC and recall, negatives).
        Raises: `ValueError` for other multiplicities.
        """
        weight = as_lanes(weight)
        nothing = np.full(weight.shape[1], np.nan)
        if self.n_stops == 0:
            return nothing, nothing, [nothing for _ in specificities]
        n_neg = kernels().totals(self.negatives, weight)[0]
        shares = 1 - np.asarray(specificities, dtype=np.float64) + 1e-9
        allowed = np.floor(shares[:, None] * n_neg).astype(np.int64)
        n_pos, lost, gained, found = kernels().walk(*self._walk, weight, allowed)
        both = (n_pos > 0) & (n_neg > 0)
        pairs = 2 * n_pos * n_neg
        auroc = np.divide(pairs - lost, pairs, out=nothing.copy(), where=both)
        ap = np.divide(gained, n_pos, out=nothing.copy(), where=n_pos > 0)
        return auroc, ap, [np.divide(each, n_pos, out=nothing.copy(), where=both) for each in found]
