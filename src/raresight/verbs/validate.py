"""`raresight validate`: a bundle, unchanged, on labelled data from elsewhere. Nothing is fitted here, ever."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raresight.core.bundle import Bundle
from raresight.core.config import DataSection
from raresight.core.errors import ConfigError, DataError, Problem, nearest
from raresight.core.estimate import Estimate, save_estimates
from raresight.core.files import sha256
from raresight.core.manifest import LABEL_PREFIX, Manifest
from raresight.core.predictions import Predictions, tabulate
from raresight.core.progress import Silent
from raresight.verbs.bundled import Decided, decide, per_unit, see
from raresight.verbs.check import QUARANTINE_LIMIT
from raresight.verbs.opened import FIRST_ROW

EXTERNAL = "external"


def validate(
    bundle: Path,
    manifest: Path,
    *,
    site: str,
    root: Path | None = None,
    one_image_per_patient: bool = False,
    out: Path | None = None,
    resamples: int = 1000,
    progress: Silent | None = None,
) -> dict[str, Any]:
    """Write `predictions.parquet`, `estimates.json`, `report.html` and `report.json` into `out` (`validate/<site>`).

    `manifest` is a table with `image`, `patient_id` and labels, checked as `init` and `check` do; rows without a label
    are left out of the figures that need it. Weights, calibrator, thresholds, sets and referral are the bundle's. The
    result holds `estimates`, `acceptance` (the bundle's criteria, answered for this site), `notes` and `folder`.

    Raises: `DataError` RS-B01 to RS-B03 for a bundle that is not whole, RS-M.. with every problem of the table;
    `ConfigError` RS-C34 for a site's name that cannot be a folder's.
    """
    from raresight.report.answers import acceptance
    from raresight.report.page import write

    told = progress or Silent()
    loaded = Bundle.load(bundle)
    folder = Path("validate") / _plain(site) if out is None else out
    table, images_below = _read(loaded, manifest, root, one_image_per_patient, told)
    seen = see(loaded, list(table.column("image")), images_below, told)
    if not seen.usable.any():
        raise DataError(_nothing(manifest, list(seen.reason)))
    known = table.take(np.flatnonzero(seen.usable))
    left_out = {"image", "mask", "label", "case"}
    kept = [name for name in known.table if name not in left_out and not str(name).startswith(LABEL_PREFIX)]
    rows = tabulate(
        loaded.task, known.cases, seen.logits, known.targets(loaded.task).astype(np.float64), known.table[kept]
    )
    predictions = Predictions(rows, loaded.task, loaded.name, _seed(loaded), EXTERNAL)
    units = per_unit(loaded, predictions)
    decided = decide(loaded, units)
    told.say(f"judging the frozen bundle on {len(rows):,} pictures of {site}")
    estimates = _estimates(loaded, units, decided, resamples)
    notes = [*_invalid(table, seen.usable, seen.reason), *_prior_shift(loaded, units)]
    predictions.save(folder / "predictions.parquet")
    content = _content(loaded, site, manifest, units, decided, estimates)
    answers = [{"criterion": a.criterion, "verdict": a.verdict, "evidence": a.evidence} for a in acceptance(content)]
    about = {"site": site, "bundle_sha256": loaded.sha256, "notes": notes, "acceptance": answers}
    save_estimates(folder / "estimates.json", estimates, **about)
    write(content, folder)
    return {"folder": str(folder), "estimates": [one.as_dict() for one in estimates], **about}


def _read(bundle: Bundle, path: Path, root: Path | None, waived: bool, progress: Silent) -> tuple[Manifest, Path]:
    """The checked manifest with its uncertain labels unknown, and the folder that its images begin in."""
    from raresight.data.check import check
    from raresight.data.labels import settle
    from raresight.data.read import ReadOptions, read

    task = bundle.task
    separator = "|" if task.kind == "independent" else None
    options = ReadOptions(label_sep=separator, one_image_per_patient=waived, root=root)
    reading = read("csv", path, options)
    data = DataSection(
        manifest=str(path.resolve()),
        root=str(reading.root),
        uncertain="ignore",
        no_finding="keep",
        one_image_per_patient=waived,
    )
    found = reading.problems + check(reading.manifest, task, data, Path())
    problems = list({str(problem): problem for problem in found}.values())
    errors = [problem for problem in problems if problem.level == "error"]
    column = bundle.unit_column
    if column is not None and column not in reading.manifest.table:
        close = nearest(column, [str(name) for name in reading.manifest.table])
        errors.append(_no_unit(path, column, bundle.facts["decision"]["unit"], close))
    if errors:
        raise DataError(*errors)
    for problem in problems:
        progress.say(str(problem))
    dropped = {problem.row - FIRST_ROW for problem in problems if problem.level == "quarantine" and problem.row}
    if len(dropped) > QUARANTINE_LIMIT * len(reading.manifest):
        raise DataError(*[problem for problem in problems if problem.level == "quarantine"][:8])
    kept = reading.manifest.take([row for row in range(len(reading.manifest)) if row not in dropped])
    return settle(kept, data), reading.root


def _seed(bundle: Bundle) -> int | None:
    return bundle.seeds[0] if len(bundle.seeds) == 1 else None


def _estimates(bundle: Bundle, units: Predictions, decided: Decided, resamples: int) -> list[Estimate]:
    from raresight.evaluate.estimates import estimate

    return estimate(
        units,
        calibrated=decided.calibrated,
        thresholds=bundle.thresholds,
        operating="frozen",
        unit=bundle.facts["decision"]["unit"],
        costs=bundle.facts["costs"],
        decisions=bundle.operating,
        resamples=resamples,
    )


def _invalid(table: Manifest, usable: np.ndarray, reason: np.ndarray) -> list[str]:
    bad = np.flatnonzero(~usable)
    if not len(bad):
        return []
    first = f"{table.cases[bad[0]]}: {reason[bad[0]]}"
    return [f"{len(bad)} of {len(table)} pictures could not be used and are in no figure; the first is {first}"]


def _prior_shift(bundle: Bundle, units: Predictions) -> list[str]:
    """Classes whose share here and at validation cannot be the same: alarms then mean other things."""
    from raresight.evaluate.intervals import rate

    notes, patient = [], units.patient.astype(str)
    for k, name in enumerate(bundle.task.classes):
        known = ~np.isnan(units.target[:, k])
        here = rate(units.target[known, k] == 1, patient[known])
        was = bundle.facts["reference"]["classes"][name]["prevalence"]
        if here.low > was["high"] or here.high < was["low"]:
            more = "rarer" if here.value < was["value"] else "more common"
            notes.append(
                f"{name} is {more} here: {here.value:.1%} ({here.low:.1%}–{here.high:.1%}) of cases, at validation "
                f"{was['value']:.1%}; its probabilities were calibrated for the share at validation, so alarms mean "
                "something else here. Sensitivity and specificity do not depend on it"
            )
    return notes


def _content(
    bundle: Bundle, site: str, manifest: Path, units: Predictions, decided: Decided, estimates: list[Estimate]
) -> Any:
    from raresight.report.content import ArmResult, Content

    arm = ArmResult(
        bundle.name,
        predictions=(units,),
        calibrated=(decided.calibrated,),
        thresholds=bundle.thresholds,
        estimates=tuple(estimates),
        facts=bundle.facts["arm"],
    )
    costs: Mapping[str, Any] = bundle.facts["costs"]
    return Content(
        bundle.task,
        title=f"{bundle.name} at {site}",
        part=EXTERNAL,
        arms=(arm,),
        baseline=bundle.name,
        unit=bundle.facts["decision"]["unit"],
        files={manifest.name: sha256(manifest), "bundle.json": bundle.sha256},
        accept=bundle.facts["accept"],
        prevalence=costs["prevalence"],
        site=site,
    )


def _plain(site: str) -> str:
    """A site's name as a folder's."""
    if not re.search(r"\w", site):
        raise ConfigError(
            Problem(
                code="RS-C34",
                level="error",
                column="--site",
                found=f"{site!r} names no site",
                why="results of different sites stand side by side, each under its name",
                remedy="--site NAME, such as --site vienna",
            )
        )
    return re.sub(r"[^\w.-]+|^\.+", "_", site)


def _nothing(manifest: Path, reasons: list[Any]) -> Problem:
    return Problem(
        code="RS-B08",
        level="error",
        file=str(manifest),
        found="not one picture that the bundle can use" + (f": {reasons[0]}" if reasons else ""),
        why="there is nothing to validate on",
        remedy="look at the paths (--root) and at the pictures",
    )


def _no_unit(path: Path, column: str, unit: str, close: str | None) -> Problem:
    return Problem(
        code="RS-B09",
        level="error",
        file=str(path),
        column=column,
        found="the column is missing",
        why=f"the bundle decides about one {unit} at a time, and this column names it",
        remedy=f"did you mean '{close}'? rename it" if close else f"add a column '{column}'",
    )
