"""Commands that are printed can be copied into a shell, whatever the study is called."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from raresight.core.config import load_config
from raresight.core.errors import ConfigError
from raresight.core.run import RunFolder, StudyFolder


def test_a_study_is_typed_in_quotes_where_its_name_needs_them() -> None:
    assert StudyFolder(Path("plain")).typed == "plain"
    assert shlex.split(f"raresight run {StudyFolder(Path('Stuedie 1')).typed}") == ["raresight", "run", "Stuedie 1"]


def test_no_study_names_a_command_that_can_be_typed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "Stuedie 1" / "study.yaml")
    assert shlex.split(refused.value.problems[0].remedy)[2] == str(tmp_path / "Stuedie 1")


@pytest.mark.parametrize("fold", [None, 2])
def test_weights_that_are_gone_are_told_with_the_commands_that_bring_them_back(
    tmp_path: Path, fold: int | None
) -> None:
    """Training passes over what is done, so the run's folder goes first; a run never trained has nothing to remove."""
    pytest.importorskip("torch")
    from raresight.train.predict import no_weights

    run: RunFolder = StudyFolder(tmp_path / "Stuedie 1").run("focal", 3, fold)
    assert run.study == tmp_path / "Stuedie 1"
    train = f"raresight train '{tmp_path}/Stuedie 1'"
    problem = no_weights(run).problems[0]
    assert (problem.code, problem.file, problem.remedy) == ("RS-R44b", str(run.best), train)
    run.path.mkdir(parents=True)
    run.done_marker.touch()
    problem = no_weights(run).problems[0]
    assert "the file is gone" in problem.found
    assert f"remove the folder {run.path} and" in problem.remedy and f"`{train}`" in problem.remedy
