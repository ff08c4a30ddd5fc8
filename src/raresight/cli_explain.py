"""`raresight explain`: looking into the models, arms side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raresight.cli_output import answer, progress, say

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")]


class Looked(StrEnum):
    val = "val"
    test = "test"


def explain(
    study: StudyPath,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only this arm (repeatable).")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Only this seed (repeatable).")] = None,
    part: Annotated[Looked | None, typer.Option(help="Default: test where it was opened, else val.")] = None,
    tasks: Annotated[str, typer.Option(help="With commas: alignment,dissect,geometry,sanity,faithfulness.")] = "",
    method: Annotated[
        str,
        typer.Option(
            help="Kinds of maps, with commas: grad_cam,hires_cam,cam; by Captum, slow, for annotated findings alone: "
            "integrated_gradients,occlusion."
        ),
    ] = "",
    layers: Annotated[str, typer.Option(help="Layers by name, with commas; auto chooses on validation.")] = "auto",
    pictures: Annotated[bool, typer.Option(help="Images of patients in the page and beside it, or in no file.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print explain.json on stdout.")] = False,
) -> None:
    """Looking into the models, arms side by side."""
    from raresight.api import Study, verdict_lines

    asked: dict[str, Any] = {"tasks": _several(tasks), "methods": _several(method), "layers": _several(layers)}
    options = {name: value for name, value in asked.items() if value}
    result = Study.open(study, progress()).explain(
        arms=arm or (), seeds=seed or (), part=part.value if part else None, pictures=pictures, **options
    )
    answer(result, as_json, verdict_lines(result))
    say(f"page: {study / 'explain' / 'look.html'}")


def _several(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
