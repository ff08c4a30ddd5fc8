"""`raresight report`: the page, from what lies in the study folder and nothing else."""

from __future__ import annotations

from pathlib import Path

from raresight.verbs.opened import OpenStudy


def report(study: OpenStudy) -> Path:
    """Write `report/report.html` and `report/report.json`; return the page's path.

    Raises: `ConfigError` RS-R44 for runs of other data than today's.
    """
    from raresight.report.gather import from_study
    from raresight.report.page import write

    study.finished()  # results of other data are refused, not shown
    write(from_study(study.folder), study.folder.report.parent)
    return study.folder.report
