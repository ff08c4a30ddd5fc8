"""The report's table of speed: for those who look after the machine."""

from __future__ import annotations

from raresight.core.task import Task
from raresight.report.content import ArmResult, Content
from raresight.report.effort import pace

TASK = Task("exclusive", ("a", "b"))


def row(images_per_s: float, **others: object) -> dict[str, object]:
    told = {"phase": "representation", "images_per_s": images_per_s, "input_share": 0.02, "train_seconds": 2.0}
    return told | others


def test_a_row_an_arm_over_all_seeds() -> None:
    arms = (
        ArmResult("baseline", events=((row(100.0, share_of_peak=0.1),), (row(300.0, share_of_peak=0.3),))),
        ArmResult("old", events=((row(1500.0),),)),
        ArmResult("head", events=(({"phase": "head", "step": 3},),)),
        ArmResult("elsewhere", outside=True),
    )
    made = pace(Content(task=TASK, arms=arms))
    assert made is not None
    assert [cells.cells for cells in made.rows] == [
        ("baseline", "200", "20%", "2.0%"),
        ("old", "1,500", "not measured", "2.0%"),
    ]


def test_without_history_there_is_no_table() -> None:
    assert pace(Content(task=TASK, arms=(ArmResult("elsewhere", outside=True),))) is None
