"""The bundle: one frozen operating point in a folder, with a hash of everything that its decisions depend on.

A bundle holds no patient, no case and no picture: weights, preprocessing, calibrator, thresholds, counts and shares.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raresight.core.errors import DataError, GateError, Problem
from raresight.core.files import read_json, sha256, write_json, write_text
from raresight.core.task import Task

FORMAT = 1
FACTS = "bundle.json"
SEAL = "bundle.sha256"
CALIBRATOR = "calibrator.json"
THRESHOLDS = "thresholds.json"
ESTIMATES = "estimates.json"
CARD = "card.md"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle whose files were all found as they were frozen.

    `facts` is `bundle.json`: task, network and its weights files, preprocessing, decision unit, costs, criteria,
    reference for monitoring, and under `files` the SHA-256 of every other file. `sha256` is that of `bundle.json`
    itself, so it stands for the whole bundle.
    """

    folder: Path
    facts: Mapping[str, Any]
    sha256: str

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and verify a bundle.

        Raises: `DataError` RS-B01 where there is none, RS-B02 naming every file that is missing or was changed, RS-B03
        for one of a newer version.
        """
        path = folder / FACTS
        if not path.is_file():
            raise DataError(_no_bundle(folder))
        seal = folder / SEAL
        digest = sha256(path)
        if not seal.is_file() or seal.read_text(encoding="utf-8", errors="replace").split()[:1] != [digest]:
            raise DataError(_changed(path))
        facts = _facts(path)
        if facts["format"] > FORMAT:
            raise DataError(_newer(path, facts["format"]))
        changed = [name for name, was in facts["files"].items() if not _is(folder / name, was)]
        if changed:
            raise DataError(*(_changed(folder / name) for name in changed))
        return cls(folder, facts, digest)

    @property
    def name(self) -> str:
        """The arm's name."""
        return str(self.facts["arm"]["name"])

    @cached_property
    def task(self) -> Task:
        written = self.facts["task"]
        return Task(written["kind"], tuple(written["classes"]), tuple(written["critical"]))

    @property
    def seeds(self) -> list[int]:
        return list(self.facts["seeds"])

    @cached_property
    def calibrator(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / CALIBRATOR)
        return found

    @cached_property
    def operating(self) -> dict[str, Any]:
        """`thresholds.json`: `thresholds` (class -> record), and `conformal` and `refer` where there are any."""
        found: dict[str, Any] = read_json(self.folder / THRESHOLDS)
        return found

    @property
    def thresholds(self) -> dict[str, float]:
        """Class -> threshold on the calibrated probability; a class without one is left out."""
        records = self.operating["thresholds"]
        return {name: float(row["threshold"]) for name, row in records.items() if row["threshold"] is not None}

    @property
    def unit_column(self) -> str | None:
        """The column that names the decision unit, or None where a decision is about an image."""
        decision = self.facts["decision"]
        if decision["unit"] == "image":
            return None
        return str(decision["column"] or {"patient": "patient_id"}.get(decision["unit"], decision["unit"]))


def seal(folder: Path, facts: Mapping[str, Any], fill: Callable[[Path], None]) -> Bundle:
    """Make a bundle: `fill` writes its files into a temporary folder, which then takes the name `folder` at once.

    A killed process leaves the bundle that was there before, or none; never half of one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        fill(temporary)
        files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / FACTS, {"format": FORMAT, **facts, "files": files})
        write_text(temporary / SEAL, f"{sha256(temporary / FACTS)}  {FACTS}\n")
        if folder.exists():
            folder.rename(folder.parent / f".{folder.name}.old.tmp")
        temporary.rename(folder)
    finally:
        for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
    return Bundle.load(folder)


def frozen_before(folder: Path, inputs: str, *, force: bool) -> Bundle | None:
    """The bundle that `folder` holds, where it was frozen from the same `inputs`; None where a new one may be made.

    Raises: `GateError` RS-B05 where another bundle lies there and `force` is not given.
    """
    if not folder.exists() or force:
        return None
    if not any(folder.iterdir()):
        folder.rmdir()
        return None
    bundle = Bundle.load(folder)
    if bundle.facts.get("inputs") == inputs:
        return bundle
    raise GateError(
        Problem(
            code="RS-B05",
            level="error",
            file=str(folder),
            found=f"another bundle was frozen here on {bundle.facts['frozen']}",
            why="weights, thresholds or settings have changed since, and predictions name the bundle that made them",
            remedy="--out FOLDER keeps both; --force replaces the old one",
        )
    )


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = read_json(path)
        _ = facts["format"], facts["files"], facts["task"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as cause:
        raise DataError(_no_bundle(path.parent)) from cause
    return facts


def _is(path: Path, was: str) -> bool:
    return path.is_file() and sha256(path) == was


def _no_bundle(folder: Path) -> Problem:
    return Problem(
        code="RS-B01",
        level="error",
        file=str(folder),
        found="no bundle here" if folder.exists() else "no such folder",
        why="only a frozen bundle says which network, thresholds and preprocessing belong together",
        remedy="raresight freeze STUDY; then name the folder that it prints",
    )


def _changed(path: Path) -> Problem:
    return Problem(
        code="RS-B02",
        level="error",
        file=str(path),
        found="was changed since the bundle was frozen" if path.exists() else "is missing",
        why="what was evaluated would not be what decides",
        remedy="copy the whole bundle folder again from where it was frozen, or freeze the study again",
    )


def _newer(path: Path, version: int) -> Problem:
    return Problem(
        code="RS-B03",
        level="error",
        file=str(path),
        found=f"format {version}; this raresight reads up to {FORMAT}",
        why="what it does not know could change a decision",
        remedy="pip install --upgrade raresight",
    )
