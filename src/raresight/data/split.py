"""The split: whole patients to train, validation and test, rare classes in each; or a supplied one, if it holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from raresight.core.config import SplitSection
from raresight.core.errors import ConfigError, DataError, GateError, Problem, listed, nearest
from raresight.core.folds import PARTS, Folds
from raresight.core.manifest import Manifest
from raresight.core.seeds import numpy_rng
from raresight.core.task import Task
from raresight.data.stratify import seat
from raresight.data.units import PATIENT, crossings, group_ids, units

SPELLINGS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "tune"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}


def split(
    manifest: Manifest, task: Task, settings: SplitSection, *, identical: Mapping[str, str] | None = None
) -> Folds:
    """Every case in one part, no unit in two, rare classes in every part they can reach.

    A unit is a `settings.group` joined with its patient and with pixel-identical images (`identical`: case -> pixel
    hash). Parts are train, test and validation with the shares of `settings`; with `folds: k` they are test and k
    folds of equal size. A class with a unit for every part reaches every part; one with two units goes to training
    and test (an untuned class keeps the default operating point, an untested one can claim nothing); one with a
    single unit to training. Where independent labels occur together so that not every class can reach every part, as
    many as possible do. No part stays empty, which goes before all else. Shares hold for the units of each class and
    for images and units in all, to about the size of a unit; many very rare classes, each with one in every part,
    make the small parts larger than their shares.

    The result depends on the seed and the cases, not on the order of rows. A class without cases asks for nothing;
    the audit names it (item 13).

    Raises: `DataError` RS-M01, RS-M02 (no or blank group ids), RS-M13 (fewer units than parts).
    """
    names = units(manifest, settings.group, identical=identical)
    wanted = {part: share for part in ("train", "test", "val") if (share := getattr(settings, part)) > 0}
    if settings.folds:
        inside = 1 - settings.test
        wanted = {f"fold-{k}": inside / settings.folds for k in range(settings.folds)}
        if settings.test > 0:
            wanted["test"] = settings.test
    return _folds(manifest, names, _assign(manifest, task, names, wanted, settings.seed))


def supplied(
    manifest: Manifest,
    settings: SplitSection,
    *,
    identical: Mapping[str, str] | None = None,
    task: Task | None = None,
) -> Folds:
    """The split written in the manifest's column `settings.column`, if no unit lies in two of its parts.

    `train`, `val`, `test` and their usual spellings are read, whatever their case. With `folds: k` the supplied train
    and validation cases are cross-fitted in k folds (stratified by class when `task` is given) and test stays.

    Raises: `ConfigError` RS-C33 where the manifest lacks the column; `DataError` RS-M08 for a value that names no
    part, RS-M14 where there is no train part, or no validation part and no folds; `GateError` where a group or a
    patient (RS-M08) or a pixel-identical image (RS-M06) lies in more than one part, listing all of them.
    """
    part = _written_parts(manifest, str(settings.column))
    groups = group_ids(manifest, settings.group)
    leaking = _shared_ids(groups, part, settings.group, str(settings.column))
    if settings.group != PATIENT:
        leaking += _shared_ids(manifest.column(PATIENT), part, PATIENT, str(settings.column))
    if identical:
        leaking += _shared_pixels(manifest, part, identical, str(settings.column))
    if leaking:
        raise GateError(*leaking)
    present = set(part)
    if "train" not in present or ("val" not in present and not settings.folds):
        lacking = "train" if "train" not in present else "val"
        raise DataError(
            Problem(
                code="RS-M14",
                level="error",
                file="manifest.csv",
                column=settings.column,
                found=f"the supplied split has no {lacking} part (it has {', '.join(sorted(present))})",
                why="nothing could be trained" if lacking == "train" else "thresholds and the choice of arms need it",
                remedy="remove `column:` from `split:` in study.yaml for a fresh split"
                + ("" if lacking == "train" else ", or add `folds: 5` to cross-fit the train part"),
            )
        )
    names = units(manifest, settings.group, identical=identical)
    if not settings.folds:
        return _folds(manifest, names, part)
    inside = np.flatnonzero(part != "test")
    wanted = {f"fold-{k}": 1 / settings.folds for k in range(settings.folds)}
    part[inside] = _assign(manifest.take(inside), task, names[inside], wanted, settings.seed)
    return _folds(manifest, names, part)


def _assign(
    manifest: Manifest, task: Task | None, names: np.ndarray, wanted: Mapping[str, float], seed: int
) -> np.ndarray:
    """The bin of each row, by seating whole units; bins are listed in the order in which a rare class claims them."""
    unit, distinct = pd.factorize(names, sort=True)
    if len(distinct) < len(wanted):
        raise DataError(
            Problem(
                code="RS-M13",
                level="error",
                file="manifest.csv",
                found=f"{len(distinct)} units (patients or groups, with identical images) for {len(wanted)} parts",
                why="each part needs a unit of its own",
                remedy="add patients, ask for fewer folds, or set a part's share to 0",
            )
        )
    positive = np.zeros((len(manifest), 0)) if task is None else np.nan_to_num(manifest.targets(task)) > 0
    holds = np.stack([np.bincount(unit, weights=column) > 0 for column in [*positive.T, np.ones(len(unit))]], axis=1)
    holds = holds[:, :-1]
    size = np.bincount(unit).astype(float)
    rng = numpy_rng("split", seed)
    bins = list(wanted)
    reach = np.array([_claims(bins, int(rng.integers(len(bins)))) for _ in range(holds.shape[1] + 1)])
    exclusive = task is not None and task.kind == "exclusive"
    filler = int(holds.sum(axis=0).argmax()) if exclusive else None
    seats = seat(size, holds, np.array(list(wanted.values())), reach, filler=filler, rng=rng)
    return np.array(bins, dtype=object)[seats[unit]]


def _claims(bins: list[str], turn: int) -> list[int]:
    """Bins in the order a class claims them: train, test, val; or some fold, test, the other folds from there on."""
    folds = [b for b, name in enumerate(bins) if name.startswith("fold-")]
    if not folds:
        return list(range(len(bins)))
    turn %= len(folds)
    others = [b for b in range(len(bins)) if b not in folds]
    turned = folds[turn:] + folds[:turn]
    return [turned[0], *others, *turned[1:]]


def _folds(manifest: Manifest, names: np.ndarray, where: np.ndarray) -> Folds:
    fold = np.array([int(name.removeprefix("fold-")) if name.startswith("fold-") else -1 for name in where])
    part = np.where(fold >= 0, "train", where)
    return Folds(pd.DataFrame({"case": manifest.cases, "unit": names, "part": part, "fold": fold.astype(int)}))


def _written_parts(manifest: Manifest, column: str) -> np.ndarray:
    if column not in manifest.table:
        close = nearest(column, manifest.table.columns)
        raise ConfigError(
            Problem(
                code="RS-C33",
                level="error",
                file="study.yaml",
                column="split.column",
                found=f"the manifest has no column '{column}'",
                why="the supplied split cannot be read",
                remedy=f"did you mean '{close}'?" if close else "remove `column:` for a fresh split",
            )
        )
    written = manifest.table[column].astype(str).str.strip()
    part = written.str.casefold().map(SPELLINGS)
    problems = []
    for value, rows in written[part.isna()].groupby(written).groups.items():
        close = nearest(str(value), SPELLINGS)
        problems.append(
            Problem(
                code="RS-M08",
                level="error",
                file="manifest.csv",
                row=int(np.flatnonzero(manifest.table.index == rows[0])[0]) + 2,
                column=column,
                found=f"{len(rows)} rows with {f'part {value!r}' if value else 'no part'}",
                why=f"a part is one of {', '.join(PARTS)}; a case in none of them would silently drop out",
                remedy=f"did you mean '{close}'?"
                if close
                else "remove `column:` for a fresh split, or mend the column",
            )
        )
    if problems:
        raise DataError(*problems)
    return part.to_numpy(dtype=object)


def _shared_ids(ids: np.ndarray, part: np.ndarray, column: str, written: str) -> list[Problem]:
    found = crossings(ids, part)
    if not found:
        return []
    noun = "patients" if column == PATIENT else f"groups of '{column}'"
    noun = noun.replace("patients", "patient").replace("groups", "group") if len(found) == 1 else noun
    return [
        Problem(
            code="RS-M08",
            level="error",
            file="manifest.csv",
            column=written,
            found=f"the supplied split leaks: {len(found)} {noun} in more than one part: {_account(found)}",
            why="a model that has met a patient in training knows that patient's test images; every figure is too good",
            remedy=f"remove `column: {written}` from `split:` in study.yaml for a fresh, leak-proof split, or move all "
            f"images of each of those {noun} into one part",
        )
    ]


def _shared_pixels(manifest: Manifest, part: np.ndarray, identical: Mapping[str, str], written: str) -> list[Problem]:
    pixels = np.array([identical.get(case, "") for case in manifest.cases], dtype=object)
    found = crossings(pixels, part)
    if not found:
        return []
    members = pd.DataFrame({"pixels": pixels, "case": manifest.cases, "part": part})
    sets = members[members["pixels"].isin(list(found))].groupby("pixels", sort=False)
    named = sorted(" = ".join(f"{c} ({p})" for c, p in zip(s["case"], s["part"], strict=True)) for _, s in sets)
    count = "1 picture occurs" if len(found) == 1 else f"{len(found)} pictures occur"
    return [
        Problem(
            code="RS-M06",
            level="error",
            file="manifest.csv",
            column=written,
            found=f"the supplied split leaks: {count} pixel for pixel in more than one part: "
            + listed(named, most=len(named)),
            why="a test image that was also trained on measures memory, not diagnosis",
            remedy=f"remove `column: {written}` from `split:` in study.yaml for a fresh split, which keeps identical "
            "images together, or move each set into one part",
        )
    ]


def _account(found: Mapping[str, tuple[str, ...]]) -> str:
    """`test + train: 7, 12; train + val: 40`: every id, under the parts it lies in."""
    by_parts: dict[tuple[str, ...], list[str]] = {}
    for name, parts in found.items():
        by_parts.setdefault(tuple(p for p in PARTS if p in parts), []).append(name)
    lines = []
    for parts, names in sorted(by_parts.items(), key=lambda entry: -len(entry[1])):
        ordered = sorted(names, key=lambda name: (len(name), name) if name.isdecimal() else (0, name))
        lines.append(f"{' + '.join(parts)}: {', '.join(ordered)}")
    return "; ".join(lines)
