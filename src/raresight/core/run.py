"""Where things lie: the study folder, and the folder of one run (an arm, a seed, a fold)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """`arms/<arm>/seed-<s>[/fold-<k>]`. Without `DONE` a run is resumed, and absent from every table."""

    path: Path
    arm: str
    seed: int
    fold: int | None = None

    @property
    def study(self) -> Path:
        """The folder of the study that the run is of."""
        return self.path.parents[2 if self.fold is None else 3]

    @property
    def arm_json(self) -> Path:
        return self.path / "arm.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def resume(self) -> Path:
        return self.path / "resume.pt"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def done_marker(self) -> Path:
        return self.path / "DONE"

    @property
    def done(self) -> bool:
        return self.done_marker.exists()

    @property
    def val_predictions(self) -> Path:
        return self.path / "val" / "predictions.parquet"

    @property
    def val_estimates(self) -> Path:
        return self.path / "val" / "estimates.json"

    @property
    def calibrator(self) -> Path:
        return self.path / "calibrator.json"

    @property
    def thresholds(self) -> Path:
        return self.path / "thresholds.json"


@dataclass(frozen=True)
class StudyFolder:
    """The paths inside a study; nothing here reads or writes.

    A sub-study (a cell of a sweep) has its own settings, split and runs, and takes manifest, issues and cache from the
    study at `shared`.
    """

    path: Path
    shared: Path | None = None

    @property
    def typed(self) -> str:
        """The study as it is typed in a shell: quoted where its name needs it."""
        return shlex.quote(str(self.path))

    @property
    def home(self) -> Path:
        """The folder that holds the data, and that paths to the data in `study.yaml` are relative to."""
        return self.shared or self.path

    @property
    def config(self) -> Path:
        return self.path / "study.yaml"

    @property
    def lock(self) -> Path:
        return self.path / "lock.json"

    @property
    def manifest(self) -> Path:
        return self.home / "data" / "manifest.csv"

    @property
    def split(self) -> Path:
        return self.path / "data" / "split.csv"

    @property
    def leaks(self) -> Path:
        return self.path / "data" / "leaks.json"

    @property
    def issues(self) -> Path:
        return self.home / "data" / "issues.jsonl"

    @property
    def checked(self) -> Path:
        return self.home / "data" / "check.json"

    @property
    def audit(self) -> Path:
        return self.path / "audit" / "audit.json"

    @property
    def augment_audit(self) -> Path:
        return self.path / "audit" / "augment.json"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def choices(self) -> Path:
        """What was tried and chosen for the arms whose settings are lists."""
        return self.path / "choices.json"

    @property
    def jobs(self) -> Path:
        """What machines of a cluster wrote about the runs they were given."""
        return self.path / "jobs"

    @property
    def ledger(self) -> Path:
        return self.path / "test" / "ledger.jsonl"

    @property
    def compare(self) -> Path:
        return self.path / "compare" / "compare.json"

    @property
    def report(self) -> Path:
        return self.path / "report" / "report.html"

    @property
    def sweeps(self) -> Path:
        return self.path / "sweep"

    @property
    def explain(self) -> Path:
        """What was found by looking into the networks: `explain.json`, tables, rows, figures, and the cache."""
        return self.path / "explain"

    @property
    def explained(self) -> Path:
        return self.explain / "explain.json"

    @property
    def bundles(self) -> Path:
        return self.path / "bundle"

    def bundle(self, arm: str) -> Path:
        return self.bundles / arm

    def opening(self, number: int) -> Path:
        return self.path / "test" / f"opening-{number}"

    def run(self, arm: str, seed: int, fold: int | None = None) -> RunFolder:
        path = self.path / "arms" / arm / f"seed-{seed}"
        return RunFolder(path if fold is None else path / f"fold-{fold}", arm, seed, fold)
