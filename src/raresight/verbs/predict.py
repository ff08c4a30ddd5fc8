"""`raresight predict`: a bundle decides about pictures, refers them to a human, or refuses them with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raresight.core.bundle import Bundle
from raresight.core.errors import DataError, Problem
from raresight.core.files import replacing
from raresight.core.predictions import PROB_PREFIX, Predictions, tabulate
from raresight.core.progress import Silent
from raresight.verbs.bundled import Decided, decide, per_unit, see

DECISION_PREFIX = "decision_"
TABLES = (".csv", ".tsv", ".csv.gz")
TIMES = ("time", "date", "acquired", "study_date")
DECIDED, REFER, INVALID = "decided", "refer", "invalid_input"


def predict(
    bundle: Path,
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    root: Path | None = None,
    progress: Silent | None = None,
) -> pd.DataFrame:
    """One row a decision unit; also written to `out` where it is given.

    `paths` are pictures, folders of pictures, or tables with an `image` column (paths relative to `root`, or to the
    table). Columns: `case`, `prob_<class>` (calibrated), `decision_<class>` (1 alarm, 0 none, empty where the class
    has no threshold or nothing was decided), `status` (`decided`, `refer`, `invalid_input`), `reason`,
    `bundle_sha256`, then `n_images` and what a table brought along: `patient_id`, the unit's column, a time. Where
    decisions are about lesions, exams or patients and no table names them, every picture is a unit of its own.

    Raises: `DataError` RS-B01 to RS-B03 for a bundle that is not whole, RS-B08 where there is not one picture.
    """
    told = progress or Silent()
    loaded = Bundle.load(bundle)
    if loaded.facts["study"]["quick"]:
        told.say("this bundle comes from a quick trial: its decisions are not for use")
    given = inputs(loaded, paths, root, told)
    seen = see(loaded, list(given["image"]), Path(), told)
    known = given[seen.usable].reset_index(drop=True)
    unlabelled = np.full((len(known), loaded.task.n_classes), np.nan)
    metadata = known.drop(columns=["case", "image"])
    table = tabulate(loaded.task, known["case"].to_numpy(dtype=object), seen.logits, unlabelled, metadata)
    cluster = loaded.unit_column or "patient_id"
    units = per_unit(loaded, Predictions(table, loaded.task, loaded.name, cluster=cluster))
    rows = _rows(loaded, given, seen.usable, seen.reason, seen.converted, decide(loaded, units))
    if out is not None:
        with replacing(out) as temporary:
            rows.to_csv(temporary, index=False)
    return rows


def inputs(bundle: Bundle, paths: Sequence[Path], root: Path | None, progress: Silent) -> pd.DataFrame:
    """`case, image, patient_id`, the unit's column and any time, one row a picture, in the order given."""
    from raresight.data.incoming import pictures_below
    from raresight.data.read import cases_of

    tables = []
    for path in paths:
        if path.is_dir():
            tables.append(pd.DataFrame({"image": [str(found) for found in pictures_below(path, progress.say)]}))
        elif path.name.lower().endswith(TABLES):
            tables.append(_listed(path, root, bundle.unit_column))
        else:
            tables.append(pd.DataFrame({"image": [str(path)]}))
    given = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"image": []})
    if given.empty:
        raise DataError(_nothing(paths))
    given = given.astype(object).where(given.notna(), "")
    own = cases_of(given["image"].astype(str))
    given["case"] = own if "case" not in given else given["case"].where(given["case"] != "", own)
    nth = given.groupby("case").cumcount()
    given["case"] = given["case"].where(nth == 0, given["case"] + "~" + (nth + 1).astype(str))
    column = bundle.unit_column
    if column is not None:
        named = given[column] if column in given else pd.Series("", index=given.index)
        if (named == "").any():
            unit = bundle.facts["decision"]["unit"]
            progress.say(f"{int((named == '').sum())} pictures name no {column}: each is taken as a {unit} of its own")
        given[column] = named.where(named != "", given["case"])
    elif "patient_id" not in given:
        given["patient_id"] = ""
    return given


def _listed(path: Path, root: Path | None, unit: str | None) -> pd.DataFrame:
    from raresight.data.formats.csv_table import IMAGE, PATIENT
    from raresight.data.tables import absent_column, open_table

    table = open_table(path)
    image = table.first(*IMAGE)
    if image is None:
        raise DataError(absent_column(str(path), "image", list(table.frame.columns), None))
    folder = root or path.parent
    columns = {"image": [str(folder / name) for name in table.frame[image]]}
    names = {"case": table.first("case"), "patient_id": table.first(*PATIENT), "time": table.first(*TIMES)}
    names |= {unit: table.first(unit)} if unit else {}
    columns |= {name: list(table.frame[own]) for name, own in names.items() if own is not None and own != image}
    return pd.DataFrame(columns)


def _rows(
    bundle: Bundle,
    given: pd.DataFrame,
    usable: np.ndarray,
    reason: np.ndarray,
    converted: np.ndarray,
    decided: Decided,
) -> pd.DataFrame:
    """Every unit in the order in which its first picture was given, those without any usable picture included."""
    unit = given[bundle.unit_column or "case"].astype(str)
    place = {case: i for i, case in enumerate(decided.calibrated.cases.astype(str))}
    prob, classes = decided.calibrated.prob, bundle.task.classes
    rows: list[dict[str, Any]] = []
    for name, pictures in given.groupby(unit, sort=False):
        lines = pictures.index.to_numpy()
        bad, i = lines[~usable[lines]], place.get(str(name))
        row: dict[str, Any] = {"case": name}
        row |= {PROB_PREFIX + label: None if i is None else float(prob[i, k]) for k, label in enumerate(classes)}
        status, why = _status(len(lines), list(reason[bad]), "" if i is None else str(decided.referred[i]))
        for k, label in enumerate(classes):
            silent = i is None or status != DECIDED or label not in bundle.thresholds
            row[DECISION_PREFIX + label] = None if silent else int(decided.alarm[i, k])
        notes = sorted({one for one in converted[lines] if one})
        why = "; ".join(part for part in (why, f"converted: {', '.join(notes)}" if notes else "") if part)
        row |= {"status": status, "reason": why, "bundle_sha256": bundle.sha256, "n_images": len(lines)}
        kept = [str(column) for column in given if column not in ("case", "image", bundle.unit_column)]
        row |= {column: pictures[column].iloc[0] if pictures[column].nunique() == 1 else "" for column in kept}
        rows.append(row)
    table = pd.DataFrame(rows)
    alarms = [DECISION_PREFIX + label for label in classes]
    return table.astype({**dict.fromkeys(alarms, "Int64"), **{PROB_PREFIX + label: float for label in classes}})


def _status(n: int, refused: Sequence[str], referred: str) -> tuple[str, str]:
    """A unit of `n` pictures: none of them usable, some (a human must look at the rest), or all."""
    if len(refused) == n:
        return INVALID, refused[0] if n == 1 else f"none of {n} pictures can be used: {refused[0]}"
    if refused:
        return REFER, f"{len(refused)} of {n} pictures cannot be used: {refused[0]}"
    return (REFER, referred) if referred else (DECIDED, "")


def _nothing(paths: Sequence[Path]) -> Problem:
    return Problem(
        code="RS-B08",
        level="error",
        file=", ".join(str(path) for path in paths[:3]),
        found="not one picture to predict",
        why="a folder without pictures, or an empty table, is mostly a wrong path",
        remedy="name pictures, a folder that holds some, or a table with a column 'image'",
    )
