"""The command line as a test sees it, and one small finished study that the flows share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

# Small enough for seconds, complete enough that every verb has something to do.
TINY = {
    "image": {"size": 32, "preset": "dermoscopy"},
    "model": {"backbone": "test_resnet", "pretrained": False},
    "train": {
        "steps": 12,
        "head_steps": 4,
        "batch": 16,
        "lr": 2e-3,
        "precision": "fp32",
        "threads": 1,
        "device": "cpu",
    },
    "split": {"train": 0.5, "val": 0.25, "test": 0.25, "group": "patient_id", "seed": 0},
}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `raresight ARGS` in this process; the answer holds exit code, stdout and stderr."""
    return make_cli(monkeypatch, capsys)


def make_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    from raresight import cli as command_line

    def run(*args: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["raresight", *(str(arg) for arg in args)])
        capsys.readouterr()
        code = 0
        try:
            command_line.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small phantom: images, masks and manifest.csv."""
    from raresight.data.phantom import make_phantom

    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, n_patients=60, size=48, seed=3)
    return folder


def write_study(folder: Path, phantom: Path, **changes: Any) -> Path:
    """A study of the phantom with the tiny settings; `changes` replace whole sections of study.yaml."""
    from raresight.data.read import ReadOptions, read

    reading = read("csv", phantom / "manifest.csv", ReadOptions(group_col="lesion_id"))
    reading.manifest.save(folder / "data" / "manifest.csv")
    config: dict[str, Any] = {
        "data": {"manifest": "data/manifest.csv", "root": str(phantom)},
        "task": {"kind": "exclusive", "classes": list(reading.classes), "critical": ["melanoma"]},
        **TINY,
        "arms": {"baseline": [], "focal": ["focal"]},
        **changes,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder


def trained_study(folder: Path, phantom: Path, **changes: Any) -> Path:
    """`write_study`, checked, split and trained here, one run after the other."""
    from raresight.api import Study

    study = Study.open(write_study(folder, phantom, **changes))
    study.check()
    study.split()
    study.train()
    return folder


def without_runs(study: Path, folder: Path) -> Path:
    """A copy with the same data, cache and lock, and nothing trained."""
    return Path(shutil.copytree(study, folder, ignore=shutil.ignore_patterns("arms")))


def assert_same_runs(ours: Path, theirs: Path, arms: Iterable[str]) -> None:
    """Validation predictions and best weights of seed 0 are the same, bit for bit."""
    import pandas as pd

    from raresight.core.files import sha256

    for arm in arms:
        runs = [folder / f"arms/{arm}/seed-0" for folder in (ours, theirs)]
        tables = [pd.read_parquet(run / "val/predictions.parquet") for run in runs]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
        weights = [sha256(run / "best.safetensors") for run in runs]
        assert weights[0] == weights[1], arm


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """A study that ran to the report with its test part opened. Tests read it; those that write copy it."""
    from raresight.api import Study

    folder = write_study(
        tmp_path_factory.mktemp("finished") / "study",
        phantom,
        arms={
            "baseline": [],
            "weighted": ["class_weights"],
            "hybrid": ["heavy_augment", "smote", "ema", {"focal": {"gamma": 2}}],
            "moved": ["logit_adjustment"],
        },
        costs={"missed": {"melanoma": 20}, "prevalence": {"melanoma": 0.02}},
        accept={"melanoma": {"sensitivity_low": 0.85}},
        quick=True,
    )
    Study.open(folder).run(open_test=True)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy to write in. Weights are linked, not copied: whoever writes them puts a new file in their place."""

    def copy(source: str, target: str) -> None:
        heavy = Path(source).suffix in (".safetensors", ".pt")
        (os.link if heavy else shutil.copy2)(source, target)

    return Path(shutil.copytree(finished, tmp_path / "study", copy_function=copy))
