"""An estimate: a metric with its interval, what it rests on, and whether it may be read at all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from raresight.core.files import finite, read_json, write_json

Status = Literal["ok", "wide", "not_estimable"]

FEW_POSITIVE_PATIENTS = 10  # below, no figure of a class is called firm


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One line of `estimates.json`.

    `class_` is None for a macro figure (its JSON key is `class`), `seed` None for seeds pooled, `operating_point` None
    for threshold-free metrics, else `argmax`, `0.5`, `tuned` or `frozen`. `value`, `low`, `high` are None exactly when
    `status` is `not_estimable`, and `reason` then says why: an absent class never becomes 0 or 1. `wide` marks an
    interval too wide to conclude from. `n_patients` counts the independent units behind the figure, whatever the
    column that names them; `n_positive_patients` those with the class.
    """

    metric: str
    class_: str | None = None
    arm: str = ""
    seed: int | None = None
    part: str = ""
    unit: str = "image"
    operating_point: str | None = None
    threshold: float | None = None
    prevalence: float | None = None
    subgroup: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    n_patients: int = 0
    n_positive_patients: int | None = None
    n_images: int = 0
    status: Status = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.status == "not_estimable") != (self.value is None):
            raise ValueError(f"{self.metric} of {self.class_}: status {self.status} with value {self.value}")
        if self.status == "not_estimable" and not self.reason:
            raise ValueError(f"{self.metric} of {self.class_} is not estimable without a reason")

    def as_dict(self) -> dict[str, Any]:
        row = {field.name.rstrip("_"): getattr(self, field.name) for field in fields(self)}
        return row | {key: finite(row[key]) for key in ("threshold", "prevalence", "value", "low", "high")}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Estimate:
        names = {field.name.rstrip("_"): field.name for field in fields(cls)}
        return cls(**{names[key]: value for key, value in row.items() if key in names})


def save_estimates(path: Path, estimates: list[Estimate], **more: Any) -> None:
    """Write `{"estimates": [...]}` with any further keys beside it."""
    write_json(path, {"estimates": [estimate.as_dict() for estimate in estimates], **more})


def load_estimates(path: Path) -> list[Estimate]:
    return [Estimate.from_dict(row) for row in read_json(path)["estimates"]]
