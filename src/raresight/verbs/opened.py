"""An opened study: its folder, its settings, and the nouns that its files hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig, load_config
from raresight.core.errors import ConfigError, GateError, Problem
from raresight.core.files import read_json, read_jsonl, sha256, sha256_of
from raresight.core.folds import Folds
from raresight.core.manifest import LABEL_PREFIX, Manifest
from raresight.core.predictions import Predictions
from raresight.core.progress import Silent
from raresight.core.run import RunFolder, StudyFolder
from raresight.core.task import Task
from raresight.train.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from raresight.data.cache import Cache
    from raresight.train.predict import Features


FIRST_ROW = 2  # rows of a table are counted as an editor shows them: 1 is the header


@dataclass(frozen=True)
class OpenStudy:
    """What every verb starts from. Reading happens on first use; nothing here writes.

    `ranks`: the processes that train it together where torchrun started several.
    """

    folder: StudyFolder
    config: StudyConfig
    progress: Silent = field(default_factory=Silent)
    ranks: Ranks = ALONE

    @classmethod
    def open(cls, path: Path, progress: Silent | None = None) -> OpenStudy:
        folder = StudyFolder(path)
        return cls(folder, load_config(folder.config), progress or Silent())

    @property
    def task(self) -> Task:
        return self.config.problem

    @property
    def manifest_path(self) -> Path:
        return self.folder.home / self.config.data.manifest

    @cached_property
    def root(self) -> Path:
        """The folder that image paths are relative to."""
        return (self.folder.home / self.config.data.root).resolve()

    @cached_property
    def full_manifest(self) -> Manifest:
        self.require(self.manifest_path, "the manifest", f"raresight init {self.folder.typed} --from ...")
        return Manifest.load(self.manifest_path)

    @cached_property
    def manifest(self) -> Manifest:
        """The cases that a check let through, in the manifest's order, uncertain labels settled as `data` asks."""
        from raresight.data.labels import settle

        self.require(self.folder.issues, "the check of the input", f"raresight check {self.folder.typed}")
        problems = read_jsonl(self.folder.issues)
        dropped = {problem["row"] - FIRST_ROW for problem in problems if problem["level"] == "quarantine"}
        kept = self.full_manifest.take([row for row in range(len(self.full_manifest)) if row not in dropped])
        return settle(kept, self.config.data)

    @cached_property
    def folds(self) -> Folds:
        """The split, as it was when it was proven free of leaks.

        Raises: `GateError` RS-M08 where `split.csv` was changed since.
        """
        command = f"raresight split {self.folder.typed}"
        self.require(self.folder.split, "the split", command)
        self.require(self.folder.leaks, "the leak proof of the split", command)
        if not self.split_is_proven:
            raise GateError(
                Problem(
                    code="RS-M08",
                    level="error",
                    file=str(self.folder.split),
                    found="the split was changed since it was proven free of leaks",
                    why="a patient may now be in two parts, and nobody looked",
                    remedy=f"{command} makes it anew; a split of your own comes in by `split: {{column: ...}}`",
                )
            )
        return Folds.load(self.folder.split)

    @property
    def split_is_proven(self) -> bool:
        """Whether `split.csv` is the very file that `leaks.json` speaks of."""
        return read_json(self.folder.leaks).get("split_sha256") in (None, sha256(self.folder.split))

    @cached_property
    def cache(self) -> Cache:
        from raresight.data.cache import open_cache

        return open_cache(self.folder.cache)

    @cached_property
    def image_sizes(self) -> pd.DataFrame:
        """Width and height in pixels of every image's file, by case."""
        facts = self.cache.facts
        return facts.set_index(facts["case"].astype(str))[["width", "height"]]

    @cached_property
    def features(self) -> Features:
        """What networks said of cases, kept for all heads that stand on them."""
        from raresight.train.predict import Features

        return Features()

    @property
    def arms(self) -> list[Arm]:
        return self.config.parsed_arms

    def resolved(self, arm: Arm) -> Arm:
        """The arm with the values that were chosen for its lists.

        Raises: `ConfigError` RS-C03 where none were chosen yet, or among others than it lists now.
        """
        if not arm.has_grid:
            return arm
        chosen = self.chosen(arm)
        if chosen is None:
            raise ConfigError(
                Problem(
                    code="RS-C03",
                    level="error",
                    file=str(self.folder.config),
                    column=f"arms.{arm.name}",
                    found=f"no values are chosen for the lists of arm '{arm.name}'",
                    why="an arm is trained with one value of each",
                    remedy=f"raresight train {self.folder.typed}",
                )
            )
        return chosen

    def chosen(self, arm: Arm) -> Arm | None:
        """The candidate that `choices.json` names, or None where it names none of today's."""
        made = read_json(self.folder.choices)["arms"] if self.folder.choices.exists() else {}
        entry, candidates = made.get(arm.name, {"tried": []}), arm.candidates
        if [row["settings"] for row in entry["tried"]] != [arm.tuned(candidate) for candidate in candidates]:
            return None
        return next(candidate for candidate in candidates if arm.tuned(candidate) == entry["chosen"])

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with: `baseline`, else the first without strategies, else the first."""
        names = [arm.name for arm in self.arms]
        if "baseline" in names:
            return "baseline"
        plain = [arm.name for arm in self.arms if arm == Arm(arm.name)]
        return (plain or names)[0]

    def runs(self, arm: Arm) -> list[RunFolder]:
        """One folder for every seed of the arm; an arm trained elsewhere has one."""
        seeds = self.config.seeds if arm.predictions is None else self.config.seeds[:1]
        return [self.folder.run(arm.name, seed) for seed in seeds]

    def finished(self) -> dict[str, list[RunFolder]]:
        """The arms with their finished runs; arms without any are left out.

        Raises: `ConfigError` RS-R44 where a run was trained on data, labels or a split that changed since, or a frozen
        arm's head on other weights than its source has now.
        """
        done = {arm.name: [run for run in self.runs(arm) if run.done] for arm in self.arms}
        for run in (run for runs in done.values() for run in runs):
            if not self.saw_these_data(run):
                raise _other_data(run, self.folder)
            if not self.fits_its_source(run):
                raise _other_source(run, self.folder)
        return {name: runs for name, runs in done.items() if runs}

    def saw_these_data(self, run: RunFolder) -> bool:
        """Whether a finished run was trained and validated on the data, labels and split of today."""
        seen = run.done_marker.read_text(encoding="utf-8").strip()
        return seen in ("", self.evidence_sha256)

    def parts(self, run: RunFolder) -> list[RunFolder]:
        """The folders that a run trains in: one for each fold, or its own."""
        if not self.folds.n_folds:
            return [run]
        return [self.folder.run(run.arm, run.seed, fold) for fold in range(self.folds.n_folds)]

    def fits_its_source(self, run: RunFolder) -> bool:
        """Whether a finished head was trained on the weights that its source has now; true of all other runs."""
        source = next((arm.frozen for arm in self.arms if arm.name == run.arm), None)
        if source is None:
            return True
        for part in self.parts(run):
            weights = self.folder.run(source, part.seed, part.fold).best
            if weights.exists() and read_json(part.arm_json).get("frozen_sha256") != weights_sha256(weights):
                return False
        return True

    def predictions(self, run: RunFolder, part: str = "val") -> Predictions:
        """The validation predictions of a run, one row an image."""
        return Predictions.load(run.val_predictions, self.task, arm=run.arm, seed=run.seed, part=part)

    def metadata(self, manifest: Manifest) -> pd.DataFrame:
        """What predictions carry along of the manifest: ids and subgroup columns, no paths and no labels."""
        left_out = {"image", "mask", "label", "case"}
        columns = [c for c in manifest.table.columns if c not in left_out and not c.startswith(LABEL_PREFIX)]
        return manifest.table[columns]

    @cached_property
    def data_sha256(self) -> str:
        """Hash of what training sees of the data: manifest, split, image settings, and the bytes of every image."""
        self.require(self.folder.split, "the split", f"raresight split {self.folder.typed}")
        images = dict(zip(self.cache.facts["case"], self.cache.facts["file_sha256"], strict=True))
        tables = [sha256(self.manifest_path), sha256(self.folder.split)]
        return sha256_of([*tables, self.config.image.model_dump(), images])

    @cached_property
    def evidence_sha256(self) -> str:
        """Hash of the data with the reading of their labels: which cases take part, and what unknown ones count as."""
        labels = [self.config.data.uncertain, self.config.data.no_finding]
        return sha256_of([self.data_sha256, labels, list(self.manifest.cases)])

    def require(self, path: Path, what: str, command: str) -> None:
        """Raise a `ConfigError` naming the command that makes `path`, where it is missing."""
        if not path.exists():
            raise ConfigError(
                Problem(
                    code="RS-C03",
                    level="error",
                    file=str(path),
                    found=f"{what} is missing",
                    why="this command works on it",
                    remedy=command,
                )
            )


def _other_data(run: RunFolder, folder: StudyFolder) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R44",
            level="error",
            file=str(run.path),
            found=f"arm '{run.arm}', seed {run.seed}, was trained before the manifest, the images, the labels' reading "
            "or the split changed",
            why="its training cases may be among today's validation or test cases",
            remedy=f"put the data back as they were, or remove this folder and run `raresight train {folder.typed}`",
        )
    )


def _other_source(run: RunFolder, folder: StudyFolder) -> ConfigError:
    return ConfigError(
        Problem(
            code="RS-R44",
            level="error",
            file=str(run.path),
            found=f"the head of arm '{run.arm}', seed {run.seed}, was trained on other weights than its source has now",
            why="a head means nothing on features that it was not trained on",
            remedy=f"remove this folder and run `raresight train {folder.typed}`: a head takes seconds",
        )
    )


def weights_sha256(path: Path) -> str:
    """`sha256` of a file that is large and asked for often; read again only where it was written since."""
    facts = path.stat()
    return _sha256_then(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=1024)
def _sha256_then(path: Path, written: int, size: int) -> str:
    return sha256(path)


def stamped(path: Path, stamp: str) -> bool:
    """Whether `path` is a JSON artefact made from inputs with this stamp."""
    return path.exists() and read_json(path).get("inputs") == stamp


def stamp(*inputs: Any) -> str:
    """One hash over everything that an artefact was made from; a `Path` counts by its content."""
    return sha256_of([sha256(item) if isinstance(item, Path) else item for item in inputs])
