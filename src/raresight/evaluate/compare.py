"""Arms against a baseline, on the same cases of the same patients.

One family of tests is declared beforehand: recall of the critical classes at the specificity of the baseline, adjusted
by Holm. Everything else is exploratory and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from operator import methodcaller
from typing import Any

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.core.predictions import Predictions
from raresight.core.seeds import numpy_rng
from raresight.evaluate.agreement import aligned, alike
from raresight.evaluate.bootstrap import over_seeds, percentile
from raresight.evaluate.counts import DEFAULT_POINT, count, decide
from raresight.evaluate.intervals import loosened, reach, unseen
from raresight.evaluate.permutation import holm, swap_test
from raresight.evaluate.ranking import NINE_OF_TEN, RECALL_AT_90, auprc, sensitivity_at_specificity
from raresight.evaluate.resampled import Resampled, macro_areas, macro_of

# Macro figures, and what their resampled values are called beyond their name.
MACRO = {"macro_f1": "@default", "balanced_accuracy": "@default", "macro_auprc": "", "macro_auroc": ""}
AT_DEFAULT_POINT = ("macro_f1", "balanced_accuracy", "recall")
PRIMARY = "recall_at_matched_specificity"
FALLBACK_SPECIFICITY = 0.90
RANKED_AT = {RECALL_AT_90: NINE_OF_TEN}
FEWEST_FALSE_ALARMS = 5


def compare(
    arms: Mapping[str, Sequence[Predictions]],
    *,
    baseline: str,
    part: str,
    resamples: int = 1000,
    permutations: int = 2000,
    seed: int = 0,
    exploratory: bool = True,
) -> list[dict[str, Any]]:
    """Differences arm minus baseline, one row a figure: `arm baseline part metric class difference low high p
    p_adjusted family n_patients`, and beside them `n_positive_patients n_seeds seed_noise method status reason`.

    Family `exploratory`: `macro_f1 balanced_accuracy macro_auprc macro_auroc`, and per class `recall` at the default
    operating point, `auprc` and `recall_at_specificity_90` (a point of the ROC); paired patient bootstrap (the same
    resample for both arms), p from its tails. `exploratory=False` leaves these rows out.
    Family `primary`: `recall_at_matched_specificity` of each critical class (of every class where none is critical).
    Each arm's threshold is the lowest that keeps the specificity which the baseline has at its default operating point,
    or 0.90 where that leaves fewer than 5 false alarms or lies under 0.5; the row says which.
    p by swapping the two arms' alarms within patients, Holm over the family of this part: the larger of two, one of the
    images found, one of the images found less those that the thresholds gave away, slope x false alarms (the slope of
    the ROC there). Thresholds are estimated, and where many patients have the class their noise counts beside recall's.

    `arms` holds the predictions of each arm, one per seed, of the same cases. A figure is the mean over seeds; with
    several seeds they are resampled as a second level (in pairs where both arms have the same seeds, stretched as
    `over_seeds` says), with one the noise between seeds is `unknown`. A class without positives has `difference` None,
    `status` `not_estimable`.

    Raises: `ConfigError` RS-C33 for an unknown baseline; `DataError` RS-P43 where cases differ between arms, RS-P05
    where their labels or patients do.
    """
    runs = aligned(arms, baseline)
    versions = {name: [_Version(predictions) for predictions in runs[name]] for name in runs}
    pairs = [_Pair(name, baseline, versions[name], versions[baseline], part, seed) for name in runs if name != baseline]
    if not pairs:
        return []
    task = versions[baseline][0].task
    family = task.critical or task.classes
    rows: list[dict[str, Any]] = []
    if exploratory:
        drawn = {
            arm: [version.draws.macro(version.cells, resamples, seed, part, "compare")[0] for version in versions[arm]]
            for arm in runs
        }
        for pair in pairs:
            rows += [pair.row(metric, None, _macro(metric), drawn, metric + suffix) for metric, suffix in MACRO.items()]
    for k, name in enumerate(task.classes):
        if not exploratory and name not in family:
            continue
        at, rule = _matched(versions[baseline], k)
        drawn = {
            arm: [
                version.draws.of_class(
                    k, version.cells, resamples, seed, part, "compare", k, specificities={PRIMARY: at, **RANKED_AT}
                )
                for version in versions[arm]
            ]
            for arm in runs
        }
        for pair in pairs:
            if exploratory:
                rows.append(pair.row("recall", k, methodcaller("recall", k), drawn, "recall@default"))
                rows.append(pair.row("auprc", k, methodcaller("auprc", k), drawn, "auprc"))
                rows.append(pair.row(RECALL_AT_90, k, methodcaller("recall_at", NINE_OF_TEN, k), drawn, RECALL_AT_90))
            if name in family:
                row = pair.row(PRIMARY, k, methodcaller("recall_at", at, k), drawn, PRIMARY)
                rows.append(row | pair.primary(row, k, at, rule, permutations))
    primary = [row for row in rows if row["family"] == "primary" and row["p"] is not None]
    for row, adjusted in zip(primary, holm([row["p"] for row in primary]), strict=True):
        row["p_adjusted"] = adjusted
    return rows


def identical(arms: Mapping[str, Sequence[Predictions]]) -> list[tuple[str, str]]:
    """Pairs of arms whose probabilities agree but for rounding in every seed: one of the two did nothing."""
    names = list(arms)
    same = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            ours, theirs = _by_case(arms[first]), _by_case(arms[second])
            if len(ours) == len(theirs) and ours and all(map(alike, ours, theirs)):
                same.append((first, second))
    return same


class _Version:
    """One arm with one seed: its figures on the data, and its layout for resamples."""

    def __init__(self, predictions: Predictions) -> None:
        self.task, self.seed = predictions.task, predictions.seed
        self.draws = Resampled(predictions)
        self.target, self.prob = self.draws.target, self.draws.prob
        alarm = decide(self.prob, self.task.kind)
        self.cells = {"default": self.draws.counts(alarm)}
        self.counts = count(self.target, alarm)
        # Every other arm is compared with the same baseline: what was ranked once is kept.
        self.auprc = cache(self._auprc)
        self.point = cache(self._point)
        self.patients = cache(self._patients)

    @cached_property
    def macro(self) -> dict[str, float]:
        figures = {name: float(value) for name, value in macro_of(self.counts, self.task.kind).items()}
        return figures | macro_areas(self.target, self.prob)

    def recall(self, k: int) -> float:
        return float(self.counts.recall[k])

    def recall_at(self, specificity: float, k: int) -> float:
        return self.point(specificity, k)[0]

    def slope(self, specificity: float, k: int) -> float:
        """How many more images of class k are found for one more false alarm, near a specificity.

        A secant of the ROC from half to one and a half times the false alarms.
        """
        allowed = 1 - specificity
        fewer, more = (self.point(1 - times * allowed, k)[:2] for times in (0.5, 1.5))
        truly, falsely = int(np.sum(self.target[:, k] == 1)), int(np.sum(self.target[:, k] == 0))
        apart = (fewer[1] - more[1]) * falsely
        return (more[0] - fewer[0]) * truly / apart if apart > 0 else 0.0

    def _auprc(self, k: int) -> float:
        return auprc(self.target[:, k], self.prob[:, k])

    def _point(self, specificity: float, k: int) -> tuple[float, float, float]:
        return sensitivity_at_specificity(self.target[:, k], self.prob[:, k], specificity)

    def _patients(self, specificity: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Each patient's images of class k found at a specificity, and those wrongly alarmed, both `(G,)`."""
        alarm = self.prob[:, k] >= self.point(specificity, k)[2]
        yes, no = (self.draws.per_patient((self.target[:, k] == truth) & alarm) for truth in (1, 0))
        return yes, no


