"""The examples run as a stranger would run them, and stay under 60 lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from tests.flows.conftest import Cli

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_first_run(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/01_first_run.py", copied], capture_output=True, text=True, check=True
    )
    assert "report:" in done.stdout and "melanoma" in done.stdout


@pytest.mark.parametrize("name", ["02_own_pytorch_loop", "03_own_lightning_loop", "04_own_timm_loop"])
def test_own_loop_ends_in_a_table_that_score_reads(name: str, copied: Path, tmp_path: Path, cli: Cli) -> None:
    table = tmp_path / f"{name}.csv"
    command = [sys.executable, ROOT / "examples" / f"{name}.py", copied, table, "4"]
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    reference = pd.read_parquet(copied / "arms/baseline/seed-0/val/predictions.parquet")
    assert list(pd.read_csv(table, dtype={"case": str})["case"]) == list(reference["case"])
    answer = cli("score", table, "--out", tmp_path / "scored", "--resamples", "100")
    assert answer.code == 0, answer.err
    assert (tmp_path / "scored/report.html").exists()


def test_own_method_becomes_an_arm_with_its_implied_prior(copied: Path) -> None:
    command = [sys.executable, ROOT / "examples/05_own_method.py", copied]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "mine: macro AUPRC" in done.stdout
    arm = json.loads((copied / "arms/mine/seed-0/arm.json").read_text(encoding="utf-8"))
    assert arm["strategies"] == [{"name": "05_own_method:CubeRootWeights", "settings": {"power": 0.5}}]
    classes = yaml.safe_load((copied / "study.yaml").read_text(encoding="utf-8"))["task"]["classes"]
    shift = dict(zip(classes, arm["implied_prior"], strict=True))
    assert shift["melanoma"] > 0 > shift["nevus"]  # the rarest class is raised, the commonest lowered


def test_looking_inside_ends_in_a_page(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples/06_looking_inside.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verdicts: [('common', " in done.stdout and "('rare', " in done.stdout
    assert (tmp_path / "look.html").exists() and (tmp_path / "explain.json").exists()
