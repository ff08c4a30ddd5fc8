"""A folder of images, one folder per class: `SOURCE/[train|val|test/]class/[patient/]image`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import DataError, Problem, listed
from raresight.data.finding import SUFFIXES, channels_of, images_under
from raresight.data.labels import exclusive
from raresight.data.read import Reading, ReadOptions, assemble, cases_of, patients_or_problem
from raresight.data.text import missing

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
PARTS |= {"test": "test", "testing": "test"}


def read(source: Path, options: ReadOptions) -> Reading:
    """Read class folders, sorted by path; `train`, `val`, `test` above them are a supplied split.

    Where every image lies one folder below its class, that folder is taken as the patient, which a warning says.
    """
    if not source.is_dir():
        raise DataError(missing(source, "not a folder" if source.exists() else "no such file or folder"))
    root = source.resolve()
    paths = images_under(root)
    parts = [path.split("/") for path in paths]
    tops = {part[0].casefold() for part in parts if len(part) > 1}
    has_split = len(tops) > 1 and tops <= set(PARTS) and any(len(part) > 2 for part in parts)
    below = 1 if has_split else 0
    deep = [part for part in parts if len(part) > below + 1]
    if not deep:
        found = f"{len(paths)} images, none in a class folder" if paths else f"no images ({', '.join(SUFFIXES)})"
        remedy = "put the images of each class into a folder named after it, or give a table: --from csv"
        raise DataError(_problem("RS-M51", root, found, "the folder's name is the label", remedy))
    problems: list[Problem] = []
    if len(deep) < len(parts):
        stray = ["/".join(part) for part in parts if len(part) <= below + 1]
        why, remedy = "an image without a class folder has no label", "move them into class folders"
        found = f"{len(stray)} images outside of class folders left out: {listed(stray, 4)}"
        problems.append(_problem("RS-M55", root, found, why, remedy, "warning"))
    image = pd.Series(["/".join(part) for part in deep])
    patient = None
    if all(len(part) == below + 3 for part in deep) and not options.one_image_per_patient:
        patient = pd.Series([part[below + 1] for part in deep])
        found = f"{patient.nunique()} folders below the class folders are taken as patients"
        why, remedy = "were they something else, patients might be split", "if they are not, give a table: --from csv"
        problems.append(_problem("RS-M01", root, found, why, remedy, "warning"))
    label = pd.Series([part[below] for part in deep], name="label")
    labels = exclusive(label, np.arange(len(deep)) + 2, str(root))
    metadata = pd.DataFrame({"split": [PARTS[part[0].casefold()] for part in deep]} if has_split else {})
    manifest = assemble(
        case=cases_of(image),
        image=image,
        patient=patient,
        group=None,
        labels=labels,
        metadata=metadata,
        waived=options.one_image_per_patient,
    )
    hint = "give a table with patient ids (--from csv), or state --one-image-per-patient if no two images share one"
    problems += [*labels.problems, *patients_or_problem(manifest, str(root), [], options, hint)]
    return Reading(
        manifest=manifest,
        kind="exclusive",
        classes=labels.classes,
        group="patient_id" if patient is not None or not options.one_image_per_patient else "case",
        root=root,
        channels=channels_of(image, root),
        split_column="split" if has_split else None,
        problems=problems,
    )


def _problem(code: str, path: Path, found: str, why: str, remedy: str, level: str = "error") -> Problem:
    return Problem(
        code=code,
        level="warning" if level == "warning" else "error",
        file=str(path),
        found=found,
        why=why,
        remedy=remedy,
    )
