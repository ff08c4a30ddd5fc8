"""The report of predictions that come without a study: what they tell, and that they tell no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
        missing={"thresholds": notes[0]} if notes else {},
    )
