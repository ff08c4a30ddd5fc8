"""What is handed out, what waits for what, and what each job asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raresight.core.config import StudyConfig, parse_config
from raresight.core.errors import ConfigError, DataError, Problem
from raresight.core.run import StudyFolder
from raresight.verbs.cluster import Job, Needs, _for_the_probe, jobs, perform, raise_all
from raresight.verbs.job_log import JobLog, Watch, refusal
from raresight.verbs.on_ray import _fits
from raresight.verbs.on_slurm import _asked
from raresight.verbs.opened import OpenStudy
from raresight.verbs.train_on import train_on

ARMS: dict[str, Any] = {
    "plain": [],
    "baseline": [],
    "focal": ["focal"],
    "head_a": [{"frozen": "plain"}, "smote"],
    "head_b": [{"frozen": "plain"}, "class_weights"],
    "outside": {"predictions": {"val": "v.csv"}},
}
LOCK = {"runtime": {"device": "cpu", "dtype": "fp32", "channels_last": False, "threads": 3}}


def study(folder: Path, *, lock: dict[str, Any] | None = LOCK, **sections: Any) -> OpenStudy:
    """A study of settings alone; two seeds."""
    written = {"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": ARMS, "seeds": [5, 7], **sections}
    if lock is not None:
        folder.mkdir(exist_ok=True)
        (folder / "lock.json").write_text(json.dumps(lock))
    return OpenStudy(StudyFolder(folder), StudyConfig.model_validate(written))


def laid(opened: OpenStudy, *names: str, gpus: bool = False) -> list[Job]:
    runs = [(arm, run) for arm in opened.arms if not names or arm.name in names for run in opened.runs(arm)]
    return jobs(opened, runs, gpus=gpus)


def order(laid_out: list[Job]) -> dict[str, tuple[str, ...]]:
    return {job.name: job.after for job in laid_out}


def test_one_job_for_each_network_and_seed_then_one_for_all_heads_on_it(tmp_path: Path) -> None:
    out = laid(study(tmp_path))
    assert order(out) == {
        "baseline-seed-5": (), "baseline-seed-7": (), "plain-seed-5": (), "plain-seed-7": (),
        "focal-seed-5": (), "focal-seed-7": (),
        "heads-on-plain-seed-5": ("plain-seed-5",), "heads-on-plain-seed-7": ("plain-seed-7",),
    }  # fmt: skip
    assert list(order(out))[:2] == ["baseline-seed-5", "baseline-seed-7"]  # a study stopped early can be compared
    heads = out[-1]
    assert (heads.does, heads.arms, heads.seeds) == ("train", ("head_a", "head_b"), (7,))


def test_what_is_asked_for_brings_what_it_stands_on_and_no_more(tmp_path: Path) -> None:
    assert order(laid(study(tmp_path), "head_b")) == {
        "plain-seed-5": (), "plain-seed-7": (),
        "heads-on-plain-seed-5": ("plain-seed-5",), "heads-on-plain-seed-7": ("plain-seed-7",),
    }  # fmt: skip
    assert laid(study(tmp_path), "head_b")[-1].arms == ("head_b",)
    assert laid(study(tmp_path, lock=None), "outside") == []  # nothing to train, so nothing to lock


def test_a_study_without_a_lock_is_locked_by_one_job_before_all_others(tmp_path: Path) -> None:
    out = laid(study(tmp_path, lock=None))
    assert (out[0].name, out[0].does, out[0].after) == ("lock", "lock", ())
    assert all(job.after == ("lock",) for job in out[1:] if not job.name.startswith("heads"))


def test_values_of_lists_are_chosen_by_one_job_after_the_baselines(tmp_path: Path) -> None:
    arms = {
        "baseline": [],
        "plain": [],
        "focal": [{"focal": {"gamma": [1, 2]}}],
        "head": [{"frozen": "plain"}, {"focal": {"gamma": [1, 2]}}],
    }
    out = order(laid(study(tmp_path, arms=arms), "focal", "head"))
    assert out["choose"] == ("baseline-seed-5", "baseline-seed-7")
    assert out["focal-seed-5"] == ("choose",)
    assert out["plain-seed-5"] == () and out["heads-on-plain-seed-7"] == ("plain-seed-7", "choose")
    names = list(out)
    assert all(names.index(before) < names.index(name) for name, after in out.items() for before in after)


def test_a_job_asks_for_what_its_arm_says_else_for_what_the_study_says(tmp_path: Path) -> None:
    resources = {
        "cpus": 2,
        "memory_gb": 8,
        "hours": 4,
        "arms": {"focal": {"gpus": 1, "cpus": 4}, "head_b": {"cpus": 6}},
    }
    needs = {job.name: job.needs for job in laid(study(tmp_path, resources=resources))}
    assert needs["plain-seed-5"] == Needs(2, 0, 8.0, 4.0)
    assert needs["focal-seed-5"] == Needs(4, 1, 8.0, 4.0)
    assert needs["heads-on-plain-seed-5"] == Needs(6, 0, 8.0, 4.0)  # the most that one of its arms asks for
    assert {job.needs for job in laid(study(tmp_path), "focal")} == {Needs(3, 0)}  # the lock's threads


@pytest.mark.parametrize(
    ("lock", "train", "gpus", "expected"),
    [
        (None, {}, False, Needs(1, 0)),
        (None, {"threads": 4}, False, Needs(4, 0)),
        (None, {}, True, Needs(1, 1)),  # device: auto takes the GPUs that the cluster has
        (None, {"device": "cpu"}, True, Needs(1, 0)),
        (None, {"device": "cuda"}, False, Needs(1, 1)),
        ({"runtime": LOCK["runtime"] | {"device": "cuda"}}, {"threads": 4}, False, Needs(3, 1)),
        (LOCK, {}, True, Needs(3, 0)),  # locked to the CPU: a GPU would idle
    ],
)
def test_unsaid_needs_follow_the_lock_and_the_device(
    tmp_path: Path, lock: dict[str, Any] | None, train: dict[str, Any], gpus: bool, expected: Needs
) -> None:
    assert {job.needs for job in laid(study(tmp_path, lock=lock, train=train), "focal", gpus=gpus)} == {expected}


@pytest.mark.parametrize(
    ("train", "needs", "threads", "device"),
    [
        ({}, Needs(3, 0), 3, "cpu"),  # the machine that locks may have a GPU that the jobs will not
        ({}, Needs(3, 1), 3, "auto"),
        ({"threads": 4, "device": "cuda"}, Needs(3, 0), 4, "cuda"),
    ],
)
def test_the_lock_is_chosen_with_what_the_jobs_will_have(
    tmp_path: Path, train: dict[str, Any], needs: Needs, threads: int, device: str
) -> None:
    settings = _for_the_probe(study(tmp_path, train=train), needs).config.train
    assert (settings.threads, settings.device) == (threads, device)


def test_resources_are_checked_like_every_other_section() -> None:
    base = {"task": {"kind": "exclusive", "classes": ["a", "b"]}, "arms": {"heavy": []}}
    for resources, code, words in [
        ({"arms": {"heavi": {"gpus": 1}}}, "RS-C34", "did you mean 'heavy'?"),
        ({"cpu": 2}, "RS-C33", "did you mean 'cpus'?"),
        ({"cpus": 0}, "RS-C34", "greater than or equal to 1"),
        ({"gpus": -0.5}, "RS-C34", "greater than or equal to 0"),
        ({"memory_gb": 0}, "RS-C34", "greater than 0"),
    ]:
        with pytest.raises(ConfigError) as refused:
            parse_config(base | {"resources": resources})
        (problem,) = refused.value.problems
        assert problem.code == code and words in str(problem), resources
    assert parse_config(base | {"arms": "auto", "resources": {"arms": {"heavy": {"cpus": 2}}}}).resources.cpus is None


def test_a_machine_fits_that_has_all_of_what_is_asked_for() -> None:
    node = {"CPU": 4.0, "memory": 8e9}
    assert _fits(Needs(4, 0, 8.0), node) and not _fits(Needs(5), node)
    assert not _fits(Needs(1, 0.5), node) and _fits(Needs(1, 0.5), node | {"GPU": 1.0})
    assert not _fits(Needs(1, 0, 8.1), node)


def test_slurm_is_asked_for_whole_gpus_and_minutes() -> None:
    assert _asked(Needs(2, 0.5, 8.0, 1.01)) == {
        "cpus_per_task": 2, "gpus_per_node": 1, "mem_gb": 8.0, "timeout_min": 61,
    }  # fmt: skip
    assert _asked(Needs())["gpus_per_node"] is None and _asked(Needs())["timeout_min"] == 240


def problem(code: str = "RS-C01") -> Problem:
    return Problem(code=code, level="error", found="f", why="w", remedy="r")


def test_a_log_tells_how_a_job_ended_and_forgives_half_a_line(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "jobs", "one")
    assert log.rows() == []
    log.begun()
    with log.path.open("a") as stream:
        stream.write('{"event": "do')  # killed while it wrote
    log.begun()
    log.refused(DataError(problem()))
    assert [row["event"] for row in log.rows()] == ["begun", "begun", "refused"]
    error = refusal(log.rows()[-1])
    assert isinstance(error, DataError) and error.exit_code == 3 and error.problems == (problem(),)


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_watch_says_each_line_once_and_knows_nothing_of_former_days(tmp_path: Path) -> None:
    from dataclasses import replace

    heard: Any = Heard()
    opened = replace(study(tmp_path), progress=heard)
    job, other = Job("one", "choose", Needs()), Job("two", "choose", Needs())
    log = JobLog(opened.folder.jobs, "one")
    log.begun()
    log.done()  # of yesterday
    shares: list[tuple[int, int]] = []
    watch = Watch(opened, [job, other], lambda done, total: shares.append((done, total)))
    watch.look(now=True)
    assert heard.said == [] and watch.outcome(job) is False and shares == [(0, 200)]
    log.begun()
    watch.look(now=True)
    watch.look(now=True)
    log.begun()
    assert watch.outcome(job) is False  # its second process is at work
    log.done()
    watch.look(now=True)
    assert [line.split(" on ")[0] for line in heard.said] == [
        "one: begun", "one: its process was lost; begun again", "one: done",
    ]  # fmt: skip
    assert watch.outcome(job) is True and shares[-1] == (100, 200)
    JobLog(opened.folder.jobs, "two").refused(ConfigError(problem()))
    watch.look(now=True)
    assert isinstance(watch.outcome(other), ConfigError) and "RS-C01 f" in heard.said[-1]


def test_a_machine_that_does_not_see_the_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not see the study folder(.|\n)*mounts at the same path") as refused:
        perform(str(tmp_path / "elsewhere"), Job("one", "choose", Needs()))
    assert refused.value.problems[0].code == "RS-R45"
    assert not (tmp_path / "elsewhere").exists()


def test_a_bug_is_raised_before_what_the_user_must_mend_and_each_problem_once() -> None:
    raise_all([])
    with pytest.raises(DataError) as refused:
        raise_all([DataError(problem()), ConfigError(problem()), ConfigError(problem("RS-C02"))])
    assert [one.code for one in refused.value.problems] == ["RS-C01", "RS-C02"]
    with pytest.raises(ZeroDivisionError):
        raise_all([DataError(problem()), ZeroDivisionError()])


@pytest.mark.parametrize(
    ("on", "options", "words"),
    [
        ("rya", {}, "did you mean 'ray'?"),
        (None, {"address": "h:1"}, "--address without --on ray"),
        ("slurm", {"address": "h:1"}, "--address without --on ray"),
        ("ray", {"partition": "p"}, "--partition without --on slurm"),
        ("ray", {"wait": False}, "--no-wait without --on slurm"),
    ],
)
def test_options_of_another_engine_are_refused(tmp_path: Path, on: str | None, options: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train_on(study(tmp_path), on, **options)
    assert words in str(refused.value)


@pytest.mark.parametrize(("on", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_gives_the_exact_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str, module: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ConfigError) as refused:
        train_on(study(tmp_path), on)
    assert refused.value.exit_code == 2
    assert refused.value.problems[0].remedy == f"pip install 'raresight[{on}]'"
