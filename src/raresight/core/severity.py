"""How severe an imbalance is, by prevalence."""

from __future__ import annotations

from typing import Literal

Severity = Literal["balanced", "mild", "moderate", "severe", "extreme", "absent"]

BANDS: tuple[tuple[float, Severity], ...] = (
    (0.20, "balanced"),
    (0.10, "mild"),
    (0.02, "moderate"),
    (0.005, "severe"),
    (0.0, "extreme"),
)


def severity(prevalence: float) -> Severity:
    """The band of a prevalence in [0, 1]: each bound belongs to the milder band; a class without cases is `absent`."""
    if not prevalence > 0:
        return "absent"
    return next(name for bound, name in BANDS if prevalence >= bound)
