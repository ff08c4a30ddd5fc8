"""From an arm as written to a stack, and every way of writing it wrongly."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from raresight.core.arm import Arm
from raresight.core.errors import ConfigError, Problem
from raresight.core.task import Task
from raresight.strategies import ALL, Strategy, build, describe
from raresight.strategies.losses.focal import Focal

TASK = Task("exclusive", ("nevus", "melanoma"))


class MyOwn(Strategy):
    """A method of the user's."""

    name: ClassVar[str] = "my_own"
    source: ClassVar[str] = "a test"

    def __init__(self, *, strength: float) -> None:
        if strength < 0:
            raise ValueError("strength must not be negative")
        self.strength = strength


OWN = f"{__name__}:MyOwn"


def _refused(written: Any) -> Problem:
    with pytest.raises(ConfigError) as refusal:
        build(Arm.parse("mine", written), TASK)
    (problem,) = refusal.value.problems
    assert problem.level == "error"
    assert problem.remedy
    assert problem.why
    assert problem.column is not None
    assert problem.column.startswith("arms.mine")
    return problem


def test_names_and_settings_become_strategies_in_order() -> None:
    stack = build(Arm.parse("mine", ["ema", {"focal": {"gamma": 3}}]), TASK)
    assert [strategy.name for strategy in stack.strategies] == ["ema", "focal"]
    focal = stack.strategies[1]
    assert isinstance(focal, Focal)
    assert focal.gamma == 3
    assert stack.arm == "mine"


def test_an_empty_arm_is_plain_training() -> None:
    assert build(Arm.parse("baseline", []), TASK).strategies == ()


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_every_method_is_built_by_its_name(method: type[Strategy]) -> None:
    task = Task(method.kinds[0], TASK.classes)
    (strategy,) = build(Arm.parse("mine", [method.name]), task).strategies
    assert type(strategy) is method


def test_a_users_own_class_needs_no_registration() -> None:
    (strategy,) = build(Arm.parse("mine", [{OWN: {"strength": 2}}]), TASK).strategies
    assert isinstance(strategy, MyOwn)
    assert strategy.strength == 2


@pytest.mark.parametrize(
    ("written", "code", "column", "words"),
    [
        (["focl"], "RS-C33", "arms.mine", "did you mean 'focal'"),
        (["zzz"], "RS-C33", "arms.mine", "raresight list strategies"),
        ([{"focal": {"gama": 2}}], "RS-C33", "arms.mine.focal.gama", "did you mean 'gamma'"),
        ([{"classifier_retraining": {"x": 2}}], "RS-C33", "arms.mine.classifier_retraining.x", "none"),
        ([{"focal": {"gamma": -2}}], "RS-C34", "arms.mine.focal.gamma", "[0, 20]"),
        ([{"focal": {"gamma": "high"}}], "RS-C34", "arms.mine.focal.gamma", "number in [0, 20]"),
        ([{"focal": {"gamma": [0.5, 1]}}], "RS-C34", "arms.mine.focal.gamma", "one arm per value"),
        (["no.such.module:Thing"], "RS-C33", "arms.mine", "cannot be imported"),
        (["raresight.core.task:Nothing"], "RS-C33", "arms.mine", "cannot be imported"),
        (["raresight.core.task:Task"], "RS-C33", "arms.mine", "not a subclass"),
        ([OWN], "RS-C33", f"arms.mine.{OWN}", "needs the setting 'strength'"),
        ([{OWN: {"strength": -1}}], "RS-C34", f"arms.mine.{OWN}", "must not be negative"),
        (["focal", "ldam"], "RS-C35", "arms.mine", "both own the place"),
    ],
)
def test_wrong_arms(written: Any, code: str, column: str, words: str) -> None:
    problem = _refused(written)
    assert problem.code == code
    assert problem.column == column
    assert words in f"{problem.found} {problem.why} {problem.remedy}"


def test_a_list_is_settled_before_an_arm_is_built() -> None:
    assert "`raresight train` chooses it from the list" in _refused([{"focal": {"gamma": [0.5, 1]}}]).why


def test_describe_has_a_row_for_every_method() -> None:
    rows = describe()
    assert [row["name"] for row in rows] == [method.name for method in ALL]
    focal = next(row for row in rows if row["name"] == "focal")
    assert focal["place"] == "losses"
    assert focal["settings"] == {"gamma": 2.0, "alpha": None}
    assert focal["about"].startswith("Cross-entropy times")
    assert all(row["source"] and row["about"] for row in rows)
