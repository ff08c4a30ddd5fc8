"""`raresight score`: the full evaluation and report of anybody's predictions, without a study and without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from raresight.core.errors import ConfigError, GateError, Problem, listed
from raresight.core.estimate import Estimate, save_estimates
from raresight.core.files import read_json, sha256, write_json
from raresight.core.predictions import Predictions
from raresight.core.progress import Silent
from raresight.core.task import Task

if TYPE_CHECKING:
    from raresight.report.content import Content

NO_VALIDATION = (
    "no threshold and no calibrator was fitted: neither --val nor --thresholds was given, and a threshold is never "
    "chosen and judged on the same rows; shown are threshold-free figures and the default operating point"
)


def score(
    tests: Sequence[Path],
    out: Path,
    *,
    val: Sequence[Path] = (),
    thresholds: Path | None = None,
    baseline: str | None = None,
    columns: Path | None = None,
    train_prior: Path | None = None,
    group: str = "patient_id",
    costs: Path | None = None,
    scores: str = "probabilities",
    critical: Sequence[str] = (),
    one_image_per_patient: bool = False,
    resamples: int = 1000,
    progress: Silent | None = None,
) -> dict[str, Any]:
    """Write `estimates.json`, `report.html`, `report.json` (and `compare.json` for several files) into `out`.

    Files are named by their stem. Several test files must hold the same cases, and are compared in pairs with
    `baseline` (the first one by default). `val` files, in the same order, are what thresholds and calibrators are
    fitted to; `thresholds` is a frozen file of ours or `{class: threshold}`.

    Raises: `DataError` with every problem of every file; `ConfigError` for options that do not fit together;
    `GateError` RS-R36 where a validation file repeats rows of its test file.
    """
    from raresight.evaluate.cost import check_costs
    from raresight.evaluate.read import read_costs, read_predictions
    from raresight.report.page import write

    say = (progress or Silent()).say
    if val and len(val) != len(tests):
        raise _mismatch(f"{len(tests)} test files and {len(val)} validation files", "give one --val per test file")
    names = _names(tests)
    renamed = _mapping(columns) if columns else None

    def reading(path: Path, task: Task | None) -> Predictions:
        say(f"reading {path}")
        waived = one_image_per_patient
        return read_predictions(
            path, task=task, columns=renamed, scores=scores, one_image_per_patient=waived, group=group
        )

    loaded: dict[str, Predictions] = {}
    task: Task | None = None
    for name, path in zip(names, tests, strict=True):
        predictions = reading(path, task)
        task = task or replace(predictions.task, critical=tuple(critical))
        loaded[name] = replace(predictions, task=task, arm=name, part="test")
    assert task is not None
    if baseline is not None and baseline not in loaded:
        raise _mismatch(f"--baseline {baseline}", f"name one of {', '.join(loaded)}")
    cost_table = read_costs(costs, task) if costs else {"missed": {}, "prevalence": {}}
    shift = _prior_shift(train_prior, task) if train_prior else None
    frozen = _frozen(thresholds, task) if thresholds else None

    for problem in check_costs(cost_table, task.classes, task.critical, str(costs or "")):
        say(str(problem))
    judged: dict[str, Judged] = {}
    for number, (name, predictions) in enumerate(loaded.items()):
        fitted = replace(reading(val[number], task), arm=name, part="val") if val else None
        if fitted is not None:
            _apart(fitted, predictions, str(val[number]))
        say(f"evaluating {name}")
        judged[name] = _judged(predictions, fitted, frozen, shift, cost_table, resamples)
        for problem in judged[name].problems:
            say(str(problem))
    estimates = [estimate for one in judged.values() for estimate in one.estimates]
    result: dict[str, Any] = {"comparisons": [], "recommendation": [], "deploy": None, "inert": []}
    if len(loaded) > 1:
        say("comparing in pairs")
        result = _compared(loaded, baseline or names[0], estimates, cost_table, resamples)
        write_json(out / "compare.json", result)
    else:
        (out / "compare.json").unlink(missing_ok=True)  # of an earlier call with several files
    notes = [] if val or thresholds else [NO_VALIDATION]
    points = {name: one.points for name, one in judged.items()}
    save_estimates(out / "estimates.json", estimates, notes=notes, operating_points=points)
    say("writing the report")
    hashes = {path.name: sha256(path) for path in [*tests, *val]}
    page = _content(
        judged, result, task, notes=notes, files=hashes, group_by=group, prevalence=cost_table["prevalence"]
    )
    write(page, out)
    return {"estimates": [e.as_dict() for e in estimates], "notes": notes, **result}


def _apart(val: Predictions, test: Predictions, file: str) -> None:
    """Refuse a validation table that holds rows of the test table: same case, same scores."""
    ours, theirs = (
        dict(zip(map(str, part.cases), map(tuple, part.prob.tolist()), strict=True)) for part in (val, test)
    )
    shared = [case for case, row in ours.items() if theirs.get(case) == row]
    if shared:
        raise GateError(
            Problem(
                code="RS-R36",
                level="error",
                file=file,
                column="case",
                found=f"{len(shared)} of its {len(ours)} rows are rows of the test table: {listed(shared)}",
                why="a threshold that is judged on the rows that chose it looks better than it is",
                remedy="give --val other patients' predictions, or leave it out",
            )
        )


@dataclass(frozen=True)
class Judged:
    """One model's predictions, what they are worth, and the operating points that this rests on."""

    predictions: Predictions
    calibrated: Predictions | None
    estimates: list[Estimate]
    thresholds: dict[str, float]
    points: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)


