"""`raresight status`: done, stale because ..., or missing, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raresight.core.bundle import FACTS, Bundle
from raresight.core.errors import DataError
from raresight.core.files import read_jsonl
from raresight.core.ledger import openings
from raresight.core.speed import speed
from raresight.verbs.audit import audit_stamp
from raresight.verbs.bundle_results import changed_since
from raresight.verbs.check import is_current
from raresight.verbs.compare import compare_stamp
from raresight.verbs.opened import OpenStudy, stamp, stamped
from raresight.verbs.split import is_current as split_is_current
from raresight.verbs.tune import is_tuned


@dataclass(frozen=True)
class Step:
    """One line of the status: `state` is `done`, `stale` or `missing`; `why` says what changed or what lacks."""

    name: str
    state: str
    why: str
    command: str


def status(study: OpenStudy) -> dict[str, Any]:
    """Every step of the line with its state, `next`: the command that brings the study forward, `speed` of each arm."""
    steps = list(_steps(study))
    pending = next((step for step in steps if step.state != "done"), None)
    following = pending.command if pending else ""
    if not pending and study.config.data.images and not openings(study.folder.ledger):
        frozen = any(study.folder.bundles.glob(f"*/{FACTS}"))
        here = study.folder.typed
        following = f"raresight evaluate {here} --part test" if frozen else f"raresight freeze {here}"
        following += "   (when every choice is made)"
    return {"steps": [asdict(step) for step in steps], "next": following, "speed": list(_speeds(study))}


def _speeds(study: OpenStudy) -> Iterator[dict[str, Any]]:
    """How fast each arm trained, over all its seeds and folds, in figures and in `words`; heads alone are not told."""
    if not study.folder.split.exists():
        return
    for arm in study.arms:
        parts = [part for run in study.runs(arm) for part in study.parts(run) if part.events.exists()]
        seen = speed(event for part in parts for event in read_jsonl(part.events))
        if seen is not None:
            yield {"arm": arm.name, **seen.as_dict(), "words": seen.words()}


def _steps(study: OpenStudy):  # type: ignore[no-untyped-def]
    folder, here = study.folder, study.folder.typed
    yield _step(
        "init", folder.manifest.exists() or study.manifest_path.exists(), True, "", f"raresight init {here} --from ..."
    )
    checked = folder.issues.exists()
    yield _step(
        "check",
        checked,
        checked and is_current(study),
        "the manifest or its settings changed, or were refused",
        f"raresight check {here}",
    )
    if not checked:
        return
    has_split = folder.split.exists()
    fresh = has_split and split_is_current(study)
    why = "the manifest, the split or its settings changed"
    yield _step("split", has_split, fresh, why, f"raresight split {here}")
    has_audit = folder.audit.exists()
    fresh = has_audit and stamped(folder.audit, audit_stamp(study))
    yield _step("audit", has_audit, fresh, "the manifest, the split or the classes changed", f"raresight audit {here}")
    if not study.config.data.images or not has_split:
        return
    runs = [run for arm in study.arms for run in study.runs(arm)]
    waiting = [f"{run.arm} seed {run.seed}" for run in runs if not run.done]
    others = [f"{run.arm} seed {run.seed}" for run in runs if run.done and not study.saw_these_data(run)]
    why = f"{len(waiting)} of {len(runs)} runs to go: {', '.join(waiting[:6])}" if waiting else ""
    why = f"the data or the split changed since {', '.join(others[:6])} was trained" if others else why
    if not others:
        others = [f"{run.arm} seed {run.seed}" for run in runs if run.done and not study.fits_its_source(run)]
        why = f"the arm that {', '.join(others[:6])} stands on was trained anew" if others else why
    unsettled = [arm.name for arm in study.arms if arm.has_grid and study.chosen(arm) is None]
    if unsettled and not waiting and not others:
        others, why = unsettled, f"the lists of {', '.join(unsettled)} changed since a value was chosen"
    yield Step("train", "stale" if others else "missing" if waiting else "done", why, f"raresight train {here}")
    done = [run for run in runs if run.done]
    if not done or others:
        return
    tuned = all(is_tuned(study, run) for run in done)
    yield _step(
        "tune",
        any(run.thresholds.exists() for run in done),
        tuned,
        "predictions or costs changed",
        f"raresight tune {here}",
    )
    evaluated = all(
        run.thresholds.exists()
        and stamped(run.val_estimates, stamp(run.val_predictions, run.thresholds, run.calibrator))
        for run in done
    )
    some = any(run.val_estimates.exists() for run in done)
    yield _step(
        "evaluate", some, evaluated, "thresholds or predictions changed", f"raresight evaluate {here} --part val"
    )
    has = folder.compare.exists()
    fresh = has and stamped(folder.compare, compare_stamp(study))
    yield _step("compare", has, fresh, "arms or predictions changed", f"raresight compare {here}")
    has = folder.report.exists()
    behind = [run.done_marker for run in done]
    shown = [
        folder.compare,
        folder.choices,
        folder.augment_audit,
        folder.explained,
        *folder.sweeps.glob("*/sweep.json"),
    ]
    behind += [path for path in shown if path.exists()]
    newest = has and folder.report.stat().st_mtime >= max(path.stat().st_mtime for path in behind)
    yield from _bundles(study)
    yield from _explained(study)
    yield _step("report", has, newest, "results are newer than the page", f"raresight report {here}")


def _explained(study: OpenStudy) -> Iterator[Step]:
    """Whether a look into the networks is still current; one that was never taken is nobody's next step."""
    if not study.folder.explained.exists():
        return
    from raresight.verbs.explain import is_explained

    fresh, why = is_explained(study)
    yield _step("explain", True, fresh, why, f"raresight explain {study.folder.typed}")


def _bundles(study: OpenStudy) -> Iterator[Step]:
    """A line for every bundle in the study's folder; a study without any is as whole as one that has them."""
    for path in sorted(study.folder.bundles.glob(f"*/{FACTS}")):
        arm = path.parent.name
        command = f"raresight freeze {study.folder.typed} --arm {arm} --force"
        try:
            why = changed_since(study, Bundle.load(path.parent))
        except DataError as error:
            why = f"{Path(error.problems[0].file).name} {error.problems[0].found}"
        yield _step(f"freeze {arm}", True, not why, why, command)


def _step(name: str, exists: bool, fresh: bool, why: str, command: str) -> Step:
    if not exists:
        return Step(name, "missing", "", command)
    return Step(name, "done" if fresh else "stale", "" if fresh else why, command)