class _Pair:
    """An arm beside the baseline, and how their difference becomes a row."""

    def __init__(
        self, arm: str, baseline: str, ours: list[_Version], theirs: list[_Version], part: str, seed: int
    ) -> None:
        self.arm, self.baseline, self.ours, self.theirs = arm, baseline, ours, theirs
        self.part, self.seed = part, seed

    def row(
        self,
        metric: str,
        k: int | None,
        figure: Callable[[_Version], float],
        drawn: Mapping[str, list[dict[str, np.ndarray]]],
        key: str,
    ) -> dict[str, Any]:
        """One line of `compare.json`: `figure` on the data, and its resampled values under `key`."""
        draws, task = self.ours[0].draws, self.ours[0].task
        positives = draws.n_patients if k is None else int(draws.has[:, k].sum())
        n_seeds = min(len(self.ours), len(self.theirs))
        row: dict[str, Any] = {
            "arm": self.arm,
            "baseline": self.baseline,
            "part": self.part,
            "metric": metric,
            "class": None if k is None else task.classes[k],
            "difference": None,
            "low": None,
            "high": None,
            "p": None,
            "p_adjusted": None,
            "family": "exploratory",
            "n_patients": draws.n_patients,
            "n_positive_patients": None if k is None else positives,
            "operating_point": DEFAULT_POINT[task.kind] if metric in AT_DEFAULT_POINT else None,
            "n_seeds": n_seeds,
            "seed_noise": "resampled" if n_seeds > 1 else "unknown",
            "method": "paired patient bootstrap, percentile",
            "status": "not_estimable",
            "reason": "no case of this part has the class" if k is not None and not positives else "not defined here",
        }
        difference = float(np.mean([figure(v) for v in self.ours]) - np.mean([figure(v) for v in self.theirs]))
        if math.isnan(difference):
            return row
        ours, theirs = ([run[key] for run in drawn[arm]] for arm in (self.arm, self.baseline))
        resampled = self._second_level(ours, theirs)
        low, high, undefined = percentile(resampled)
        if math.isnan(low):
            return row
        defined = resampled[~np.isnan(resampled)]
        tail = min(np.sum(defined <= 0), np.sum(defined >= 0))
        p: float | None = min(1.0, 2 * (1 + float(tail)) / (1 + len(defined)))
        few = k is not None and positives < FEW_POSITIVE_PATIENTS
        reasons = [f"{positives} positive patients, fewer than {FEW_POSITIVE_PATIENTS}"] if few else []
        alike = high - low <= 1e-12
        far = unseen(draws.has.sum(axis=0)) if k is None else reach(positives) if few else 0.0
        if alike:
            far = max(far, reach(positives))
            row["method"] = "no patient tells the arms apart: exact bound of the positive patients"
        elif far:
            row["method"] += ", opened to what classes of few positive patients leave open"
        if far:
            # What so few patients cannot exclude stays open on both sides, and the bootstrap has no p to give.
            low, high = loosened(difference, low, high, far, far)
            p = 1.0 if alike else None
            if k is None and not alike:
                reasons.append(f"classes with fewer than {FEW_POSITIVE_PATIENTS} positive patients are in it")
        reasons += [f"{undefined} of {len(resampled)} resamples undefined"] if undefined else []
        return row | {
            "difference": difference,
            "low": max(-1.0, low),
            "high": min(1.0, high),
            "p": p,
            "status": "wide" if few else "ok",
            "reason": "; ".join(reasons),
        }

    def primary(self, row: dict[str, Any], k: int, at: float, rule: str, permutations: int) -> dict[str, Any]:
        """What makes a row one of the declared family: the matched specificity, and p by swaps."""
        declared = {"family": "primary", "specificity": at, "rule": rule}
        if row["difference"] is None:
            return declared
        found, alarms = (
            np.mean([version.patients(at, k)[which] for version in self.ours], axis=0)
            - np.mean([version.patients(at, k)[which] for version in self.theirs], axis=0)
            for which in (0, 1)
        )
        slope = float(np.mean([version.slope(at, k) for version in (*self.ours, *self.theirs)]))
        names = (self.seed, self.part, self.arm, k)
        p = max(swap_test(found, permutations, *names), swap_test(found - slope * alarms, permutations, *names))
        return declared | {"p": p, "method": row["method"] + "; p by swaps within patients, given these seeds"}

    def _second_level(self, ours: list[np.ndarray], theirs: list[np.ndarray]) -> np.ndarray:
        """Differences of the resamples, seeds drawn anew in each: in pairs where both arms have the same seeds."""
        resamples = len(ours[0])
        rng = numpy_rng("compare seeds", self.seed, self.part, self.arm)
        drawn = rng.integers(0, len(ours), size=(len(ours), resamples))
        paired = [version.seed for version in self.ours] == [version.seed for version in self.theirs]
        other = drawn if paired else rng.integers(0, len(theirs), size=(len(theirs), resamples))
        return over_seeds(np.stack(ours), drawn) - over_seeds(np.stack(theirs), other)


def _matched(baseline: list[_Version], k: int) -> tuple[float, str]:
    """The specificity at which class k is compared, and where it comes from."""
    point = DEFAULT_POINT[baseline[0].task.kind]
    specificity = float(np.mean([version.counts.specificity[k] for version in baseline]))
    false_alarms = float(np.mean([version.counts.fp[k] for version in baseline]))
    if false_alarms >= FEWEST_FALSE_ALARMS and specificity >= 0.5:
        return specificity, f"specificity of the baseline at {point}"
    why = f"fewer than {FEWEST_FALSE_ALARMS} false alarms" if specificity >= 0.5 else "a specificity under 0.5"
    return FALLBACK_SPECIFICITY, f"specificity {FALLBACK_SPECIFICITY:g}, as the baseline has {why} at {point}"


def _macro(metric: str) -> Callable[[_Version], float]:
    return lambda version: version.macro[metric]


def _by_case(runs: Sequence[Predictions]) -> list[np.ndarray]:
    return [run.prob[np.argsort(run.cases.astype(str), kind="stable")] for run in runs]
