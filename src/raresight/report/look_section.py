"""What the study's report says of `raresight explain`: the verdict, and the figures without pictures of patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raresight.report.figures.look_figures import figures_without_pictures
from raresight.report.figures.style import Absent, Figure
from raresight.report.look_rows import Look
from raresight.report.look_text import READINGS, chance_table, headline, in_numbers, verdict_grid
from raresight.report.tables import Table

PAGE = "explain/look.html in the study's folder"


def look_lead(explain: Mapping[str, Any] | None) -> str:
    """The verdict in a few sentences, and where the pictures are; empty where nothing was looked into."""
    if explain is None:
        return ""
    look = Look(explain)
    grey = [f"{arm} is drawn in grey: {why}." for arm, why in look.greyed.items()]
    said = [headline(look), in_numbers(look), *grey, f"Single cases and how to read the figures: {PAGE}."]
    return " ".join(one for one in said if one)


def look_parts(explain: Mapping[str, Any]) -> list[tuple[str, Figure | Absent | Table]]:
    """Titles with their tables and figures, in reading order."""
    look = Look(explain)
    parts: list[tuple[str, Figure | Absent | Table]] = []
    for title, made in (
        ("The verdict, class by class", verdict_grid(look)),
        ("Beyond chance or not", chance_table(look)),
    ):
        if made is not None:
            parts.append((title, made))
    return [*parts, *((READINGS[key].title, figure) for key, figure in figures_without_pictures(look).items())]
