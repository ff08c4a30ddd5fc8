"""`raresight score`: the full evaluation and report of anybody's predictions, without a study and without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raresight.core.errors import Problem
from raresight.core.estimate import Estimate, save_estimates
from raresight.core.files import sha256, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.progress import Silent
from raresight.core.task import Task
from raresight.verbs.score_files import (
    Unit,
    frozen_thresholds,
    mapping,
    mismatch,
    names,
    prior_shift,
    refuse_places,
    refuse_shared_rows,
    shared_patients,
    with_critical,
)

NO_VALIDATION = (
    "no threshold and no calibrator was fitted: neither --val nor --thresholds was given, and a threshold is never "
    "chosen and judged on the same rows; shown are threshold-free figures and the default operating point"
)
PRIOR_TAKEN_OUT = "the prior that training implied (--train-prior) was taken out of the scores before they were judged"
NO_FLOOR = "floors, conformal sets and referral are fitted to validation predictions: without --val there are none"


@dataclass(frozen=True)
class Asked:
    """What is asked of every model alike."""

    costs: Mapping[str, Any]
    decision: Mapping[str, Any]
    shift: np.ndarray | None
    frozen: Mapping[str, float] | None
    unit: Unit
    subgroups: Sequence[str]
    resamples: int


@dataclass(frozen=True)
class Judged:
    """One model's predictions per decision unit, what they are worth, and the operating points that this rests on.

    `fitted` are the calibrated validation predictions that the thresholds were chosen on.
    """

    predictions: Predictions
    calibrated: Predictions | None
    fitted: Predictions | None
    estimates: list[Estimate]
    thresholds: Mapping[str, float]
    points: dict[str, Any]
    confusions: list[dict[str, Any]]
    problems: list[Problem] = field(default_factory=list)


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
    floors: Path | None = None,
    scores: str = "probabilities",
    critical: Sequence[str] = (),
    unit: str | None = None,
    unit_column: str | None = None,
    aggregate: str = "max",
    subgroups: Sequence[str] = (),
    one_image_per_patient: bool = False,
    resamples: int = 2000,
    progress: Silent | None = None,
) -> dict[str, Any]:
    """Write `estimates.json`, `report.html`, `report.json` (and `compare.json` for several files) into `out`.

    Files are named by their stem. Several test files must hold the same cases, and are compared in pairs with
    `baseline` (the first one by default). `val` files, in the same order, are what thresholds and calibrators are
    fitted to; `thresholds` is a frozen file of ours or `{class: threshold}`, for the scores as they are given.
    `train_prior` (`{class: {trained, natural}}`) is taken out before anything is judged. `costs` may hold a matrix, a
    price of referral, and the floors that `floors` can also give. Decisions are per image, or per `unit`.

    Raises: `DataError` with every problem of a file; `ConfigError` for options that do not fit together, or a column
    that is not there; `GateError` RS-R36 where a validation file repeats rows of its test file.
    """
    from raresight.evaluate.read import read_predictions
    from raresight.evaluate.subgroups import check_columns
    from raresight.report.figures.gallery import key
    from raresight.report.page import write
    from raresight.verbs.score_page import page_content

    say = (progress or Silent()).say
    _refuse_unfit(tests, val, thresholds, train_prior, floors)
    refuse_places(out, group)
    renamed = mapping(columns) if columns else None
    waived = one_image_per_patient

    def reading(path: Path, task: Task | None) -> Predictions:
        say(f"reading {path}")
        return read_predictions(
            path, task=task, columns=renamed, scores=scores, one_image_per_patient=waived, group=group
        )

    loaded = _loaded(tests, reading, critical)
    task = next(iter(loaded.values())).task
    first = baseline or next(iter(loaded))
    if first not in loaded:
        raise mismatch(f"--baseline {baseline}", f"name one of {', '.join(loaded)}")
    for path, predictions in zip(tests, loaded.values(), strict=True):
        check_columns(subgroups, predictions.table.columns, str(path), "--subgroups")
    prices, decision, warnings = _prices(costs, floors, task)
    asked = Asked(
        costs=prices,
        decision=decision,
        shift=prior_shift(train_prior, task) if train_prior else None,
        frozen=frozen_thresholds(thresholds, task) if thresholds else None,
        unit=Unit.of(unit, unit_column, aggregate, group),
        subgroups=subgroups,
        resamples=resamples,
    )
    notes = [] if val or thresholds else [NO_VALIDATION]
    notes += [PRIOR_TAKEN_OUT] if asked.shift is not None and not val else []
    notes += [NO_FLOOR] if decision and not val else []
    for problem in warnings:
        say(str(problem))
    judged: dict[str, Judged] = {}
    for number, (name, predictions) in enumerate(loaded.items()):
        fitted = replace(reading(val[number], task), arm=name, part="val") if val else None
        problems: list[Problem] = []
        if fitted is not None:
            has_groups = not (waived and _is_own(predictions))
            refuse_shared_rows(fitted, predictions, str(val[number]), waived=not has_groups)
            problems = shared_patients(fitted, predictions, str(val[number])) if has_groups else []
        say(f"evaluating {name}")
        judged[name] = _judged(predictions, fitted, asked)
        for problem in [*problems, *judged[name].problems]:
            say(str(problem))
    estimates = [estimate for one in judged.values() for estimate in one.estimates]
    result: dict[str, Any] = {"comparisons": [], "recommendation": [], "deploy": None, "inert": []}
    if len(loaded) > 1:
        say("comparing in pairs")
        result = _compared(judged, first, estimates, asked)
        write_json(out / "compare.json", result)
    else:
        (out / "compare.json").unlink(missing_ok=True)  # of an earlier call with several files
    beside = {
        "notes": notes,
        "operating_points": {name: one.points for name, one in judged.items()},
        "confusions": {name: one.confusions for name, one in judged.items()},
    }
    save_estimates(out / "estimates.json", estimates, **beside)
    say("writing the report")
    files = {path.name: sha256(path) for path in [*tests, *val]}
    content = page_content(judged, result, task, asked, notes=notes, files=files, group_by=group)
    write(content, out)
    write_text(out / "gallery_key.csv", key(content))
    return {"estimates": [e.as_dict() for e in estimates], **beside, **result}


def _loaded(
    tests: Sequence[Path], reading: Callable[[Path, Task | None], Predictions], critical: Sequence[str]
) -> dict[str, Predictions]:
    """The test tables by name, all of them with the classes of the first."""
    loaded: dict[str, Predictions] = {}
    task: Task | None = None
    for name, path in zip(names(tests), tests, strict=True):
        predictions = reading(path, task)
        task = task or with_critical(predictions.task, critical)
        loaded[name] = replace(predictions, task=task, arm=name, part="test")
    return loaded


def _refuse_unfit(
    tests: Sequence[Path],
    val: Sequence[Path],
    thresholds: Path | None,
    train_prior: Path | None,
    floors: Path | None,
) -> None:
    """Options of which one would silently be left unused."""
    if val and len(val) != len(tests):
        raise mismatch(f"{len(tests)} test files and {len(val)} validation files", "give one --val per test file")
    if val and thresholds:
        raise mismatch("both --val and --thresholds", "thresholds are fitted to --val or frozen: give one of the two")
    if thresholds and train_prior:
        found = "both --thresholds and --train-prior"
        raise mismatch(found, "frozen thresholds belong to the scores as they are given: leave one of the two out")
    if floors and not val:
        raise mismatch("--floors without --val", "a floor is reached on validation predictions: give --val")


def _is_own(predictions: Predictions) -> bool:
    """Whether every case is its own patient, because no group column was given."""
    return bool(np.array_equal(predictions.patient.astype(str), predictions.cases.astype(str)))


def _prices(
    costs: Path | None, floors: Path | None, task: Task
) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """The costs, what is asked of thresholds, and warnings about the costs."""
    from raresight.evaluate.asked import NO_COSTS, read_costs, read_decisions
    from raresight.evaluate.cost import check_costs

    if costs is None:
        return dict(NO_COSTS), read_decisions(floors, task.classes) if floors else {}, []
    prices, decision = read_costs(costs, task), read_decisions(costs, task.classes)
    decision |= read_decisions(floors, task.classes) if floors else {}
    return prices, decision, check_costs(prices, task.classes, task.critical, str(costs), kind=task.kind)


def _judged(images: Predictions, fitted: Predictions | None, asked: Asked) -> Judged:
    """Estimates of one model at its default operating point, and at thresholds that are frozen or fitted elsewhere."""
    from raresight.evaluate.confusions import confusions
    from raresight.evaluate.estimates import estimate
    from raresight.evaluate.recalibrate import calibrate
    from raresight.evaluate.subgroups import subgroups
    from raresight.evaluate.thresholds import tune

    predictions = asked.unit(images)
    calibrated, chosen_on, problems = None, None, []
    if fitted is None:
        if asked.shift is not None:
            predictions = calibrate(predictions, {"method": "none", "temperature": 1.0, "shift": asked.shift.tolist()})
        thresholds, operating = asked.frozen, "frozen"
        points: dict[str, Any] = {"thresholds": asked.frozen}
    else:
        val = asked.unit(fitted)
        tuned = tune(val, implied_prior=asked.shift, costs=asked.costs, decision=asked.decision)
        calibrated, chosen_on = calibrate(predictions, tuned.calibrator), calibrate(val, tuned.calibrator)
        thresholds, operating, problems = tuned.values, "tuned", tuned.problems
        points = {
            "calibrator": tuned.calibrator,
            "thresholds": tuned.thresholds,
            "conformal": tuned.conformal,
            "refer": tuned.refer,
        }
    at: dict[str, Any] = {
        "calibrated": calibrated,
        "thresholds": thresholds,
        "operating": operating,
        "unit": asked.unit.name,
    }
    decisions = {key: value for key, value in points.items() if key != "calibrator"} if fitted is not None else None
    rows = estimate(predictions, **at, decisions=decisions, costs=asked.costs, resamples=asked.resamples)
    rows += subgroups(predictions, asked.subgroups, **at)
    mistaken = confusions(predictions, costs=asked.costs)
    return Judged(predictions, calibrated, chosen_on, rows, thresholds or {}, points, mistaken, problems)


def _compared(judged: Mapping[str, Judged], baseline: str, estimates: list[Estimate], asked: Asked) -> dict[str, Any]:
    from raresight.advise.recommend import recommend
    from raresight.evaluate.compare import compare, identical

    arms = {name: [one.predictions] for name, one in judged.items()}
    rows = compare(arms, baseline=baseline, part="test", resamples=asked.resamples)
    task = next(iter(judged.values())).predictions.task
    advice = recommend(task, rows, estimates, baseline=baseline, costs=asked.costs)
    return {"comparisons": rows, **advice, "baseline": baseline, "inert": [list(pair) for pair in identical(arms)]}
