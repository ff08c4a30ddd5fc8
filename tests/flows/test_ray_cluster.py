"""A study over a real Ray cluster of two nodes on this machine, one of its workers killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from raresight.api import Study
from raresight.core.files import read_json, read_jsonl, sha256
from tests.flows.conftest import TINY, Cli, write_study
from tests.flows.test_frozen_arms import edit

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

STEPS = 40
SHORT = {**TINY["train"], "steps": STEPS, "head_steps": 10, "evaluate_every": 4}
ARMS = {
    "baseline": [],
    "weighted": ["class_weights"],
    "focal": ["focal"],
    "hybrid": ["heavy_augment", "smote", "ema"],
    "head_smote": [{"frozen": "baseline"}, "smote"],
    "head_weighted": [{"frozen": "baseline"}, "class_weights"],
}
NETWORKS = ["weighted", "focal", "hybrid"]  # the jobs to be killed in: others may wait for the baseline's


@dataclass(frozen=True)
class Ran:
    """A study trained on the cluster, the kill in it, and what the command said."""

    folder: Path
    arm: str
    pid: int
    step: int
    code: int
    said: str


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes of one CPU each; their sockets need a short path, and other clusters of this machine stay unseen."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="r")
    # Ray's workers are nice by default, and on a machine that does something else as well would hardly come to work.
    ours = {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        yield cluster.address
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    folder = write_study(tmp_path_factory.mktemp("serial") / "study", phantom, arms=ARMS, train=SHORT)
    study = Study.open(folder)
    study.check()
    study.split()
    study.train()
    return folder


@pytest.fixture(scope="module")
def clustered(serial: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("clustered") / "study"
    shutil.copytree(serial, folder, ignore=shutil.ignore_patterns("arms"))  # the same data, cache and lock
    command = [sys.executable, "-m", "raresight.cli", "train", str(folder), "--on", "ray", "--address", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = None
    while killed is None and process.poll() is None:
        killed = next(filter(None, (killed_in(folder, arm) for arm in NETWORKS)), None)
        time.sleep(0.005)
    out, err = process.communicate()
    assert killed is not None, f"no run could be killed in its middle\n{err}"
    return Ran(folder, *killed, process.returncode, out + err)


def killed_in(folder: Path, arm: str) -> tuple[str, int, int] | None:
    """SIGKILL the process that trains `arm`, if it is in the middle; arm, process and the last step it had told of."""
    run, log = folder / f"arms/{arm}/seed-0", folder / f"jobs/{arm}-seed-0.jsonl"
    if not (run / "resume.pt").exists() or (run / "DONE").exists():
        return None
    step = read_jsonl(run / "events.jsonl")[-1]["step"]
    pid = rows(log)[-1]["pid"]
    if step > STEPS // 2:
        return None
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.005)
    return arm, pid, step


def alive(pid: int) -> bool:
    """Whether a process still runs; one that its parent has not looked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]


