"""Arms trained elsewhere: their predictions, checked against the study's cases, enter like those of a trained arm."""

from __future__ import annotations

import shutil

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, sha256, write_json, write_text
from raresight.core.predictions import Predictions
from raresight.core.run import RunFolder
from raresight.evaluate.calibration import log_odds
from raresight.verbs.opened import OpenStudy
from raresight.verbs.predicting import as_predictions


def bring_in(study: OpenStudy, arm: Arm, run: RunFolder) -> None:
    """Take in predictions made elsewhere for the validation part."""
    assert arm.predictions is not None
    if "val" not in arm.predictions:
        raise _unnamed(study, arm, "val")
    source = (study.folder.path / arm.predictions["val"]).resolve()
    if run.resume.exists():
        raise _taken(study, run)
    current = run.done and source.exists() and study.saw_these_data(run)
    if current and read_json(run.arm_json).get("source_sha256") == sha256(source):
        return
    predictions = outside_predictions(study, arm, "val")
    if run.path.exists():
        shutil.rmtree(run.path)
    predictions.save(run.val_predictions)
    write_json(run.arm_json, arm.as_dict() | {"implied_prior": None, "findings": [], "source_sha256": sha256(source)})
    write_text(run.done_marker, study.evidence_sha256 + "\n")


def outside_predictions(study: OpenStudy, arm: Arm, part: str) -> Predictions:
    """Predictions made elsewhere, checked against the part's cases and given the study's own ids and labels.

    Raises: `DataError` RS-P43 where cases are missing or extra.
    """
    from raresight.evaluate.agreement import align
    from raresight.evaluate.read import read_predictions

    assert arm.predictions is not None
    if part not in arm.predictions:
        raise _unnamed(study, arm, part)
    path = (study.folder.path / arm.predictions[part]).resolve()
    given = read_predictions(path, task=study.task, labels=False)
    manifest = study.manifest.take(study.folds.rows(study.manifest, "val" if part == "val" else "test"))
    given = align(given, list(manifest.cases), str(path))
    logits = given.logits if given.logits is not None else log_odds(given.prob, study.task.kind)
    return as_predictions(study, manifest, logits, study.runs(arm)[0], part)


def _unnamed(study: OpenStudy, arm: Arm, part: str) -> ConfigError:
    chosen = "thresholds and comparisons are chosen on the validation part, never on test"
    return ConfigError(
        Problem(
            code="RS-C36",
            level="error",
            file=str(study.folder.config),
            column=f"arms.{arm.name}.predictions",
            found=f"no {'validation' if part == 'val' else part} predictions are named",
            why=chosen if part == "val" else "every arm is judged on the same test cases, all at one opening",
            remedy=f"add   {part}: FILE.csv",
        )
    )


def _taken(study: OpenStudy, run: RunFolder) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R44",
            level="error",
            file=str(study.folder.config),
            column=f"arms.{run.arm}",
            found=f"an arm called '{run.arm}' was trained here before",
            why="predictions made elsewhere would take the place of its weights",
            remedy=f"give the outside predictions a name of their own, such as '{run.arm}_outside'",
        )
    )
