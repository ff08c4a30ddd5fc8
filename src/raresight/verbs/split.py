"""`raresight split`: nobody in two parts, rare classes in every part, and the proof."""

from __future__ import annotations

from typing import Any

from raresight.core.files import read_json, sha256, write_json
from raresight.verbs.opened import OpenStudy, stamp, stamped


def split(study: OpenStudy) -> dict[str, Any]:
    """Write `data/split.csv` and `data/leaks.json`; return the leak proof.

    A split that the data bring along (`split.column`) is checked and taken, or refused.

    Raises: `GateError` where a supplied split has a patient, or an identical image, in two parts.
    """
    from raresight.data import split as splitting
    from raresight.data.leaks import leaks
    from raresight.data.thumbnails import thumbnails

    if is_current(study):
        return read_json(study.folder.leaks)
    settings = study.config.split
    facts = small = identical = None
    if study.config.data.images:
        rows = study.cache.rows(list(study.manifest.cases))
        facts = study.cache.facts.iloc[rows].reset_index(drop=True)
        small = thumbnails(study.cache.pixels, rows)
        identical = dict(zip(facts["case"], facts["pixel_hash"], strict=True))
    if settings.column:
        folds = splitting.supplied(study.manifest, settings, identical=identical, task=study.task)
    else:
        folds = splitting.split(study.manifest, study.task, settings, identical=identical)
    proof = leaks(study.manifest, folds, facts, group_by=settings.group, thumbnails=small)
    folds.save(study.folder.split)
    proof |= {"inputs": split_stamp(study), "split_sha256": sha256(study.folder.split)}
    write_json(study.folder.leaks, proof)
    study.__dict__.pop("folds", None)
    return proof


def is_current(study: OpenStudy) -> bool:
    """Whether the split was made from the present manifest and settings, and is as it was when it was proven."""
    there = study.folder.split.exists() and stamped(study.folder.leaks, split_stamp(study))
    return there and study.split_is_proven


def split_stamp(study: OpenStudy) -> str:
    return stamp(
        study.manifest_path, study.folder.issues, study.config.split.model_dump(), study.config.task.model_dump()
    )
