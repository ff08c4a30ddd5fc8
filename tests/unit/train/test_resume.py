"""A run that was killed at any moment and resumed equals one that was not, bit for bit."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import Average, Balanced, Bench, Mixing, Retrained, events_of

from raresight.core.errors import ConfigError
from raresight.core.run import RunFolder
from raresight.strategies.strategy import Strategy
from raresight.train import journal, loop


class Killed(BaseException):
    """Not an Exception: nothing may catch and handle it, as nothing handles SIGKILL."""


def strategies(head: bool) -> list[Strategy]:
    return [Mixing(), Balanced(), Retrained()] if head else [Mixing(), Average()]


def same(one: RunFolder, other: RunFolder, bench: Bench, head: bool) -> None:
    for file in ("best.safetensors", "last.safetensors", "arm.json"):
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes(), file
    assert events_of(one) == events_of(other)
    assert np.array_equal(bench.predict(one, *strategies(head)), bench.predict(other, *strategies(head)))
    assert {file.name for file in one.path.iterdir()} == {file.name for file in other.path.iterdir()}


@pytest.fixture(params=[False, True], ids=["plain", "head"])
def head(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_same_seed_same_bits(bench: Bench, head: bool) -> None:
    same(bench.train("one", *strategies(head)), bench.train("two", *strategies(head)), bench, head)


@pytest.mark.parametrize("after", [1, 2, 3, 4, 6])
def test_killed_after_an_evaluation(bench: Bench, head: bool, after: int) -> None:
    seen: list[Any] = []

    def kill(event: dict) -> None:
        seen.append(event)
        if len(seen) == after:
            raise Killed

    whole = bench.train("whole", *strategies(head))
    if after > len(events_of(whole)):
        pytest.skip("the run has fewer evaluations")
    with pytest.raises(Killed):
        bench.train("killed", *strategies(head), on_event=kill)
    same(whole, bench.train("killed", *strategies(head)), bench, head)


@pytest.mark.parametrize("step", [1, 3, 6, 11])
@pytest.mark.parametrize("saved", [True, False], ids=["saved each step", "saved at evaluations"])
def test_killed_after_a_step(bench: Bench, head: bool, step: int, saved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bench.train("whole", *strategies(head))
    add = journal.Journal.add

    def adding(self: Any, *args: Any) -> None:
        if self.progress.step == step:
            raise Killed
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "add", adding)
        patch.setattr(journal, "RESUME_SECONDS", 0.0 if saved else 60.0)
        with pytest.raises(Killed):
            bench.train("killed", *strategies(head))
    same(whole, bench.train("killed", *strategies(head)), bench, head)


def test_killed_at_every_write(bench: Bench, head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rename of the run fails once, each time in a further attempt of the same run."""
    whole = bench.train("whole", *strategies(head))
    replace = os.replace
    writes = {"left": 0}

    def failing(source: Any, target: Any) -> None:
        if writes["left"] == 0:
            raise Killed
        writes["left"] -= 1
        replace(source, target)

    attempts = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        while True:
            # 0, 1, 2 ... 6 writes succeed: enough to get past the next saved state, so that the run moves on.
            writes["left"] = attempts % 7
            attempts += 1
            try:
                bench.train("killed", *strategies(head))
                break
            except Killed:
                assert not list((bench.folder / "killed").glob(".*.tmp"))
                assert attempts < 60
    assert attempts > 7
    same(whole, bench.run("killed"), bench, head)


def test_a_trained_run_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.train("one", Mixing())
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.path.iterdir()}
    monkeypatch.setattr(loop, "new_model", lambda *a, **k: pytest.fail("trained again"))
    bench.train("one", Mixing())
    assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.path.iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_changed_settings_are_refused_and_named(bench: Bench, finished: bool) -> None:
    def kill(event: dict) -> None:
        if not finished:
            raise Killed

    with suppress(Killed):
        bench.train("one", on_event=kill)
    with pytest.raises(ConfigError) as caught:
        bench.with_train(lr=0.02).train("one")
    (problem,) = caught.value.problems
    assert problem.code == "RS-R44"
    assert "train.lr: 0.01 then, 0.02 now" in problem.found
    assert "batch" not in problem.found
    assert "'one_2'" in problem.remedy
    bench.data_hash = "other data"
    with pytest.raises(ConfigError, match="data: 'data' then, 'other data' now"):
        bench.train("one")


def test_other_arms_and_reporting_choices_do_not_block_a_resume(bench: Bench) -> None:
    run = bench.train("one")
    more = {"arms": {"baseline": [], "focal": ["focal"]}, "seeds": [0, 1]}
    bench.config = bench.config.model_copy(update=more)
    assert bench.train("one").best.read_bytes() == run.best.read_bytes()


def test_predict_before_training_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RS-R44b"):
        bench.predict(bench.run("nothing"))
