"""What a sweep found: every cell's predictions judged, on validation and behind the study's ledger on test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raresight.core.arm import Arm
from raresight.core.files import read_json, sha256, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.verbs.opened import OpenStudy, stamp, stamped
from raresight.verbs.opening import open_under, opened_under
from raresight.verbs.predicting import predict_test, source_of
from raresight.verbs.sweep_cells import ALL, Cell, folder_of
from raresight.verbs.tune import units

if TYPE_CHECKING:
    from raresight.evaluate.sweep_points import Run

ASSUMED_COST = 20.0  # false alarms that a missed case is taken to be worth where study.yaml says nothing


def judge(
    study: OpenStudy, cls: str, grid: Sequence[Cell], arms: Sequence[Arm], *, open_test: bool, **gate: Any
) -> dict[str, Any]:
    """Write and return `sweep.json`, with `sweep.md` and `sweep.svg` beside it; `verbs/sweep.py` says its keys."""
    from raresight.report.figures.severity import standalone
    from raresight.report.sweep_text import markdown

    here = folder_of(study, cls)
    plan = _plan(study, cls, grid, arms)
    opening = open_under(study, plan, **gate) if open_test else opened_under(study, plan)
    if opening is not None:
        _predict_test(study, grid, arms, study.folder.opening(opening))
    current = stamp(plan, opening)
    if stamped(here / "sweep.json", current):
        return read_json(here / "sweep.json")
    study.progress.say(f"judging {len(arms)} arms at {len({cell.column for cell in grid})} prevalences")
    result = _about(study, cls, grid, arms) | {"val": _part(study, cls, grid, arms, None), "test": None}
    if opening is not None:
        result["test"] = _part(study, cls, grid, arms, opening)
    result["inputs"] = current
    write_text(here / "sweep.svg", standalone(result))
    write_text(here / "sweep.md", markdown(result))
    write_json(here / "sweep.json", result)
    return result


def _part(study: OpenStudy, cls: str, grid: Sequence[Cell], arms: Sequence[Arm], opening: int | None) -> dict[str, Any]:
    """Everything that is said of one part: validation, or the test part behind its opening."""
    from raresight.evaluate.sweep import Column, Judged
    from raresight.evaluate.sweep_differences import across, differences, interactions
    from raresight.evaluate.sweep_points import inert
    from raresight.evaluate.sweep_verdict import verdicts

    runs: dict[str, dict[str, list[Run]]] = {}
    truth: Predictions | None = None
    for cell in grid:
        for arm in arms:
            run, judged = _run(study, cls, cell, arm, opening)
            truth = _same_cases(truth, judged)
            runs.setdefault(cell.column, {}).setdefault(arm.name, []).append(run)
    assert truth is not None
    about = _columns(grid, arms)
    missed, _, deployed = _cost(study, cls)
    seed = study.config.split.seed
    at = Judged(
        [Column(one["name"], one["prevalence"], runs[one["name"]]) for one in about],
        truth,
        cls,
        missed=missed,
        deployed=deployed,
        unit=study.config.decision.unit,
        seed=seed,
    )
    idle = [{"column": column, "arms": pair} for column in runs for pair in map(list, inert(runs[column]))]
    for one in idle:
        study.progress.say(f"inert arm at prevalence {one['column']}: {' and '.join(one['arms'])} predict the same")
    baseline = study.baseline
    rows = differences(at, baseline)
    return {
        "part": "val" if opening is None else "test",
        "opening": opening,
        "prevalence": at.common.prevalence,
        "n_patients": at.common.n_patients,
        "n_positive_patients": at.n_positive,
        "estimates": at.estimates(),
        "comparisons": rows,
        "interactions": interactions(at, _hybrids(arms)),
        "across": across(at, baseline),
        "inert": idle,
        "verdicts": verdicts(about, rows, n_positive=at.n_positive, baseline=baseline, cls=cls),
    }


def _run(study: OpenStudy, cls: str, cell: Cell, arm: Arm, opening: int | None) -> tuple[Run, Predictions]:
    from raresight.evaluate.sweep_points import cross_fitted, halves, transferred

    run = cell.study.folder.run(arm.name, cell.seed)
    val = units(study, cell.study.predictions(run))
    missed, _, deployed = _cost(study, cls)
    prior = read_json(run.arm_json)["implied_prior"]
    if opening is None:
        half = halves(val, cls, study.config.split.seed)
        return cross_fitted(val, cls, half, missed=missed, deployed=deployed, prior=prior), val
    path = _test_path(study.folder.opening(opening), cell, arm)
    test = units(study, Predictions.load(path, study.task, arm=arm.name, seed=cell.seed, part="test"))
    return transferred(val, test, cls, missed=missed, deployed=deployed, prior=prior), test


def _same_cases(truth: Predictions | None, run: Predictions) -> Predictions:
    from raresight.evaluate.agreement import aligned

    if truth is not None and list(truth.cases) != list(run.cases):
        aligned({"first": [truth], "run": [run]}, "first")  # says which cases are missing
    return truth or run


def _predict_test(study: OpenStudy, grid: Sequence[Cell], arms: Sequence[Arm], folder: Path) -> None:
    for cell in grid:
        for arm in arms:
            path = _test_path(folder, cell, arm)
            if not path.exists():
                study.progress.say(f"test part: {arm.name} at {cell.column}, seed {cell.seed}")
                predict_test(cell.study, arm, cell.study.folder.run(arm.name, cell.seed)).save(path)


def _test_path(folder: Path, cell: Cell, arm: Arm) -> Path:
    return folder / "sweep" / cell.column / arm.name / f"seed-{cell.seed}.parquet"


def _plan(study: OpenStudy, cls: str, grid: Sequence[Cell], arms: Sequence[Arm]) -> dict[str, Any]:
    """What the sweep's figures on the test part depend on: it names the sweep, so that the ledger does."""
    columns = list(dict.fromkeys(cell.column for cell in grid))
    seeds = list(dict.fromkeys(cell.seed for cell in grid))
    missed, _, deployed = _cost(study, cls)
    behind: dict[str, Any] = {}
    for cell in grid:
        for arm in arms:
            run = cell.study.folder.run(arm.name, cell.seed)
            source = source_of(cell.study, arm, run)
            behind[f"{arm.name} at {cell.column}, seed {cell.seed}"] = {
                "weights": [sha256(one.best) for one in (run, source) if one is not None],
                "validation": sha256(run.val_predictions),
                "implied_prior": read_json(run.arm_json)["implied_prior"],
            }
    return {
        "sweep": {"class": cls, "prevalences": columns, "arms": [arm.name for arm in arms], "seeds": seeds},
        "data_sha256": study.data_sha256,
        "decision": study.config.decision.model_dump(),
        "costs": {"missed": missed, "prevalence": deployed},
        "arms": behind,
    }


