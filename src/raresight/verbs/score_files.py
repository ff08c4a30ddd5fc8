"""The files and options of `raresight score`, read and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from raresight.core.errors import ConfigError, GateError, Problem, listed
from raresight.core.files import read_json
from raresight.core.predictions import LOGIT_PREFIX, PROB_PREFIX, Predictions
from raresight.core.task import Task


@dataclass(frozen=True)
class Unit:
    """What a decision is about: each image, or the `max` or `mean` over the images of one value of `column`."""

    name: str = "image"
    column: str | None = None
    aggregate: str = "max"

    @classmethod
    def of(cls, name: str | None, column: str | None, aggregate: str, group: str) -> Unit:
        """`patient` is the group column, any other unit the column of its name unless one is named."""
        if name in (None, "image") and column is None:
            return cls()
        said = name or str(column).removesuffix("_id")
        if said == "image":
            raise mismatch(f"--unit image with --unit-column {column}", "name the unit: --unit lesion")
        return cls(said, column or {"patient": group}.get(said, said), aggregate)

    def __call__(self, predictions: Predictions) -> Predictions:
        from raresight.evaluate.units import aggregate

        return predictions if self.column is None else aggregate(predictions, self.column, self.aggregate)


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its stem, with its folder where two stems are alike.

    Raises: `ConfigError` RS-C05 for a file that is given twice.
    """
    found = [path.stem for path in paths]
    if len(set(found)) < len(found):
        found = [f"{path.parent.name}/{path.stem}" for path in paths]
    if len(set(found)) < len(found):
        found = [str(path) for path in paths]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise mismatch(f"given twice: {listed(twice)}", "give every model's file once")
    return found


def refuse_places(out: Path, group: str) -> None:
    """Refuse a folder to write to that is a file, and groups that are labels or scores."""
    blocked = next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None)
    if blocked is not None:
        raise mismatch(f"--out {out}: {blocked} is a file", "name a folder")
    if group == "label" or group.startswith(("label_", PROB_PREFIX, LOGIT_PREFIX)):
        raise mismatch(f"--group {group}, which holds labels or scores", "name the column of patient ids")


def refuse_shared_rows(val: Predictions, test: Predictions, file: str, *, waived: bool = False) -> None:
    """Refuse a validation table that holds rows of the test table: a case of the same patient, or of the same scores.

    With `waived` groups (every case its own patient) the scores alone tell: cases may be numbered from 0 in both.
    Raises: `GateError` RS-R36.
    """
    judging = dict(zip(map(str, test.cases), _rows(test), strict=True))
    shared = []
    for case, (patient, scores) in zip(map(str, val.cases), _rows(val), strict=True):
        if case in judging and (judging[case][1] == scores or (judging[case][0] == patient and not waived)):
            shared.append(case)
    if shared:
        raise GateError(
            Problem(
                code="RS-R36",
                level="error",
                file=file,
                column="case",
                found=f"{len(shared)} of its {len(val.cases)} rows are rows of the test table: {listed(shared)}",
                why="a threshold that is judged on the rows that chose it looks better than it is",
                remedy="give --val other patients' predictions, or leave it out",
            )
        )


def shared_patients(val: Predictions, test: Predictions, file: str) -> list[Problem]:
    """A warning where patients of the test table are among those that the thresholds are chosen on."""
    both = sorted(set(map(str, val.patient)) & set(map(str, test.patient)))
    if not both:
        return []
    return [
        Problem(
            code="RS-R36",
            level="warning",
            file=file,
            column=val.cluster,
            found=f"{len(both)} patients of the test table are in it: {listed(both)}",
            why="thresholds chosen on other images of the same patients look better than they are",
            remedy="give --val other patients' predictions",
        )
    ]


def _rows(predictions: Predictions) -> list[tuple[str, tuple[float, ...]]]:
    return list(zip(map(str, predictions.patient), map(tuple, predictions.prob.tolist()), strict=True))


def prior_shift(path: Path, task: Task) -> np.ndarray:
    """log(prior that the model was trained with / natural prevalence), from `{class: {trained, natural}}`, `(K,)`."""
    given = mapping(path)
    try:
        pairs = np.array([[float(given[name]["trained"]), float(given[name]["natural"])] for name in task.classes])
    except (KeyError, TypeError, ValueError) as cause:
        raise mismatch(
            f"{path}: {cause}", "write for every class   NAME: {trained: 0.2, natural: 0.002}   (shares above 0)"
        ) from None
    if not ((pairs > 0) & (pairs < 1)).all():
        raise mismatch(f"{path}: shares {pairs.tolist()}", "shares lie strictly between 0 and 1; 5% is 0.05")
    logs = np.log(pairs) - (0.0 if task.kind == "exclusive" else np.log1p(-pairs))
    return logs[:, 0] - logs[:, 1]


def frozen_thresholds(path: Path, task: Task) -> dict[str, float]:
    """Class -> threshold, from a `thresholds.json` of ours or a plain table of numbers."""
    given = mapping(path)
    given = given.get("thresholds", given)
    if not isinstance(given, Mapping):
        raise mismatch(f"{path}: {given!r}", "thresholds are {class: number in [0, 1]}")
    chosen = {str(k): (v.get("threshold") if isinstance(v, Mapping) else v) for k, v in given.items() if k != "inputs"}
    unknown = [name for name in chosen if name not in task.classes]
    bad = [k for k, v in chosen.items() if v is not None and not (_number(v) and 0 <= v <= 1)]
    if unknown or bad:
        raise mismatch(
            f"{path}: {listed(unknown or bad)}", "thresholds are {class: number in [0, 1]} for classes of the table"
        )
    return {name: float(value) for name, value in chosen.items() if value is not None}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mapping(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a table; raises `ConfigError` RS-C05 for any other."""
    try:
        given = read_json(path) if path.suffix == ".json" else yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as cause:
        raise mismatch(f"{path}: {cause}", "give a readable YAML or JSON file") from None
    if not isinstance(given, dict):
        raise mismatch(f"{path}: {type(given).__name__}", "give a mapping of class to value")
    return given


def mismatch(found: str, remedy: str) -> ConfigError:
    """`ConfigError` RS-C05: options that do not fit together, or to the tables."""
    problem = Problem(code="RS-C05", level="error", found=found, why="the options do not fit together", remedy=remedy)
    return ConfigError(problem)


def with_critical(task: Task, critical: Sequence[str]) -> Task:
    """The task of a table with its critical classes.

    Raises: `ConfigError` RS-C33 for a name that is no class of the table.
    """
    unknown = [name for name in critical if name not in task.classes]
    if unknown:
        raise ConfigError(
            Problem(
                code="RS-C33",
                level="error",
                column="--critical",
                found=f"{', '.join(map(repr, unknown))} is no class of the table",
                why="its sensitivity would never be reported",
                remedy=f"the classes are {', '.join(task.classes)}",
            )
        )
    return replace(task, critical=tuple(critical))
