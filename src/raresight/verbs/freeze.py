"""`raresight freeze`: one arm at its operating point becomes a bundle, before the test part is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from raresight.core.arm import Arm
from raresight.core.bundle import CALIBRATOR, CARD, ESTIMATES, THRESHOLDS, Bundle, frozen_before, seal
from raresight.core.config import StudyConfig
from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.estimate import Estimate, save_estimates
from raresight.core.files import read_json, sha256_of, write_json, write_text
from raresight.core.ledger import openings
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.evaluate.calibration import log_odds
from raresight.verbs.opened import OpenStudy
from raresight.verbs.predicting import source_of, weights_sha256
from raresight.verbs.tune import require_tuned, units

ENSEMBLE = "ensemble"


def freeze(
    study: OpenStudy,
    *,
    arm: str | None = None,
    seed: int | str | None = None,
    out: Path | None = None,
    force: bool = False,
) -> Bundle:
    """Write `bundle/<arm>/` and return it; a bundle of the same inputs that lies there is returned as it is.

    `arm`: the one that `compare` names to deploy where none is given. `seed`: a number; None is the first finished seed
    of `study.yaml`, which no result has chosen and whose figures page one shows; `ensemble` takes the mean probability
    of all finished seeds, with calibrator and thresholds chosen anew for it on its validation predictions. With folds
    every seed is the mean of its folds' networks.

    Raises: `ConfigError` RS-B06 for an arm of predictions alone, or one that is not trained; RS-C03 where thresholds
    are missing or out of date; `GateError` RS-B05 where another bundle lies there and `force` is not given.
    """
    chosen = _arm(study, arm)
    runs = _runs(study, chosen, seed)
    for run in runs:
        require_tuned(study, run)
    val = pooled([study.predictions(run) for run in runs])
    calibrator, operating = _operating_point(study, runs, val)
    folder = study.folder.bundle(chosen.name) if out is None else out
    inputs = _inputs(study, chosen, runs, calibrator, operating)
    before = frozen_before(folder, inputs, force=force)
    if before is not None:
        study.progress.say(f"frozen already, and nothing has changed since: {folder}")
        return before
    opened = openings(study.folder.ledger)
    if opened:
        often = "once" if len(opened) == 1 else f"{len(opened)} times"
        study.progress.say(
            f"the test part was opened {often} before this: page one will say that the bundle came after"
        )
    from raresight.report.bundle_card import bundle_card

    members = _members(study, chosen, runs)
    facts = _facts(study, chosen, runs, members) | {"inputs": inputs}

    def fill(temporary: Path) -> None:
        for part, one in members:
            one.save(temporary / _weights_name(part))
        write_json(temporary / CALIBRATOR, calibrator)
        write_json(temporary / THRESHOLDS, operating)
        estimates = judge(study, temporary, chosen.name, val, "tuned")
        facts["reference"] = _reference(study, calibrator, operating, val)
        save_estimates(temporary / ESTIMATES, estimates)
        write_text(temporary / CARD, bundle_card(facts, estimates))

    with study.progress.bar("freezing"):
        return seal(folder, facts, fill)


def pooled(seeds: Sequence[Predictions]) -> Predictions:
    """The mean probability of several seeds for the same cases; a single seed as it is."""
    first = seeds[0]
    if len(seeds) == 1:
        return first
    from raresight.core.predictions import tabulate

    order = [one.table.set_index("case").loc[list(first.cases)].reset_index() for one in seeds]
    prob = np.mean([replace(one, table=table).prob for one, table in zip(seeds, order, strict=True)], axis=0)
    own = {column for column in first.table if str(column).startswith(("prob_", "logit_", "label_"))} | {"label"}
    metadata = first.table[[column for column in first.table if column not in own]]
    table = tabulate(first.task, first.cases, log_odds(prob, first.task.kind), first.target, metadata)
    return replace(first, table=table, seed=None)


def accepted(config: StudyConfig) -> dict[str, dict[str, float]]:
    """The criteria of `accept:`, class by class, those that were set."""
    rows = {name: one.model_dump() for name, one in config.accept.items()}
    return {name: {key: value for key, value in row.items() if value is not None} for name, row in rows.items()}


def judge(study: OpenStudy, folder: Path, arm: str, predictions: Predictions, operating: str) -> list[Estimate]:
    """Estimates at the operating point that lies in `folder`, as for any run of the study."""
    from raresight.verbs.evaluate import estimates_of

    # A bundle keeps calibrator and thresholds under the names that a run has for them.
    return estimates_of(study, RunFolder(folder, arm, -1), predictions, operating)


def _arm(study: OpenStudy, name: str | None) -> Arm:
    known = {arm.name: arm for arm in study.arms}
    if name is None:
        compared = read_json(study.folder.compare) if study.folder.compare.exists() else {}
        name = (compared.get("deploy") or {}).get("arm") or (next(iter(known)) if len(known) == 1 else None)
    if name is None or name not in known:
        close = nearest(name or "", known)
        remedy = f"did you mean '{close}'?" if close else f"--arm, one of {', '.join(known)}"
        found = f"no arm '{name}'" if name else "no arm was named, and none is compared and recommended yet"
        raise _refused(study, found, "a bundle is one arm", remedy)
    if known[name].predictions is not None:
        raise _refused(
            study,
            f"arm '{name}' is a table of predictions; its network is not here",
            "a bundle must be able to decide about pictures that nobody has predicted yet",
            "train it here as an arm of its own, or judge further tables of it with `raresight score --thresholds`",
        )
    return known[name]


def _runs(study: OpenStudy, arm: Arm, seed: int | str | None) -> list[RunFolder]:
    done = study.finished().get(arm.name, [])
    command = f"raresight train {study.folder.typed} --arm {arm.name}"
    if not done:
        raise _refused(study, f"arm '{arm.name}' is not trained", "there are no weights to freeze", command)
    if seed == ENSEMBLE:
        missing = len(study.runs(arm)) - len(done)
        if missing:
            raise _refused(study, f"{missing} seeds of '{arm.name}' are not trained", "they belong to it", command)
        return done
    wanted = done[0].seed if seed is None else seed
    found = [run for run in done if run.seed == wanted]
    if not found:
        seeds = ", ".join(str(run.seed) for run in done)
        raise _refused(
            study, f"arm '{arm.name}' has no finished seed {seed}", "there are no weights", f"--seed {seeds}"
        )
    return found


def _operating_point(
    study: OpenStudy, runs: Sequence[RunFolder], val: Predictions
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibrator and thresholds: the run's own, or chosen for the mean of several on its validation predictions."""
    from raresight.evaluate.thresholds import tune

    if len(runs) == 1:
        found = [read_json(runs[0].calibrator), read_json(runs[0].thresholds)]
        calibrator, operating = ({k: v for k, v in one.items() if k != "inputs"} for one in found)
        return calibrator, operating
    priors = [read_json(run.arm_json)["implied_prior"] for run in runs]
    config = study.config
    tuned = tune(
        units(study, val),
        implied_prior=None if any(one is None for one in priors) else np.mean(priors, axis=0),
        costs=config.costs.model_dump(),
        decision=config.decision.model_dump(),
        seed=config.split.seed,
    )
    return tuned.calibrator, tuned.decisions


