"""What training and prediction start from: the runtime that the study was locked to, and its cases as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raresight.core.extras import need
from raresight.core.files import read_json, sha256, write_json
from raresight.verbs.opened import OpenStudy

if TYPE_CHECKING:
    from raresight.train.loop import Cases
    from raresight.train.runtime import Runtime


def locked_runtime(study: OpenStudy) -> Runtime:
    """The runtime that the study's first run chose; `lock.json` keeps it for all arms, resumes and workers."""
    need("torch", extra="train", feature="training")
    from raresight.train.runtime import Runtime

    return Runtime.from_lock(study.ranks.first(lambda: _locked(study)))


def _locked(study: OpenStudy) -> dict[str, Any]:
    from raresight import __version__
    from raresight.train.probe import probe

    if study.folder.lock.exists():
        locked: dict[str, Any] = read_json(study.folder.lock)["runtime"]
        return locked
    study.progress.say("choosing the fastest safe settings for this machine")
    fold = 0 if study.folds.n_folds else None
    runtime = probe(study.config, study.task, n_cases=len(study.folds.rows(study.manifest, "train", fold)))
    hashes = {"manifest": sha256(study.manifest_path), "split": sha256(study.folder.split)}
    write_json(
        study.folder.lock,
        {"raresight": __version__, "study_seed": study.config.split.seed, "runtime": runtime, "sha256": hashes},
    )
    return runtime


def cases(study: OpenStudy, rows: np.ndarray) -> Cases:
    """What the loop reads for these rows of the manifest."""
    from raresight.train.loop import Cases

    part = study.manifest.take(rows)
    return Cases(study.cache.pixels, study.cache.rows(list(part.cases)), part.targets(study.task), part.cases)
