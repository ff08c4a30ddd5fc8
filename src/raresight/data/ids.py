"""Who is who: missing, blank and look-alike ids of cases, groups and patients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from raresight.core.errors import Problem, listed
from raresight.core.manifest import Manifest

BLANK = {"", "nan", "na", "n/a", "none", "null", "<na>", "nat", "-", "?", "unknown"}  # compared without case


def is_blank(ids: pd.Series) -> pd.Series:
    """Whether an id is none: empty, or a word that programs write for it. Never merged into one "nan" patient."""
    return ids.str.strip().str.casefold().isin(BLANK)


def no_patients(file: str, columns: list[str], hint: str = "") -> Problem:
    """RS-M01: the source names no patients."""
    return Problem(
        code="RS-M01",
        level="error",
        file=file,
        row=1,
        column="patient_id",
        found=f"no patient ids (columns: {listed(columns, 16)})" if columns else "no patient ids",
        why="images of one patient would fall into training and test, and scores would be too good",
        remedy=hint
        or "name the column with --patient-col, or state --one-image-per-patient if no two images share one",
    )


def missing_patients(manifest: Manifest, file: str, *, waived: bool) -> list[Problem]:
    """Items 1 and 2: no ids at all is an error unless waived; single blank ids put their rows in quarantine."""
    if waived:
        return []
    if "patient_id" not in manifest.table:
        return [no_patients(file, list(manifest.table.columns))]
    blank = np.flatnonzero(is_blank(manifest.table["patient_id"]))
    if len(blank) == len(manifest):
        return [no_patients(file, list(manifest.table.columns))]
    return [
        Problem(
            code="RS-M02",
            level="quarantine",
            file=file,
            row=int(row) + 2,
            column="patient_id",
            found=f"blank patient id ({str(manifest.table['patient_id'].iloc[row])!r})",
            why="it is not known whose image this is, so no part of the split is safe for it",
            remedy="write the patient's id; the row is left out until then",
        )
        for row in blank
    ]


def look_alikes(manifest: Manifest, file: str) -> list[Problem]:
    """Item 3: ids that differ by leading zeros, case or spaces alone (`007`, `7`), per id column."""
    problems = []
    for column in ("patient_id", "group"):
        if column not in manifest.table:
            continue
        ids = manifest.table[column]
        written = pd.Series(pd.unique(ids[~is_blank(ids)]), dtype=object)
        if column == "group" and "patient_id" in manifest.table and (ids == manifest.table["patient_id"]).all():
            continue
        plain = (
            written.str.casefold().str.replace(r"\s+", "", regex=True).str.replace(r"(?<!\d)0+(?=\d)", "", regex=True)
        )
        twice = plain.duplicated(keep=False)
        written, plain = written[twice], plain[twice]
        alike = written.groupby(plain.to_numpy(dtype=object), sort=True).agg(list)
        pairs = [names for names in alike if len(names) > 1]
        if pairs:
            row = int(np.argmax((ids == pairs[0][1]).to_numpy())) + 2
            told = listed([" = ".join(repr(name) for name in names) for names in pairs])
            problems.append(
                Problem(
                    code="RS-M03",
                    level="warning",
                    file=file,
                    row=row,
                    column=column,
                    found=f"{len(pairs)} ids written in ways that differ by zeros, case or spaces alone: {told}",
                    why="if they are one patient, that patient may be in training and test",
                    remedy="write one id one way; if they are different patients, nothing is to do",
                )
            )
    return problems


def repeated_cases(manifest: Manifest, file: str) -> list[Problem]:
    """RS-M53: a case id names one row; blank or repeated ones cannot be joined with predictions."""
    if "case" not in manifest.table:
        return []
    cases = manifest.table["case"]
    bad = np.flatnonzero(cases.duplicated(keep="first") | (cases.str.strip() == ""))
    if not len(bad):
        return []
    row = int(bad[0])
    first = int(np.argmax((cases == cases.iloc[row]).to_numpy())) + 2
    more = f"; {len(bad) - 1} more such rows" if len(bad) > 1 else ""
    blank = not cases.iloc[row].strip()
    return [
        Problem(
            code="RS-M53",
            level="error",
            file=file,
            row=row + 2,
            column="case",
            found=(
                f"blank case id{more}" if blank else f"case id {cases.iloc[row]!r} is that of row {first} too{more}"
            ),
            why="predictions and labels are joined by the case id",
            remedy="give every row a case id of its own",
        )
    ]
