"""Reading a study folder into a `Content`: only what lies there, and why the rest does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, load_config
from raresight.core.errors import GateError
from raresight.core.estimate import Estimate, load_estimates
from raresight.core.files import read_json, read_jsonl, sha256
from raresight.core.folds import Folds
from raresight.core.ledger import openings
from raresight.core.manifest import Manifest
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder, StudyFolder
from raresight.core.task import Task
from raresight.report.content import ArmResult, Content
from raresight.report.frozen import frozen_result
from raresight.report.people import WHO, describe

UNSEEN = "the networks were not looked into; run `raresight explain {name}`"


def from_study(folder: StudyFolder) -> Content:
    """Gather a report's content from what lies in a study folder, without computing any of it anew.

    Test figures where the test part was opened and estimated, else validation figures. A run without `DONE` is absent.
    What a study does not have yet is named in `missing` with the command that makes it.

    Raises: `ConfigError` where `study.yaml` cannot be read.
    """
    config = load_config(folder.config)
    missing: dict[str, str] = {}
    ledger = _ledger(folder, missing)
    number = next((n for n in range(len(ledger), 0, -1) if (folder.opening(n) / "estimates.json").exists()), None)
    arms, unfinished = _arms(folder, config, number)
    compared = (
        _read(folder.compare, missing, "compare", "the arms have not been compared; run `raresight compare`") or {}
    )
    if not arms:
        missing["arms"] = "no arm is trained and evaluated yet; run `raresight train`, then `raresight evaluate`"
    return Content(
        task=config.problem,
        title=folder.path.resolve().name,
        part="test" if number else "val",
        arms=tuple(arms),
        baseline=compared.get("baseline", "baseline"),
        comparisons=tuple(compared.get("comparisons", [])),
        recommendation=tuple(compared.get("recommendation", [])),
        deploy=compared.get("deploy") or {},
        inert=tuple((pair[0], pair[1]) for pair in compared.get("inert", [])),
        unit=config.decision.unit,
        group_by=config.split.group,
        audit=_read(folder.audit, missing, "audit", "the data were not audited; run `raresight audit`"),
        flow=_flow(folder, config, missing),
        people=_people(folder, config, missing),
        leaks=_read(folder.leaks, missing, "leaks", "the data were not split; run `raresight split`"),
        faithfulness=_read(folder.augment_audit, missing, "faithfulness", "it needs `raresight audit --augment`"),
        explain=_read(folder.explained, missing, "explain", UNSEEN.format(name=folder.path.name)),
        choices=read_json(folder.choices) if folder.choices.exists() else None,
        sweeps=tuple(read_json(path) for path in sorted(folder.sweeps.glob("*/sweep.json"))),
        issues=_issues(folder, missing),
        ledger=tuple(ledger),
        lock=_read(folder.lock, missing, "lock", "nothing was trained here"),
        config=config,
        files=_hashes(folder),
        missing=missing,
        unfinished=tuple(unfinished),
        accept={k: {n: v for n, v in a.model_dump().items() if v is not None} for k, a in config.accept.items()},
        prevalence=dict(config.costs.prevalence),
        frozen=frozen_result(folder, (compared.get("deploy") or {}).get("arm"), number, missing),
        missed=dict(config.costs.missed),
        matrix=config.costs.matrix,
    )


def _read(path: Path, missing: dict[str, str], what: str, why: str) -> Any:
    if path.exists():
        try:
            return read_json(path)
        except ValueError:
            why = f"{path.name} was damaged; remove it and give its command again"
    missing[what] = why
    return None


def _issues(folder: StudyFolder, missing: dict[str, str]) -> tuple[dict[str, Any], ...] | None:
    if folder.issues.exists():
        return tuple(read_jsonl(folder.issues))
    missing["issues"] = "the input was not checked; run `raresight check`"
    return None


def _ledger(folder: StudyFolder, missing: dict[str, str]) -> list[dict[str, Any]]:
    try:
        return openings(folder.ledger)
    except GateError:
        missing["ledger"] = "the ledger of test openings was changed by hand and can no longer be trusted"
        return []


def _arms(folder: StudyFolder, config: StudyConfig, opening: int | None) -> tuple[list[ArmResult], list[str]]:
    tested = _test_part(folder.opening(opening), config.problem) if opening else None
    arms, unfinished = [], []
    for arm in config.parsed_arms:
        runs = [folder.run(arm.name, seed) for seed in (config.seeds[:1] if arm.predictions else config.seeds)]
        done = [run for run in runs if run.done]
        unfinished += [f"{run.arm}, seed {run.seed}" for run in runs if not run.done]
        if not done:
            continue
        if tested is None:
            estimates = [e for run in done if run.val_estimates.exists() for e in load_estimates(run.val_estimates)]
            raw = [_validation(run, config.problem) for run in done if run.val_predictions.exists()]
        else:
            estimates = [e for e in tested[0] if e.arm == arm.name]
            raw = [p for p in tested[1] if p.arm == arm.name]
        per_unit = [_per_unit(config, predictions) for predictions in raw]
        arms.append(_result(arm, done, config, estimates, per_unit))
    return arms, unfinished


def _result(
    arm: Arm, runs: list[RunFolder], config: StudyConfig, estimates: list[Estimate], predictions: list[Predictions]
) -> ArmResult:
    from raresight.evaluate.recalibrate import calibrate

    run_of = {run.seed: run for run in runs}
    calibrators = {seed: run.calibrator for seed, run in run_of.items() if run.calibrator.exists()}
    calibrated = [calibrate(p, read_json(calibrators[p.seed])) for p in predictions if p.seed in calibrators]
    first = runs[0]
    facts = read_json(first.arm_json) if first.arm_json.exists() else {}
    operating = read_json(first.thresholds) if first.thresholds.exists() else {}
    chosen = operating.get("thresholds", {})
    calibrator = read_json(first.calibrator) if first.calibrator.exists() else {}
    return ArmResult(
        name=arm.name,
        methods=_methods(arm, facts),
        predictions=tuple(predictions),
        calibrated=tuple(calibrated),
        thresholds={name: t for name in config.task.classes if (t := _threshold(chosen.get(name))) is not None},
        estimates=tuple(estimates),
        events=tuple(tuple(read_jsonl(run.events)) if run.events.exists() else () for run in runs),
        facts=facts,
        validation=_chosen_on(first, config, calibrator),
        operating=operating,
        calibrator=calibrator,
        env=read_json(first.env) if first.env.exists() else {},
        outside=arm.predictions is not None,
    )


def _chosen_on(run: RunFolder, config: StudyConfig, calibrator: Mapping[str, Any]) -> Predictions | None:
    """The calibrated predictions that the run's thresholds were chosen on; None where there are none."""
    from raresight.evaluate.recalibrate import calibrate

    if not calibrator or not run.val_predictions.exists():
        return None
    return calibrate(_per_unit(config, _validation(run, config.problem)), dict(calibrator))


