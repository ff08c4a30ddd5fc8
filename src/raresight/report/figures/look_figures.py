"""All figures of `raresight explain` by name: F1 to F7, each a drawing or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raresight.report.figures.look_cases import case_grids
from raresight.report.figures.look_detectors import detectors
from raresight.report.figures.look_differences import look_differences
from raresight.report.figures.look_frequency import frequency
from raresight.report.figures.look_layers import layers
from raresight.report.figures.look_scatter import score_and_alignment
from raresight.report.figures.look_style import standalone
from raresight.report.figures.look_units import units
from raresight.report.figures.style import Absent, Figure
from raresight.report.look_rows import Look

NO_CASES = "not computed, because no case was kept with its maps"
NO_PICTURES = "left out, because it was asked for without pictures of patients (--no-pictures)"


def figures_of(look: Look, folder: Path) -> dict[str, Figure | Absent]:
    """Name -> figure, in reading order; `folder` holds cases.npz and units.npz, if there are any.

    Shapes: `images (n, H, W, C)` uint8, `maps (n, A, h, w)` raw, `masks (n, H, W)` bool;
    `patches (M, A, T, h, w, C)` uint8.
    Absent class: a class without a case has no grid; without any, one entry says so.
    """
    grids = case_grids(look, folder)
    return {
        "F1_score_and_alignment": score_and_alignment(look),
        "F7_differences": look_differences(look),
        **{f"F2_cases_{plain(name)}": grid for name, grid in grids.items()},
        **({} if grids else {"F2_cases": Absent(NO_PICTURES if look.without_pictures else _why_no_cases(look))}),
        "F3_frequency": frequency(look),
        "F4_detectors": detectors(look),
        "F5_layers": layers(look),
        "F6_units": Absent(NO_PICTURES) if look.without_pictures else units(look, folder),
    }


def _why_no_cases(look: Look) -> str:
    return f"not computed, because {look.without_places}" if look.placeless else NO_CASES


def figures_without_pictures(look: Look) -> dict[str, Figure | Absent]:
    """Those that show no image of a patient, for the study's report."""
    return {
        "F1": score_and_alignment(look),
        "F7": look_differences(look),
        "F3": frequency(look),
        "F4": detectors(look),
        "F5": layers(look),
    }


def look_figures(explain: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Name -> SVG text that stands alone; a figure that cannot be made is an SVG with the reason. See `figures_of`."""
    return {name: standalone(made) for name, made in figures_of(Look(explain), folder).items()}


def plain(name: str) -> str:
    """A class's name as part of a file name."""
    return re.sub(r"\W+", "_", name).strip("_") or "class"
