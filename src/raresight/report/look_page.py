"""explain/look.html: the verdict first, then every figure with how it is read and what it cannot say, in one file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raresight.core.files import write_text
from raresight.report.figures.look_figures import figures_of
from raresight.report.figures.style import Absent, Figure
from raresight.report.look_rows import Look
from raresight.report.look_tables import look_tables, made_how
from raresight.report.look_text import (
    CONSISTENT,
    READINGS,
    SAME_SCORE,
    WORSE_LOOK,
    beyond_chance,
    chance_table,
    headline,
    in_numbers,
    noteworthy,
    rests_on,
    verdict_grid,
    what_it_cannot_say,
)
from raresight.report.words import class_name

FOLDER = Path(__file__).parent
FLAG_CLASS = {WORSE_LOOK: "worse", SAME_SCORE: "same", CONSISTENT: ""}
PICTURED = ("F2", "F6")


def write_look_page(explain: Mapping[str, Any], folder: Path) -> Path:
    """Write `look.html` and `cases_key.csv` (pseudonym, case, patient; with cases alone) into `folder`.

    `explain` is what explain.json holds; cases.npz and units.npz are read from `folder` where they are. The page
    fetches nothing, runs no script, and names no case and no patient.

    Raises: `ConfigError` RS-R45 where the disk is full.
    """
    path = folder / "look.html"
    write_text(path, render(explain, folder))
    if explain.get("cases"):
        write_text(folder / "cases_key.csv", key(explain))
    return path


def render(explain: Mapping[str, Any], folder: Path) -> str:
    """The page as text: equal inputs give equal bytes; every name from the data is escaped."""
    look = Look(explain)
    drawn = figures_of(look, folder)
    parts = _parts(look, drawn)
    pictured = any(name.startswith(PICTURED) and isinstance(made, Figure) for name, made in drawn.items())
    return str(
        _template().render(
            style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
            facts=rests_on(look),
            headline=headline(look),
            in_numbers=in_numbers(look),
            chance=beyond_chance(look),
            chance_table=chance_table(look),
            greyed=look.greyed,
            pictured=pictured,
            noteworthy=noteworthy(look),
            verdicts=verdict_grid(look),
            flag_class=FLAG_CLASS,
            parts=[part for part in parts if part["entries"]],
            without=[(part["title"], part["absent"]) for part in parts if not part["entries"]],
            tables=look_tables(look),
            cannot=what_it_cannot_say(look),
            made=made_how(look),
        )
    )


def key(explain: Mapping[str, Any]) -> str:
    """`pseudonym,case,patient` as CSV, for those who hold the data."""
    stream = io.StringIO()
    rows = [(case["name"], case.get("case", ""), case.get("patient", "")) for case in explain["cases"]]
    csv.writer(stream, lineterminator="\n").writerows([("pseudonym", "case", "patient"), *rows])
    return stream.getvalue()


def _parts(look: Look, drawn: Mapping[str, Figure | Absent]) -> list[dict[str, Any]]:
    """The figures by number, in their order; the case grids of all classes under one heading."""
    parts: dict[str, dict[str, Any]] = {}
    grids = iter([name for name in look.classes if any(case["class"] == name for case in look.data.get("cases") or [])])
    for name, made in drawn.items():
        number = name.split("_")[0]
        reading = READINGS[number]
        part = parts.setdefault(
            number,
            {"key": number, "title": reading.title, "how": reading.how, "cannot": reading.cannot, "entries": []},
        )
        if isinstance(made, Absent):
            part["absent"] = made.why
            continue
        shown = class_name(next(grids)).capitalize() if number == "F2" else ""
        part["entries"].append(
            {"name": shown, "svg": Markup(made.svg), "alt": made.alt, "caption": made.caption, "table": made.table}
        )
    return list(parts.values())


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("look_page.html")
