"""`raresight report`: the page, from what lies in the study folder and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raresight.core.files import read_json, write_text
from raresight.verbs.compare import sweep_files
from raresight.verbs.opened import OpenStudy
from raresight.verbs.pictures import pictures


def report(study: OpenStudy, *, thumbnails: bool = False) -> Path:
    """Write the page, `report.json`, the model card and the checklist into `report/`; return the page's path.

    The failure gallery names cases by pseudonyms, whose key is `report/gallery_key.csv`; `thumbnails` embeds their
    pictures.

    Raises: `ConfigError` RS-R44 for runs of other data than today's.
    """
    from raresight.report.figures.gallery import key, named_failures
    from raresight.report.gather import from_study
    from raresight.report.page import write

    study.finished()  # results of other data are refused, not shown
    content = from_study(study.folder)
    current = sweep_files(study) if content.sweeps else []
    if len(current) < len(content.sweeps):
        study.progress.say("sweeps of other data, labels or another split than today's are left out: sweep again")
    content = replace(content, sweeps=tuple(map(read_json, current)))
    if thumbnails:
        content = replace(content, pictures=pictures(study, [one.case for _, one in named_failures(content)]))
    write(content, study.folder.report.parent)
    study.progress.say(f"report.html, report.json, model_card.md and checklist.md are in {study.folder.report.parent}")
    write_text(study.folder.report.parent / "gallery_key.csv", key(content))
    return study.folder.report
