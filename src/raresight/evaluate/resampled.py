"""Every composite of one set of predictions on every resample of its patients."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem
from raresight.core.predictions import Predictions
from raresight.core.task import Kind
from raresight.evaluate.bootstrap import Ranked, blocks
from raresight.evaluate.counts import Counts, accuracy, balanced_accuracy, macro_f1, mean_of_known
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
        """tp, fp, fn, tn of every patient, `(4, G, K)`, from alarms `(N, K)`."""
        yes, no = self.target == 1, self.target == 0
        return np.stack([self.per_patient(cell) for cell in (yes & alarm, no & alarm, yes & ~alarm, no & ~alarm)])

    def of_class(
        self,
        k: int,
        points: Mapping[str, np.ndarray],
        resamples: int,
        *names: object,
        specificities: Mapping[str, float] = MappingProxyType({}),
    ) -> dict[str, np.ndarray]:
        """`auroc`, `auprc`, and per point `f1@..` and `recall@..` of class k, each `(B,)`.

        Drawn within the strata "has class k" and "has not". `points` maps an operating point to its `counts(...)`,
        `specificities` a name to the specificity at which recall is read off the ROC under that name.
        """
        drawn: dict[str, list[np.ndarray]] = {}
        for weight in blocks(self.has[:, k], resamples, *names):
            auroc, ap, recalls = self.ranked[k].metrics(weight, list(specificities.values()))
            values = {"auroc": auroc, "auprc": ap, **dict(zip(specificities, recalls, strict=True))}
            for point, cells in points.items():
                counts = Counts(*(cells[:, :, k] @ weight))
                values |= {f"f1@{point}": counts.f1, f"recall@{point}": counts.recall}
            for name, value in values.items():
                drawn.setdefault(name, []).append(value)
        return {name: np.concatenate(parts) for name, parts in drawn.items()}

    def macro(
        self, points: Mapping[str, np.ndarray], resamples: int, *names: object
    ) -> tuple[dict[str, np.ndarray], dict[str, Counts]]:
        """Macro figures on every resample, each `(B,)`, and the counts of every point, each `(B, K)`.

        `macro_auroc` and `macro_auprc`; per point `macro_f1@..`, `balanced_accuracy@..` and `accuracy@..`. Means run
        over the classes that the data can estimate; a resample in which one of them cannot be is NaN. Drawn within
        strata of each patient's rarest class.
        """
        present = np.asarray(self.has.any(axis=0))
        ranked = present & (self.target == 0).any(axis=0)
        drawn: dict[str, list[np.ndarray]] = {}
        cells_of: dict[str, list[np.ndarray]] = {}
        for weight in blocks(self.rarest, resamples, *names):
            areas = [self.ranked[k].metrics(weight)[:2] for k in np.flatnonzero(present)]
            values: dict[str, np.ndarray] = {}
            if areas:
                aurocs = [area[0] for area, k in zip(areas, np.flatnonzero(present), strict=True) if ranked[k]]
                values["macro_auprc"] = np.mean([area[1] for area in areas], axis=0)
                if aurocs:
                    values["macro_auroc"] = np.mean(aurocs, axis=0)
            for point, cells in points.items():
                summed = np.einsum("cgk,gb->cbk", cells, weight, optimize=True)
                cells_of.setdefault(point, []).append(summed)
                values |= {
                    f"{name}@{point}": value
                    for name, value in macro_of(Counts(*summed), self.task.kind, present).items()
                }
            for name, value in values.items():
                drawn.setdefault(name, []).append(value)
        counts = {point: Counts(*np.concatenate(parts, axis=1)) for point, parts in cells_of.items()}
        return {name: np.concatenate(parts) for name, parts in drawn.items()}, counts


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
