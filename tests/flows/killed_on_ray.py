"""A study over a real Ray cluster of two nodes on this machine, one worker killed: for the tests, and a benchmark."""

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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raresight.core.files import read_jsonl

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


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes of one CPU each, which other clusters of this machine do not see."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="r")  # the nodes' sockets need a short path
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


@contextmanager
def train_on(address: str, study: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`raresight train STUDY --on ray` in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "raresight", "train", str(study), "--on", "ray", "--address", address, *options]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs behind it ignore Ctrl-C
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heard)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def with_a_kill(study: Path, address: str, steps: int) -> Ran:
    """Train the study, whose runs have so many steps, and SIGKILL one worker before the middle of its run."""
    with train_on(address, study) as process:
        killed = None
        while killed is None and process.poll() is None:
            killed = next(filter(None, (_kill(study, arm, steps // 2) for arm in NETWORKS)), None)
            time.sleep(0.01)
        out, err = process.communicate()
    assert killed is not None, f"no run could be killed in its middle\n{err}"
    return Ran(study, *killed, process.returncode, out + err)


def _kill(study: Path, arm: str, middle: int) -> tuple[str, int, int] | None:
    """SIGKILL the process that trains `arm`, begun and before its middle; arm, process, last step told."""
    run = study / f"arms/{arm}/seed-0"
    if not (run / "resume.pt").exists() or (run / "DONE").exists():
        return None
    step = read_jsonl(run / "events.jsonl")[-1]["step"]
    if step > middle:
        return None
    pid = job_log(study, f"{arm}-seed-0")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    return arm, pid, step


def alive(pid: int) -> bool:
    """Whether a process still runs; one that its parent has not looked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def job_log(study: Path, job: str) -> list[dict[str, Any]]:
    """What the machines said of a job; nothing before it began."""
    path = study / "jobs" / f"{job}.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line]
