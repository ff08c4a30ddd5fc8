"""A sweep judged: every arm at every training prevalence of one class, on the same patients, by the same resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from raresight.core.estimate import FEW_POSITIVE_PATIENTS, Estimate
from raresight.core.predictions import Predictions
from raresight.core.seeds import numpy_rng
from raresight.evaluate.bootstrap import blocks, over_seeds, percentile
from raresight.evaluate.counts import DEFAULT_POINT, count, ratio
from raresight.evaluate.intervals import loosened, opened, reach
from raresight.evaluate.ranked import Ranked
from raresight.evaluate.ranking import NINE_OF_TEN, RECALL_AT_90, auprc, sensitivity_at_specificity
from raresight.evaluate.sweep_points import Run
from raresight.evaluate.verdict import few, judged, not_estimable

COST = "expected_cost_per_1000"
RATES = ("recall", "specificity")
METHOD = "patient bootstrap, percentile"
SEEDS_TOO = ", seeds drawn anew in each resample"
ONE_SEED = "one seed: chance in training is not in the interval"
NO_THRESHOLD = "no threshold could be chosen: too few patients with the class to choose it from"

Figure = tuple[str, str | None]  # a metric and its operating point: None, "default" or "moved"
FIGURES: tuple[Figure, ...] = (
    ("auprc", None),
    (RECALL_AT_90, None),
    *((metric, point) for point in ("default", "moved") for metric in (*RATES, COST)),
)


@dataclass(frozen=True)
class Column:
    """One training prevalence: its name, the share, and the runs of every arm, one a seed, all arms the same seeds."""

    name: str
    prevalence: float
    runs: Mapping[str, Sequence[Run]]


class Judged:
    """Every figure of every run on the data and on every resample of the patients.

    Resamples draw patients within the strata "has the class" and "has not", the same ones for all arms, seeds and
    columns. Within a resample the S seeds are drawn with replacement too (`over_seeds`), the same for all arms and
    columns.
    Expected cost per 1,000: 1000 [π C (1-Se) + (1-π)(1-Sp)], in false alarms; π is `deployed`, else the share of the
    class in this part.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        truth: Predictions,
        cls: str,
        *,
        missed: float,
        deployed: float | None = None,
        unit: str = "image",
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.columns, self.cls, self.missed, self.resamples = columns, cls, missed, resamples
        k = truth.task.index(cls)
        self.target = truth.target[:, k]
        names, self.patient = np.unique(truth.patient.astype(str), return_inverse=True)
        self.n_groups = len(names)
        self.known = ~np.isnan(self.target)
        self.with_class, self.without = self._has(self.target == 1), self._has(self.target == 0)
        self.n_positive, self.n_negative = int(self.with_class.sum()), int(self.without.sum())
        observed = float(np.mean(self.target[self.known])) if self.known.any() else math.nan
        self.prevalence = observed
        self.at_prevalence = observed if deployed is None else deployed
        self.n_seeds = min((len(runs) for column in columns for runs in column.runs.values()), default=0)
        self.points: dict[str | None, str | None] = {None: None, "default": DEFAULT_POINT[truth.task.kind]}
        self.points["moved"] = "frozen" if truth.part == "test" else "tuned"
        self.weights = list(blocks(self.with_class, resamples, "sweep", seed, truth.part, cls))
        rng = numpy_rng("sweep seeds", seed, truth.part, cls)
        self.drawn = rng.integers(0, max(self.n_seeds, 1), size=(max(self.n_seeds, 1), resamples))
        self.common = Estimate(
            metric="",
            class_=cls,
            part=truth.part,
            unit=unit,
            value=0.0,
            prevalence=None if math.isnan(observed) else observed,
            n_images=int(self.known.sum()),
            n_patients=len(np.unique(self.patient[self.known])),
            n_positive_patients=self.n_positive,
        )

    def value(self, column: Column, arm: str, figure: Figure) -> float:
        """The mean over seeds, on the data."""
        return float(np.mean([on_data[figure] for on_data, _ in self._figures[column.name, arm]]))

    def draws(self, column: Column, arm: str, figure: Figure) -> np.ndarray:
        """The mean over seeds drawn anew, on each resample, `(B,)`."""
        each = np.stack([resampled[figure] for _, resampled in self._figures[column.name, arm]])
        return over_seeds(each, self.drawn)

    def estimates(self) -> list[dict[str, Any]]:
        """One `Estimate` a column, arm and figure, as JSON, with `column` and `training_prevalence` beside it."""
        return [
            self.estimate(column, arm, figure).as_dict()
            | {"column": column.name, "training_prevalence": column.prevalence}
            for column in self.columns
            for arm in column.runs
            for figure in FIGURES
        ]

    def estimate(self, column: Column, arm: str, figure: Figure) -> Estimate:
        metric, point = figure
        method = METHOD + (SEEDS_TOO if self.n_seeds > 1 else "")
        row = replace(self.common, metric=metric, arm=arm, operating_point=self.points[point], method=method)
        value = self.value(column, arm, figure)
        if math.isnan(value):
            return not_estimable(row, self.why_not(metric, point))
        low, high, undefined = percentile(self.draws(column, arm, figure))
        if math.isnan(low):
            return not_estimable(row, "no resample can be estimated")
        low, high = min(low, value), max(high, value)
        notes = [f"{undefined} of {self.resamples} resamples undefined"] if undefined else []
        notes += [ONE_SEED] if self.n_seeds == 1 else []
        if metric == COST:
            far = self.open()
            stake = 1000 * self.at_prevalence * self.missed * far
            low, high = loosened(value, low, high, stake, stake)
            small = few(row)
            notes = [small, *notes] if small else notes
            row = replace(row, value=value, low=max(low, 0.0), high=high, reason="; ".join(notes))
            return replace(row, status="wide" if small else "ok")
        behind = self.n_negative if metric == "specificity" else self.n_positive
        low, high, _ = opened(value, max(low, 0.0), min(high, 1.0), behind)
        row = replace(row, value=value, low=low, high=high, reason="; ".join(notes))
        return judged(row, needs_positives=metric != "specificity")

    def open(self) -> float:
        """How far few positive patients leave a share of them open; 0 from 10 on."""
        return reach(self.n_positive) if 0 < self.n_positive < FEW_POSITIVE_PATIENTS else 0.0

    def why_not(self, metric: str, point: str | None) -> str:
        if not self.n_positive and metric != "specificity":
            return f"no case has '{self.cls}' in this part"
        if not self.n_negative and metric != "auprc":
            return "every case has the class"
        return NO_THRESHOLD if point == "moved" else "cannot be estimated in this part"

    @cached_property
    def _figures(self) -> dict[tuple[str, str], list[tuple[dict[Figure, float], dict[Figure, np.ndarray]]]]:
        return {
            (column.name, arm): [(self._on_data(run), self._resampled(run)) for run in runs]
            for column in self.columns
            for arm, runs in column.runs.items()
        }

    def _on_data(self, run: Run) -> dict[Figure, float]:
        found: dict[Figure, float] = {
            ("auprc", None): auprc(self.target, run.score),
            (RECALL_AT_90, None): sensitivity_at_specificity(self.target, run.score, NINE_OF_TEN)[0],
        }
        for point, alarm in (("default", run.default.astype(float)), ("moved", run.moved)):
            counts = count(self.target[:, None], (alarm == 1)[:, None])
            unset = math.nan if np.isnan(alarm[self.known]).any() else 0.0
            recall, specificity = float(counts.recall[0]) + unset, float(counts.specificity[0]) + unset
            found[("recall", point)], found[("specificity", point)] = recall, specificity
            found[(COST, point)] = float(self._cost(np.asarray(recall), np.asarray(specificity)))
        return found

    def _resampled(self, run: Run) -> dict[Figure, np.ndarray]:
        ranked = Ranked(self.target, run.score, self.patient, self.n_groups)
        yes, no = self._sums(self.target == 1), self._sums(self.target == 0)
        parts: dict[Figure, list[np.ndarray]] = {}
        cells = {}
        for point, alarm in (("default", run.default.astype(float)), ("moved", run.moved)):
            unset = math.nan if np.isnan(alarm[self.known]).any() else 0.0
            hit, quiet = self._sums((self.target == 1) & (alarm == 1)), self._sums((self.target == 0) & (alarm == 0))
            cells[point] = (hit + unset, quiet + unset)
        for weight in self.weights:
            _, ap, (recall,) = ranked.metrics(weight, (NINE_OF_TEN,))
            values: dict[Figure, np.ndarray] = {("auprc", None): ap, (RECALL_AT_90, None): recall}
            n_yes, n_no = yes @ weight, no @ weight
            for point, (hit, quiet) in cells.items():
                se, sp = ratio(hit @ weight, n_yes), ratio(quiet @ weight, n_no)
                values |= {("recall", point): se, ("specificity", point): sp, (COST, point): self._cost(se, sp)}
            for figure, drawn in values.items():
                parts.setdefault(figure, []).append(drawn)
        return {figure: np.concatenate(drawn) for figure, drawn in parts.items()}

    def _cost(self, recall: np.ndarray, specificity: np.ndarray) -> np.ndarray:
        share = self.at_prevalence
        return 1000 * (share * self.missed * (1 - recall) + (1 - share) * (1 - specificity))

    def _sums(self, rows: np.ndarray) -> np.ndarray:
        """Rows of each patient, `(G,)`."""
        return np.bincount(self.patient, weights=rows.astype(np.float64), minlength=self.n_groups)

    def _has(self, rows: np.ndarray) -> np.ndarray:
        return np.bincount(self.patient, weights=rows, minlength=self.n_groups) > 0
