"""`raresight audit`: how rare is what, in how many patients, and what the parts will be able to show."""

from __future__ import annotations

from typing import Any

from raresight.core.errors import DataError, Problem
from raresight.core.files import read_json, write_json
from raresight.verbs.opened import OpenStudy, stamp, stamped


def audit(study: OpenStudy) -> dict[str, Any]:
    """Write and return `audit/audit.json`; it uses the split where there is one, and plans one where there is none.

    Raises: `DataError` for a class that no case has.
    """
    from raresight.data.audit import audit as audit_manifest

    current = audit_stamp(study)
    if stamped(study.folder.audit, current):
        return read_json(study.folder.audit)
    folds = study.folds if study.folder.split.exists() else None
    group_by = study.config.split.group
    result = audit_manifest(study.manifest, study.task, group_by=group_by, split=study.config.split, folds=folds)
    write_json(study.folder.audit, result | {"inputs": current})
    errors = [Problem(**problem) for problem in result["problems"] if problem["level"] == "error"]
    if errors:
        raise DataError(*errors)
    for finding in result["findings"]:
        study.progress.say(finding)
    return result


def audit_stamp(study: OpenStudy) -> str:
    split = [study.folder.split] if study.folder.split.exists() else []
    settings = [study.config.split.model_dump(), study.config.task.model_dump()]
    return stamp(study.manifest_path, study.folder.issues, *split, *settings)
