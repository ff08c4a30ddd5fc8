"""`--strict`: what is otherwise a warning stops the command."""

from __future__ import annotations

from typing import Any

from raresight.core.errors import GateError, Problem
from raresight.core.estimate import FEW_POSITIVE_PATIENTS
from raresight.core.presets import PRESETS
from raresight.verbs.opened import OpenStudy


def upside_down(study: OpenStudy) -> list[Problem]:
    """A warning RS-C40 for every arm whose own `preset` flips pictures upside down though the study's forbids it.

    The study's modality is `image.preset`; `none` forbids nothing by name. Settings that are lists count with all of
    their values.
    """
    modality = PRESETS[study.config.image.preset]
    if modality.flip_vertical or modality.name == "none":
        return []
    problems = []
    for arm in study.arms:
        for spec in arm.strategies:
            given = spec.settings.get("preset")
            named = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]
            for name in (name for name in named if name in PRESETS and PRESETS[name].flip_vertical):
                problems.append(
                    Problem(
                        code="RS-C40",
                        level="warning",
                        file=str(study.folder.config),
                        column=f"arms.{arm.name}.{spec.name}.preset",
                        found=f"the bounds of {name} flip pictures upside down, those of {modality.name} do not",
                        why=f"vertical flip: {modality.reasons['flip_vertical']}",
                        remedy=f"remove `preset: {name}`: the method then keeps to image.preset, {modality.name}",
                    )
                )
    return problems


def too_few(study: OpenStudy, audit: dict[str, Any]) -> list[Problem]:
    """RS-M13 for every critical class (all, where none is) that validation or test will hold in under 10 patients."""
    critical = study.task.critical or study.task.classes
    problems = []
    for row in audit["classes"]:
        n = {part: row["forecast"][part]["n_positive_patients"] for part in ("val", "test")}
        short = [f"{part} {count:.0f}" for part, count in n.items() if count < FEW_POSITIVE_PATIENTS]
        if row["name"] in critical and short:
            problems.append(
                Problem(
                    code="RS-M13",
                    level="error",
                    file=str(study.manifest_path),
                    column=row["name"],
                    found=f"too few {audit['group_by']} with '{row['name']}': {', '.join(short)}; "
                    f"{FEW_POSITIVE_PATIENTS} are asked for in each part",
                    why="no figure of the class could be called firm",
                    remedy="set split.folds: 5, larger parts, or collect more cases; without --strict the study runs",
                )
            )
    return problems


def require_strict(study: OpenStudy) -> None:
    """Raise `GateError` with all that the other commands only warn of; the input must have been checked before."""
    from raresight.verbs.audit import audit

    problems = [*upside_down(study), *too_few(study, audit(study))]
    if problems:
        raise GateError(*problems)
