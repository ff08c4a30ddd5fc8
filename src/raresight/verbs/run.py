"""`raresight run`: the whole line; the test part stays shut unless asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raresight.verbs.advise import advise
from raresight.verbs.audit import audit
from raresight.verbs.check import check
from raresight.verbs.compare import compare
from raresight.verbs.evaluate import evaluate_test, evaluate_val
from raresight.verbs.opened import OpenStudy
from raresight.verbs.report import report
from raresight.verbs.split import split
from raresight.verbs.strict import require_strict
from raresight.verbs.train import train
from raresight.verbs.tune import tune


def run(
    study: OpenStudy,
    *,
    open_test: bool = False,
    strict: bool = False,
    confirm: Callable[[str], bool] = lambda question: True,
) -> Path | None:
    """Everything that is missing, in order; what is done and current is skipped. Returns the report's path.

    A study of label tables without images ends after the audit, and returns None. With `strict` too few patients or
    pictures turned upside down stop it before anything is trained (`GateError`).
    """
    say = study.progress.say
    say("checking the input")
    check(study)  # always: an image may have changed behind an unchanged manifest; what has not is not decoded again
    say("splitting by " + study.config.split.group)
    split(study)
    audit(study)
    if not study.config.data.images:
        say("no images: the study ends with its audit")
        return None
    if not study.config.arms:
        say("no arms: taking those that suit the data (raresight advise)")
        advise(study)
        study = OpenStudy.open(study.folder.path, study.progress)
    if strict:
        require_strict(study)
    train(study)
    tune(study)
    say("evaluating on the validation part")
    evaluate_val(study)
    if open_test:
        evaluate_test(study, confirm=confirm)
    compare(study)
    say("writing the report")
    return report(study)
