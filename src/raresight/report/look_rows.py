"""What `raresight explain` found, as its figures and pages read it: explain.json with its rows to be found by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raresight.report.words import DASH, class_name, number

Entry = Mapping[str, Any]
SCORE, ALIGNMENT, LAST = "auroc", "alignment", "alignment_last"
TOO_FEW = ("few", "absent", "not_estimable", "wide")  # statuses that are not drawn as a confident dot
FEWEST_SEEDS = 3  # an arm, below which T1 gives no verdict
MEASURES = {
    "hit": "hit rate",
    "iou": "overlap (IoU)",
    "mass": "share of the map inside",
    "iobb": "share of the lesion covered",
    "rank": "lesion pixels among the map's highest",
    "pixel_ap": "average precision of pixels",
    "lift": "pixel precision over chance",
    "ehr": "effective heat ratio",
}


@dataclass(frozen=True)
class Look:
    """explain.json, read only. A row that is not there is None, and every drawing says so in its place."""

    data: Entry

    @cached_property
    def baseline(self) -> str:
        return str(self.data.get("baseline") or (self._named[0] if self._named else ""))

    @cached_property
    def _named(self) -> list[str]:
        return [str(arm["name"]) if isinstance(arm, Mapping) else str(arm) for arm in self.data.get("arms") or []]

    @cached_property
    def arms(self) -> list[str]:
        """The baseline first, the others as they were given."""
        others = [name for name in self._named if name != self.baseline]
        return [self.baseline, *others] if self.baseline in self._named else others

    @property
    def others(self) -> list[str]:
        return [arm for arm in self.arms if arm != self.baseline]

    @cached_property
    def per_class(self) -> dict[str, Entry]:
        return {str(entry["name"]): entry for entry in self.data.get("classes") or []}

    @cached_property
    def classes(self) -> list[str]:
        """The rarest in training first."""
        return sorted(self.per_class, key=self.count)

    def count(self, class_: str) -> int:
        """Training images with the class; 0 where that is not known."""
        return int(self.per_class[class_].get("n_train") or 0)

    @property
    def seeds(self) -> list[Any]:
        return list(self.data.get("seeds") or [])

    @property
    def layers(self) -> list[str]:
        found = self.data.get("layers") or []
        return [str(layer["name"]) if isinstance(layer, Mapping) else str(layer) for layer in found]

    @property
    def layer(self) -> str:
        """The layer whose maps and units are shown: the chosen one, else the deepest."""
        chosen = self.choices.get("layer")
        return str(chosen) if chosen else (self.layers[-1] if self.layers else "")

    @property
    def placeless(self) -> bool:
        """Whether the baseline has no layer that keeps the places of the image apart, so that there is no map."""
        return self.data.get("layers") == []

    @property
    def without_places(self) -> str:
        """Why there are no maps, where the network cannot have any."""
        return f"there are no maps and no units: {self.baseline} does not keep the places of the image apart"

    @property
    def choices(self) -> Entry:
        return self.data.get("choices") or {}

    @property
    def last_layer(self) -> str:
        """The last layer before the score, where alignment was measured there too; empty where it is the one shown."""
        last = str(self.choices.get("last_layer") or "")
        return last if last != self.layer and any(self.rows_of("verdict", LAST)) else ""

    def rows_of(self, table: str, metric: str) -> Iterator[Entry]:
        """The rows of a metric that have a figure."""
        return (row for row in self.rows(table) if row.get("metric") == metric and row.get("value") is not None)

    @property
    def measure(self) -> str:
        """The measure behind `alignment`, in words."""
        name = str(self.choices.get("alignment") or "mass").removesuffix("_corrected")
        return MEASURES.get(name, name.replace("_", " "))

    @cached_property
    def n_regions(self) -> int:
        return sum(int(entry.get("n_regions") or 0) for entry in self.per_class.values())

    @cached_property
    def greyed(self) -> dict[str, str]:
        """Arms whose maps of the shown kind and layer failed the check, and why; all other arms are absent."""
        found: dict[str, str] = {}
        method = self.choices.get("method")
        for row in self.rows("gate"):
            here = row.get("method") in (None, method or row.get("method")) and row.get("layer") in (None, self.layer)
            if row.get("greyed") and here and not row.get("class"):
                why = str(row.get("reason") or "its maps failed the check")
                found.setdefault(str(row["arm"]), why)
        return found

    @property
    def without_pictures(self) -> bool:
        """Whether pictures of patients were left out on request."""
        return self.data.get("pictures") is False

    def rows(self, table: str) -> list[Entry]:
        return list((self.data.get("tables") or {}).get(table) or [])

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str | None], list[Entry]]:
        index: dict[tuple[str, str, str, str | None], list[Entry]] = {}
        for table in self.data.get("tables") or {}:
            for row in self.rows(table):
                key = (table, str(row.get("metric")), str(row.get("arm")), row.get("class") or None)
                index.setdefault(key, []).append(row)
        return index

    def all_of(self, table: str, metric: str, arm: str, class_: str | None = None, **more: Any) -> list[Entry]:
        """The rows of an arm and class whose other keys are as given."""
        rows = self._index.get((table, metric, arm, class_), [])
        return [row for row in rows if all(row.get(key) == value for key, value in more.items())]

    def find(self, table: str, metric: str, arm: str, class_: str | None = None, **more: Any) -> Entry | None:
        """The row over all seeds; that of the only seed where there is one; else None."""
        rows = self.all_of(table, metric, arm, class_, **more)
        together = [row for row in rows if row.get("seed") is None]
        if together:
            return together[0]
        return rows[0] if len({row.get("seed") for row in rows}) == 1 else None

    def value(self, table: str, metric: str, arm: str, class_: str | None = None, **more: Any) -> float | None:
        row = self.find(table, metric, arm, class_, **more)
        return None if row is None or row.get("value") is None else float(row["value"])

    def metrics(self, table: str, names: tuple[str, ...]) -> list[str]:
        """Those of `names` that have a figure anywhere in the table, in their order."""
        there = {
            str(row.get("metric")) for row in self.rows(table) if _number(row, "value") or _number(row, "difference")
        }
        return [name for name in names if name in there]

    def numbered(self) -> Iterator[tuple[int, str]]:
        """The classes with the numbers that stand for them in crowded figures: 1 is the rarest."""
        yield from enumerate(self.classes, start=1)

    def called(self, class_: str) -> str:
        """`dermatofibroma (73)`: the class and its training images."""
        n = self.count(class_)
        return f"{class_name(class_)} ({n:,})" if n else class_name(class_)

    def why_no(self, table: str) -> str:
        """Why a table holds nothing, as far as explain.json tells."""
        reasons = [str(row["reason"]) for row in self.rows(table) if row.get("reason")]
        if reasons:
            return f"not computed, because {reasons[0]}"
        if table in ("alignment", "dissection") and not self.n_regions:
            return "not computed, because nobody drew where the findings lie"
        if table in ("alignment", "dissection") and self.placeless:
            return f"not computed, because {self.without_places}"
        return "not computed, because raresight explain was not asked for it"


def firm(row: Entry | None) -> bool:
    """Whether enough patients stand behind the arm's own figure to be drawn as one."""
    return row is not None and (row.get("status") or "ok") not in TOO_FEW


