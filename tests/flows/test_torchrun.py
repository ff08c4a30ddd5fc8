"""`torchrun -m raresight train`: two gloo processes, one of them killed in the middle, begun again, the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from raresight.core.files import read_json, read_jsonl
from tests.flows.conftest import TINY, Cli, write_study

RANKS = 2
SECONDS = 240.0  # what a busy machine may need
ARMS = {
    "moved": ["class_balanced_sampling", "mixup", {"sam": {"rho": 0.05}}, "ema", "smote"],
    "heads": [{"frozen": "moved"}, "class_weights"],
}
TRAIN = TINY["train"] | {"steps": 30, "head_steps": 6, "evaluate_every": 4}  # type: ignore[operator]


def torchrun(*arguments: object, restarts: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command += [f"--max-restarts={restarts}", "-m", "raresight", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # torchrun stops its own
        out, err = process.communicate(timeout=60)
        pytest.fail(f"no end after {SECONDS} s: {out}{err}")
    return process.returncode, out, err


def process_of(rank: int, launcher: int) -> int | None:
    """The child of `launcher` that is this rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == launcher and f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:  # it ended meanwhile
            continue
    return None


def kill_in_the_middle(process: subprocess.Popen[str], events: Path) -> None:
    """SIGKILL to rank 1 after the second evaluation."""
    deadline = time.monotonic() + SECONDS
    while not (events.exists() and len(read_jsonl(events)) >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = process_of(1, process.pid)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> tuple[Path, Path, str]:
    """A study that two processes trained, its copy of which one rank was killed, and what that one said."""
    from raresight.api import Study
    from raresight.verbs.opened import OpenStudy
    from raresight.verbs.training import locked_runtime

    if not Path("/proc/self/environ").exists():
        pytest.skip("finds the processes to kill in /proc")
    whole = write_study(tmp_path_factory.mktemp("torchrun") / "whole", phantom, arms=ARMS, train=TRAIN)
    study = Study.open(whole)
    study.check()
    study.split()
    locked_runtime(OpenStudy.open(whole))
    killed = Path(shutil.copytree(whole, whole.with_name("killed")))

    code, out, err = ended(torchrun("train", whole))
    assert code == 0, out + err
    assert out.count("2 runs done") == 1  # one process talks
    assert err.count("trained moved, seed 0") == 1

    broken = torchrun("train", killed)
    kill_in_the_middle(broken, killed / "arms" / "moved" / "seed-0" / "events.jsonl")
    code, out, err = ended(broken)
    assert code == 0, out + err
    return whole, killed, err


@pytest.mark.parametrize("arm", list(ARMS))
def test_a_killed_rank_is_started_again_and_the_result_is_the_same(studies: tuple[Path, Path, str], arm: str) -> None:
    one, other = (study / "arms" / arm / "seed-0" for study in studies[:2])
    for name in ("best.safetensors", "arm.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tables = [pd.read_parquet(run / "val" / "predictions.parquet") for run in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (other / "DONE").exists()
    assert not [path for path in studies[1].rglob("*") if path.name.endswith(".tmp")]


def test_the_run_tells_how_many_trained_it(studies: tuple[Path, Path, str]) -> None:
    assert read_json(studies[0] / "arms/moved/seed-0/env.json")["ranks"] == RANKS


def test_one_process_takes_the_finished_study_as_it_is(studies: tuple[Path, Path, str], cli: Cli) -> None:
    before = (studies[0] / "arms/moved/seed-0/best.safetensors").stat().st_mtime_ns
    assert cli("train", studies[0]).code == 0
    assert (studies[0] / "arms/moved/seed-0/best.safetensors").stat().st_mtime_ns == before


def test_a_mistake_is_told_once(studies: tuple[Path, Path, str]) -> None:
    """Both processes meet it; torchrun adds its own table below."""
    process = torchrun("train", studies[0], "--arm", "movd", restarts=0)
    code, _, err = ended(process)
    assert code != 0
    assert err.count("RS-C33") == 1
