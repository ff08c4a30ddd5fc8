"""A study's part as a probe: pixels from its cache, labels, patients, and where the findings lie by masks or boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raresight.core.files import sha256_of
from raresight.core.folds import Part
from raresight.core.manifest import Manifest
from raresight.core.seeds import numpy_rng
from raresight.explain.probe import ProbeSet, Regions
from raresight.verbs.explain_boxes import box_table, boxes_path, from_boxes
from raresight.verbs.explain_masks import from_masks
from raresight.verbs.opened import OpenStudy

MOST_PRIOR = 200  # training masks of a class that its mean mask is made of


def probe_of(study: OpenStudy, part: Part) -> tuple[ProbeSet, list[str]]:
    """The images of a part with everything known of them, and in words what of it could not be used.

    Patients are the split's units: those of its group column, joined where they share an image. With folds it is the
    part that fold 0's networks were held apart from.

    Raises: `DataError` RS-M47 for a file of boxes that cannot be read as one.
    """
    rows = rows_of(study, part)
    manifest = study.manifest.take(rows)
    unit = study.folds.table.set_index("case").loc[list(manifest.cases), "unit"].to_numpy(dtype=object)
    at = study.cache.rows(list(manifest.cases))
    pixels = np.asarray(study.cache.pixels)
    regions, limits = regions_of(study, manifest)
    probe = ProbeSet(
        lambda some: pixels[at[some]].transpose(0, 3, 1, 2),
        manifest.targets(study.task),
        unit,
        tuple(study.task.classes),
        manifest.cases,
        regions,
        part,
    )
    return probe, limits


def rows_of(study: OpenStudy, part: Part) -> np.ndarray:
    """The manifest's rows of a part; with folds, as fold 0 has it."""
    return study.folds.rows(study.manifest, part, 0 if study.folds.n_folds else None)


def training_counts(study: OpenStudy) -> dict[str, int]:
    """How many training images each class has."""
    target = study.manifest.take(rows_of(study, "train")).targets(study.task)
    return {name: int((target[:, k] == 1).sum()) for k, name in enumerate(study.task.classes)}


def regions_of(study: OpenStudy, manifest: Manifest) -> tuple[Regions | None, list[str]]:
    """Where the findings of these cases lie: by `data.boxes` where it is set, else by the manifest's masks."""
    if study.config.data.boxes:
        return from_boxes(study, manifest, boxes_path(study))
    if (manifest.column("mask") != "").any():
        return from_masks(study, manifest)
    return None, []


def prior_of(study: OpenStudy) -> np.ndarray | None:
    """The mean mask of each class's training images, `(K, H, W)` in [0, 1]; NaN for a class without any; None at all.

    At most 200 images of a class, drawn by the study's seed.
    """
    manifest = study.manifest.take(rows_of(study, "train"))
    target = manifest.targets(study.task)
    located = manifest.column("mask") != ""
    if study.config.data.boxes:
        located = np.isin(manifest.cases.astype(str), list(box_table(study, manifest, boxes_path(study))[0]["case"]))
    drawn: set[int] = set()
    for k, name in enumerate(study.task.classes):
        rows = np.flatnonzero((target[:, k] == 1) & located)
        rng = numpy_rng(study.config.split.seed, "mean mask", name)
        drawn |= {int(row) for row in rng.permutation(rows)[:MOST_PRIOR]}
    regions = regions_of(study, manifest.take(sorted(drawn)))[0] if drawn else None
    if regions is None:
        return None
    prior = np.full((study.task.n_classes, *regions.shape), np.nan, dtype=np.float32)
    for k in range(study.task.n_classes):
        of_class = np.flatnonzero(regions.label == k)
        if len(of_class):
            prior[k] = regions.masks(of_class).mean(0)
    return prior


def regions_stamp(study: OpenStudy, parts: Sequence[Part]) -> str:
    """What regions are made from: the file of boxes by content, masks by name, size and when they were written."""
    if study.config.data.boxes:
        path = boxes_path(study)
        study.require(path, "the file of boxes", "correct `data: boxes:` in study.yaml, or take it out")
        return sha256_of(path.read_text(encoding="utf-8", errors="replace"))
    if not (study.manifest.column("mask") != "").any():
        return ""
    names = [m for part in parts for m in study.manifest.take(rows_of(study, part)).column("mask") if m]
    files = [study.root / name for name in names]
    facts = [file.stat() if file.exists() else None for file in files]
    return sha256_of([(name, at and (at.st_size, at.st_mtime_ns)) for name, at in zip(names, facts, strict=True)])
