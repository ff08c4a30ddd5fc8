"""The cells of a sweep: one ordinary study for each prevalence and seed, with a thinned training part of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from raresight.core.arm import Arm
from raresight.core.config import ResourcesSection, StudyConfig
from raresight.core.errors import ConfigError, Problem
from raresight.core.files import read_json, sha256, sha256_of, write_json, write_text
from raresight.core.folds import Folds
from raresight.core.run import StudyFolder
from raresight.verbs.opened import OpenStudy

if TYPE_CHECKING:
    from raresight.data.thin import Thinned

ALL = "all"
HEAD = """# Made by `raresight sweep`: one cell, whose manifest, issues and cache are those of the study above.
# It is trained and judged by the same command only; the test part stays behind that study's ledger.
"""


@dataclass(frozen=True)
class Cell:
    """One training prevalence and one seed: a study of its own, and what thinning left it."""

    column: str
    seed: int
    study: OpenStudy
    thinned: Thinned


def folder_of(study: OpenStudy, cls: str) -> Path:
    """`STUDY/sweep/<class>`, with a hash behind a class whose name would not do as a folder's."""
    plain = re.sub(r"[^\w.-]+|^\.+", "_", cls)
    return study.folder.sweeps / (plain if plain == cls else f"{plain}-{sha256_of(cls)[:6]}")


def cells(
    study: OpenStudy, cls: str, prevalences: Sequence[float], arms: Sequence[Arm], seeds: Sequence[int]
) -> list[Cell]:
    """Make or reopen every cell, seed after seed, rising prevalence, all cases last.

    The last column is the study itself, with the seeds asked for: its runs are those that `raresight train` makes. A
    thinned cell lies in `<prevalence>/seed-<s>`: `study.yaml` (one seed, these arms, as many steps as all cases
    would take), `data/split.csv` (cases taken out belong to no part), `lock.json` (the study's), `cell.json` (what
    was thinned, and of which data and settings).

    Raises: `ConfigError` RS-C39 for an impossible prevalence, RS-R44 where a cell was begun with data or settings that
    have changed since.
    """
    from raresight.data.thin import thin
    from raresight.train.predict import steps_of
    from raresight.verbs.training import locked_runtime

    locked_runtime(study)  # the lock that every cell copies
    training = study.folds.rows(study.manifest, "train")
    steps, _ = steps_of(study.config, len(training))
    group, made = study.config.split.group, []
    for seed in seeds:
        common = {"seeds": [seed], "arms": {arm.name: study.config.arms[arm.name] for arm in arms}}
        natural = thin(study.manifest, training, study.task, cls, None, group=group, seed=seed)
        for prevalence in sorted(prevalences):
            left = thin(study.manifest, training, study.task, cls, prevalence, group=group, seed=seed)
            train = study.config.train.model_copy(update={"steps": steps})
            config = study.config.model_copy(update={**common, "train": train})
            here = folder_of(study, cls) / name_of(prevalence) / f"seed-{seed}"
            made.append(Cell(name_of(prevalence), seed, _open(study, here, config, cls, left), left))
        every = list(dict.fromkeys([*study.config.seeds, seed]))
        whole = OpenStudy(study.folder, study.config.model_copy(update={"seeds": every}), study.progress)
        made.append(Cell(ALL, seed, whole, natural))
    return made


def name_of(prevalence: float) -> str:
    """`0.05`, and `0.00001` rather than `1e-05`."""
    return f"{prevalence:.12f}".rstrip("0")


def with_sources(study: OpenStudy, arms: Iterable[Arm]) -> list[Arm]:
    """The arms, and those on whose features they stand, in the study's order, the baseline first."""
    names = {name for arm in arms for name in (arm.name, getattr(arm, "frozen", None)) if name}
    kept = [arm for arm in study.arms if arm.name in names]
    return sorted(kept, key=lambda arm: arm.name != study.baseline)


def _open(study: OpenStudy, here: Path, config: StudyConfig, cls: str, left: Thinned) -> OpenStudy:
    folder = StudyFolder(here, shared=study.folder.path)
    of = _made_of(study)
    told = here / "cell.json"
    if told.exists() and read_json(told)["of"] != of:
        if (here / "arms").exists():
            raise _stale(study, here, read_json(told)["of"], of, folder_of(study, cls))
        told.unlink()
    if not told.exists():
        _write_split(study, folder, left)
        lock = read_json(study.folder.lock)
        write_json(folder.lock, lock | {"sha256": lock["sha256"] | {"split": sha256(folder.split)}})
        write_json(told, {"class": cls, "of": of, **left.as_dict()})
    kept = {name: arm for name, arm in study.config.arms.items() if (here / "arms" / name).exists()}
    # What a cluster gives to arms is said in the study alone; a cell may lack some of these arms.
    known = config.model_copy(update={"arms": {**config.arms, **kept}, "resources": ResourcesSection()})
    written = HEAD + yaml.safe_dump(known.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    if not folder.config.exists() or folder.config.read_text(encoding="utf-8") != written:
        write_text(folder.config, written)
    return OpenStudy(folder, config, study.progress)


def _made_of(study: OpenStudy) -> dict[str, Any]:
    """What a cell rests on: one hash for the data with their labels and split, one for each section of settings."""
    written = study.config.model_dump(mode="json")
    for of_the_lock in ("device", "threads", "precision"):
        written["train"].pop(of_the_lock)
    sections = {name: sha256_of(written[name]) for name in ("task", "split", "image", "model", "train")}
    return {"data": study.evidence_sha256, **sections, "lock": sha256_of(read_json(study.folder.lock)["runtime"])}


def _write_split(study: OpenStudy, folder: StudyFolder, left: Thinned) -> None:
    """The study's parts, the cases taken out in none of them; what was proven of the whole holds for what is left."""
    stays = set(study.manifest.cases[left.rows])
    table = study.folds.table.copy()
    gone = (table["part"] == "train") & ~table["case"].isin(stays)
    table.loc[gone, "part"] = ""
    Folds(table).save(folder.split)
    proof = read_json(study.folder.leaks) | {"split_sha256": sha256(folder.split)}
    write_json(folder.leaks, proof)


def _stale(study: OpenStudy, here: Path, then: dict[str, Any], now: dict[str, Any], sweep: Path) -> ConfigError:
    names = {"data": "the data, their labels or the split", "lock": "the lock's device and precision"}
    changed = [names.get(key, f"the section '{key}' of study.yaml") for key in now if then.get(key) != now[key]]
    return ConfigError(
        Problem(
            code="RS-R44",
            level="error",
            file=str(here),
            found=f"this cell of the sweep was begun before {', '.join(changed)} changed",
            why="its arms would be compared with arms of other data or other settings",
            remedy=f"put it back as it was, or remove {sweep} and sweep again",
        )
    )
