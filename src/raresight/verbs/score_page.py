"""The report of predictions that come without a study: what they tell, and that they tell no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raresight.core.predictions import Predictions
from raresight.core.severity import severity
from raresight.core.task import Task

if TYPE_CHECKING:
    from raresight.report.content import Content
    from raresight.verbs.score import Asked, Judged


def page_content(
    judged: Mapping[str, Judged],
    compared: Mapping[str, Any],
    task: Task,
    asked: Asked,
    *,
    notes: Sequence[str],
    files: Mapping[str, str],
    group_by: str,
) -> Content:
    """What the page is made of, from models judged side by side and the comparison of them."""
    from raresight.report.content import ArmResult, Content

    arms = tuple(
        ArmResult(
            name,
            predictions=(one.predictions,),
            calibrated=() if one.calibrated is None else (one.calibrated,),
            thresholds=one.thresholds,
            estimates=tuple(one.estimates),
            validation=one.fitted,
            operating={key: value for key, value in one.points.items() if key != "calibrator" and value is not None},
            calibrator=one.points.get("calibrator") or {},
            outside=True,
        )
        for name, one in judged.items()
    )
    return Content(
        task,
        title="Predictions of " + ", ".join(judged),
        part="test",
        arms=arms,
        baseline=compared.get("baseline", arms[0].name),
        comparisons=tuple(compared["comparisons"]),
        recommendation=tuple(compared["recommendation"]),
        deploy=compared["deploy"] or {},
        inert=tuple((first, second) for first, second in compared["inert"]),
        unit=asked.unit.name,
        group_by=group_by,
        files=files,
        prevalence=asked.costs["prevalence"],
        missed=asked.costs["missed"],
        matrix=asked.costs["matrix"],
        audit=_counted(next(iter(judged.values())).predictions, asked.unit.name, group_by),
        people=_people(next(iter(judged.values())), group_by),
        missing={"thresholds": notes[0]} if notes else {},
    )


def _counted(predictions: Predictions, unit: str, group_by: str) -> dict[str, Any] | None:
    """How many images and patients have each class, as an audit would count them; None where rows are no images."""
    if unit != "image":
        return None
    target, patient = predictions.target, predictions.patient.astype(str)
    rows = []
    for k, name in enumerate(predictions.task.classes):
        has, known = target[:, k] == 1, int((~np.isnan(target[:, k])).sum())
        prevalence = int(has.sum()) / known if known else 0.0
        rows.append({
            "name": name,
            "n_images": int(has.sum()),
            "n_patients": len(set(patient[has])),
            "prevalence": prevalence,
            "severity": severity(prevalence),
        })  # fmt: skip
    return {"n_images": len(target), "n_patients": len(set(patient)), "group_by": group_by, "classes": rows}


def _people(judged: Judged, group_by: str) -> dict[str, Any] | None:
    """Age, sex and site of those judged, and of those that thresholds were fitted to; None where no column tells."""
    from raresight.report.people import WHO, describe

    parts = [("test", judged.predictions)] + ([] if judged.fitted is None else [("val", judged.fitted)])
    tables = [one.table for _, one in parts]
    if not all(group_by in table or "patient_id" in table for table in tables):
        return None
    told = [name for name in WHO if all(name in table for table in tables)]
    part = np.repeat([name for name, _ in parts], [len(table) for table in tables])
    made = describe(pd.concat(tables, ignore_index=True), part, group_by, told)
    return made if made["columns"] else None