@pytest.mark.timeout(1800)
def test_a_study_over_two_nodes_equals_the_serial_one_bit_for_bit(clustered: Ran, serial: Path) -> None:
    assert clustered.code == 0, clustered.said
    assert "6 runs done" in clustered.said and "Ray: 2 machines, 2 CPUs" in clustered.said
    for arm in ARMS:
        ours, theirs = (folder / f"arms/{arm}/seed-0" for folder in (clustered.folder, serial))
        tables = [pd.read_parquet(run / "val/predictions.parquet") for run in (ours, theirs)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
        assert sha256(ours / "best.safetensors") == sha256(theirs / "best.safetensors"), arm
        assert (ours / "DONE").read_text() == (theirs / "DONE").read_text()
        told = [[(row["step"], row["loss"] if "loss" in row else row["score"]) for row in events]
                for events in (read_jsonl(run / "events.jsonl") for run in (ours, theirs))]  # fmt: skip
        assert told[0] == told[1], arm
    assert read_json(clustered.folder / "lock.json") == read_json(serial / "lock.json")


@pytest.mark.timeout(1800)
def test_the_killed_run_went_on_in_another_process(clustered: Ran) -> None:
    log = rows(clustered.folder / f"jobs/{clustered.arm}-seed-0.jsonl")
    assert [row["event"] for row in log] == ["begun", "begun", "done"]
    assert log[0]["pid"] == clustered.pid != log[1]["pid"] == log[2]["pid"]
    assert 0 < clustered.step <= STEPS // 2
    assert f"{clustered.arm}-seed-0: its process was lost; begun again on" in clustered.said
    others = [path for path in clustered.folder.glob("jobs/*.jsonl") if path.stem != f"{clustered.arm}-seed-0"]
    assert {path.stem for path in others} == {
        f"{name}-seed-0" for name in ("baseline", *NETWORKS, "heads-on-baseline") if name != clustered.arm
    }
    assert all([row["event"] for row in rows(path)] == ["begun", "done"] for path in others)
    # the heads stand on the baseline: both in one job, begun when it was done
    (baseline, heads) = (
        rows(clustered.folder / f"jobs/{name}-seed-0.jsonl") for name in ("baseline", "heads-on-baseline")
    )
    assert baseline[-1]["time"] < heads[0]["time"]


@pytest.mark.timeout(1800)
def test_ctrl_c_stops_the_jobs_and_leaves_what_can_be_resumed(serial: Path, address: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(serial, tmp_path / "study", ignore=shutil.ignore_patterns("arms")))
    edit(folder, train={**SHORT, "steps": 100 * STEPS})
    command = [sys.executable, "-m", "raresight.cli", "train", str(folder), "--on", "ray", "--address", address]
    process = subprocess.Popen([*command, "--arm", "baseline"], stderr=subprocess.PIPE, text=True)
    run = folder / "arms/baseline/seed-0"
    while not (run / "resume.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err, err
    pid = rows(folder / "jobs/baseline-seed-0.jsonl")[-1]["pid"]
    while alive(pid):  # the test's own limit of time is the end of patience
        time.sleep(0.01)
    assert not (run / "DONE").exists() and not torch.load(run / "resume.pt", weights_only=True)["finished"]


@pytest.mark.timeout(1800)
def test_what_the_user_must_mend_comes_back_as_it_is_and_is_not_tried_again(
    clustered: Ran, address: str, cli: Cli
) -> None:
    edit(clustered.folder, train={**SHORT, "lr": 1e-3})
    answer = cli("train", clustered.folder, "--on", "ray", "--address", address, "--arm", "weighted")
    assert answer.code == 2
    assert "RS-R44" in answer.err and "train.lr: 0.002 then, 0.001 now" in answer.err
    log = rows(clustered.folder / "jobs/weighted-seed-0.jsonl")
    assert [row["event"] for row in log[-2:]] == ["begun", "refused"] and log[-3]["event"] == "done"
    assert torch.load(clustered.folder / "arms/weighted/seed-0/resume.pt", weights_only=True)["finished"]


@pytest.mark.timeout(1800)
def test_a_job_that_no_machine_can_hold_is_refused(serial: Path, address: str, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(serial, tmp_path / "study"))
    edit(folder, resources={"arms": {"focal": {"cpus": 64}}})
    answer = cli("train", folder, "--on", "ray", "--address", address)
    assert answer.code == 2 and "RS-R45" in answer.err
    assert "has 64 CPUs, which job 'focal-seed-0' asks for" in answer.err and "1 CPUs, 0 GPUs" in answer.err
    assert not (folder / "jobs").exists()
    answer = cli("train", folder, "--on", "ray", "--address", "127.0.0.1:1", "--arm", "baseline")
    assert answer.code == 2 and "no Ray cluster can be joined at '127.0.0.1:1'" in answer.err
