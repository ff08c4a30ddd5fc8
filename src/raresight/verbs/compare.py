"""`raresight compare`: paired differences, who wins for which class, and one arm to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from raresight.core.files import read_json, write_json
from raresight.core.ledger import openings
from raresight.core.predictions import Predictions
from raresight.verbs.opened import OpenStudy, stamp, stamped
from raresight.verbs.tune import units


def compare(study: OpenStudy) -> dict[str, Any]:
    """Write and return `compare/compare.json`: chosen on validation, confirmed on test where it was opened."""
    from raresight.advise.recommend import recommend
    from raresight.evaluate.compare import compare as compare_arms
    from raresight.evaluate.compare import identical
    from raresight.verbs.evaluate import evaluate_val

    estimates = evaluate_val(study)
    current = compare_stamp(study)
    if stamped(study.folder.compare, current):
        return read_json(study.folder.compare)
    finished = study.finished()
    arms = {name: [units(study, study.predictions(run)) for run in runs] for name, runs in finished.items()}
    baseline = study.baseline if study.baseline in arms else next(iter(arms))
    study.progress.say("comparing the arms on the validation part")
    rows = compare_arms(arms, baseline=baseline, part="val", seed=study.config.split.seed)
    costs = study.config.costs.model_dump()
    sweeps = [read_json(path) for path in sweep_files(study)]
    advice = recommend(study.task, rows, estimates, baseline=baseline, costs=costs, sweeps=sweeps)
    opened = last_opening(study)
    test_arms = {k: v for k, v in opened_predictions(study, opened).items() if k in arms} if opened else {}
    if baseline in test_arms:
        study.progress.say("confirming on the test part")
        rows = rows + compare_arms(test_arms, baseline=baseline, part="test", seed=study.config.split.seed)
    elif opened:
        study.progress.say(f"not confirmed on the test part: it was opened before '{baseline}' was trained")
    result = {"comparisons": rows, **advice, "baseline": baseline, "inert": [list(pair) for pair in identical(arms)]}
    for first, second in result["inert"]:
        study.progress.say(f"inert arm: '{first}' and '{second}' give identical predictions; one of them did nothing")
    write_json(study.folder.compare, result | {"inputs": current})
    return result


def compare_stamp(study: OpenStudy) -> str:
    finished = study.finished()
    predictions = [run.val_predictions for runs in finished.values() for run in runs]
    # Two arms of the same predictions are still two arms: names and seeds count beside the files.
    names = [study.baseline, *([arm, [run.seed for run in runs]] for arm, runs in finished.items())]
    opened = last_opening(study)
    test = [opened / "predictions.parquet"] if opened else []
    config = study.config
    sections = [config.costs.model_dump(), config.decision.model_dump(), config.task.model_dump()]
    return stamp(names, *predictions, *test, *sweep_files(study), *sections)


def sweep_files(study: OpenStudy) -> list[Path]:
    """The sweeps of today's data; one of other data, or of other labels or another split, says nothing of these."""
    found = sorted(study.folder.sweeps.glob("*/sweep.json"))
    return [path for path in found if read_json(path).get("evidence_sha256") in (None, study.evidence_sha256)]


def last_opening(study: OpenStudy) -> Path | None:
    """The last opening of the test part that was not interrupted."""
    folders = [study.folder.opening(line["opening"]) for line in reversed(openings(study.folder.ledger))]
    whole = (folder for folder in folders if (folder / "estimates.json").exists())
    return next((folder for folder in whole if (folder / "predictions.parquet").exists()), None)


def opened_predictions(study: OpenStudy, folder: Path) -> dict[str, list[Predictions]]:
    table = pd.read_parquet(folder / "predictions.parquet")
    arms: dict[str, list[Predictions]] = {}
    for (arm, seed), group in table.groupby(["arm", "seed"], sort=False):
        rows = group.drop(columns=["arm", "seed"]).reset_index(drop=True)
        predictions = Predictions(rows, study.task, str(arm), int(str(seed)), "test")
        arms.setdefault(str(arm), []).append(units(study, predictions))
    return arms
