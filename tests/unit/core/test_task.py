"""What a task knows, and that a misspelt critical class is refused."""

from __future__ import annotations

import pytest

from raresight.core.errors import ConfigError
from raresight.core.task import Task


def test_classes_have_positions() -> None:
    task = Task("exclusive", ("nv", "mel", "df"), ("mel",))
    assert (task.n_classes, task.index("mel"), task.space) == (3, 1, 0)


def test_an_unknown_critical_class_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'melanoma'") as error:
        Task("exclusive", ("naevus", "melanoma"), ("Melanom",))
    assert error.value.exit_code == 2
    assert error.value.problems[0].column == "task.critical"
