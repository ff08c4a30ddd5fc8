"""Predictions made by anybody, read and checked, with every problem told at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.errors import ConfigError, DataError, Problem, listed, nearest
from raresight.core.manifest import LABEL_PREFIX
from raresight.core.predictions import LOGIT_PREFIX, PROB_PREFIX, Predictions
from raresight.core.task import Kind, Task
from raresight.evaluate.agreement import align
from raresight.evaluate.calibration import probabilities
from raresight.evaluate.table_text import FIRST_ROW, read_text_table

__all__ = ["align", "read_predictions"]

SUM_TOLERANCE = 1e-3


def read_predictions(
    path: Path | str,
    *,
    task: Task | None = None,
    columns: Mapping[str, str] | None = None,
    scores: str = "probabilities",
    one_image_per_patient: bool = False,
    group: str = "patient_id",
    labels: bool = True,
) -> Predictions:
    """Read a predictions table (CSV or Parquet): `case`, `group`, `prob_<class>`, and `label` or `label_<class>`.

    Classes are those of `task`, else the `prob_` columns in their order; labels are exclusive where there is a column
    `label`, independent where there are `label_<class>`. An empty label is unknown. `columns` maps our names to the
    file's (`{case: image_id, prob_mel: MEL}`). `scores` says whether `prob_` columns hold probabilities or logits:
    nothing is guessed from the values. Groups are what intervals count as independent: without the column every case is
    its own only if `one_image_per_patient` says so. With `labels=False` neither labels nor groups are needed, and an
    unlabelled table comes back, for a study that has its own.

    Raises: `DataError` with all of: RS-P01 no group column, RS-P02 blank groups, RS-P09 missing class columns or
    unknown labels (with the nearest known), RS-P12 labels other than 0, 1 or empty, RS-P16 unreadable file, RS-P41
    rows outside [0, 1] or not summing to 1, RS-P42 missing or non-finite scores, RS-P43 blank or repeated cases.
    `ConfigError` RS-C33 for an unknown `scores` or a mapping that names columns which are not there.
    """
    path = Path(path)
    if scores not in ("probabilities", "logits"):
        found = f"scores: {scores!r}"
        raise ConfigError(_problem("RS-C33", path, None, found, "the columns must be named", "probabilities or logits"))
    table = _renamed(read_text_table(path), columns, path)
    given = _Given(table, path, scores)
    settled = task or given.task()
    if settled is None:
        raise DataError(*given.problems)
    given.cases()
    given.groups(group, one_image_per_patient or not labels)
    values = given.scores(settled)
    given.labels(settled, required=labels)
    if given.problems or values is None:
        raise DataError(*given.problems)
    return Predictions(given.result(settled, values, group), settled, cluster=group)


class _Given:
    """A table as given; every check adds its problems, and cleans what it checked."""

    def __init__(self, table: pd.DataFrame, path: Path, scores: str) -> None:
        self.table, self.path, self.scores_are = table, path, scores
        self.problems: list[Problem] = []
        self.known: dict[str, np.ndarray] = {}

    def add(self, code: str, found: str, why: str, remedy: str, row: int | None = None, column: str = "") -> None:
        self.problems.append(_problem(code, self.path, column or None, found, why, remedy, row))

    def task(self) -> Task | None:
        """The task that the column names speak of, or None where they do not say."""
        classes = _after(PROB_PREFIX, self.table)
        named = _after(LABEL_PREFIX, self.table)
        if not classes:
            found = f"no column prob_<class> among {listed(list(self.table.columns))}"
            remedy = "name the scores prob_<class>, or map them with --map"
            self.add("RS-P09", found, "there is nothing to evaluate", remedy)
            return None
        if ("label" in self.table) == bool(set(named) & set(classes)):
            found = "both label and label_<class>" if "label" in self.table else "neither label nor label_<class>"
            remedy = "label for one class a case; label_<class> with 0, 1 or empty for several"
            self.add("RS-P09", found, "the kind of label decides every figure", remedy)
            return None
        kind: Kind = "exclusive" if "label" in self.table else "independent"
        return Task(kind, tuple(classes))

    def cases(self) -> None:
        why = "every prediction belongs to one case"
        if "case" not in self.table:
            self.add("RS-P43", "no column 'case'", why, _hint("case", self.table))
            return
        case = self.table["case"].to_numpy(dtype=object)
        blank = _rows(np.array([not str(name).strip() for name in case]))
        if blank:
            self.add("RS-P43", f"{len(blank)} rows without a case: rows {listed(blank)}", why, "name them", blank[0])
        repeated = pd.Series(case).duplicated().to_numpy()
        if repeated.any():
            found = f"{int(repeated.sum())} rows repeat a case: {listed(list(case[repeated]))}"
            self.add("RS-P43", found, why, "keep one row a case", _rows(repeated)[0], "case")

    def groups(self, group: str, waived: bool) -> None:
        why = "several images of one patient are not independent, and intervals would be too narrow"
        if group not in self.table:
            if waived:
                if "case" in self.table:
                    self.table[group] = self.table["case"]
                return
            remedy = f"{_hint(group, self.table)}; if every patient has one image, say --one-image-per-patient"
            self.add("RS-P01", f"no column '{group}'", why, remedy)
            return
        blank = _rows((self.table[group].str.strip().str.lower().isin(["", "nan", "none", "na"])).to_numpy(dtype=bool))
        if blank:
            found = f"{len(blank)} rows without a {group}: rows {listed(blank)}"
            self.add("RS-P02", found, "they would be counted as one patient", f"fill in {group}", blank[0], group)

    def scores(self, task: Task) -> np.ndarray | None:
        """`(N, K)` scores, or None where they cannot be used."""
        missing = [name for name in task.classes if PROB_PREFIX + name not in self.table]
        for name in missing:
            hint = _hint(PROB_PREFIX + name, self.table)
            self.add("RS-P09", f"no column 'prob_{name}'", "every class of the task needs a score", hint)
        if missing:
            return None
        values = self._numbers([PROB_PREFIX + name for name in task.classes])
        broken = ~np.isfinite(values).all(axis=1)
        if broken.any():
            found = f"{int(broken.sum())} cases with a score that is missing or no number: {self._examples(broken)}"
            why, remedy = "a missing score would be ranked by accident", "predict these cases, or leave them out"
            self.add("RS-P42", found, why, remedy, _rows(broken)[0])
        if self.scores_are == "logits":
            return values
        outside = ~broken & ((values < 0) | (values > 1)).any(axis=1)
        why, remedy = "figures and thresholds take them as probabilities", "if they are logits, say --scores logits"
        if outside.any():
            found = f"{int(outside.sum())} rows have a value outside [0, 1]: {self._examples(outside)}"
            self.add("RS-P41", found, why, remedy, _rows(outside)[0])
        if task.kind == "exclusive":
            off = ~broken & ~outside & (np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE)
            if off.any():
                found = f"the probabilities of {int(off.sum())} rows do not sum to 1: {self._examples(off)}"
                every = f"every class needs its column (here: {listed(task.classes)})"
                self.add("RS-P41", found, why, f"{every}; {remedy}", _rows(off)[0])
        return values

    def labels(self, task: Task, *, required: bool) -> None:
        why = "a label that is not known would silently become another class, or none"
        if task.kind == "exclusive":
            if "label" not in self.table:
                if required:
                    self.add("RS-P09", "no column 'label'", "figures need the truth", _hint("label", self.table))
                return
            label = self.table["label"].to_numpy(dtype=object)
            for name in sorted({str(text) for text in label} - {*task.classes, ""}):
                here = _rows(label == name)
                close = nearest(name, task.classes)
                remedy = f"did you mean '{close}'?" if close else f"classes: {listed(task.classes)}"
                self.add("RS-P09", f"unknown label '{name}' in {len(here)} rows", why, remedy, here[0], "label")
            return
        for name in task.classes:
            column = LABEL_PREFIX + name
            if column not in self.table:
                if required:
                    self.add("RS-P09", f"no column '{column}'", "figures need the truth", _hint(column, self.table))
                continue
            values = self._numbers([column])[:, 0]
            empty = (self.table[column].str.strip() == "").to_numpy(dtype=bool)
            wrong = ~empty & ~np.isin(values, [0.0, 1.0])
            if wrong.any():
                first = self.table[column].to_numpy(dtype=object)[wrong][0]
                found = f"{int(wrong.sum())} labels are not 0, 1 or empty (first: {first!r})"
                self.add("RS-P12", found, why, "write 1, 0, or nothing for unknown", _rows(wrong)[0], column)
            self.known[column] = np.where(empty, np.nan, values)

    def result(self, task: Task, values: np.ndarray, group: str) -> pd.DataFrame:
        scores = [PROB_PREFIX + name for name in task.classes]
        logits = [LOGIT_PREFIX + name for name in task.classes]
        kept = [
            name
            for name in dict.fromkeys(["case", group, *self.table.columns])
            if name not in {*scores, *logits, *self.known}
        ]
        made: dict[str, np.ndarray] = {str(name): self.table[name].to_numpy(dtype=object) for name in kept}
        prob, z = values, None
        if self.scores_are == "logits":
            prob, z = probabilities(values, task.kind), values
        elif set(logits) <= set(self.table.columns):
            own = self._numbers(logits)
            z = own if np.isfinite(own).all() else None
        made |= {name: prob[:, k] for k, name in enumerate(scores)}
        if z is not None:
            made |= {name: z[:, k] for k, name in enumerate(logits)}
        return pd.DataFrame(made | self.known)

    def _numbers(self, columns: list[str]) -> np.ndarray:
        text = self.table[columns]
        if self.table.attrs.get("delimiter") == ";":
            text = text.apply(lambda column: column.str.replace(",", ".", regex=False))
        numbers = [pd.to_numeric(text[name].str.strip(), errors="coerce") for name in columns]
        return np.stack([column.to_numpy(dtype=np.float64) for column in numbers], axis=1)

    def _examples(self, rows: np.ndarray) -> str:
        if "case" in self.table:
            return listed([f"{self.table['case'].iloc[i]} (row {i + FIRST_ROW})" for i in np.flatnonzero(rows)])
        return "rows " + listed(_rows(rows))


def _renamed(table: pd.DataFrame, columns: Mapping[str, str] | None, path: Path) -> pd.DataFrame:
    if columns is None:
        return table
    why = "the mapping names our column first, then the file's"
    remedy = "write   case: image_id   one line a column"
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) for pair in columns.items() for name in pair):
        raise ConfigError(_problem("RS-C33", path, None, f"column mapping {columns!r}", why, remedy))
    absent = [theirs for theirs in columns.values() if theirs not in table.columns]
    if absent:
        raise ConfigError(
            *(_problem("RS-C33", path, name, f"no column '{name}'", why, _hint(name, table)) for name in absent)
        )
    back = {theirs: ours for ours, theirs in columns.items()}
    # A column of the file that already has the name gives way to the one that the mapping puts there.
    kept = table.drop(columns=[ours for ours in columns if ours in table.columns and ours not in back])
    renamed = kept.rename(columns=back)
    if renamed.columns.has_duplicates:
        raise ConfigError(_problem("RS-C33", path, None, "the mapping gives two columns one name", why, remedy))
    return renamed


def _after(prefix: str, table: pd.DataFrame) -> list[str]:
    return [name.removeprefix(prefix) for name in map(str, table.columns) if name.startswith(prefix) and name != prefix]


def _hint(name: str, table: pd.DataFrame) -> str:
    close = nearest(name, [str(column) for column in table.columns])
    return f"did you mean '{close}'? Name it {name}, or map it with --map" if close else f"add {name}, or use --map"


def _rows(mask: np.ndarray) -> list[int]:
    return [int(i) + FIRST_ROW for i in np.flatnonzero(mask)]


def _problem(
    code: str, path: Path, column: str | None, found: str, why: str, remedy: str, row: int | None = None
) -> Problem:
    return Problem(
        code=code, level="error", file=str(path), row=row, column=column, found=found, why=why, remedy=remedy
    )
