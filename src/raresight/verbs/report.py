"""`raresight report`: the page, from what lies in the study folder and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raresight.core.files import read_json
from raresight.verbs.compare import sweep_files
from raresight.verbs.opened import OpenStudy


def report(study: OpenStudy) -> Path:
    """Write `report/report.html` and `report/report.json`; return the page's path.

    Raises: `ConfigError` RS-R44 for runs of other data than today's.
    """
    from raresight.report.gather import from_study
    from raresight.report.page import write

    study.finished()  # results of other data are refused, not shown
    content = from_study(study.folder)
    current = sweep_files(study) if content.sweeps else []
    if len(current) < len(content.sweeps):
        study.progress.say("sweeps of other data, labels or another split than today's are left out: sweep again")
    write(replace(content, sweeps=tuple(map(read_json, current))), study.folder.report.parent)
    return study.folder.report
