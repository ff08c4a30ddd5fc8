"""A study as jobs: over submitit's own processes of this machine, and over a stand-in for SLURM's commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raresight.core.errors import ConfigError
from raresight.core.files import read_json
from raresight.verbs.cluster import Job, Needs, jobs, perform, prepared
from raresight.verbs.opened import OpenStudy
from tests.flows import fake_slurm
from tests.flows.conftest import TINY, Cli, assert_same_runs, trained_study, without_runs
from tests.flows.test_frozen_arms import edit

pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")

STEPS = 120
ARMS = {"baseline": [], "head": [{"frozen": "baseline"}, "class_weights"]}
SHORT = {**TINY["train"], "steps": STEPS, "head_steps": 5, "evaluate_every": 5}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    return trained_study(tmp_path_factory.mktemp("serial") / "study", phantom, arms=ARMS, train=SHORT)


@pytest.fixture
def untrained(serial: Path, tmp_path: Path) -> Path:
    """The same data, cache and lock."""
    return without_runs(serial, tmp_path / "study")


def rows(folder: Path, job: str) -> list[dict[str, Any]]:
    path = folder / f"jobs/{job}.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line]


@pytest.mark.timeout(300)
def test_a_job_that_was_killed_is_queued_again_and_ends_as_the_serial_run(untrained: Path, serial: Path) -> None:
    from raresight.verbs.on_slurm import train_on_slurm

    killed: list[int] = []

    def kill() -> None:
        run = untrained / "arms/baseline/seed-0"
        while not (run / "resume.pt").exists():
            time.sleep(0.005)
        killed.append(rows(untrained, "baseline-seed-0")[-1]["pid"])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    runs = train_on_slurm(OpenStudy.open(untrained), cluster="local")
    killer.join()
    assert [run.done for run in runs] == [True, True]
    log = rows(untrained, "baseline-seed-0")
    assert [row["event"] for row in log] == ["begun", "begun", "done"]
    assert log[0]["pid"] == killed[0] != log[1]["pid"]
    assert [row["event"] for row in rows(untrained, "heads-on-baseline-seed-0")] == ["begun", "done"]
    assert log[-1]["time"] < rows(untrained, "heads-on-baseline-seed-0")[0]["time"]
    assert_same_runs(untrained, serial, ARMS)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for SLURM's commands on PATH; its queue."""
    fake_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "slurm/queue"


@pytest.mark.timeout(300)
def test_jobs_are_left_in_the_queue_tied_to_one_another(untrained: Path, serial: Path, slurm: Path, cli: Cli) -> None:
    edit(untrained, resources={"cpus": 2, "memory_gb": 3, "hours": 1.5, "arms": {"head": {"gpus": 1}}})
    command = ("train", untrained, "--on", "slurm", "--partition", "short", "--no-wait")
    answer = cli(*command)
    assert answer.code == 0, answer.err
    assert "0 of 2 runs done" in answer.out and "baseline-seed-0 is job 1000" in answer.err
    first, second = (json.loads((slurm / f"{number}.json").read_text()) for number in (1000, 1001))
    asked = {"cpus-per-task": "2", "mem": "3GB", "time": "90", "partition": "short", "requeue": ""}
    assert asked.items() <= first.items() and asked.items() <= second.items()
    assert "dependency" not in first and "gpus-per-node" not in first
    assert second["dependency"] == "afterok:1000" and second["kill-on-invalid-dep"] == "yes"
    assert second["gpus-per-node"] == "1" and first["job-name"] == second["job-name"]

    twice = cli(*command)  # two jobs must not train one run
    assert twice.code == 2 and "RS-R45" in twice.err and "still queued or running" in twice.err
    assert len(list(slurm.glob("*.sh"))) == 2
    while not (slurm / "1001.state").read_text().startswith(("COMP", "FAIL", "CANC")):
        time.sleep(0.1)
    assert (slurm / "1001.state").read_text() == "COMPLETED", list((untrained / "jobs/slurm").glob("*.err"))
    assert_same_runs(untrained, serial, ARMS)


@pytest.mark.timeout(300)
def test_what_the_user_must_mend_comes_back_from_the_queue(serial: Path, tmp_path: Path, slurm: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(serial, tmp_path / "study"))
    edit(folder, train={**SHORT, "lr": 1e-3})
    answer = cli("train", folder, "--on", "slurm")
    assert answer.code == 2 and "train.lr: 0.002 then, 0.001 now" in answer.err
    assert [row["event"] for row in rows(folder, "baseline-seed-0")] == ["begun", "refused"]
    assert rows(folder, "heads-on-baseline-seed-0") == []  # never begun: it stands on the refused one


def test_the_first_job_locks_a_study_with_what_its_jobs_will_have(untrained: Path) -> None:
    unsaid = {key: value for key, value in SHORT.items() if key not in ("threads", "device")}
    edit(untrained, train=unsaid, resources={"cpus": 2})
    (untrained / "lock.json").unlink()
    study = OpenStudy.open(untrained)
    first, *others = jobs(study, prepared(study, (), ()))
    assert first == Job("lock", "lock", Needs(2), ("baseline", "head"))
    assert [job.after for job in others] == [("lock",), ("baseline-seed-0",)]
    perform(str(untrained), first)
    locked = read_json(untrained / "lock.json")["runtime"]
    assert (locked["threads"], locked["device"]) == (2, "cpu")  # without a GPU of its own it looks for none
    assert [job.name for job in jobs(study, prepared(study, (), ()))] == [job.name for job in others]


def test_without_slurm_it_says_where_to_go(
    serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = cli("train", serial, "--on", "slurm")
    assert answer.code == 2 and "login node" in answer.err


def test_before_a_preemption_the_same_job_is_queued_once_more() -> None:
    from raresight.verbs.on_slurm import Submitted

    job = Job("one", "train", Needs(), ("baseline",), (0,))
    again = Submitted("folder", job).checkpoint()
    assert isinstance(again.function, Submitted) and (again.function.folder, again.function.job) == ("folder", job)
    with pytest.raises(ConfigError, match="does not see the study folder"):
        again.function()
