"""Whether the synthetic cases that arms made lie where their class lives, and what to make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raresight.core.severity import severity
from raresight.report.content import Content
from raresight.report.tables import Row, Table, table
from raresight.report.words import DASH, class_name, percent, share

HALF = 0.5
GENTLE = ("balanced", "mild", "moderate")
ADVICE = {
    True: "low risk, moderate gain: augmentation alone may do as much; compare the two",
    False: "high risk, high possible gain: too few real cases to fill the space between them; prefer Borderline-SMOTE "
    "and trust only a gain seen on the validation part",
}
NOTE = (
    "A case is unsafe where most of its {k} nearest real cases lack its class. Before: real cases of the training part "
    "among the other real ones. Synthetic: the new cases among the real ones. After: both together, what the head was "
    "trained on."
)


def unsafe(content: Content) -> list[tuple[str, Mapping[str, Any]]]:
    """Arm and row of every class most of whose synthetic cases are unsafe."""
    return [(arm, row) for arm, row in _rows(content) if row["unsafe_synthetic"] > HALF]


def synthetic_cases(content: Content) -> Table | None:
    """A row for every arm and class with synthetic cases, rarest class first; None where no arm made any."""
    rows = sorted(_rows(content), key=lambda found: content.rarest_first.index(found[1]["class"]))
    if not rows:
        return None
    order = [arm.name for arm in content.arms]
    made = [_row(content, arm, row) for arm, row in sorted(rows, key=lambda found: order.index(found[0]))]
    head = (
        "Arm",
        "Class",
        "Real",
        "Synthetic",
        "Unsafe before",
        "Unsafe synthetic",
        "Unsafe after",
        "What to make of it",
    )
    error = max(row["standard_error"] for _, row in rows)
    note = NOTE.format(k=" or ".join(str(k) for k in sorted({row["k"] for _, row in rows})))
    if error > 0:
        note += f" Of classes with very many cases a sample was asked; its standard error is at most {share(error)}."
    return table(head, made, range(2, 7), note + " First seed of each arm.")


def warning(arm: str, row: Mapping[str, Any]) -> str:
    """One sentence, for the limitations."""
    return (
        f"{percent(row['unsafe_synthetic'])} of the synthetic cases of {class_name(row['class'])} in the arm {arm} lie "
        "among other classes."
    )


def _rows(content: Content) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for arm in content.arms:
        for row in arm.facts.get("safety") or []:
            yield arm.name, row


def _row(content: Content, arm: str, row: Mapping[str, Any]) -> Row:
    prevalence = content.share(row["class"])
    bad = row["unsafe_synthetic"] > HALF
    advice = ["Most synthetic cases lie among other classes: they teach the head wrong labels."] if bad else []
    if prevalence is not None:
        gain = ADVICE[severity(prevalence) in GENTLE]
        advice.append(f"{gain[0].upper()}{gain[1:]}.")
    cells = (
        arm,
        class_name(row["class"]),
        f"{row['n_real']:,}",
        f"{row['n_synthetic']:,}",
        *(percent(row[f"unsafe_{when}"]) for when in ("before", "synthetic", "after")),
        " ".join(advice) or DASH,
    )
    return Row(cells, "wide" if bad else "")