def _threshold(entry: Any) -> float | None:
    value = entry.get("threshold") if isinstance(entry, dict) else entry
    return None if value is None else float(value)


def _methods(arm: Arm, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the network comes from, and the methods as they were trained: with chosen values in place of lists."""
    network = [f"head alone, on the features of {arm.frozen}"] if arm.frozen else []
    network += [f"network {arm.backbone}"] if arm.backbone else []
    written = [(spec.name, spec.settings) for spec in arm.strategies]
    trained = [(entry["name"], entry["settings"]) for entry in facts.get("strategies", [])] or written
    return (*network, *(_method(name, settings) for name, settings in trained))


def _method(name: str, settings: Mapping[str, Any]) -> str:
    words = name.replace("_", " ")
    return f"{words} ({', '.join(f'{k} {v}' for k, v in settings.items())})" if settings else words


def _validation(run: RunFolder, task: Task) -> Predictions:
    return Predictions.load(run.val_predictions, task, arm=run.arm, seed=run.seed, part="val")


def _test_part(folder: Path, task: Task) -> tuple[list[Estimate], list[Predictions]]:
    estimates = load_estimates(folder / "estimates.json")
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path) if path.exists() else pd.DataFrame({"arm": [], "seed": []})
    predictions = []
    for (arm, seed), rows in table.groupby(["arm", "seed"], sort=True):
        bare = rows.drop(columns=["arm", "seed"]).reset_index(drop=True)
        predictions.append(Predictions(bare, task, str(arm), int(str(seed)), "test"))
    return estimates, predictions


def _per_unit(config: StudyConfig, predictions: Predictions) -> Predictions:
    from raresight.evaluate.units import aggregate

    decision = config.decision
    if decision.unit == "image":
        return predictions
    column = decision.column or {"patient": "patient_id"}.get(decision.unit, decision.unit)
    return aggregate(predictions, column, decision.aggregate)


def _flow(folder: StudyFolder, config: StudyConfig, missing: dict[str, str]) -> dict[str, Any] | None:
    """Images and independent units: read, set aside, and in each part, with those of every class."""
    path = folder.path / config.data.manifest
    if not path.exists():
        missing["flow"] = "there is no manifest; run `raresight init`"
        return None
    manifest = Manifest.load(path)
    group = manifest.column(config.split.group if config.split.group in manifest.table else "patient_id")
    target = manifest.targets(config.problem)
    flow: dict[str, Any] = {"read": {"images": len(manifest), "patients": len(set(group))}, "parts": []}
    if not folder.split.exists():
        missing["flow"] = "the data were not split; run `raresight split`"
        return flow
    part, fold = _parts(folder, manifest)
    flow["folds"] = int(fold.max()) + 1
    flow["aside"] = int((part == "").sum())
    for name in ("train", "val", "test"):
        rows = part == name
        if not rows.any():
            continue
        classes = {}
        for k, label in enumerate(config.task.classes):
            positive = rows & (target[:, k] == 1)
            classes[label] = {"images": int(positive.sum()), "patients": len(set(group[positive]))}
        flow["parts"].append(
            {"part": name, "images": int(rows.sum()), "patients": len(set(group[rows])), "classes": classes}
        )
    return flow


def _parts(folder: StudyFolder, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Part and fold of every case, `(N,)`; blank and -1 for a case that was set aside."""
    table = Folds.load(folder.split).table.set_index("case")
    part = table["part"].reindex(manifest.cases).fillna("").to_numpy(dtype=object)
    return part, table["fold"].reindex(manifest.cases).fillna(-1).to_numpy(dtype=int)


def _people(folder: StudyFolder, config: StudyConfig, missing: dict[str, str]) -> dict[str, Any] | None:
    """Who is in each part, by the columns of the manifest that tell; see `people.describe`."""
    path = folder.path / config.data.manifest
    if not path.exists() or not folder.split.exists():
        missing["people"] = "the data were not read and split; run `raresight split`"
        return None
    manifest = Manifest.load(path)
    part, _ = _parts(folder, manifest)
    described = describe(manifest.table, part, config.split.group, [*WHO, *config.decision.subgroups])
    if not described["columns"]:
        missing["people"] = f"the manifest has none of the columns {', '.join(WHO)}"
        return None
    return described


def _hashes(folder: StudyFolder) -> dict[str, str]:
    """Content hashes of the small artefacts that the report rests on."""
    fixed = [folder.config, folder.manifest, folder.split, folder.leaks, folder.audit, folder.lock, folder.compare]
    fixed += [folder.choices, folder.explained]
    found = [*fixed, folder.ledger, *sorted(folder.path.glob("test/opening-*/*"))]
    found += sorted(folder.path.glob("arms/*/seed-*/val/*"))
    found += sorted(folder.sweeps.glob("*/sweep.json"))
    return {path.relative_to(folder.path).as_posix(): sha256(path) for path in found if path.is_file()}