def _judged(
    predictions: Predictions,
    fitted: Predictions | None,
    frozen: dict[str, float] | None,
    shift: np.ndarray | None,
    costs: Mapping[str, Any],
    resamples: int,
) -> Judged:
    """Estimates of one model at its default operating point, and at thresholds that are frozen or fitted elsewhere."""
    from raresight.evaluate.estimates import estimate
    from raresight.evaluate.recalibrate import calibrate
    from raresight.evaluate.thresholds import tune

    if fitted is None:
        rows = estimate(predictions, thresholds=frozen, operating="frozen", costs=costs, resamples=resamples)
        return Judged(predictions, None, rows, frozen or {}, {"thresholds": frozen})
    tuned = tune(fitted, implied_prior=shift, costs=costs)
    # Frozen thresholds belong to the scores as they are given, tuned ones to the calibrated ones.
    calibrated = calibrate(predictions, tuned.calibrator) if frozen is None else None
    thresholds = tuned.values if frozen is None else frozen
    rows = estimate(
        predictions,
        calibrated=calibrated,
        thresholds=thresholds,
        operating="tuned" if frozen is None else "frozen",
        costs=costs,
        resamples=resamples,
    )
    points = {"calibrator": tuned.calibrator, "thresholds": tuned.thresholds if frozen is None else frozen}
    return Judged(predictions, calibrated, rows, thresholds, points, tuned.problems)


def _compared(
    loaded: Mapping[str, Predictions],
    baseline: str,
    estimates: list[Estimate],
    costs: Mapping[str, Any],
    resamples: int,
) -> dict[str, Any]:
    from raresight.advise.recommend import recommend
    from raresight.evaluate.compare import compare, identical

    arms = {name: [predictions] for name, predictions in loaded.items()}
    rows = compare(arms, baseline=baseline, part="test", resamples=resamples)
    task = next(iter(loaded.values())).task
    advice = recommend(task, rows, estimates, baseline=baseline, costs=costs)
    return {"comparisons": rows, **advice, "baseline": baseline, "inert": [list(pair) for pair in identical(arms)]}


def _names(paths: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def _prior_shift(path: Path, task: Task) -> np.ndarray:
    """log(prior that the model was trained with / natural prevalence), from `{class: {trained, natural}}`, `(K,)`."""
    given = _mapping(path)
    try:
        pairs = np.array([[float(given[name]["trained"]), float(given[name]["natural"])] for name in task.classes])
    except (KeyError, TypeError, ValueError) as cause:
        raise _mismatch(
            f"{path}: {cause}", "write for every class   NAME: {trained: 0.2, natural: 0.002}   (shares above 0)"
        ) from None
    if not ((pairs > 0) & (pairs < 1)).all():
        raise _mismatch(f"{path}: shares {pairs.tolist()}", "shares lie strictly between 0 and 1; 5% is 0.05")
    logs = np.log(pairs) - (0.0 if task.kind == "exclusive" else np.log1p(-pairs))
    return logs[:, 0] - logs[:, 1]


def _frozen(path: Path, task: Task) -> dict[str, float]:
    given = _mapping(path)
    given = given.get("thresholds", given)
    chosen = {k: (v.get("threshold") if isinstance(v, dict) else v) for k, v in given.items() if k != "inputs"}
    unknown = [name for name in chosen if name not in task.classes]
    bad = [k for k, v in chosen.items() if v is not None and not (isinstance(v, int | float) and 0 <= v <= 1)]
    if unknown or bad:
        raise _mismatch(
            f"{path}: {unknown or bad}", "thresholds are {class: number in [0, 1]} for classes of the table"
        )
    return {name: float(value) for name, value in chosen.items() if value is not None}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        given = read_json(path) if path.suffix == ".json" else yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as cause:
        raise _mismatch(f"{path}: {cause}", "give a readable YAML or JSON file") from None
    if not isinstance(given, dict):
        raise _mismatch(f"{path}: {type(given).__name__}", "give a mapping of class to value")
    return given


def _mismatch(found: str, remedy: str) -> ConfigError:
    problem = Problem(code="RS-C05", level="error", found=found, why="the options do not fit together", remedy=remedy)
    return ConfigError(problem)


def _content(
    judged: Mapping[str, Judged],
    result: Mapping[str, Any],
    task: Task,
    *,
    notes: Sequence[str],
    files: Mapping[str, str],
    group_by: str,
    prevalence: Mapping[str, float],
) -> Content:
    from raresight.report.content import ArmResult, Content

    arms = tuple(
        ArmResult(
            name,
            predictions=(one.predictions,),
            calibrated=() if one.calibrated is None else (one.calibrated,),
            thresholds=one.thresholds,
            estimates=tuple(one.estimates),
            outside=True,
        )
        for name, one in judged.items()
    )
    return Content(
        task,
        title="Predictions of " + ", ".join(judged),
        part="test",
        arms=arms,
        baseline=result.get("baseline", arms[0].name),
        comparisons=tuple(result["comparisons"]),
        recommendation=tuple(result["recommendation"]),
        deploy=result["deploy"] or {},
        inert=tuple((first, second) for first, second in result["inert"]),
        group_by=group_by,
        files=files,
        prevalence=prevalence,
        missing={"thresholds": notes[0]} if notes else {},
    )