def _about(study: OpenStudy, cls: str, grid: Sequence[Cell], arms: Sequence[Arm]) -> dict[str, Any]:
    missed, assumed, deployed = _cost(study, cls)
    return {
        "class": cls,
        "group_by": study.config.split.group,
        "evidence_sha256": study.evidence_sha256,
        "unit": study.config.decision.unit,
        "baseline": study.baseline,
        "seeds": list(dict.fromkeys(cell.seed for cell in grid)),
        "natural_prevalence": grid[0].thinned.natural,
        "arms": [{"name": arm.name, "methods": arm.as_dict()["strategies"]} for arm in arms],
        "cost": {"missed": missed, "assumed": assumed, "prevalence": deployed},
        "columns": _columns(grid, arms),
    }


def _columns(grid: Sequence[Cell], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One entry a prevalence, rising, all cases last."""
    found = []
    for name in dict.fromkeys(cell.column for cell in grid):
        told = [cell.thinned.as_dict() for cell in grid if cell.column == name]
        share = told[0]["natural_prevalence"] if name == ALL else float(name)
        per_seed = {
            key: [one[key] for one in told]
            for key in ("n_images", "n_positive", "n_positive_groups", "others", "problems")
        }
        achieved = [one["prevalence"] for one in told]
        per_seed["chosen"] = [_chosen(cell, arms) for cell in grid if cell.column == name]
        found.append({"name": name, "prevalence": share, "natural": name == ALL, "achieved": achieved, **per_seed})
    return found


def _chosen(cell: Cell, arms: Sequence[Arm]) -> dict[str, Any]:
    """The values that the arms with lists were trained with in this cell."""
    settled = {arm.name: cell.study.chosen(arm) for arm in arms if arm.has_grid}
    return {arm.name: arm.tuned(one) for arm in arms if (one := settled.get(arm.name)) is not None}


def _hybrids(arms: Sequence[Arm]) -> dict[str, tuple[str, list[str]]]:
    """Arms of two or more methods, where each method, and none at all, is an arm of its own on the same network."""

    def network(arm: Arm) -> tuple[Any, Any]:
        return getattr(arm, "frozen", None), getattr(arm, "backbone", None)

    found: dict[str, tuple[str, list[str]]] = {}
    for arm in arms:
        alike = [other for other in arms if network(other) == network(arm)]
        plain = next((other.name for other in alike if not other.strategies), None)
        alone = [next((o.name for o in alike if o.strategies == (spec,)), None) for spec in arm.strategies]
        parts = [name for name in alone if name is not None]
        if plain is not None and len(parts) == len(alone) > 1:
            found[arm.name] = plain, parts
    return found


def _cost(study: OpenStudy, cls: str) -> tuple[float, bool, float | None]:
    """What missing the class costs, whether that was assumed, and the prevalence at which it is reckoned."""
    costs = study.config.costs
    return costs.missed.get(cls, ASSUMED_COST), cls not in costs.missed, costs.prevalence.get(cls)
