"""`raresight explain` where neither Captum nor MONAI can be imported, and without pictures of patients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raresight.core.files import read_json
from tests.flows.conftest import TINY, trained_study

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("captum", "monai"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which Python starts with both packages blocked."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    for name in ("captum", "monai"):
        command = [sys.executable, "-c", f"import {name}"]
        refused = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert refused.returncode == 1, f"{name} is not blocked"
    return environment


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    short = {**TINY["train"], "steps": 6, "head_steps": 2}
    folder = tmp_path_factory.mktemp("bare") / "study"
    return trained_study(folder, phantom, arms={"baseline": []}, train=short)


def explain(study: Path, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from raresight.cli import main; main()", "explain", str(study), *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", ["occlusion", "grad_cam,integrated_gradients"])
def test_captums_maps_are_refused_before_anything_is_done(study: Path, bare: dict[str, str], method: str) -> None:
    answer = explain(study, bare, "--method", method)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert "RS-X01" in answer.stderr and "raresight[explain]" in answer.stderr
    assert method.rsplit(",", 1)[-1].replace("_", " ") in answer.stderr
    assert not (study / "explain").exists()


def test_the_rest_works_without_them_and_no_file_holds_a_picture_when_asked(study: Path, bare: dict[str, str]) -> None:
    tasks = ("--tasks", "alignment,dissect,faithfulness")
    answer = explain(study, bare, *tasks)
    assert answer.returncode == 0, answer.stderr
    assert "pictures of patients" in answer.stderr
    found = read_json(study / "explain/explain.json")
    assert found["tables"]["alignment"] and found["tables"]["gate"] and found["pictures"] is True
    assert (study / "explain/cases.npz").exists()

    answer = explain(study, bare, *tasks, "--no-pictures")
    assert answer.returncode == 0 and "pictures of patients" not in answer.stderr, answer.stderr
    again = read_json(study / "explain/explain.json")
    assert again["pictures"] is False and again["tables"] == found["tables"]
    left = [path for path in (study / "explain").rglob("*") if path.is_file() and "cache" not in path.parts]
    assert left and not [path.name for path in left if path.suffix in (".npz", ".png", ".jpg")]
    for path in left:
        if path.suffix in (".html", ".svg"):
            assert "<image" not in path.read_text(encoding="utf-8"), path.name
    assert "This page holds pictures" not in (study / "explain/look.html").read_text(encoding="utf-8")
