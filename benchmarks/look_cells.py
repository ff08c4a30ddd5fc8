"""Cells and tables of the dated tables on looks: arms down, classes or figures across, from rows of `explain.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]
Entry = Mapping[str, Any]

ALPHA = 0.05
COUNTS = (
    "detectors",
    "detectors_04",
    "detectors_beyond_chance",
    "null_detectors",
    "units_for_class",
    "legacy_concept_count",
    "legacy_excess",
)
SCORES = ("auroc", "auprc", "d_prime")  # which rest on no map
CELLS = (
    "Means over seeds with 95% intervals. An arm's cell is its difference from the baseline unless a table says 'own "
    "values'. Bold: adjusted p (Holm) at most 0.05; a p stands in the cell where it is below 1 after adjustment. †: "
    "grey, the maps (in a difference, of either side) are not trusted. The last line counts patients and images with "
    "the class that the numbers rest on; where a difference rests on fewer, its cell says so in brackets."
)


def own(row: Entry, digits: int = 3) -> str:
    """`0.382 (0.262 to 0.488)`, an arm's own figure; a dash where there is none."""
    said = _said(row["value"], row["low"], row["high"], f".{digits}f")
    return said + _grey(row) if said != "-" else said


def change(row: Entry, digits: int = 3) -> str:
    """`+0.153 (+0.028 to +0.242), p 0.21`, its difference from the baseline; bold where that is clear."""
    said = _said(row["difference"], row["diff_low"], row["diff_high"], f"+.{digits}f")
    p = row["p_adjusted"]
    if said != "-" and p is not None and p < 0.995:
        said += f", p {p:.2g}" if p >= 0.001 else ", p < 0.001"
        said = f"**{said}**" if p <= ALPHA else said
    return said + _grey(row, "diff_status") if said != "-" else said


def rows_of(found: Found, table: str, **wanted: Any) -> list[Entry]:
    """The rows of all seeds together that have these values under these keys; none from a table that is not there."""
    rows = found["tables"].get(table, [])
    return [one for one in rows if one["seed"] is None and all(one.get(key) == value for key, value in wanted.items())]


def by_class(found: Found, table: str, *, alone: bool = False, **wanted: Any) -> list[str]:
    """Arms down, classes across, of one metric. `alone`: own values of all arms, else differences under the baseline's.

    Nothing where the look has no such row.
    """
    rows = rows_of(found, table, **wanted)
    names: list[str | None] = [c["name"] for c in found["classes"] if any(one["class"] == c["name"] for one in rows)]
    names += [None] if any(one["class"] is None for one in rows) else []
    if not names:
        return []
    digits = 1 if wanted.get("metric") in COUNTS else 3
    at = {(one["arm"], one["class"]): one for one in rows}
    said = head(["arm", *(name or "macro" for name in names)])
    for arm in found["arms"]:
        cells = []
        for name in names:
            one, first = at.get((arm, name)), at.get((found["baseline"], name))
            if one is None:
                cells.append("-")
            elif alone or arm == found["baseline"]:
                cells.append(own(one, digits))
            else:
                cells.append(change(one, digits) + _fewer(one, first))
        if any(cell != "-" for cell in cells):
            said.append(line([arm, *cells]))
    return [
        *said,
        line(["patients / images", *(_rests(at.get((found["baseline"], name)) if name else None) for name in names)]),
    ]


def section(title: str, lines: Sequence[str], note: str = "") -> list[str]:
    """A heading over a table, with a note between; nothing where there is no table."""
    return ["", title, "", *([note, ""] if note else []), *lines] if lines else []


def head(names: Sequence[str]) -> list[str]:
    return [line(names), "|" + "---|" * len(names)]


def line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _said(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{value:{form}}" + ("" if low is None or high is None else f" ({low:{form}} to {high:{form}})")


def _grey(row: Entry, status: str = "status") -> str:
    """The mark of maps that are not trusted; of a difference, those of either side."""
    return " †" if (row["greyed"] or row.get(status) == "not_trusted") and row["metric"] not in SCORES else ""


def _fewer(row: Entry, first: Entry | None) -> str:
    """` [17 patients]` where a difference rests on fewer than the baseline's own figure; older looks count it alone."""
    n = row.get("diff_n_patients", row["n_patients"])
    return (
        f" [{n} patients]"
        if n is not None and row["difference"] is not None and first and n != first["n_patients"]
        else ""
    )


def _rests(row: Entry | None) -> str:
    return (
        "-"
        if row is None
        else " / ".join("-" if row[key] is None else f"{row[key]:,}" for key in ("n_patients", "n_images"))
    )
