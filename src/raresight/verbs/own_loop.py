"""For anybody's own training loop: our split in as arrays, their predictions out as our table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raresight.core.errors import DataError, Problem
from raresight.core.folds import Part
from raresight.core.predictions import Predictions, tabulate
from raresight.verbs.opened import OpenStudy


@dataclass(frozen=True)
class Arrays:
    """One part of a study: `images` `(N, H, W, C)` uint8 or uint16 from the cache, `target` `(N, K)` float32 with NaN
    where unknown, `cases` and `patients` `(N,)` ids."""

    images: np.ndarray
    target: np.ndarray
    cases: np.ndarray
    patients: np.ndarray


def arrays(study: OpenStudy, part: Part) -> Arrays:
    """Decoded images and labels of `train` or `val`.

    The test part is not handed out: predict it once, at the end, through `raresight evaluate --part test` or as
    an arm's `predictions: {test: ...}`. Its cases are in `data/split.csv`.
    """
    manifest = study.manifest.take(study.folds.rows(study.manifest, part))
    images = np.asarray(study.cache.pixels[study.cache.rows(list(manifest.cases))])
    return Arrays(images, manifest.targets(study.task), manifest.cases, manifest.column("patient_id"))


def write_predictions(study: OpenStudy, path: Path, part: Part, logits: np.ndarray) -> Path:
    """Write the `(N, K)` logits of a part, rows in the order of `arrays`, as a predictions table (.csv or .parquet).

    Raises: `DataError` RS-P43 where the shape is not that of the part, RS-P42 where a logit is not a number.
    """
    manifest = study.manifest.take(study.folds.rows(study.manifest, part))
    expected = (len(manifest), study.task.n_classes)
    if logits.shape != expected:
        raise DataError(
            _problem(
                "RS-P43", f"logits of shape {logits.shape}; the {part} part needs {expected}", "rows would be mixed up"
            )
        )
    if not np.isfinite(logits).all():
        bad = manifest.cases[~np.isfinite(logits).all(axis=1)]
        raise DataError(
            _problem("RS-P42", f"logits that are not numbers for {', '.join(bad[:5])}", "they cannot be ranked")
        )
    table = tabulate(study.task, manifest.cases, logits, manifest.targets(study.task), study.metadata(manifest))
    Predictions(table, study.task, part=part).save(path)
    return path


def _problem(code: str, found: str, why: str) -> Problem:
    return Problem(
        code=code,
        level="error",
        found=found,
        why=why,
        remedy="predict every case of the part, in the order of `arrays`",
    )
