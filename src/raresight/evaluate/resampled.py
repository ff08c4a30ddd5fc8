"""Every composite of one set of predictions on every resample of its patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem
from raresight.core.predictions import Predictions
from raresight.core.task import Kind
from raresight.evaluate.bootstrap import Strata, drawn, kernels
from raresight.evaluate.counts import Counts, accuracy, balanced_accuracy, macro_f1, mean_of_known
from raresight.evaluate.ranked import Ranked
from raresight.evaluate.ranking import auprc, auroc


class Resampled:
    """Predictions of one part, laid out by patient: what a resample of patients makes of every composite.

    Patients are numbered 0..G-1. `has` `(G, K)` says who has a class; `rarest` `(G,)` is the rarest class of a patient
    (K if none), the stratum of macro figures, so that every resample holds every class.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.task = predictions.task
        self.target, self.prob = predictions.target, predictions.prob
        names, self.patient = np.unique(_identified(predictions), return_inverse=True)
        self.n_patients = len(names)
        self.has = self.per_patient(self.target == 1) > 0
        self.ranked = [
            Ranked(self.target[:, k], self.prob[:, k], self.patient, self.n_patients)
            for k in range(self.task.n_classes)
        ]
        by_rarity = np.argsort(self.has.sum(axis=0), kind="stable")
        held = self.has[:, by_rarity]
        self.rarest = np.where(held.any(axis=1), by_rarity[held.argmax(axis=1)], self.task.n_classes)

    def per_patient(self, values: np.ndarray) -> np.ndarray:
        """Sums over the images of each patient, `(N, ...)` to `(G, ...)`."""
        values = np.asarray(values, dtype=np.float64)
        flat = values.reshape(len(values), -1)
        sums = np.stack(
            [np.bincount(self.patient, weights=column, minlength=self.n_patients) for column in flat.T], axis=1
        )
        return sums.reshape(self.n_patients, *values.shape[1:])

    def counts(self, alarm: np.ndarray) -> np.ndarray:
        """tp, fp, fn, tn of every patient, `(4, G, K)` whole numbers, from alarms `(N, K)`."""
        yes, no = self.target == 1, self.target == 0
        cells = [self.per_patient(cell) for cell in (yes & alarm, no & alarm, yes & ~alarm, no & ~alarm)]
        return np.stack(cells).astype(np.int64)

    def of_class(
        self,
        k: int,
        points: Mapping[str, np.ndarray],
        resamples: int,
        *names: object,
        specificities: Mapping[str, float] = MappingProxyType({}),
    ) -> dict[str, np.ndarray]:
        """`auroc`, `auprc`, and per point `f1@..` and `recall@..` of class k, each `(B,)`; see `of_classes`."""
        return self.of_classes(points, resamples, *names, specificities=specificities, classes=[k])[k]

    def of_classes(
        self,
        points: Mapping[str, np.ndarray],
        resamples: int,
        *names: object,
        specificities: Mapping[str, float] = MappingProxyType({}),
        classes: Sequence[int] | None = None,
    ) -> dict[int, dict[str, np.ndarray]]:
        """`auroc`, `auprc`, and per point `f1@..` and `recall@..` of each class, each `(B,)`.

        Drawn within the strata "has class k" and "has not", from the same draws for all classes. `points` maps an
        operating point to its `counts(...)`, `specificities` a name to the specificity at which recall is read off the
        ROC under that name. `classes`: all by default.
        """
        chosen = range(self.task.n_classes) if classes is None else classes
        within = {k: Strata(self.has[:, k]) for k in chosen}
        cells_of = {(point, k): np.ascontiguousarray(cells[:, :, k]) for point, cells in points.items() for k in chosen}
        parts: dict[int, dict[str, list[np.ndarray]]] = {k: {} for k in chosen}
        for block in drawn(self.n_patients, resamples, *names):
            for k in chosen:
                weight = block.within(within[k])
                auroc, ap, recalls = self.ranked[k].metrics(weight, list(specificities.values()))
                values = {"auroc": auroc, "auprc": ap, **dict(zip(specificities, recalls, strict=True))}
                for point in points:
                    counts = Counts(*kernels().totals(cells_of[point, k], weight))
                    values |= {f"f1@{point}": counts.f1, f"recall@{point}": counts.recall}
                for name, value in values.items():
                    parts[k].setdefault(name, []).append(value)
        return {k: {name: np.concatenate(each) for name, each in made.items()} for k, made in parts.items()}

    def macro(
        self, points: Mapping[str, np.ndarray], resamples: int, *names: object
    ) -> tuple[dict[str, np.ndarray], dict[str, Counts]]:
        """Macro figures on every resample, each `(B,)`, and the counts of every point, each `(B, K)`.

        `macro_auroc` and `macro_auprc`; per point `macro_f1@..`, `balanced_accuracy@..` and `accuracy@..`. Means run
        over the classes that the data can estimate; a resample in which one of them cannot be is NaN. Drawn within
        strata of each patient's rarest class.
        """
        present = np.asarray(self.has.any(axis=0))
        rankable = present & (self.target == 0).any(axis=0)
        rarest = Strata(self.rarest)
        flat = {point: cells.transpose(0, 2, 1).reshape(-1, self.n_patients) for point, cells in points.items()}
        parts: dict[str, list[np.ndarray]] = {}
        cells_of: dict[str, list[np.ndarray]] = {}
        for block in drawn(self.n_patients, resamples, *names):
            weight = block.within(rarest)
            areas = {k: self.ranked[k].metrics(weight)[:2] for k in np.flatnonzero(present)}
            values: dict[str, np.ndarray] = {}
            if areas:
                values["macro_auprc"] = np.mean([ap for _, ap in areas.values()], axis=0)
            if rankable.any():
                values["macro_auroc"] = np.mean([areas[k][0] for k in np.flatnonzero(rankable)], axis=0)
            for point, cells in flat.items():
                summed = kernels().totals(cells, weight).reshape(4, self.task.n_classes, -1).transpose(0, 2, 1)
                cells_of.setdefault(point, []).append(summed)
                values |= {
                    f"{name}@{point}": value
                    for name, value in macro_of(Counts(*summed), self.task.kind, present).items()
                }
            for name, value in values.items():
                parts.setdefault(name, []).append(value)
        counts = {point: Counts(*np.concatenate(blocks, axis=1)) for point, blocks in cells_of.items()}
        return {name: np.concatenate(each) for name, each in parts.items()}, counts