def greyed(row: Entry | None) -> bool:
    """Whether the figure rests on maps of the arm that failed the check, or of a class whose maps are mostly empty."""
    return bool((row or {}).get("greyed"))


def firm_difference(row: Entry | None) -> bool:
    """Whether enough patients stand behind the difference to be drawn as one."""
    return row is not None and (row.get("diff_status") or "ok") not in TOO_FEW


def untrusted_difference(row: Entry | None) -> bool:
    """Whether the difference rests on maps, the arm's or the baseline's, that failed the check."""
    return row is not None and row.get("diff_status") == "not_trusted"


def sure(row: Entry | None) -> bool:
    """Whether a difference is clear after the correction for the number of comparisons, and with seeds enough."""
    clear = row is not None and row.get("p_adjusted") is not None and float(row["p_adjusted"]) < 0.05
    return clear and firm_difference(row) and not untrusted_difference(row) and not few_seeds(row)


def few_seeds(row: Entry | None) -> bool:
    """Whether the difference rests on so few seeds an arm that a seed's luck could be all of it."""
    n = (row or {}).get("diff_n_seeds")
    return n is not None and int(n) < FEWEST_SEEDS


def signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # + 0.0: no minus before a zero


def told_value(row: Entry | None) -> str:
    """`0.41 (0.30–0.52)`, `0.01 (−0.02 to 0.04)`, or the words that stand in its place."""
    if row is None:
        return "not computed"
    if row.get("value") is None:
        return "not estimable"
    bounds = "no interval"
    if row.get("low") is not None and row.get("high") is not None:
        below = float(row["low"]) < 0  # where a dash would be read as a minus
        bounds = f"{_short(row['low'])}{' to ' if below else '–'}{_short(row['high'])}"
    return f"{_short(row['value'])} ({bounds})"


def told_difference(row: Entry | None) -> str:
    """`−0.12 (−0.18 to −0.05)`, or the words that stand in its place."""
    if row is None:
        return "not computed"
    if row.get("difference") is None:
        return "not estimable"
    bounds = "no interval"
    if row.get("diff_low") is not None and row.get("diff_high") is not None:
        bounds = f"{signed(row['diff_low'])} to {signed(row['diff_high'])}"
    return f"{signed(row['difference'])} ({bounds})"


def told_patients(row: Entry | None) -> str:
    """`22`, `22 (17 in the difference)` where that rests on fewer, or a dash."""
    value, difference = (None if row is None else row.get(key) for key in ("n_patients", "diff_n_patients"))
    if value is None:
        return DASH
    return str(value) if difference in (None, value) else f"{value} ({difference} in the difference)"


def told_reason(row: Entry | None) -> str:
    """What limits the figure, and after it what limits the difference where that is something else."""
    value, difference = (str((row or {}).get(key) or "") for key in ("reason", "diff_reason"))
    apart = f"difference: {difference}" if difference and difference != value else ""
    return signs("; ".join(filter(None, (value, apart))))


def signs(text: str) -> str:
    """The text with the minus of its numbers as all figures have it."""
    return re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)


def layer_name(name: str) -> str:
    """`layer 2` for a layer that has a number for a name, as those of a sequence do; else the name."""
    return name if any(letter.isalpha() for letter in name) or not name else f"layer {name}"


def _short(value: float) -> str:
    return number(float(value)).replace("-", "−")


def _number(row: Entry, key: str) -> bool:
    return row.get(key) is not None
