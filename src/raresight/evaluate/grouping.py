"""From a column of metadata to named groups: categories as they are, numbers in ranges that can be read aloud."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

UNKNOWN, OTHER = "unknown", "other"
MOST_GROUPS = 12
FEWEST_NUMBERS = 7  # a column of fewer distinct numbers is taken as codes
DECADES = 4
SMALL = 0.10
_BLANK = frozenset({"", "nan", "none", "na", "n/a", "null", "<na>", "nat", UNKNOWN})
_AGE = re.compile(r"(^|[^a-z])age($|[^a-z])")


@dataclass(frozen=True)
class Grouping:
    """A group for each row `(N,)`, the groups' names in reading order (`unknown` last), and how they were made."""

    of_row: np.ndarray
    names: tuple[str, ...]
    how: str


def grouped(values: Sequence[object] | np.ndarray, column: str) -> Grouping:
    """Groups of a column: each value one, or ranges where it holds numbers.

    Numbers (all but 5% of the known values, and at least 7 different ones) are binned: a column called age by decades,
    of which the smallest is merged into its smaller neighbour while it holds under 10% of the known rows and more than
    4 are left; anything else, and ages over fewer than 4 decades, at its quartiles (rounded to three figures). Values
    that differ in case or in outer spaces are one group, under their commonest spelling. Beyond 12 values the smallest
    are put together as `other`. Blank and unreadable values are `unknown`. `values` `(N,)` of anything. A group that no
    row belongs to has no name.
    """
    text = pd.Series(np.asarray(values, dtype=object)).map(lambda value: "" if value is None else str(value).strip())
    text = text.where(~text.str.casefold().isin(_BLANK), "")
    known = (text != "").to_numpy(dtype=bool)
    number = pd.to_numeric(text.str.replace(r"^(\d+)Y$", r"\1", regex=True), errors="coerce").to_numpy(np.float64)
    readable = np.isfinite(number)
    if known.any() and readable.sum() >= 0.95 * known.sum() and len(np.unique(number[readable])) >= FEWEST_NUMBERS:
        return _ranges(number, readable, column)
    return _categories(text, known)


def _ranges(number: np.ndarray, known: np.ndarray, column: str) -> Grouping:
    found = number[known]
    edges: Sequence[float] = _quartiles(found)
    how = "at its quartiles"
    named = [f"below {edges[0]:.12g}", *(f"{a:.12g} to below {b:.12g}" for a, b in pairwise(edges))]
    named += [f"{edges[-1]:.12g} and above"]
    if _AGE.search(column.casefold()):
        decades = _decades(found)
        if len(decades) > DECADES:
            edges, how = decades[1:-1], "by decades, small ones merged"
            named = [f"{a}-{b - 1}" for a, b in pairwise(decades)]
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), number, side="right")
    names = np.array([*named, UNKNOWN], dtype=object)
    of_row = names[np.where(known, bins, len(named))]
    present = set(of_row)
    return Grouping(of_row, tuple(name for name in names if name in present), how)


def _quartiles(found: np.ndarray) -> list[float]:
    return sorted({float(f"{edge:.3g}") for edge in np.quantile(found, (0.25, 0.5, 0.75))})


def _decades(found: np.ndarray) -> list[int]:
    """Edges at multiples of ten, small neighbours merged; `[]` where the numbers are no ages."""
    first, last = int(found.min() // 10 * 10), int(found.max() // 10 * 10 + 10)
    if first < 0 or last > 200:
        return []
    edges = list(range(first, last + 1, 10))
    counts = np.histogram(found, edges)[0].tolist()
    counts[-1] -= int((found == last).sum())  # the last bin of a histogram is closed, ours are open
    while len(counts) > DECADES and min(counts) < SMALL * len(found):
        i = counts.index(min(counts))
        neighbours = [j for j in (i - 1, i + 1) if 0 <= j < len(counts)]
        j = min(neighbours, key=lambda neighbour: counts[neighbour])
        counts[min(i, j)] += counts.pop(max(i, j))
        edges.pop(max(i, j))
    return edges


def _categories(text: pd.Series, known: np.ndarray) -> Grouping:
    folded = text.str.casefold()
    spelling = text[known].groupby(folded[known]).agg(lambda same: same.value_counts(sort=True).index[0])
    counts = folded[known].value_counts()
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    kept = order if len(order) <= MOST_GROUPS else order[: MOST_GROUPS - 1]
    of_row = folded.map(lambda name: spelling[name] if name in kept else OTHER).to_numpy(dtype=object)
    of_row[~known] = UNKNOWN
    names = [str(spelling[name]) for name in kept]
    names += [OTHER] if len(kept) < len(order) and OTHER not in names else []
    names += [UNKNOWN] if not known.all() else []
    how = "its values" if len(kept) == len(order) else f"its {len(kept)} commonest values, the others together"
    return Grouping(of_row, tuple(names), how)