def _identified(predictions: Predictions) -> np.ndarray:
    """Patients as text; a blank one is refused, since all blanks together would pass for one patient."""
    patient = pd.Series(predictions.patient, dtype=object)
    blank = patient.isna() | (patient.astype(str).str.strip() == "")
    if blank.any():
        raise DataError(
            Problem(
                code="RS-P02",
                level="error",
                column=predictions.cluster,
                found=f"{int(blank.sum())} rows without a {predictions.cluster}",
                why="they would be counted as one patient",
                remedy=f"fill in {predictions.cluster}; if every patient has one image, say --one-image-per-patient",
            )
        )
    return patient.astype(str).to_numpy(dtype=str)


def macro_of(counts: Counts, kind: Kind, present: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`macro_f1`, `balanced_accuracy` and `accuracy` from counts `(..., K)`.

    Means run over the classes present in the data; where `present` `(K,)` names them, a resample that lacks one of them
    is NaN instead of a mean over fewer.
    """
    some = counts
    if present is not None:
        some = Counts(*(cell[..., present] for cell in (counts.tp, counts.fp, counts.fn, counts.tn)))
    figures = {"macro_f1": macro_f1(some), "balanced_accuracy": balanced_accuracy(some, kind)}
    if present is not None:
        incomplete = np.isnan(some.recall).any(axis=-1)
        figures = {name: np.where(incomplete, np.nan, value) for name, value in figures.items()}
    return figures | {"accuracy": accuracy(counts, kind)}


def macro_areas(target: np.ndarray, prob: np.ndarray) -> dict[str, float]:
    """Macro AUROC and AP over the classes that can be estimated; NaN where none can."""
    classes = range(target.shape[1])
    aurocs = np.array([auroc(target[:, k], prob[:, k]) for k in classes])
    areas = np.array([auprc(target[:, k], prob[:, k]) for k in classes])
    return {"macro_auroc": float(mean_of_known(aurocs)), "macro_auprc": float(mean_of_known(areas))}