def _members(study: OpenStudy, arm: Arm, runs: Sequence[RunFolder]) -> list[tuple[RunFolder, Any]]:
    from raresight.strategies import build
    from raresight.train.deployed import member

    config, parts = study.config.for_arm(arm), [part for run in runs for part in study.parts(run)]
    return [
        (part, member(part, build(study.resolved(arm), study.task), config, source=source_of(study, arm, part)))
        for part in parts
    ]


def _weights_name(part: RunFolder) -> str:
    return f"weights-seed-{part.seed}{'' if part.fold is None else f'-fold-{part.fold}'}.safetensors"


def _inputs(
    study: OpenStudy, arm: Arm, runs: Sequence[RunFolder], calibrator: dict[str, Any], operating: dict[str, Any]
) -> str:
    config = study.config
    sections = [config.task, config.image, config.decision, config.costs, *config.accept.values()]
    said = [section.model_dump() for section in sections] + [list(config.accept), config.intended_use]
    return sha256_of([weights_sha256(study, arm, runs), [run.seed for run in runs], calibrator, operating, said])


def _facts(
    study: OpenStudy, arm: Arm, runs: Sequence[RunFolder], members: Sequence[tuple[RunFolder, Any]]
) -> dict[str, Any]:
    from raresight import __version__

    config, opened = study.config, openings(study.folder.ledger)
    sides = study.cache.facts[["width", "height"]].to_numpy()
    trained = read_json(runs[0].arm_json)
    image = config.image.model_dump() | {
        "dtype": study.cache.pixels.dtype.name,
        "smallest_side": int(sides.min()),
        "resize": f"short side to {config.image.size} pixels, middle square, antialiased bicubic",
    }
    return {
        "raresight": __version__,
        "frozen": datetime.now(UTC).isoformat(timespec="seconds"),
        "openings_before": len(opened),
        "last_opened": opened[-1]["time"] if opened else None,
        "study": {"title": study.folder.path.resolve().name, "data_sha256": study.data_sha256, "quick": config.quick},
        "task": config.task.model_dump(),
        "arm": study.resolved(arm).as_dict()
        | {"implied_prior": trained["implied_prior"], "findings": trained["findings"]},
        "seeds": [run.seed for run in runs],
        "network": {
            "backbone": config.for_arm(arm).model.backbone,
            "members": [
                {"weights": _weights_name(part), "seed": part.seed, "fold": part.fold, "offset": one.offset}
                for part, one in members
            ],
            "weights_of": weights_sha256(study, arm, runs),
        },
        "runtime": read_json(study.folder.lock)["runtime"],
        "batch": config.train.batch,
        "image": image,
        "decision": config.decision.model_dump(),
        "costs": config.costs.model_dump(),
        "accept": accepted(config),
        "intended_use": config.intended_use,
        "group_by": config.split.group,
        "evidence": _evidence(study),
    }


