"""Who is in each part: age, sex, site and device, as far as the manifest tells, counted in independent units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

WHO = ("age", "sex", "site", "device", "localization", "view", "skin_type")
PARTS = ("train", "val", "test")
MOST_VALUES = 8
FEWEST_NUMBERS = 12  # distinct numbers that make a column a measurement instead of a code
NOT_TOLD = "not recorded"
REST = "all others"


def describe(table: pd.DataFrame, part: np.ndarray, group: str, columns: Sequence[str]) -> dict[str, Any]:
    """`{"parts": [...], "columns": [{"name", "kind", "values" | "summary"}]}`: counts of units in each part.

    A unit (a value of the column `group`, else of `patient_id`) counts once for every value that its rows hold. A
    numeric column with at least 12 distinct numbers is summed up by its median and quartiles over units (each unit's
    own median); any other keeps its eight commonest values, the rest taken together. `part` is `(N,)`; blank rows are
    left out, and a column that is empty throughout is not listed.
    """
    units = table[group if group in table else "patient_id"].to_numpy(dtype=object)
    parts = [name for name in PARTS if (part == name).any()]
    described = []
    for name in dict.fromkeys(columns):
        if name not in table:
            continue
        text = table[name].fillna("").astype(str).str.strip()
        if not (text[part != ""] != "").any():
            continue
        numbers = pd.to_numeric(text, errors="coerce")
        told = text != ""
        measured = numbers[told].notna().all() and numbers.nunique() >= FEWEST_NUMBERS
        made = _measured(numbers, part, units, parts) if measured else _counted(text, part, units, parts)
        described.append({"name": name, **made})
    totals = {name: len(set(units[part == name])) for name in parts}
    return {"parts": parts, "units": totals, "columns": described}


def _measured(numbers: pd.Series, part: np.ndarray, units: np.ndarray, parts: Sequence[str]) -> dict[str, Any]:
    summary = {}
    for name in parts:
        here = part == name
        of_unit = numbers[here].groupby(units[here]).median()
        known = of_unit.dropna().to_numpy()
        quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else [None] * 3
        summary[name] = {
            "median": None if quartiles[1] is None else float(quartiles[1]),
            "low": None if quartiles[0] is None else float(quartiles[0]),
            "high": None if quartiles[2] is None else float(quartiles[2]),
            "known": len(known),
            "unknown": int(of_unit.isna().sum()),
        }
    return {"kind": "measured", "summary": summary}


def _counted(text: pd.Series, part: np.ndarray, units: np.ndarray, parts: Sequence[str]) -> dict[str, Any]:
    told = text.where(text != "", NOT_TOLD)
    rows = pd.DataFrame({"value": told.to_numpy(), "part": part, "unit": units}).drop_duplicates()
    rows = rows[rows["part"] != ""]
    common = rows[rows["value"] != NOT_TOLD]["value"].value_counts(sort=True)
    kept = sorted(common.index, key=lambda value: (-common[value], value))[:MOST_VALUES]
    rows["value"] = rows["value"].where(rows["value"].isin([*kept, NOT_TOLD]), REST)
    counts = rows.drop_duplicates().groupby(["value", "part"]).size()
    shown = [value for value in (*kept, REST, NOT_TOLD) if value in counts.index.get_level_values(0)]
    return {
        "kind": "counted",
        "values": [
            {"value": value, "parts": {name: int(counts.get((value, name), 0)) for name in parts}} for value in shown
        ],
    }
