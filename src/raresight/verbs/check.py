"""`raresight check`: every problem of the input at once, and each image decoded once into the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raresight.core.errors import DataError, Problem, RaresightError
from raresight.core.files import read_json, write_json, write_jsonl
from raresight.verbs.opened import OpenStudy, stamp, stamped

QUARANTINE_LIMIT = 0.01  # more bad rows than this and the data, not the rows, are at fault


def check(study: OpenStudy) -> list[dict[str, Any]]:
    """Check manifest and images; write `data/issues.jsonl`; return its lines.

    Rows in quarantine are left out of everything that follows. Nothing is decoded twice: the cache that training reads
    is built here.

    Where findings lie by boxes, their file is looked at as well: it is first needed after hours of training.

    Raises: `DataError` with all errors, or where more than 1% of the rows are in quarantine; `ConfigError` RS-C34 for
    subgroups by a column that the manifest lacks.
    """
    from raresight.data.check import check as check_table
    from raresight.verbs.strict import upside_down

    require_subgroups(study)
    problems = check_table(study.full_manifest, study.task, study.config.data, study.folder.path)
    problems += upside_down(study)
    errors = [problem for problem in problems if problem.level == "error"]
    if study.config.data.images and not errors:
        from raresight.data.cache import build_cache

        with study.progress.bar("decoding images") as advance:
            cache = build_cache(
                study.full_manifest,
                study.root,
                study.folder.cache,
                size=study.config.image.size,
                channels=study.config.image.channels,
                progress=advance,
            )
        problems = [*problems, *cache.problems]
        errors = [problem for problem in problems if problem.level == "error"]
    bad_rows = {problem.row for problem in problems if problem.level == "quarantine"}
    too_many = len(bad_rows) > QUARANTINE_LIMIT * len(study.full_manifest)
    write_jsonl(study.folder.issues, [problem.as_dict() for problem in problems])
    if study.config.data.boxes and study.config.data.images and not errors and not too_many:
        problems, errors = _with_boxes(study, problems)
    rows = [problem.as_dict() for problem in problems]
    write_jsonl(study.folder.issues, rows)
    counts = {"n_problems": len(rows), "n_quarantined": len(bad_rows), "refused": bool(errors) or too_many}
    write_json(study.folder.checked, {"inputs": _stamp(study), **counts})
    if errors:
        raise DataError(*errors)
    if too_many:
        raise DataError(_too_many(len(bad_rows), study), *[p for p in problems if p.level == "quarantine"][:8])
    return rows


def _with_boxes(study: OpenStudy, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
    """All problems with those of the file of boxes, and the errors among the latter: boxes are first used after hours.

    They are looked at beside the cases and images that this very check let through.
    """
    from raresight.verbs.explain_boxes import check_boxes

    try:
        return [*problems, *check_boxes(replace(study))], []
    except RaresightError as refused:
        errors = list(refused.problems)
        return [*problems, *errors], errors


def require_subgroups(study: OpenStudy) -> None:
    """Raise `ConfigError` RS-C34 where `decision.subgroups` names columns that the manifest does not have."""
    from raresight.evaluate.subgroups import check_columns

    columns = study.full_manifest.table.columns
    check_columns(study.config.decision.subgroups, columns, str(study.folder.config), "decision.subgroups")


def is_current(study: OpenStudy) -> bool:
    """Whether the last check saw the present manifest and settings, and let them through."""
    marker = study.folder.checked
    seen = study.folder.issues.exists() and stamped(marker, _stamp(study))
    return seen and not read_json(marker).get("refused", False)


def _stamp(study: OpenStudy) -> str:
    config = study.config
    # Boxes are no part of what is trained on: naming them later leaves everything that was done as it is.
    sections = [config.data.model_dump(exclude={"boxes"}), config.task.model_dump(), config.image.model_dump()]
    return stamp(study.manifest_path, str(study.root), *sections)


def _too_many(n_bad: int, study: OpenStudy) -> Problem:
    n = len(study.full_manifest)
    return Problem(
        code="RS-M00",
        level="error",
        file=str(study.manifest_path),
        found=f"{n_bad} of {n} rows ({n_bad / n:.1%}) are in quarantine; the limit is {QUARANTINE_LIMIT:.0%}",
        why="leaving that many out would change what the study is about",
        remedy=f"mend the rows listed in {study.folder.issues} and run the same command again",
    )