def _evidence(study: OpenStudy) -> dict[str, Any]:
    """Images and independent units behind training and validation, whole and of each class; counts alone."""
    target, found = study.manifest.targets(study.task), {}
    column = study.config.split.group if study.config.split.group in study.manifest.table else "patient_id"
    group = study.manifest.column(column)
    for part in ("train", "val"):
        rows = study.folds.rows(study.manifest, "train" if part == "train" else "val")
        if part == "train" and study.folds.n_folds:
            rows = study.folds.rows(
                study.manifest, "val"
            )  # cross-fitted: every case of these parts trained some network
        classes = {}
        for k, name in enumerate(study.task.classes):
            positive = rows[target[rows, k] == 1]
            classes[name] = {"images": len(positive), "patients": len(set(group[positive]))}
        found[part] = {"images": len(rows), "patients": len(set(group[rows])), "classes": classes}
    return found


def _reference(
    study: OpenStudy, calibrator: dict[str, Any], operating: dict[str, Any], val: Predictions
) -> dict[str, Any]:
    from raresight.evaluate.counts import decide, threshold_array
    from raresight.evaluate.drift import reference
    from raresight.evaluate.recalibrate import calibrate

    calibrated = calibrate(units(study, val), calibrator)
    thresholds = threshold_array(operating["thresholds"], study.task.classes)
    return reference(calibrated, decide(calibrated.prob, study.task.kind, thresholds))


def _refused(study: OpenStudy, found: str, why: str, remedy: str) -> ConfigError:
    problem = Problem(code="RS-B06", level="error", file=str(study.folder.config), found=found, why=why, remedy=remedy)
    return ConfigError(problem)
