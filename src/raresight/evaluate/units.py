"""From images to what a decision is about: the lesion, the exam or the patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from raresight.core.errors import ConfigError, DataError, Problem, listed, nearest
from raresight.core.manifest import LABEL_PREFIX
from raresight.core.predictions import LOGIT_PREFIX, PROB_PREFIX, Predictions
from raresight.evaluate.calibration import log_odds


def aggregate(predictions: Predictions, column: str, how: str) -> Predictions:
    """One row per value of `column`, its probabilities the `max` or `mean` over the unit's images.

    Exclusive probabilities are rescaled to sum to 1 again. An exclusive label must be the same in all images of a unit
    (unknown ones aside). An independent label is positive if any image is, negative if all are, else unknown. Columns
    that differ within a unit become empty; `case` becomes the unit's id.

    Raises: `ConfigError` RS-C34 for an unknown column or `how`; `DataError` RS-P02 for images without a unit, RS-P05
    for a unit whose images disagree on the label or belong to several patients.
    """
    table, task = predictions.table, predictions.task
    if how not in ("max", "mean"):
        raise ConfigError(_problem("RS-C34", column, f"aggregate: {how!r}", "max or mean"))
    unit = _units(predictions, column)
    groups = table.groupby(unit, sort=False)
    label = table["label"].where(table["label"].isin(task.classes)) if "label" in table.columns else None
    problems = []
    if column != predictions.cluster:
        problems += _mixed(column, predictions.cluster, groups[predictions.cluster].nunique(dropna=False))
    if label is not None:
        problems += _mixed(column, "label", label.groupby(unit, sort=False).nunique())
    if problems:
        raise DataError(*problems)

    prob_columns = [PROB_PREFIX + name for name in task.classes]
    logit_columns = [LOGIT_PREFIX + name for name in task.classes]
    label_columns = [LABEL_PREFIX + name for name in task.classes if LABEL_PREFIX + name in table.columns]
    prob = groups[prob_columns].agg(how).to_numpy(dtype=np.float64)
    if task.kind == "exclusive":
        prob = prob / prob.sum(axis=1, keepdims=True)
    logits = log_odds(prob, task.kind)
    first = groups.first()
    columns: dict[str, np.ndarray] = {"case": np.array(list(first.index), dtype=object)}
    for name in table.columns.difference(["case", "label", *prob_columns, *logit_columns, *label_columns], sort=False):
        same = (groups[name].nunique(dropna=False) <= 1).to_numpy()
        columns[str(name)] = np.where(same, first[name].to_numpy(dtype=object), "")
    columns |= {name: prob[:, k] for k, name in enumerate(prob_columns)}
    if set(logit_columns) <= set(table.columns):
        columns |= {name: logits[:, k] for k, name in enumerate(logit_columns)}
    if label is not None:
        agreed = label.groupby(unit, sort=False).first()
        columns["label"] = agreed.where(agreed.notna(), "").to_numpy(dtype=object)
    columns |= {name: _any_positive(table[name], unit) for name in label_columns}
    return replace(predictions, table=pd.DataFrame(columns))


def _units(predictions: Predictions, column: str) -> np.ndarray:
    table = predictions.table
    if column not in table.columns:
        close = nearest(column, [str(name) for name in table.columns])
        remedy = f"did you mean '{close}'?" if close else "set decision.column to a column of the manifest"
        raise ConfigError(_problem("RS-C34", column, f"no column '{column}' among the predictions", remedy))
    unit = table[column].astype(object).where(table[column].notna(), "").astype(str)
    blank = (unit.str.strip() == "").to_numpy()
    if blank.any():
        found = f"{blank.sum()} images without a {column}: {listed(list(predictions.cases[blank]))}"
        raise DataError(_problem("RS-P02", column, found, f"fill in {column}, or set decision.unit: image"))
    return unit.to_numpy(dtype=object)


def _any_positive(label: pd.Series, unit: np.ndarray) -> np.ndarray:
    images = label.astype(float).groupby(unit, sort=False)
    highest = images.max()
    return highest.where((highest == 1) | (images.count() == images.size())).to_numpy(dtype=np.float64)


def _mixed(column: str, what: str, several: pd.Series) -> list[Problem]:
    units = [str(name) for name in several.index[several > 1]]
    if not units:
        return []
    found = f"{len(units)} units of {column} hold several values of {what}: {listed(units)}"
    return [_problem("RS-P05", what, found, "correct the table, or decide per image (decision.unit: image)")]


def _problem(code: str, column: str, found: str, remedy: str) -> Problem:
    why = "rates, thresholds and alarms count decision units"
    return Problem(code=code, level="error", column=column, found=found, why=why, remedy=remedy)
