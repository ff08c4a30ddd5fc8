"""A study over a real Ray cluster of two nodes on this machine, one of its workers killed in the middle."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raresight.core.files import read_json, read_jsonl
from tests.flows.conftest import TINY, Cli, assert_same_runs, trained_study, without_runs
from tests.flows.killed_on_ray import ARMS, NETWORKS, Ran, alive, job_log, train_on, two_nodes, with_a_kill
from tests.flows.test_frozen_arms import edit

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.timeout(300)  # a cluster that hangs must not take the whole suite's time

STEPS = 40
SHORT = {**TINY["train"], "steps": STEPS, "head_steps": 10, "evaluate_every": 4}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with two_nodes() as address:
        yield address


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    return trained_study(tmp_path_factory.mktemp("serial") / "study", phantom, arms=ARMS, train=SHORT)


@pytest.fixture(scope="module")
def clustered(serial: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return with_a_kill(without_runs(serial, tmp_path_factory.mktemp("clustered") / "study"), address, STEPS)


def test_a_study_over_two_nodes_equals_the_serial_one_bit_for_bit(clustered: Ran, serial: Path) -> None:
    assert clustered.code == 0, clustered.said
    assert "6 runs done" in clustered.said and "Ray: 2 machines, 2 CPUs" in clustered.said
    assert_same_runs(clustered.folder, serial, ARMS)
    for arm in ARMS:
        ours, theirs = (folder / f"arms/{arm}/seed-0" for folder in (clustered.folder, serial))
        assert (ours / "DONE").read_text() == (theirs / "DONE").read_text()
        told = [[(row["step"], row["loss"] if "loss" in row else row["score"]) for row in events]
                for events in (read_jsonl(run / "events.jsonl") for run in (ours, theirs))]  # fmt: skip
        assert told[0] == told[1], arm
    assert read_json(clustered.folder / "lock.json") == read_json(serial / "lock.json")


def test_the_killed_run_went_on_in_another_process(clustered: Ran) -> None:
    log = job_log(clustered.folder, f"{clustered.arm}-seed-0")
    assert [row["event"] for row in log] == ["begun", "begun", "done"]
    assert log[0]["pid"] == clustered.pid != log[1]["pid"] == log[2]["pid"]
    assert 0 < clustered.step <= STEPS // 2
    assert f"{clustered.arm}-seed-0: its process was lost; begun again on" in clustered.said
    others = {path.stem for path in clustered.folder.glob("jobs/*.jsonl")} - {f"{clustered.arm}-seed-0"}
    assert others == {
        f"{name}-seed-0" for name in ("baseline", *NETWORKS, "heads-on-baseline") if name != clustered.arm
    }
    assert all([row["event"] for row in job_log(clustered.folder, job)] == ["begun", "done"] for job in others)
    # the heads stand on the baseline: both in one job, begun when it was done
    (baseline, heads) = (job_log(clustered.folder, f"{job}-seed-0") for job in ("baseline", "heads-on-baseline"))
    assert baseline[-1]["time"] < heads[0]["time"]


def test_ctrl_c_stops_the_jobs_and_leaves_what_can_be_resumed(serial: Path, address: str, tmp_path: Path) -> None:
    folder = without_runs(serial, tmp_path / "study")
    edit(folder, train={**SHORT, "steps": 100 * STEPS})
    run = folder / "arms/baseline/seed-0"
    with train_on(address, folder, "--arm", "baseline") as process:
        while not (run / "resume.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err, err
    pid = job_log(folder, "baseline-seed-0")[-1]["pid"]
    while alive(pid):  # the test's own limit of time is the end of patience
        time.sleep(0.01)
    assert not (run / "DONE").exists() and not torch.load(run / "resume.pt", weights_only=True)["finished"]


def test_what_the_user_must_mend_comes_back_as_it_is_and_is_not_tried_again(
    clustered: Ran, address: str, cli: Cli
) -> None:
    edit(clustered.folder, train={**SHORT, "lr": 1e-3})
    answer = cli("train", clustered.folder, "--on", "ray", "--address", address, "--arm", "weighted")
    assert answer.code == 2
    assert "RS-R44" in answer.err and "train.lr: 0.002 then, 0.001 now" in answer.err
    log = job_log(clustered.folder, "weighted-seed-0")
    assert [row["event"] for row in log[-2:]] == ["begun", "refused"] and log[-3]["event"] == "done"
    assert torch.load(clustered.folder / "arms/weighted/seed-0/resume.pt", weights_only=True)["finished"]


def test_a_job_that_no_machine_can_hold_is_refused(serial: Path, address: str, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(serial, tmp_path / "study"))
    edit(folder, resources={"arms": {"focal": {"cpus": 64}}})
    answer = cli("train", folder, "--on", "ray", "--address", address)
    assert answer.code == 2 and "RS-R45" in answer.err
    assert "has 64 CPUs, which job 'focal-seed-0' asks for" in answer.err and "1 CPUs, 0 GPUs" in answer.err
    assert not (folder / "jobs").exists()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("ray://127.0.0.1:1", "Connection refused"),
        ("nonsense", "that is no HOST:PORT"),
        (":6379", "that is no HOST:PORT"),
        ("127.0.0.1:99999", "that is no HOST:PORT"),
    ],
)
def test_an_address_where_no_ray_is_is_refused_at_once(serial: Path, cli: Cli, address: str, reason: str) -> None:
    """Ray itself would try for minutes."""
    answer = cli("train", serial, "--on", "ray", "--address", address, "--arm", "baseline")
    assert answer.code == 2
    assert f"RS-R45 no Ray cluster can be joined at '{address}': {reason}" in answer.err
