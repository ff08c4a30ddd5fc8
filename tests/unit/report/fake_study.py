"""A study as it might lie on disk: seven skin lesions, lesions standing in for patients, several arms, no training.

Scores are drawn so that each class is found about as often as `SHARPNESS` says; every artefact is written by the code
that writes it in earnest, except the weights, which do not exist.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from raresight.advise.recommend import recommend
from raresight.core.config import StudyConfig, load_config
from raresight.core.estimate import load_estimates, save_estimates
from raresight.core.files import sha256_of, write_json, write_jsonl, write_text
from raresight.core.folds import Folds
from raresight.core.ledger import record
from raresight.core.manifest import Manifest
from raresight.core.predictions import Predictions, tabulate
from raresight.core.run import StudyFolder
from raresight.core.seeds import numpy_rng
from raresight.data.audit import audit
from raresight.data.leaks import leaks
from raresight.evaluate.compare import compare
from raresight.evaluate.estimates import estimate
from raresight.evaluate.recalibrate import calibrate
from raresight.evaluate.thresholds import tune

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
LESIONS = {"akiec": 57, "bcc": 82, "bkl": 182, "df": 18, "mel": 154, "nv": 1350, "vasc": 24}  # HAM10000, a quarter
SHARPNESS = {"baseline": 2.2, "cost_sensitive": 2.4, "focal": 2.1, "heavy_augment": 2.6, "smote": 2.3, "hybrid": 2.8}
PUSH = {"baseline": 0.0, "cost_sensitive": 1.0, "focal": 0.3, "heavy_augment": 0.2, "smote": 0.7, "hybrid": 0.9}
METHODS = {
    "baseline": [],
    "cost_sensitive": ["class_weights"],
    "focal": [{"focal": {"gamma": 2}}],
    "heavy_augment": ["heavy_augment"],
    "smote": ["smote"],
    "hybrid": ["heavy_augment", "smote", {"focal": {"gamma": 2}}],
}
COSTS = {"missed": {"mel": 20.0, "bcc": 10.0, "akiec": 10.0}, "prevalence": {}}


def settings(arms: tuple[str, ...], seeds: tuple[int, ...], quick: bool = False) -> dict:
    return {
        "data": {"manifest": "data/manifest.csv", "root": "images"},
        "task": {"kind": "exclusive", "classes": list(CLASSES), "critical": ["mel", "bcc", "akiec"]},
        "split": {"group": "lesion_id", "seed": 0},
        "image": {"size": 64, "preset": "dermoscopy"},
        "model": {"backbone": "resnet18", "pretrained": False},
        "train": {"steps": 1500},
        "seeds": list(seeds),
        "arms": {name: METHODS[name] for name in arms},
        "costs": {"missed": COSTS["missed"]},
        "accept": {
            "mel": {"sensitivity_low": 0.85, "alarms_per_1000_max": 400},
            "bcc": {"sensitivity_low": 0.6},
            "akiec": {"specificity_low": 0.995},
        },
        "quick": quick,
    }


def make(
    path: Path,
    *,
    arms: tuple[str, ...] = ("baseline", "focal", "hybrid"),
    seeds: tuple[int, ...] = (0,),
    opened: bool = True,
    absent: str = "",
    quick: bool = False,
    size: float = 1.0,
    resamples: int = 60,
) -> StudyFolder:
    """Write a study under `path`; `absent` names a class left out of validation and test, `size` scales the lesions."""
    folder = StudyFolder(path)
    write_text(folder.config, yaml.safe_dump(settings(arms, seeds, quick), sort_keys=False))
    config = load_config(folder.config)
    manifest, folds = _data(absent, size)
    manifest.save(folder.manifest)
    folds.save(folder.split)
    write_jsonl(folder.issues, [])
    write_json(folder.audit, audit(manifest, config.problem, group_by="lesion_id", split=config.split, folds=folds))
    found = leaks(manifest, folds, None, group_by="lesion_id")
    write_json(folder.leaks, found | {"n_compared": len(manifest), "method": "64-bit difference hash within 4 bits"})
    write_json(folder.lock, {"raresight": "0.1.0", "runtime": {"device": "cpu", "dtype": "fp32", "threads": 2}})
    val, tests = {}, {}
    for arm in arms:
        val[arm] = [_run(folder, config, manifest, folds, arm, seed, resamples) for seed in seeds]
        tests[arm] = [_predict(config, manifest.take(folds.rows(manifest, "test")), arm, s, "test") for s in seeds]
    rows = compare(val, baseline="baseline", part="val", resamples=resamples, permutations=400)
    if opened:
        _open_test(folder, config, tests, resamples)
        rows += compare(tests, baseline="baseline", part="test", resamples=resamples, permutations=400)
    chosen_on = [e for arm in arms for seed in seeds for e in load_estimates(folder.run(arm, seed).val_estimates)]
    advice = recommend(config.problem, rows, chosen_on, baseline="baseline", costs=COSTS)
    write_json(folder.compare, {"comparisons": rows, **advice, "baseline": "baseline", "inert": []})
    return folder


def _data(absent: str, size: float) -> tuple[Manifest, Folds]:
    rng = numpy_rng("fake study")
    rows, places = [], []
    for name, lesions in LESIONS.items():
        n = max(8, round(lesions * size))
        parts = rng.permutation(np.repeat(["train", "val", "test"], [n - 2 * (n // 5), n // 5, n // 5]))
        for number in range(n):
            part = "train" if name == absent else str(parts[number])
            for image in range(int(rng.choice([1, 2, 3], p=[0.72, 0.2, 0.08]))):
                lesion = f"L_{name}_{number:04d}"
                case = f"{lesion}_{image}"
                rows.append((case, f"{case}.jpg", lesion, lesion, lesion, name))
                places.append((case, lesion, part, -1))
    columns = ["case", "image", "patient_id", "group", "lesion_id", "label"]
    return Manifest(pd.DataFrame(rows, columns=columns)), Folds(
        pd.DataFrame(places, columns=["case", "unit", "part", "fold"])
    )


def _predict(config: StudyConfig, manifest: Manifest, arm: str, seed: int, part: str) -> Predictions:
    """Logits = log prior + sharpness x truth + what looks alike + noise; the noise of a case is shared by the arms."""
    task = config.problem
    target = manifest.targets(task)
    counts = np.array([LESIONS[name] for name in task.classes], dtype=float)
    prior = np.log(counts / counts.sum())
    shared = numpy_rng("cases", part).normal(size=target.shape)
    own = numpy_rng("arm", arm, seed, part).normal(size=target.shape)
    alike = np.zeros((7, 7))
    alike[task.index("mel"), task.index("nv")] = 0.9
    alike[task.index("akiec"), task.index("bkl")] = 0.8
    logits = prior * (1 - 0.6 * PUSH[arm]) + SHARPNESS[arm] * 1.15 * target + target @ alike + 1.15 * shared + 0.5 * own
    return Predictions(
        tabulate(task, manifest.cases, logits, target, manifest.table[["patient_id", "group", "lesion_id"]]),
        task, arm, seed, part,
    )  # fmt: skip


def _run(folder, config, manifest, folds, arm, seed, resamples) -> Predictions:
    run = folder.run(arm, seed)
    predictions = _predict(config, manifest.take(folds.rows(manifest, "val")), arm, seed, "val")
    predictions.save(run.val_predictions)
    tuned = tune(predictions, costs=COSTS)
    write_json(run.calibrator, tuned.calibrator)
    write_json(run.thresholds, {"thresholds": tuned.thresholds})
    prior = None if "focal" in str(METHODS[arm]) else [0.0] * 7
    write_json(run.arm_json, {"name": arm, "implied_prior": prior, "findings": []})
    write_jsonl(run.events, _events(arm, seed))
    save_estimates(run.val_estimates, _estimates(predictions, tuned.calibrator, tuned.thresholds, "tuned", resamples))
    write_text(run.done_marker, "")
    return predictions


def _events(arm: str, seed: int) -> list[dict]:
    rng, events = numpy_rng("events", arm, seed), []
    for step in range(100, 1501, 100):
        score = 0.72 * (1 - np.exp(-step / 400)) * SHARPNESS[arm] / 2.8 + 0.01 * rng.normal()
        best = not events or score > max(event["score"] for event in events)
        loss = float(1.6 * np.exp(-step / 500) + 0.6 / SHARPNESS[arm])
        events.append(
            {
                "phase": "whole",
                "step": step,
                "loss": loss,
                "score": float(score),
                "rule": "macro_auprc",
                "best": bool(best),
            }
        )
    return events


def _estimates(predictions, calibrator, thresholds, operating, resamples):
    values = {name: entry["threshold"] for name, entry in thresholds.items() if entry["threshold"] is not None}
    return estimate(
        predictions, calibrated=calibrate(predictions, calibrator), thresholds=values, operating=operating,
        costs=COSTS, resamples=resamples,
    )  # fmt: skip


def _open_test(folder: StudyFolder, config: StudyConfig, tests: dict, resamples: int) -> None:
    from raresight.core.files import read_json

    plan = {"arms": sorted(tests)}
    number = record(folder.ledger, plan_sha256=sha256_of(plan), data_sha256=sha256_of("data"), reason="first opening")
    write_json(folder.opening(number) / "plan.json", plan)
    tables, estimates = [], []
    for arm, per_seed in tests.items():
        for predictions in per_seed:
            run = folder.run(arm, predictions.seed)
            calibrator, thresholds = read_json(run.calibrator), read_json(run.thresholds)["thresholds"]
            estimates += _estimates(predictions, calibrator, thresholds, "frozen", resamples)
            tables.append(predictions.table.assign(arm=arm, seed=predictions.seed))
    Predictions(pd.concat(tables, ignore_index=True), config.problem, part="test").save(
        folder.opening(number) / "predictions.parquet"
    )
    save_estimates(folder.opening(number) / "estimates.json", estimates)
